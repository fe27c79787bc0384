"""How each method of chapter 12 trains a student on a lesson.

The methods of one table have the same number of epochs. For FitNets both stages together have it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import attention_transfer, byot, dkd, fitnets, moonshine, one, teachers
from compress_lib.distillation.logits import distillation_loss
from compress_lib.experiments import harness
from compress_lib.experiments.distillation_lessons import UNLABELED, Lesson, loss_scale, virtual_logits
from compress_lib.models import zoo
from compress_lib.models.resnet import ResNet


@dataclass(frozen=True)
class Student:
    """An architecture, and the layers that methods ask for; of a residual network its stages.

    Attributes
    ----------
    build : of fresh weights.
    maps : layers that have maps, called alike in a residual teacher.
    middle : the guided layer of FitNets.
    shared : the last layer that the branches of ONE share.
    """

    build: Callable[[], nn.Module]
    maps: tuple[str, ...] = ("stage1", "stage2", "stage3")
    middle: str = "stage2"
    shared: str = "stage2"


def mlp_20() -> nn.Sequential:
    """784 → 20 → 10, 15,910 parameters."""
    layers = {"flatten": nn.Flatten(), "hidden": nn.Linear(784, 20), "relu": nn.ReLU(), "output": nn.Linear(20, 10)}
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network


STUDENTS = {
    "narrow-resnet-8": Student(lambda: ResNet(8, in_channels=1, width=8)),  # 19,810 parameters
    "mlp-20": Student(mlp_20, maps=(), middle="relu", shared="flatten"),
    "resnet-20": Student(lambda: zoo.build("resnet-20")),
}


@dataclass(frozen=True)
class Trained:
    """A trained student.

    Attributes
    ----------
    network : the student alone.
    form : what was trained: with exits, with branches, or the student itself.
    history : of all epochs.
    """

    network: nn.Module
    form: nn.Module
    history: list[dict]


def train(
    recipe: Mapping,
    lesson: Lesson,
    *,
    seed: int,
    work: Path,
    after_epoch: Callable[[int, nn.Module], dict] | None = None,
) -> Trained:
    """Train the student of a recipe, or read it from ``work`` if it is there.

    Parameters
    ----------
    recipe : of `compress_lib.experiments.distillation`.
    lesson : what it is trained on.
    seed : of the first weights and of the order of the images.
    work : directory for checkpoints; a recipe and a seed have files of their own.
    after_epoch : as for `compress_lib.training.fit`.
    """
    known = json.dumps(dict(recipe), sort_keys=True).encode()
    run = f"distill-{recipe['method']}-{recipe['student']}-{hashlib.sha256(known).hexdigest()[:12]}-seed{seed}"
    settings = harness.fit_settings(recipe) | {"seed": seed}

    def fit(model, targets, phase="student", train=training.fit, **options):
        return train(model, lesson.images, targets, checkpoint=work / f"{run}-{phase}.pt", **settings | options)

    fit = partial(fit, after_epoch=after_epoch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = STUDENTS[recipe["student"]].build()
        if recipe["block"] is not None:
            student, _ = moonshine.convert(student, recipe["block"])
        network, form, history = METHODS[recipe["method"]](student, lesson, recipe, fit)
    for model in (network, form):
        model.eval()
    return Trained(network, form, history)


def from_logits(
    teacher: nn.Module | None, *, temperature: float, weight: float
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """`compress_lib.distillation.logits.objective` for images of which only some are labeled.

    An image without a label has no cross-entropy, and counts in the mean all the same: a label means as much as it
    would if all images had one.
    """
    source = teachers.reader(teacher)

    def objective(model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        labels, logits = source.read(images, targets)
        outputs = model(images)
        soft = distillation_loss(outputs, logits, temperature=temperature)
        if labels is None:
            return soft
        hard = F.cross_entropy(teachers.precise(outputs), labels, ignore_index=UNLABELED, reduction="sum")
        return weight * soft + (1 - weight) * hard / len(images)

    return objective


# Each takes (student, lesson, recipe, how to train) and gives the student, what was trained, and the history.


def _labels(student, lesson, recipe, fit):
    smoothing = recipe.get("smoothing", 0.0)

    def objective(model, images, labels):
        return F.cross_entropy(model(images), labels, label_smoothing=smoothing)

    return student, student, fit(student, lesson.labels, objective=objective)


def _taught(lesson, recipe):
    """The teacher that an objective runs, if any, and its targets: with augmentation logits cannot be stored."""
    return (lesson.teacher, lesson.labels) if recipe["augment"] else (None, (lesson.labels, lesson.logits))


def _logits(student, lesson, recipe, fit):
    teacher, targets = _taught(lesson, recipe)
    objective = from_logits(teacher, temperature=recipe["temperature"], weight=recipe["weight"])
    return student, student, fit(student, targets, objective=objective)


def _virtual(student, lesson, recipe, fit):
    targets = lesson.labels, virtual_logits(lesson.labels, lesson.logits, recipe["temperature"])
    objective = from_logits(None, temperature=recipe["temperature"], weight=recipe["weight"])
    return student, student, fit(student, targets, objective=objective)


def _scaled(student, lesson, recipe, fit):
    scale = loss_scale(lesson.labels, lesson.logits, recipe["temperature"], recipe["weight"])

    def objective(model, images, labels):
        return scale * F.cross_entropy(model(images), labels)

    return student, student, fit(student, lesson.labels, objective=objective)


def _dkd(student, lesson, recipe, fit):
    teacher, targets = _taught(lesson, recipe)
    objective = dkd.objective(teacher, **_settings(recipe, "alpha", "beta", "temperature"))
    return student, student, fit(student, targets, objective=objective)


def _fitnets(student, lesson, recipe, fit):
    guided = STUDENTS[recipe["student"]].middle
    hints = recipe["hint_epochs"]
    if not 1 <= hints < recipe["epochs"]:
        raise ValueError(f"hint_epochs must be from 1 to {recipe['epochs'] - 1}, the epochs less one, got {hints}")

    def pretrain(model, images, _, **options):
        hint = f"teacher.{STUDENTS['resnet-20'].middle}"
        return fitnets.pretrain(model, lesson.teacher, guided, hint, images, **options)

    history = fit(student, (), "hint", pretrain, epochs=hints, after_epoch=None)
    teacher, targets = _taught(lesson, recipe)
    objective = fitnets.objective(teacher, **_settings(recipe, "temperature", "start", "end"))
    rest = {"epochs": recipe["epochs"] - hints, "before_step": objective.at}
    return student, student, history + fit(student, targets, objective=objective, **rest)


def _attention(student, lesson, recipe, fit):
    layers = {name: f"teacher.{name}" for name in STUDENTS[recipe["student"]].maps}
    if not layers:
        raise ValueError(f"attention transfer needs a student with maps; {recipe['student']} has none")
    objective = attention_transfer.objective(lesson.teacher, layers, beta=recipe["beta"])
    return student, student, fit(student, lesson.labels, objective=objective)


def _byot(student, lesson, recipe, fit):
    layers = STUDENTS[recipe["student"]].maps[:-1]  # the last one is before the deepest exit
    if not layers:
        raise ValueError(f"BYOT needs a student that is deep enough for exits; {recipe['student']} is not")
    form = byot.attach(student, layers, training.as_input(lesson.images[:1]))
    objective = byot.objective(**_settings(recipe, "alpha", "feature_weight", "temperature"))
    history = fit(form, lesson.labels, objective=objective)
    return byot.deploy(form), form, history


def _one(student, lesson, recipe, fit):
    shared = STUDENTS[recipe["student"]].shared
    form = one.convert(student, shared, training.as_input(lesson.images[:1]), branches=recipe["branches"])
    objective = one.objective(**_settings(recipe, "temperature", "ramp_length"))
    history = fit(form, lesson.labels, objective=objective, before_step=objective.at)
    return one.deploy(form), form, history


def _settings(recipe, *names):
    return {name: recipe[name] for name in names}


METHODS: dict[str, Callable] = {
    "labels": _labels,
    "smoothing": _labels,
    "scaled": _scaled,
    "virtual": _virtual,
    "logits": _logits,
    "dkd": _dkd,
    "fitnets": _fitnets,
    "attention": _attention,
    "byot": _byot,
    "one": _one,
}
