"""Distillation from logits: the student learns the teacher's softened probabilities. Chapter 12; used in chapter 03.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, arXiv 1503.02531.
"""

from torch import Tensor
from torch.nn import functional as F

from compress_lib import checks


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
    ``weight`` means the same at every temperature.

    Parameters
    ----------
    student_logits, teacher_logits : Tensor
        (N, classes). No gradient flows to the teacher.
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
        For logits of unequal or other shapes, a temperature that is not positive, or a weight outside [0, 1].
    """
    if student_logits.dim() != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student_logits and teacher_logits must both be (N, classes), "
            f"got {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    checks.positive("temperature", temperature)
    checks.fraction("weight", weight, below_one=False)
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    soft = temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    if labels is None:
        return soft
    return weight * soft + (1 - weight) * F.cross_entropy(student_logits, labels)
