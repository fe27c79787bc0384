"""A teacher's and a student's logits, softened by a temperature. Chapter 12.

The computation is in ``temperature.mjs``. The softened probabilities and the loss between them are those of Hinton,
Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, arXiv 1503.02531
(`compress_lib.distillation.logits`); label smoothing is that of Szegedy et al., "Rethinking the Inception architecture
for computer vision", 2015, arXiv 1512.00567, section 7.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from compress_lib import checks
from compress_lib.distillation import logits as distillation
from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPERATURES = [
    *(i / 10 for i in range(10, 20)),
    *(i / 5 for i in range(10, 20)),
    *(i / 2 for i in range(8, 16)),
    *range(8, 21),
]  # from one to the next by 5 % to 13 %
LOSSES = ("T² · KL", "KL")
MATCHED = "match teacher"
SMOOTHING = ("0", "0.05", "0.1", "0.2", "0.4", MATCHED)  # a choice shows its options as they are written
IMAGES = 12
CLASSES = 10  # at most: each is a row of a chart that a phone shows whole
LETTERS = 12
CELLS = 8  # at most, along each side of the surface


class Surface(NamedTuple):
    """Accuracies that were measured at each of some temperatures with each of some weights α of the teacher."""

    temperatures: Sequence[float]
    """Above 0, ascending, at most eight."""
    weights: Sequence[float]
    """In [0, 1], ascending, at most eight."""
    accuracies: Sequence[Sequence[float]] | np.ndarray
    """(temperatures, weights), in [0, 1]."""
    standard_error: float | None = None
    """Of one accuracy, over seeds, if it is known."""


def explorer(
    images: Mapping[str, np.ndarray],
    labels: Sequence[int],
    teacher_logits: np.ndarray,
    student_logits: np.ndarray,
    classes: Sequence[str],
    *,
    surface: Surface | None = None,
) -> Explorer:
    """The explorer of the temperature of distillation, on the logits of some images.

    With the teacher's logits v and the student's z, p = softmax(v / T) and q = softmax(z / T). The loss T² KL(p ‖ q) of
    ``logits.distillation_loss`` has the gradient T (q − p) in z; without the factor T² it is (q − p) / T. Label
    smoothing, a cross-entropy at T = 1 with the target s = (1 − ε) e + ε / K, where e is 1 at the label and K the
    number of classes, has softmax(z) − s. It matches the teacher where s at the label equals the largest p.

    Parameters
    ----------
    images : mapping of str to array of shape (height, width)
        One to twelve pictures by name, of any range from 0 up. The first is shown at the start, at T = 1.
    labels : sequence of int
        The true class of each, an index of ``classes``.
    teacher_logits, student_logits : array of shape (images, classes)
        Rounded to float32.
    classes : sequence of str
        Two to ten different names of at most twelve letters.
    surface : Surface, optional
        Measured accuracies by temperature and weight. Without it there is no chart of them.

    Returns
    -------
    Explorer
        With ``results`` teacher_entropy and student_entropy (of p and q, in bits), first and second (the teacher's
        probabilities of its first and its second class), student_first and student_second (the student's of the same
        two classes), kl (KL(p ‖ q) in nats), loss (that times T², if so chosen), largest (the gradient of the largest
        magnitude, with its sign), norm (of the gradient), smoothing (ε) and smoothing_norm (of its gradient).

    Raises
    ------
    TypeError, ValueError
        If the arrays have other shapes or hold NaN, a label is no class, the names are too many or too long, or the
        surface is none of such accuracies.
    """
    if not 1 <= len(images) <= IMAGES:
        raise ValueError(f"images must name one to {IMAGES} pictures, got {list(images)}")
    names = _classes(classes)
    shape = (len(images), len(names))
    teacher = _logits("teacher_logits", teacher_logits, shape)
    student = _logits("student_logits", student_logits, shape)
    found = [int(label) for label in labels]
    if len(found) != len(images) or not all(0 <= label < len(names) for label in found):
        raise ValueError(f"labels must be {len(images)} indices of the {len(names)} classes, got {found}")
    first = next(iter(images))
    return Explorer(
        "temperature",
        controls=[
            slider("temperature", "temperature T", TEMPERATURES, 1),
            choice("image", "image", list(images), first),
            choice("loss", "soft loss", LOSSES, LOSSES[0]),
            choice("smoothing", "label smoothing ε", SMOOTHING, "0.1"),
        ],
        title="What does the teacher tell its student?",
        data={
            "classes": names,
            "temperatures": TEMPERATURES,
            "images": [
                {"name": name, "label": label, "pixels": _pixels(f"images[{name!r}]", pixels)}
                for (name, pixels), label in zip(images.items(), found, strict=True)
            ],
            "teacher": teacher,
            "student": student,
            "smoothing": list(SMOOTHING),
            "surface": _surface(surface),
        },
        fallback=lambda: _figure(names, torch.from_numpy(teacher[:1]), torch.from_numpy(student[:1])),
        alt=(
            f"Left, the teacher's probabilities of {len(names)} classes for the image {first} at T = 1, 4 and 20: the "
            "larger T, the closer to equal. Right, the gradients of the student's logits at T = 4, with the factor T² "
            "and, 16 times smaller, without it."
        ),
    )


def _classes(classes: Sequence[str]) -> list[str]:
    names = list(classes)
    if not 2 <= len(names) <= CLASSES or len(set(names)) < len(names):
        raise ValueError(f"classes must be two to {CLASSES} different names, got {names}")
    if unfit := [name for name in names if not 1 <= len(name.strip()) <= LETTERS]:
        raise ValueError(f"classes must be names of at most {LETTERS} letters, got {unfit}")
    return names


def _logits(argument: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    with np.errstate(over="ignore"):  # an infinity is refused below
        numbers = np.asarray(values, dtype=np.float32)
    if numbers.shape != shape:
        raise ValueError(f"{argument} must have the shape (images, classes), here {shape}, got {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{argument} must be finite, got NaN or infinity")
    return numbers


def _pixels(where: str, values: np.ndarray) -> np.ndarray:
    """The picture in 256 steps from 0 to its brightest."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 2 or not numbers.size:
        raise ValueError(f"{where} must have the shape (height, width), got {numbers.shape}")
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise ValueError(f"{where} must be finite and at least 0")
    return np.rint(255 * numbers / (numbers.max() or 1)).astype(np.uint8)


