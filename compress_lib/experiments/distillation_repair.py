"""Recover a compressed network from labels, from the uncompressed one, or from it without labels: rows of chapter 12.

NETWORK is one of those that earlier chapters make: ``filters`` (vgg-small without half of its filters, as ``shrink``
makes it, chapter 3), ``2-bit`` and ``3-bit`` (vgg-small with weights and activations of so many bits, as ``quantize
qat``, chapter 5), ``xnor`` (XNOR-Net, as ``binarize``, chapter 8) and ``weights`` (LeNet-300-100 with a twelfth of its
weights, as ``prune``, chapter 2). All is done as there; only what the training compares with is another. SOURCE is
``labels``, ``teacher`` (labels and the uncompressed network) or ``unlabeled`` (that network alone). The uncompressed
networks have seen the images that settings are chosen on, but for that of ``xnor``, which is trained here.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compress_lib import data, ledger, training
from compress_lib.binary import conversion
from compress_lib.distillation import logits as soft
from compress_lib.experiments import (
    binary_networks,
    harness,
    pruning_filters,
    pruning_weights,
    quality,
    quantization,
)
from compress_lib.experiments.distillation_lessons import cached_logits
from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.weights import csr
from compress_lib.quantization.integer import qat

COMMAND = "repair"

CHAPTER = "12-distillation"
SOURCES = {
    "labels": "repair with labels",
    "teacher": "repair with labels and a teacher",
    "unlabeled": "repair with a teacher, without labels",
}
SOFT: dict[str, Any] = {"temperature": 4.0, "weight": 0.9}  # weight: of the teacher, where there are labels too
_QUANTIZED: dict[str, Any] = {"range": "mse", "weight_range": "mse", "epochs": 1, "images": 20_000, "lr": 0.01}
# The network that each one comes from, and how it is compressed and trained: as the earlier chapters' commands do.
NETWORKS: dict[str, dict[str, Any]] = {
    "filters": {"model": "vgg-small", "fraction": 0.5, "epochs": 5} | pruning_filters.RECOVERY,
    **{f"{n}-bit": {"model": "vgg-small", "weight_bits": n, "activation_bits": n} | _QUANTIZED for n in (2, 3)},
    "xnor": {"model": "block-cnn", "order": "bacp", "width": 64, "kernel_size": 3,
             "epochs": 4, "images": 20_000, "lr": 0.2},
    "weights": {"model": "lenet-300-100", "keep": pruning_weights.PAPER_KEEP["lenet-300-100"],
                "rounds": 3, "epochs": 5, "lr": 0.02},
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("--epochs", type=int, help="of training (default: as in the network's chapter)")
    parser.add_argument("--images", type=int, help="training images (2-bit, 3-bit, xnor; default 20000)")
    parser.add_argument("--lr", type=float, help="peak learning rate (default: as in the network's chapter)")
    parser.add_argument("--temperature", type=float, help="of the teacher's probabilities (default 4)")
    parser.add_argument("--weight", type=float, help="of the teacher against the labels (source teacher; default 0.9)")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    options = ("network", "source", "epochs", "images", "lr", *SOFT)
    recipe = complete({key: getattr(arguments, key) for key in options if getattr(arguments, key) is not None})
    for seed in arguments.seeds:
        print(harness.summary(measure(recipe, seed=seed, work=arguments.work, root=arguments.data)))


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run: those that are given, and the defaults of the others.

    Raises
    ------
    ValueError : a setting that this network or this source does not have.
    """
    network, source = given["network"], given["source"]
    of_source = {"labels": {}, "teacher": SOFT, "unlabeled": {"temperature": SOFT["temperature"]}}[source]
    defaults = {"network": network, "source": source} | harness.TRAINING | NETWORKS[network] | of_source
    if unknown := given.keys() - defaults.keys():
        raise ValueError(f"{network} from {source} has no {min(unknown)!r}; it has {', '.join(defaults)}")
    return defaults | dict(given)


