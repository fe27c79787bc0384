"""Train a small compact network from new weights and write its row to the ledger of its chapter, 13 to 16.

NAME is one of the zoo's networks for 28×28 images that cost about four million multiply–adds: ``squeezenet-small``
(chapter 13), ``mobilenet-v1-small``, ``mobilenet-v2-small`` and ``plain-small`` (14), ``shufflenet-v1-small`` and
``shufflenet-v2-small`` (15), ``xception-small`` (16). All are trained by the same recipe. What a row compares with, its
``model``, is ``plain-small``, a network of full convolutions: trained from the same seed on the same images for as long.
"""

import argparse
import copy
from pathlib import Path

from compress_lib.experiments import harness
from compress_lib.models import zoo

COMMAND = "compact"

BASELINE = "plain-small"
# The chapter of each network's family, and what the ledger calls it.
FAMILIES = {
    "squeezenet-small": ("13-squeezenet", "SqueezeNet"),
    "mobilenet-v1-small": ("14-mobilenet", "MobileNetV1"),
    "mobilenet-v2-small": ("14-mobilenet", "MobileNetV2"),
    "plain-small": ("14-mobilenet", "full convolutions"),
    "shufflenet-v1-small": ("15-shufflenet", "ShuffleNetV1"),
    "shufflenet-v2-small": ("15-shufflenet", "ShuffleNetV2"),
    "xception-small": ("16-xception", "Xception"),
}
# How networks are timed: images at a time, and which dimension is innermost in memory, which matters to some more than
# to others. The first is the row's latency ratio, as in all chapters.
BATCHES, FORMATS = (1, 32), ("contiguous_format", "channels_last")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=FAMILIES)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the architecture, e.g. squeeze_ratio=0.5, groups=8 or linear_bottleneck=false; may be repeated",
    )
    parser.add_argument("--epochs", type=int, default=6, help="of training (default 6)")
    parser.add_argument("--images", type=int, default=20_000, help="training images per epoch (default 20000)")
    parser.add_argument("--lr", type=float, default=0.1, help="peak learning rate (default 0.1)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    options = parse_options(arguments.name, arguments.option)
    recipe = {key: getattr(arguments, key) for key in ("epochs", "images", "lr")}
    for seed in arguments.seeds:
        row = measure(arguments.name, options, seed=seed, **recipe, work=arguments.work, root=arguments.data)
        print(
            f"{row['details']['architecture']}, {row['variant']}, seed {seed}: {row['accuracy_after']:.2%} "
            f"({BASELINE} {row['accuracy_before']:.2%}), {row['nbytes_after']:,} bytes on disk"
        )


def parse_options(name: str, texts: list[str]) -> dict:
    """What differs from the defaults of the network ``name`` in texts ``NAME=VALUE``.

    Raises
    ------
    ValueError
        If a text is not of that form, or names no option of the network, or the value is not of the default's kind.
    """
    defaults = zoo.options(name)
    has = ", ".join(f"{key}={_text(value)}" for key, value in defaults.items())
    given = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in defaults:
            raise ValueError(f"--option {text!r} is not NAME=VALUE for {name}, which has {has}")
        kind = type(defaults[key])
        try:
            given[key] = {"true": True, "false": False}[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            allowed = {bool: "true or false", int: "an integer", float: "a number"}[kind]
            raise ValueError(f"--option {text!r}: the value must be {allowed}; {name} has {has}") from None
    return {key: value for key, value in given.items() if value != defaults[key]}


def measure(name, options, *, epochs, images, lr, work, root, seed) -> dict:
    """Train one network and the baseline and measure both; write and return the row of the ledger.

    Parameters
    ----------
    name : one of `FAMILIES`.
    options : of the architecture, without those that have their defaults.
    epochs, images, lr : of the training.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    seed : of all that is random: the first weights, which training images are used, and in what order.
    """
    import torch

    from compress_lib import cost, data, ledger, training

    train = data.fashion_mnist("train", root)
    test = data.fashion_mnist("test", root)
    if not 1 <= images <= len(train[0]):
        raise ValueError(f"--images must be from 1 to {len(train[0]):,}, got {images}")
    chosen = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(seed))[:images]
    recipe = {"epochs": epochs, "images": images, "lr": lr}

    def trained(name, options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = zoo.build(name, **options)
        run = "-".join([name, *_texts(options, "{}{}"), *map(str, recipe.values()), f"seed{seed}.pt"])
        # With channels innermost, 1×1 and depthwise convolutions train up to twice as fast. What is in a checkpoint or a
        # file does not depend on it; what is measured afterwards is in the usual layout again.
        network.to(memory_format=torch.channels_last)
        history = training.fit(
            network, *(part[chosen] for part in train), epochs=epochs, lr=lr, seed=seed, checkpoint=work / run
        )
        return network.to(memory_format=torch.contiguous_format), history

    network, history = trained(name, options)
    is_baseline = name == BASELINE and not options
    baseline = network if is_baseline else trained(BASELINE, {})[0]
    latency = [_latency(baseline, network, test[0], batch, layout) for layout in FORMATS for batch in BATCHES]
    counts = {"before": cost.count(baseline, test[0].shape[1:]), "after": cost.count(network, test[0].shape[1:])}
    chapter, method = FAMILIES[name]
    flags = [f"--option {text}" for text in _texts(options, "{}={}")]
    flags += [f"--{key} {value}" for key, value in recipe.items()]
    return ledger.record(
        {
            "chapter": chapter,
            "method": "none (dense baseline)" if is_baseline else method,
            "model": BASELINE,
            "data": "fashion-mnist",
            "variant": ", ".join(_texts(options | recipe, "{} {}")).replace("_", " "),
            "seed": seed,
            **harness.quality_and_size(baseline, network, test),
            "latency_ratio": latency[0]["ratio"],
            "details": {
                "architecture": name,
                "options": zoo.options(name) | options,
                **{f"params_{when}": count.params for when, count in counts.items()},
                **{f"peak_activation_nbytes_{when}": count.peak_activation_nbytes for when, count in counts.items()},
                "latency": latency,
                "history": history,
            },
            "command": f"python -m compress_lib compact {name} {' '.join(flags)} --seeds {seed}",
        }
    )


def _latency(baseline, network, images, batch, layout) -> dict:
    import torch

    from compress_lib import data

    layout_of = {"memory_format": getattr(torch, layout)}
    networks = (copy.deepcopy(network).to(**layout_of) for network in (baseline, network))
    return {"layout": layout} | harness.timing(*networks, data.normalize(images[:batch]).contiguous(**layout_of))


def _texts(options: dict, form: str) -> list[str]:
    return [form.format(key, _text(value)) for key, value in options.items()]


def _text(value) -> str:
    """As it is given on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
