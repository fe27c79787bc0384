"""What a student of chapter 12 is given: images, the labels of some of them, and a teacher with its logits.

A lesson is as long as the training set, however few the labels are. Where only the labeled images are used, they are
repeated until they are as many, so all students of a table take the same number of steps, with the same learning rates,
from the same starting weights, and in the same order. The images with labels are the first of those that the seed
draws: with 300 labels they are among those with 1,000.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import data, files, training
from compress_lib.distillation import logits as soft
from compress_lib.experiments import harness
from compress_lib.models import zoo

UNLABELED = -1
SAME_LABELS = "same-labels"  # the teacher that has seen no more labels than the student
# How that one is trained, on the lesson without its unlabeled images.
TEACHER: dict[str, Any] = {"model": "vgg-small", "epochs": 4, "lr": 0.1, "augment": True, "precision": "bf16"}
PERMUTED = ("nothing", "others", "all")


@dataclass(frozen=True)
class Lesson:
    """Images and labels as long as the training set, and the teacher.

    Attributes
    ----------
    images : (N, 1, 28, 28) uint8.
    labels : (N,) int64, `UNLABELED` where there is none.
    teacher : in evaluation mode; None if there is none.
    logits : (N, classes), the teacher's.
    """

    images: Tensor
    labels: Tensor
    teacher: "Permuted | None" = None
    logits: Tensor | None = None


def draw(train: harness.Images, *, labels: int, rest: str, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Which images of the training set a lesson has, (N,), and their labels, (N,).

    Parameters
    ----------
    train : images and labels.
    labels : how many images are labeled.
    rest : {"unused", "teacher"}
        The other images are left out, or are there without labels.
    noise : the share of the labels that another class takes the place of, drawn with equal chances.
    seed : of both draws.

    Raises
    ------
    ValueError : there are not so many images, or no share of this size.
    """
    count = len(train[0])
    if not 1 <= labels <= count:
        raise ValueError(f"labels must be from 1 to {count:,}, got {labels}")
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be in [0, 1), got {noise}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    given = train[1][order[:labels]].clone()
    generator = torch.Generator().manual_seed(seed + 1_000_003)
    wrong = torch.randperm(labels, generator=generator)[: round(noise * labels)]
    classes = len(data.CLASSES)
    given[wrong] = (given[wrong] + torch.randint(1, classes, (len(wrong),), generator=generator)) % classes
    if rest == "teacher":
        return order, F.pad(given, (0, count - labels), value=UNLABELED)
    repeated = torch.arange(count) % labels
    return order[repeated], given[repeated]


def prepare(recipe: Mapping, train: harness.Images, *, seed: int, work: Path) -> Lesson:
    """The lesson of a recipe; its teacher is trained if need be, and its logits are computed once for all lessons.

    Parameters
    ----------
    recipe : with labels, rest and noise, and if there is a teacher teacher and permute.
    train : images and labels.
    seed : as for `draw`.
    work : where the teacher's logits are kept, under the digest of its weights.
    """
    parts = {key: recipe[key] for key in ("labels", "noise")}
    index, labels = draw(train, rest=recipe["rest"], **parts, seed=seed)
    images = train[0][index]
    if (name := recipe.get("teacher")) is None:
        return Lesson(images, labels)
    if name == SAME_LABELS:
        known, given = draw(train, rest="unused", **parts, seed=seed)
        teacher = _with_same_labels(train[0][known], given, f"{recipe['split']}-{parts['labels']}-{parts['noise']}",
                                    seed=seed, work=work)  # fmt: skip
    else:
        teacher = zoo.load(name)
    known = cached_logits(teacher, train[0], work, recipe["split"])[index]
    return Lesson(images, labels, Permuted(teacher, recipe["permute"]), permuted(known, recipe["permute"]))


def _with_same_labels(images: Tensor, labels: Tensor, name: str, *, seed: int, work: Path) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = zoo.build(TEACHER["model"])
    path = work / f"teacher-{TEACHER['model']}-{TEACHER['epochs']}-{name}-seed{seed}.pt"
    training.fit(teacher, images, labels, seed=seed, checkpoint=path, **harness.fit_settings(TEACHER))
    return teacher


