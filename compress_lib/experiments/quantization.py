"""Quantize a baseline to integers, and write its rows to the ledger of chapter 05.

METHOD is one of: ``ptq`` (Jacob et al., arXiv 1712.05877: ranges from some images, no training), ``qat`` (the same
paper: trained with the rounding in place and straight-through gradients), ``dsq`` (Gong et al., arXiv 1908.05033:
trained with the gradients of soft staircases, whose ranges are learned). What is measured is read back from a file.
"""

import argparse
from pathlib import Path
from typing import Any, cast

from torch import Tensor, fx, nn

from compress_lib import ledger
from compress_lib.container.budget import Budget
from compress_lib.experiments import harness
from compress_lib.models import zoo
from compress_lib.quantization.integer import agreement, fixed_point, ptq, qat

COMMAND = "quantize"

CALIBRATION = 500  # training images that the ranges are found on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=zoo.NAMES)
    parser.add_argument("method", choices=sorted(NAMED))
    parser.add_argument("--bits", type=int, default=8, help="of weights and activations (default 8)")
    parser.add_argument("--weight-bits", type=int, help="of weights, where they have others")
    parser.add_argument("--activation-bits", type=int, help="of activations, where they have others")
    parser.add_argument("--per-tensor", action="store_true", help="one scale per weight, not one per output channel")
    parser.add_argument(
        "--range",
        help="of activations: min_max, moving_average, percentile, mse or kl (default: percentile for ptq, else mse)",
    )
    parser.add_argument("--weight-range", help="of weights: min_max or mse (default: min_max for ptq, else mse)")
    parser.add_argument("--epochs", type=int, default=1, help="of training (qat, dsq; default 1)")
    parser.add_argument(
        "--images", type=int, default=20_000, help="training images per epoch (qat, dsq; default 20000)"
    )
    parser.add_argument("--lr", type=float, default=0.01, help="peak learning rate (qat, dsq; default 0.01)")
    parser.add_argument("--integer", action="store_true", help="also run all test images with integers alone")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    options = {key: value for key, value in vars(arguments).items() if key in OPTIONS}
    range, weight_range = RANGES[arguments.method]
    defaults = {"weight_bits": arguments.bits, "activation_bits": arguments.bits, "range": range,
                "weight_range": weight_range}  # fmt: skip
    options |= {key: default for key, default in defaults.items() if options[key] is None}
    for seed in arguments.seeds:
        row = measure(**options, seed=seed)
        print(harness.summary(row))
        for rounding, found in row["details"].get("integer", {}).items():
            largest = max(layer["largest"] for layer in found["layers"])
            print(
                f"  integers alone, rounding {rounding}, agree on {found['share']:.2%} of the predictions; "
                f"of the same codes, a layer's differ by {largest} at most"
            )


OPTIONS = ("name", "method", "weight_bits", "activation_bits", "per_tensor", "range", "weight_range", "epochs",
           "images", "lr", "integer", "work", "data")  # fmt: skip


def measure(
    name: str, method: str, weight_bits: int, activation_bits: int, per_tensor: bool, range: str, weight_range: str,
    epochs: int, images: int, lr: float, integer: bool, work: Path, data: harness.Directory, seed: int,
) -> dict:  # fmt: skip
    """Quantize the baseline ``name`` once; write and return its row of the ledger.

    Parameters
    ----------
    name : of a baseline in the zoo.
    method : one of `NAMED`.
    weight_bits, activation_bits, per_tensor, range, weight_range : as the command's options.
    epochs, images, lr : of the training; post-training quantization has none.
    integer : whether to compare with the network that runs in integers alone, on all test images.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    data : directory with Fashion-MNIST, if not where it is found by itself.
    seed : of all that is random: which training images are used, the first of them to find the ranges, and in what
        order.

    Raises
    ------
    RuntimeError
        If the network that was read back has other logits, in one bit, than the one that was written.
    """
    train, test = harness.fashion_mnist(data)
    chosen = harness.draw(train, min(CALIBRATION, len(train[0])) if method == "ptq" else images, seed)
    calibration = min(CALIBRATION, len(chosen[0]))
    dense = zoo.load(name)
    bits_and_ranges: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits,
                       "range": range, "weight_range": weight_range}  # fmt: skip
    settings = bits_and_ranges | {"per_channel": not per_tensor}
    recipe = settings | {"calibration_images": calibration, "split": harness.TRAINING["split"]}
    used = bits_and_ranges
    if method == "ptq":
        deployed, report = ptq.quantize(dense, chosen[0], **settings)
    else:
        used = used | {"epochs": epochs, "images": images, "lr": lr}
        recipe |= used | harness.TRAINING
        parts = (name, method, "tensor" if per_tensor else "channel", *used.values(), f"seed{seed}")
        work.mkdir(parents=True, exist_ok=True)
        deployed, report = qat.train(
            dense, *chosen, **settings, epochs=epochs, seed=seed, lr=lr, calibration=CALIBRATION,
            method="ste" if method == "qat" else "dsq",
            # Moving averages are no part of a checkpoint: such a run starts again.
            checkpoint=None if range == "moving_average" else work / ("-".join(map(str, parts)) + ".pt"),
        )  # fmt: skip
    restored, budget = through_file(deployed, name, test[0])
    details: dict[str, Any] = {
        "layers": [vars(layer) for layer in report.rows],
        "float32": report.skipped,
        "budget": [vars(layer) for layer in budget.rows],
    }
    if integer:
        details["integer"] = {}
        for rounding in fixed_point.ROUNDINGS:
            found = agreement.measure(cast(fx.GraphModule, restored), test[0], rounding=rounding)
            details["integer"][rounding] = {"share": found.share, "layers": [vars(layer) for layer in found.layers]}
    flags = harness.flags(used) + " --per-tensor" * per_tensor + " --integer" * integer
    return ledger.record(
        {
            "chapter": "05-quantization",
            "method": NAMED[method],
            "model": name,
            "data": "fashion-mnist",
            "variant": f"{'per tensor' if per_tensor else 'per channel'}, {harness.words(used)}",
            "recipe": recipe,
            "seed": seed,
            **harness.compare(dense, restored, test, counted=dense),  # the same products, of integers
            "nbytes_after": budget.nbytes,
            "details": details,
            "command": f"python -m compress_lib quantize {name} {method} {flags} --seeds {seed}",
        }
    )


def through_file(deployed: fx.GraphModule, name: str, images: Tensor) -> tuple[nn.Module, Budget]:
    """`harness.through_file` of a quantized network of the architecture ``name``; the images are those of the test."""
    form = {"kind": "int8", "settings": deployed.meta["settings"], "example_shape": [1, *images.shape[1:]]}
    return harness.through_file(deployed, images, architecture=name, metadata={"form": form})


# Of activations and of weights: what loses least on the whole. Training makes up for weights that were clipped.
RANGES = {"ptq": ("percentile", "min_max"), "qat": ("mse", "mse"), "dsq": ("mse", "mse")}
NAMED = {
    "ptq": "post-training quantization",
    "qat": "quantization-aware training (STE)",
    "dsq": "soft quantization (DSQ)",
}
