"""Train a small compact network from new weights and write its row to the ledger of its chapter, 13 to 16.

NAME is one of the zoo's networks for 28×28 images that cost about four million multiply–adds: ``squeezenet-small``
(chapter 13), ``mobilenet-v1-small``, ``mobilenet-v2-small`` and ``plain-small`` (14), ``shufflenet-v1-small`` and
``shufflenet-v2-small`` (15), ``xception-small`` (16). All are trained by the same recipe. What a row compares with, its
``model``, is ``plain-small``, a network of full convolutions: trained from the same seed on the same images for as
long.
"""

import argparse
import copy
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib import cost, data, ledger, training
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
LENGTH: dict[str, Any] = {"epochs": 6, "images": 20_000, "lr": 0.1}  # of the training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=FAMILIES)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the architecture, e.g. squeeze_ratio=0.5, groups=8 or linear_bottleneck=false; may be repeated",
    )
    parser.add_argument("--epochs", type=int, default=LENGTH["epochs"], help="of training (default 6)")
    parser.add_argument(
        "--images", type=int, default=LENGTH["images"], help="training images per epoch (default 20000)"
    )
    parser.add_argument("--lr", type=float, default=LENGTH["lr"], help="peak learning rate (default 0.1)")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    options = parse_options(arguments.name, arguments.option)
    length = {key: getattr(arguments, key) for key in LENGTH}
    for seed in arguments.seeds:
        row = measure(arguments.name, options, seed=seed, **length, work=arguments.work, root=arguments.data)
        print(
            f"{arguments.name}, {row['variant']}, seed {seed}: {row['accuracy_after']:.2%} "
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
    has = ", ".join(f"{key}={harness.text(value)}" for key, value in defaults.items())
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


def measure(
    name: str, options: dict, *, epochs: int, images: int, lr: float, work: Path, root: harness.Directory, seed: int
) -> dict:
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
    train, test = harness.fashion_mnist(root)
    chosen = harness.draw(train, images, seed)
    length = {"epochs": epochs, "images": images, "lr": lr}
    recipe = {"architecture": name, "options": zoo.options(name) | options, **length, **harness.TRAINING}

    def trained(name, options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = zoo.build(name, **options)
        run = "-".join([name, *_texts(options, "{}{}"), *map(str, length.values()), f"seed{seed}.pt"])
        history = training.fit(network, *chosen, seed=seed, checkpoint=work / run, **harness.fit_settings(recipe))
        return network, history

    network, history = trained(name, options)
    is_baseline = name == BASELINE and not options
    baseline = network if is_baseline else trained(BASELINE, {})[0]
    timed = [_timed(baseline, network, test[0], batch, layout) for layout in FORMATS for batch in BATCHES]
    counts = {"before": cost.count(baseline, test[0].shape[1:]), "after": cost.count(network, test[0].shape[1:])}
    chapter, method = FAMILIES[name]
    flags = " ".join([*(f"--option {text}" for text in _texts(options, "{}={}")), harness.flags(length)])
    return ledger.record(
        {
            "chapter": chapter,
            "method": "none (dense baseline)" if is_baseline else method,
            "model": BASELINE,
            "data": "fashion-mnist",
            "variant": harness.words(options | length),
            "recipe": recipe,
            "seed": seed,
            **harness.quality_and_size(baseline, network, test),
            "latency_ratio": timed[0]["ratio"],
            "details": {
                **{f"params_{when}": count.params for when, count in counts.items()},
                **{f"peak_activation_nbytes_{when}": count.peak_activation_nbytes for when, count in counts.items()},
                "latency": timed,
                "history": history,
            },
            "command": f"python -m compress_lib compact {name} {flags} --seeds {seed}",
        }
    )


def rows(name: str, **options: Any) -> list[dict]:
    """The rows of ``python -m compress_lib compact NAME``, trained as that command does by default, one for each seed.

    Parameters
    ----------
    name : of a small network of chapters 13 to 16, ``"squeezenet-small"`` and the like.
    options : of its builder; those that are not named have their defaults.

    Raises
    ------
    ValueError : an unknown name or option, or no row of such a network.
    """
    if unknown := options.keys() - zoo.options(name).keys():
        raise ValueError(f"{name} has no option {min(unknown)!r}; it has {', '.join(zoo.options(name))}")
    wanted = {"architecture": name, "options": zoo.options(name) | options, **LENGTH}
    chapter, _ = FAMILIES[name]
    if not (found := ledger.read(chapter, recipe=wanted)):
        raise ValueError(f"nobody has measured {name} with {options}; python -m compress_lib compact {name} does")
    return found


def latency(rows: list[dict], batch: int, layout: str) -> tuple[float, float]:
    """Of rows from `rows`: how many times as fast as plain-small, and seconds; medians over the seeds.

    Parameters
    ----------
    rows : one network with several seeds.
    batch : images at a time, 1 or 32.
    layout : ``"contiguous"`` or ``"channels-last"``.
    """
    wanted = ({"contiguous": "contiguous_format", "channels-last": "channels_last"}[layout], batch)
    timed = [each for row in rows for each in row["details"]["latency"]]
    timed = [each for each in timed if (each["layout"], each["ratio"]["batch"]) == wanted]
    ratios, seconds = [each["ratio"]["median"] for each in timed], [each["seconds_after"] for each in timed]
    return statistics.median(ratios), statistics.median(seconds)


def _timed(baseline: nn.Module, network: nn.Module, images: Tensor, batch: int, layout: str) -> dict:
    layout_of = {"memory_format": getattr(torch, layout)}
    dense, smaller = (copy.deepcopy(each).to(**layout_of) for each in (baseline, network))
    return {"layout": layout} | harness.timing(dense, smaller, data.normalize(images[:batch]).contiguous(**layout_of))


def _texts(options: dict, form: str) -> list[str]:
    return [form.format(key, harness.text(value)) for key, value in options.items()]
