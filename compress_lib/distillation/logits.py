"""Distillation from logits: the student learns the teacher's softened probabilities. Chapter 12; used in chapter 03.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, arXiv 1503.02531.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks, training
from compress_lib.distillation import teachers


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
) -> Tensor:
    """``weight · T² · KL(p ‖ q) + (1 − weight) · cross-entropy``, with p = softmax(teacher/T), q = softmax(student/T).

    The gradient of the first term in a student's logit is ``T (q − p) / N``. As T grows it tends to the difference of
    the two logits, each centered, over ``N · classes``: the factor T² is what keeps it from vanishing as 1/T², so that
    ``weight`` means roughly the same at every temperature.

    Parameters
    ----------
    student_logits : Tensor
        (N, classes).
    teacher_logits : Tensor
        (N, classes), or (N, teachers, classes) of an ensemble: p is then the mean of the teachers' softened
        probabilities, not the softmax of their mean logits. No gradient flows to the teacher.
    labels : Tensor, optional
        (N,) int64. Without them the loss is the first term alone, with weight 1.
    temperature : float
        T > 0.
    weight : float
        Of the teacher against the labels, in [0, 1].

    Returns
    -------
    Tensor
        Scalar, the mean over the N images, in nats.

    Raises
    ------
    TypeError, ValueError
        For logits of unequal or other shapes, of no image, or not finite; labels that are no class numbers of these
        images; a temperature that is not positive; a weight outside [0, 1].
    """
    check(student_logits, teacher_logits)
    checks.positive("temperature", temperature)
    checks.fraction("weight", weight, below_one=False)
    student_logits = teachers.precise(student_logits)
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = softened(teacher_logits.detach(), temperature)
    soft = temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    if labels is None:
        return soft
    check_labels(labels, student_logits)
    return weight * soft + (1 - weight) * F.cross_entropy(student_logits, labels)


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Logarithms of the probabilities at temperature T, (N, classes); those of an ensemble are averaged first.

    ``log (1/K) Σ_k softmax(v_k / T)``, computed without leaving the logarithms.

    Parameters
    ----------
    logits : Tensor
        (N, classes), or (N, teachers, classes).
    temperature : float
    """
    log_probabilities = F.log_softmax(teachers.precise(logits) / temperature, dim=-1)
    if logits.dim() == 2:
        return log_probabilities
    return log_probabilities.logsumexp(1) - math.log(logits.shape[1])


def check(student_logits: Tensor, teacher_logits: Tensor, *, ensembles: bool = True) -> None:
    """Refuse logits that are not those of the same images and classes, or that are not numbers.

    Raises
    ------
    ValueError
        It names the argument.
    """
    theirs = tuple(teacher_logits.shape)
    if ensembles and len(theirs) == 3 and theirs[1] > 0:
        theirs = theirs[:1] + theirs[2:]
    if student_logits.dim() != 2 or tuple(student_logits.shape) != theirs or not student_logits.numel():
        raise ValueError(
            "student_logits and teacher_logits must both be (N, classes), N at least 1, "
            f"got {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
            f"{'; only those of an ensemble are (N, teachers, classes)' if ensembles else ''}"
        )
    for name, logits in (("student_logits", student_logits), ("teacher_logits", teacher_logits)):
        finite = logits.isfinite()
        if not finite.all():
            raise ValueError(f"{name} must be finite, but {(~finite).sum()} of {finite.numel()} are NaN or infinite")


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that are not one class number for each row of ``logits``.

    Raises
    ------
    ValueError
    """
    count, classes = logits.shape
    if labels.shape != (count,) or labels.is_floating_point():
        raise ValueError(f"labels must be ({count},) whole numbers, got {tuple(labels.shape)} of {labels.dtype}")
    if not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")


def teacher_logits(teacher: nn.Module | Sequence[nn.Module], images: Tensor, *, batch_size: int = 250) -> Tensor:
    """The logits of one teacher or of several, to be stored as targets of `compress_lib.training.fit`.

    Parameters
    ----------
    teacher : nn.Module or sequence of nn.Module
        Run in evaluation mode and without gradients; its modes are as before afterwards.
    images : Tensor
        (N, C, H, W), uint8 or float, as for `compress_lib.training.predict`.
    batch_size : int
        Images at a time.

    Returns
    -------
    Tensor
        (N, classes) of one teacher, (N, teachers, classes) of a sequence; on the CPU.

    Raises
    ------
    TypeError, ValueError
        If ``teacher`` is no module and no sequence of modules, or the teachers have different numbers of classes.
    """
    models = teachers.as_teachers(teacher)
    # A copy is no inference tensor, so that a loss may keep it for its gradient.
    logits = [training.predict(model, images, batch_size=batch_size).clone() for model in models]
    return teachers.joined(logits, isinstance(teacher, nn.Module))


def objective(
    teacher: nn.Module | Sequence[nn.Module] | None = None, *, temperature: float = 4.0, weight: float = 0.9
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """The objective of `compress_lib.training.fit` that minimizes `distillation_loss`.

    Parameters
    ----------
    teacher : nn.Module or sequence of nn.Module, optional
        A copy is run on each batch, in evaluation mode and without gradients; the labels of the run are ``labels``, or
        ``()`` for unlabeled images. Without a teacher they are the stored logits, or ``(labels, logits)``; these are
        of images as they are, so ``augment=True`` needs the teacher.
    temperature, weight : float
        As for `distillation_loss`.

    Returns
    -------
    callable
        ``(model, images, targets) -> loss``.
    """
    checks.positive("temperature", temperature)
    checks.fraction("weight", weight, below_one=False)
    source = teachers.reader(teacher)

    def distillation(model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        labels, logits = source.read(images, targets)
        return distillation_loss(model(images), logits, labels, temperature=temperature, weight=weight)

    return distillation


def distil(
    student: nn.Module,
    teacher: nn.Module | Sequence[nn.Module],
    images: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
    augment: bool = False,
    **options: Any,
) -> list[dict]:
    """Train the student in place on the teacher's softened probabilities, and on the labels if there are any.

    Without augmentation the teacher runs once over the images, and its logits are kept; with it, on every batch.

    Parameters
    ----------
    student : nn.Module
        Trained in place, as by `compress_lib.training.fit`.
    teacher : nn.Module or sequence of nn.Module
        One or an ensemble; left as it is.
    images : Tensor
        (N, C, H, W).
    labels : Tensor, optional
        (N,) int64; None if the images are unlabeled.
    temperature, weight : float
        As for `distillation_loss`.
    augment : bool
        Random crops and flips.
    **options
        Of `compress_lib.training.fit`: ``epochs``, ``seed``, ….

    Returns
    -------
    list of dict
        The history that `compress_lib.training.fit` returns.

    Raises
    ------
    TypeError, ValueError
        As `distillation_loss` and `compress_lib.training.fit`.
    """
    targets: Tensor | tuple[Tensor, ...]
    if augment:
        loss, targets = objective(teacher, temperature=temperature, weight=weight), () if labels is None else labels
    else:
        loss, stored = objective(temperature=temperature, weight=weight), teacher_logits(teacher, images)
        targets = stored if labels is None else (labels, stored)
    return training.fit(student, images, targets, augment=augment, objective=loss, **options)