def _surface(surface: Surface | None) -> dict[str, Any] | None:
    if surface is None:
        return None
    axes = {"temperatures": list(surface.temperatures), "weights": list(surface.weights)}
    for value in axes["temperatures"]:
        checks.positive("surface.temperatures", value)
    for value in axes["weights"]:
        checks.fraction("surface.weights", value, below_one=False)
    for name, values in axes.items():
        if not 1 <= len(values) <= CELLS or any(a >= b for a, b in itertools.pairwise(values)):
            raise ValueError(f"surface.{name} must be one to {CELLS} ascending numbers, got {values}")
    rows = list(surface.accuracies)
    if len(rows) != len(axes["temperatures"]):
        raise ValueError(f"surface.accuracies must have {len(axes['temperatures'])} rows, got {len(rows)}")
    if surface.standard_error is not None:
        checks.non_negative("surface.standard_error", surface.standard_error)
    return axes | {
        "accuracies": [
            measured.accuracies(row, len(axes["weights"]), f"surface.accuracies[{i}]") for i, row in enumerate(rows)
        ],
        "standard_error": surface.standard_error,
    }


def _figure(classes: list[str], teacher: torch.Tensor, student: torch.Tensor) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained", sharey=True)
    order = teacher[0].argsort(descending=True, stable=True)
    rows = np.arange(len(classes))
    for i, temperature in enumerate((1, 4, 20)):
        p = distillation.softened(teacher, temperature).exp()[0, order].numpy()
        left.barh(rows + (i - 1) * 0.27, p, 0.25, label=f"T = {temperature}", hatch=("", "//", "..")[i])
    p, q = (distillation.softened(logits, 4).exp()[0, order].numpy() for logits in (teacher, student))
    right.barh(rows - 0.16, 4 * (q - p), 0.3, label="T (q − p)")
    right.barh(rows + 0.16, (q - p) / 4, 0.3, label="(q − p) / T", hatch="//")
    right.axvline(0, color="0.4", linewidth=1)
    left.set_yticks(rows, [classes[i] for i in order])
    left.invert_yaxis()
    left.set(xlabel="the teacher's probability", xlim=(0, 1))
    right.set(xlabel="gradient of the student's logit at T = 4")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
