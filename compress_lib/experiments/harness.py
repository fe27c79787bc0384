"""What the experiments share: arguments, images, how a row tells its recipe, and what is measured of two networks."""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib import container, cost, data, training
from compress_lib.container.budget import Budget

Images = tuple[Tensor, Tensor]  # with their labels
Directory = str | os.PathLike | None  # with the data; None: wherever they are found

# How the networks of the experiments are trained, unless a recipe says otherwise: what `training.fit` does by itself.
TRAINING: dict[str, Any] = {"split": "train", "batch_size": 128, "augment": False, "precision": "fp32"}


ROUNDS = 50  # in which the two networks of a row take turns to be timed


def common_arguments(parser: argparse.ArgumentParser, *, work: bool = True) -> None:
    """The arguments of every experiment; without ``work`` nothing of it can be resumed."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    if work:
        parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def fashion_mnist(root: Directory = None) -> tuple[Images, Images]:
    """Images and labels to train on, and to test on; from the directory ``root``, or where they are found."""
    return data.fashion_mnist(TRAINING["split"], root), data.fashion_mnist("test", root)


def draw(train: Images, count: int, seed: int) -> Images:
    """So many of the images and their labels, in the order in which ``seed`` draws them.

    Raises
    ------
    ValueError : there are not so many; it names the command's option.
    """
    if not 1 <= count <= len(train[0]):
        raise ValueError(f"--images must be from 1 to {len(train[0]):,}, got {count}")
    chosen = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(seed))[:count]
    return train[0][chosen], train[1][chosen]


def fit_settings(recipe: Mapping) -> dict:
    """What `training.fit` has to know of a recipe."""
    return {key: recipe[key] for key in ("epochs", "lr", "batch_size", "augment", "precision") if key in recipe}


def words(settings: Mapping) -> str:
    """Settings for people: ``squeeze ratio 0.5, bypass true, epochs 6``."""
    return ", ".join(f"{key.replace('_', ' ')} {text(value)}" for key, value in settings.items())


def flags(settings: Mapping) -> str:
    """Settings for the command line: ``--kernel-size 3 --epochs 4``."""
    return " ".join(f"--{key.replace('_', '-')} {text(value)}" for key, value in settings.items())


def text(value: object) -> str:
    """A value as it is given on the command line; a mapping as ``fc1=0.08 fc2=0.09``."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={part}" for key, part in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def summary(row: Mapping) -> str:
    """A row of the ledger in a line, for whoever waited for it."""
    return (
        f"{row['model']}, {row['method']}, {row['variant']}, seed {row['seed']}: {row['accuracy_before']:.2%} → "
        f"{row['accuracy_after']:.2%}, {row['nbytes_before']:,} → {row['nbytes_after']:,} bytes on disk"
    )


def compare(dense: nn.Module, smaller: nn.Module, test: Images, *, counted: nn.Module | None = None) -> dict:
    """Accuracy, bytes on disk, multiply–adds and latency, before and after.

    Parameters
    ----------
    dense, smaller : nn.Module
        On the CPU, for images.
    test : images and labels, ``(N, C, H, W)`` uint8 and ``(N,)`` int64; the first image is the one that is timed.
    counted : a network with the multiply–adds of ``smaller``, if those cannot be counted, as of int8 kernels.

    Returns
    -------
    dict
        Fields of ``ledger.schema.json``.
    """
    image = data.normalize(test[0][:1])
    return {
        **quality_and_size(dense, smaller, test, counted=counted),
        "latency_ratio": timing(dense, smaller, image)["ratio"],
    }


def quality_and_size(dense: nn.Module, smaller: nn.Module, test: Images, *, counted: nn.Module | None = None) -> dict:
    """What `compare` gives, without the latency."""
    return {
        "test_images": len(test[0]),
        "accuracy_before": training.accuracy(dense, *test),
        "accuracy_after": training.accuracy(smaller, *test),
        **size(dense, smaller, tuple(test[0].shape[1:]), counted=counted),
    }


def size(dense: nn.Module, smaller: nn.Module, shape: tuple[int, ...], *, counted: nn.Module | None = None) -> dict:
    """Of what `compare` gives, the bytes on disk and the multiply–adds for an image of this shape, ``(C, H, W)``."""
    counts = [cost.count(network, shape) for network in (dense, smaller if counted is None else counted)]
    uncounted = sorted({operation for count in counts for operation in count.uncounted})
    return {
        "nbytes_before": cost.nbytes_on_disk(dense),
        "nbytes_after": cost.nbytes_on_disk(smaller),
        "macs_before": counts[0].macs,
        "macs_after": counts[1].macs,
        **({"macs_uncounted": uncounted} if uncounted else {}),
    }


def timing(dense: nn.Module, smaller: nn.Module, images: Tensor) -> dict:
    """Seconds of both, and their ratio in the form of ``ledger.schema.json``.

    Parameters
    ----------
    dense, smaller : nn.Module
        On the CPU.
    images : ``(N, C, H, W)``, normalized; all are given at once. One thread.

    Returns
    -------
    dict
        ``seconds_before`` and ``seconds_after``, medians for all ``N`` images, and ``ratio``.
    """
    rows = cost.latency({"dense": lambda: dense(images), "smaller": lambda: smaller(images)}, rounds=ROUNDS, threads=1)
    before, after = rows
    ratio = {"median": after.ratio, "low": after.ratio_low, "high": after.ratio_high}
    return {
        "seconds_before": before.seconds_median,
        "seconds_after": after.seconds_median,
        "ratio": ratio | {"batch": len(images), "threads": rows.threads},
    }


def through_file(
    model: nn.Module, images: Tensor, *, path: Path | None = None, into: nn.Module | None = None, **saving: Any
) -> tuple[nn.Module, Budget]:
    """Write a network to a file and read it back: what the commands measure is what came out of a file.

    Parameters
    ----------
    model : nn.Module
    images : of the test set; on them the two networks must have the same logits.
    path : of the file; without it, one that is deleted again.
    into : the network to load into, if the file does not say which.
    saving : as for `container.save`.

    Returns
    -------
    (nn.Module, Budget)
        The network that was read back, and where the bytes of the file went.

    Raises
    ------
    RuntimeError
        If it has other logits, in one bit, than the one that was written.
    """
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            return through_file(model, images, path=Path(folder) / "network.cnet", into=into, **saving)
    budget = container.save(model, path, **saving)
    restored = container.load(path, into)
    if not training.predict(restored, images).equal(training.predict(model, images)):
        raise RuntimeError(f"{path} does not give back the network that was written to it")
    return restored, budget
