"""Decoupled distillation: the loss on logits in two parts, what it says of the label and of the others. Chapter 12.

Zhao, Cui, Song, Qiu, Liang, "Decoupled knowledge distillation", CVPR 2022, arXiv 2203.08679.

With p and q the softened probabilities of teacher and student, t the label, and p̂, q̂ those of the other classes, scaled
to the sum 1, the divergence is exactly

    KL(p ‖ q) = KL((p_t, 1 − p_t) ‖ (q_t, 1 − q_t)) + (1 − p_t) · KL(p̂ ‖ q̂).

The more certain the teacher is of the label, the less the second part counts, the ranking of the other classes. So the
two parts get weights α and β of their own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks
from compress_lib.distillation import teachers
from compress_lib.distillation.logits import check, check_labels


def loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float | Tensor = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """``T² · mean(α · target part + β · non-target part)``.

    With α = 1 and β = 1 − p_t, one number per image, it is ``T² · KL(p ‖ q)``.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        (N, classes), at least two classes. No gradient flows to the teacher.
    labels : Tensor
        (N,) int64.
    alpha : float
        At least 0.
    beta : float or Tensor
        At least 0; or a tensor (N,), a number per image.
    temperature : float
        T > 0.

    Returns
    -------
    Tensor
        Scalar, in nats.

    Raises
    ------
    TypeError, ValueError
        For logits of unequal or other shapes or not finite, labels that do not fit them, or numbers out of range.
    """
    check(student_logits, teacher_logits, ensembles=False)
    count, classes = student_logits.shape
    if classes < 2:
        raise ValueError(f"student_logits must have at least two classes, got {classes}")
    check_labels(labels, student_logits)
    checks.positive("temperature", temperature)
    checks.non_negative("alpha", alpha)
    if not isinstance(beta, Tensor):
        checks.non_negative("beta", beta)
    elif beta.shape != (count,):
        raise ValueError(f"beta must be a number or ({count},), got a tensor {tuple(beta.shape)}")
    student, student_others = _parts(student_logits, labels, temperature)
    teacher, teacher_others = _parts(teacher_logits.detach(), labels, temperature)
    target = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    others = F.kl_div(student_others, teacher_others, reduction="none", log_target=True).sum(1)
    return temperature**2 * (alpha * target + beta * others).mean()


def _parts(logits: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logarithms of (p_t, 1 − p_t), (N, 2), and of p̂, (N, classes − 1)."""
    is_target = F.one_hot(labels, logits.shape[1]).bool()
    logits = teachers.precise(logits) / temperature
    target = logits[is_target][:, None]
    others = logits[~is_target].view(len(logits), -1)
    pair = torch.cat([target, others.logsumexp(1, keepdim=True)], 1)
    return F.log_softmax(pair, 1), F.log_softmax(others, 1)


def objective(
    teacher: nn.Module | None = None, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """The objective of `compress_lib.training.fit`: cross-entropy plus `loss`.

    The paper raises the weight of `loss` from 0 to 1 over the first epochs; here the warm-up of the learning rate does.

    Parameters
    ----------
    teacher : nn.Module, optional
        A copy is run on each batch, in evaluation mode and without gradients. Without it the labels of the run are
        ``(labels, logits)``, with the teacher's stored logits.
    alpha, beta, temperature : float
        As for `loss`.

    Returns
    -------
    callable
        ``(model, images, targets) -> loss``.
    """
    source = teachers.reader(teacher)

    def decoupled(model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        labels, logits = source.read(images, targets)
        if labels is None:
            raise ValueError("labels are needed: the target part is that of the labeled class")
        outputs = model(images)
        soft = loss(outputs, logits, labels, alpha=alpha, beta=beta, temperature=temperature)
        return F.cross_entropy(outputs, labels) + soft

    return decoupled