def digest(model: nn.Module) -> str:
    """SHA-256 of the weights; of a network of the zoo that of its file."""
    return hashlib.sha256(to_bytes(model.state_dict())).hexdigest()


def cached_logits(teacher: nn.Module, images: Tensor, work: Path, name: str) -> Tensor:
    """The teacher's logits (N, classes), read from the folder ``work`` if they are there, else written to it.

    Parameters
    ----------
    teacher : nn.Module
    images : (N, C, H, W)
    work : directory; the file's name has the digest of the teacher's weights.
    name : of the images.
    """
    path = work / f"logits-{digest(teacher)[:16]}-{name}-{len(images)}.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    found = soft.teacher_logits(teacher, images)
    work.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as unfinished:
        torch.save(found, unfinished)
    return found


class Permuted(nn.Module):
    """A teacher that confuses its classes, as `permuted` does."""

    teacher: nn.Module

    def __init__(self, teacher: nn.Module, which: str) -> None:
        super().__init__()
        self.teacher, self.which = teacher, which

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return permuted(self.teacher(images), self.which)


def permuted(logits: Tensor, which: str) -> Tensor:
    """The logits with their classes exchanged: what is left of a teacher's help if it is confused?

    Parameters
    ----------
    logits : (N, classes)
    which : {"nothing", "others", "all"}
        "all" gives the logit of each class to the next one, so the teacher is as certain as before, of a wrong class.
        "others" leaves the largest logit where it is and does so with the rest: the teacher is as right and as certain
        as before, and only how alike the classes are is wrong.
    """
    if which not in PERMUTED:
        raise ValueError(f"permute must be one of {PERMUTED}, got {which!r}")
    if which == "nothing":
        return logits
    if which == "all":
        return logits.roll(1, 1)
    kept = F.one_hot(logits.argmax(1), logits.shape[1]).bool()
    return logits.masked_scatter(~kept, logits[~kept].view(len(logits), -1).roll(1, 1))


def virtual_logits(labels: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """A teacher that knows the label alone, ``c · one-hot``, and is as certain as the real one: the control of scale.

    The loss αT² KL + (1 − α) CE pulls at each logit with αT (q − p) + (1 − α)(q₁ − y). It keeps α, T and the step size;
    what is exchanged is p, the image's own probabilities, for softmax(c · y / T), the same for all images of a class. c
    is such that the mean probability of the label at temperature T is the real teacher's, and so is, as long as the
    student is indifferent, the mean pull at the logit of the label. This is label smoothing at temperature T, the
    "virtual teacher" of Yuan, Tay, Li, Wang, Feng, CVPR 2020, arXiv 1909.11723.

    Parameters
    ----------
    labels : (N,) int64, all known.
    logits : (N, classes), the real teacher's.
    temperature : T.
    """
    classes = logits.shape[1]
    wanted = (logits.double() / temperature).softmax(1).gather(1, labels[:, None]).mean()
    # Of c · y / T the label has the probability e^(c/T) / (e^(c/T) + classes − 1).
    margin = temperature * (wanted.logit() + math.log(classes - 1)).item()
    return F.one_hot(labels, classes).float() * margin


def loss_scale(labels: Tensor, logits: Tensor, temperature: float, weight: float) -> float:
    """By which factor the loss of distillation pulls harder than the cross-entropy at a student without an opinion.

    The other control: a gain that is only a larger loss, which SGD cannot tell from a larger learning rate, is there
    with ``s · CE`` too. At equal logits q = u = 1/classes, and s is the ratio of the mean norms,
    ``‖αT (u − p) + (1 − α)(u − y)‖ ÷ ‖u − y‖``.

    Parameters
    ----------
    labels, logits, temperature : as for `virtual_logits`.
    weight : α.
    """
    given = F.one_hot(labels, logits.shape[1]).float()
    indifferent = torch.full_like(given, 1 / logits.shape[1])
    soft_pull = temperature * (indifferent - (logits / temperature).softmax(1))
    total = weight * soft_pull + (1 - weight) * (indifferent - given)
    return (total.norm(dim=1).mean() / (indifferent - given).norm(dim=1).mean()).item()