@dataclass(frozen=True)
class Repaired:
    """A compressed network after its training.

    Attributes
    ----------
    dense, smaller : the uncompressed network, and the compressed one in its final form.
    nbytes : of the file of the compressed network, if it has a format of its own.
    counted : the network that has its multiply–adds, if they cannot be counted.
    unmultiplied : weights of it that are zero, and take no part.
    """

    dense: nn.Module
    smaller: nn.Module
    nbytes: int | None = None
    counted: nn.Module | None = None
    unmultiplied: int = 0


@dataclass(frozen=True)
class Run:
    """What the repair of a network has to know.

    Attributes
    ----------
    recipe, seed, work : as for `measure`.
    images, labels : to train on.
    test : the first image's shape is that of all; with these images files are checked.
    """

    recipe: Mapping
    seed: int
    work: Path
    images: Tensor
    labels: Tensor
    test: Tensor

    def drawn(self) -> "Run":
        """The run on as many images as its recipe says, in the order in which its seed draws them."""
        images, labels = harness.draw((self.images, self.labels), self.recipe["images"], self.seed)
        return Run(self.recipe, self.seed, self.work, images, labels, self.test)

    def options(self) -> dict[str, Any]:
        """Of `compress_lib.training.fit`, without a checkpoint."""
        return {"seed": self.seed} | harness.fit_settings(self.recipe)

    def checkpoint(self, phase: str = "student") -> Path:
        """A file for each recipe, seed and phase."""
        known = json.dumps(dict(self.recipe), sort_keys=True).encode()
        name = f"repair-{self.recipe['network']}-{self.recipe['source']}-{hashlib.sha256(known).hexdigest()[:12]}"
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work / f"{name}-seed{self.seed}-{phase}.pt"

    def lesson(self, dense: nn.Module, name: str | None = None) -> tuple[Any, Callable]:
        """Targets and objective: the labels, or the uncompressed network, with or without them.

        The teacher's logits are stored under a ``name`` of the images; without one, as with augmentation, it runs on
        each batch.
        """
        source, settings = self.recipe["source"], {key: self.recipe[key] for key in SOFT if key in self.recipe}
        if source == "labels":
            return self.labels, training.cross_entropy
        if name is None:
            return self.labels if source == "teacher" else (), soft.objective(dense, **settings)
        logits = cached_logits(dense, self.images, self.work, f"{self.recipe['split']}-{name}")
        return (self.labels, logits) if source == "teacher" else logits, soft.objective(**settings)


def _filters(run: Run) -> Repaired:
    dense = zoo.load(run.recipe["model"])
    image = data.normalize(run.test[:1])
    smaller, _, _ = pruning_filters.METHODS["filters"](dense, image, run.recipe["fraction"], None, None)
    targets, objective = run.lesson(dense)  # with augmentation: no logits are stored
    options = run.options() | {"objective": objective, "checkpoint": run.checkpoint()}
    training.fit(smaller, run.images, targets, **options)
    return Repaired(dense, smaller)


def _quantized(run: Run) -> Repaired:
    run = run.drawn()
    dense, recipe = zoo.load(run.recipe["model"]), run.recipe
    targets, objective = run.lesson(dense, f"seed{run.seed}")
    settings = {key: recipe[key] for key in ("weight_bits", "activation_bits", "range", "weight_range")}
    options = {key: value for key, value in run.options().items() if key != "precision"}
    deployed, _ = qat.train(
        dense, run.images, targets, objective=objective, calibration=quantization.CALIBRATION,
        checkpoint=run.checkpoint(), **settings, **options,
    )  # fmt: skip
    restored, budget = quantization.through_file(deployed, recipe["model"], run.test)
    return Repaired(dense, restored, budget.nbytes, counted=dense)


def _xnor(run: Run) -> Repaired:
    run = run.drawn()
    options = {key: run.recipe[key] for key in ("order", "width", "kernel_size")}
    dense = binary_networks.fresh(run.seed, **options)
    form = conversion.convert(dense, method="xnor")
    length = "-".join(str(run.recipe[key]) for key in ("width", "epochs", "images", "split"))
    teacher = run.work / f"repair-teacher-block-cnn-{length}-seed{run.seed}.pt"
    started = NETWORKS["xnor"]["lr"]  # the teacher is the same whatever the student's learning rate
    run.work.mkdir(parents=True, exist_ok=True)
    training.fit(dense, run.images, run.labels, **run.options() | {"lr": started}, checkpoint=teacher)
    targets, objective = run.lesson(dense, f"seed{run.seed}")
    rest: dict[str, Any] = {"objective": objective, "checkpoint": run.checkpoint()} | binary_networks.SIGNS
    training.fit(form, run.images, targets, **run.options(), **rest)
    restored, budget = binary_networks.through_file(form, {"method": "xnor"}, options, run.test)
    return Repaired(dense, restored, budget.nbytes, counted=dense)


def _weights(run: Run) -> Repaired:
    dense, recipe = zoo.load(run.recipe["model"]), run.recipe
    targets, objective = run.lesson(dense, "all")
    model, _, _ = pruning_weights.prune_and_retrain(
        dense, recipe["keep"], recipe["rounds"], run.images, targets, objective=objective, **run.options()
    )
    sparse, converted = csr.deploy(masks.deploy(model))
    return Repaired(dense, sparse, unmultiplied=sum(layer.weights - layer.kept for layer in converted.rows))


REPAIRS: dict[str, Callable[[Run], Repaired]] = {
    "filters": _filters,
    "2-bit": _quantized,
    "3-bit": _quantized,
    "xnor": _xnor,
    "weights": _weights,
}


def measure(recipe: Mapping, *, seed: int, work: Path, root: harness.Directory = None) -> dict:
    """Repair and measure one network; write and return its row of the ledger.

    Parameters
    ----------
    recipe : from `complete`.
    seed : of all that is random.
    work : directory for checkpoints and the logits of the uncompressed networks.
    root : directory with Fashion-MNIST, if not where it is found by itself.

    Raises
    ------
    RuntimeError
        If a network that was read back from its file has other logits, in one bit, than the one that was written.
    """
    train, test = harness.fashion_mnist(root)
    repaired = REPAIRS[recipe["network"]](Run(recipe, seed, work, *train, test[0]))
    dense, smaller = repaired.dense, repaired.smaller
    logits, theirs = (training.predict(network, test[0]) for network in (smaller, dense))
    size = harness.size(dense, smaller, test[0].shape[1:], counted=repaired.counted)
    size["nbytes_after"] = repaired.nbytes or size["nbytes_after"]
    if repaired.unmultiplied:
        size["macs_after"] = size["macs_before"] - repaired.unmultiplied
    shown = {key: recipe[key] for key in ("epochs", "images", "lr", *SOFT) if key in recipe}
    accuracy_before, accuracy_after = (quality.accuracy(each, test[1]) for each in (theirs, logits))
    return ledger.record(
        {
            "chapter": CHAPTER,
            "method": SOURCES[recipe["source"]],
            "model": recipe["model"],
            "data": "fashion-mnist",
            "variant": f"{recipe['network']}, {harness.words(shown)}",
            "recipe": dict(recipe),
            "seed": seed,
            "test_images": len(test[0]),
            "accuracy_before": accuracy_before,
            "accuracy_after": accuracy_after,
            **size,
            "latency_ratio": harness.timing(dense, smaller, data.normalize(test[0][:1]))["ratio"],
            "details": quality.of_logits(logits, test[1], theirs),
            "command": f"python -m compress_lib repair {recipe['network']} {recipe['source']} {harness.flags(shown)} "
            f"--seeds {seed}",
        }
    )


def try_out(recipe: Mapping, *, seed: int, work: Path, root: harness.Directory = None) -> dict:
    """Repair on the fit split, and measure on the held-out images, to choose settings.

    Parameters
    ----------
    recipe, seed, work, root : as for `measure`.

    Returns
    -------
    dict
        The ``accuracy``.
    """
    fit, held_out = (data.fashion_mnist(split, root) for split in ("fit", "held-out"))
    run = Run(dict(recipe) | {"split": "fit"}, seed, work, *fit, held_out[0])
    return {"accuracy": training.accuracy(REPAIRS[recipe["network"]](run).smaller, *held_out)}
