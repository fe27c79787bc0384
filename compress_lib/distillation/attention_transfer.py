"""Attention transfer: the student looks where the teacher looks. Chapter 12.

Zagoruyko, Komodakis, "Paying more attention to attention: improving the performance of convolutional neural networks
via attention transfer", ICLR 2017, arXiv 1612.03928.

An attention map sums the squares of the channels at each place and has length 1. It does not depend on how many
channels there are, on their order or on their scale, so no layer has to translate between the two networks. What a
channel means, it forgets.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks
from compress_lib.distillation import features, teachers
from compress_lib.distillation.logits import distillation_loss
from compress_lib.network import watching

FORMS = ("mean squared", "norm")


def attention_map(activation: Tensor) -> Tensor:
    """``Q = vec(Σ_c A_c²) / ‖Σ_c A_c²‖₂``.

    Parameters
    ----------
    activation : Tensor
        (N, C, H, W), or any number of spatial axes.

    Returns
    -------
    Tensor
        (N, H · W), each row of length 1; zero where the activation is.

    Raises
    ------
    ValueError
        If there are no spatial axes, as behind a linear layer.
    """
    if activation.dim() < 3:
        raise ValueError(f"activation must have maps, (N, C, H, W), got {tuple(activation.shape)}")
    return F.normalize(teachers.precise(activation).square().sum(1).flatten(1), dim=1)


def loss(
    student_maps: Tensor | Sequence[Tensor],
    teacher_maps: Tensor | Sequence[Tensor],
    *,
    beta: float = 1e3,
    form: str = "mean squared",
) -> Tensor:
    """The distance of the attention maps of student and teacher, summed over the pairs of layers.

    "mean squared" is ``β · Σ_j mean((Q_S − Q_T)²)``, the mean over images and places, which the authors' code computes
    with β = 1,000 and without the factor 1/2. "norm" is the equation of the paper, ``β/2 · Σ_j ‖Q_S − Q_T‖₂``, the mean
    over images; the paper's β is about 0.1 there, so give it.

    Parameters
    ----------
    student_maps, teacher_maps : Tensor or sequence of Tensor
        Activations (N, C, H, W), as many of one as of the other. The two of a pair agree in N, H and W; the number of
        channels is free. No gradient flows to the teacher.
    beta : float
        At least 0.
    form : {"mean squared", "norm"}

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    TypeError, ValueError
        For an unknown form, a negative β, or activations that do not fit.
    """
    checks.non_negative("beta", beta)
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}")
    ours = [student_maps] if isinstance(student_maps, Tensor) else student_maps
    theirs = [teacher_maps] if isinstance(teacher_maps, Tensor) else teacher_maps
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"student_maps and teacher_maps must be as many, got {len(ours)} and {len(theirs)}")
    total = torch.zeros((), device=ours[0].device)
    for student, teacher in zip(ours, theirs, strict=True):
        if student.shape[:1] + student.shape[2:] != teacher.shape[:1] + teacher.shape[2:]:
            raise ValueError(
                "student_maps and teacher_maps must agree in all but their channels, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}; name layers at the same resolution"
            )
        difference = attention_map(student) - attention_map(teacher.detach())
        if form == "norm":
            total = total + beta / 2 * torch.linalg.vector_norm(difference, dim=1).mean()
        else:
            total = total + beta * difference.square().mean()
    return total


def objective(
    teacher: nn.Module,
    layers: Mapping[str, str],
    *,
    beta: float = 1e3,
    form: str = "mean squared",
    temperature: float = 4.0,
    weight: float = 0.0,
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """The objective of `compress_lib.training.fit`: cross-entropy plus `loss`, and the teacher's logits if wanted.

    Parameters
    ----------
    teacher : nn.Module
        A copy is run on each batch, in evaluation mode and without gradients.
    layers : mapping of str to str
        Layer of the student to layer of the teacher, at the same resolution; the ends of the stages in the paper.
    beta, form
        As for `loss`.
    temperature, weight : float
        As for `compress_lib.distillation.logits.distillation_loss`; with the weight 0 the logits are not compared.

    Returns
    -------
    callable
        ``(model, images, labels) -> loss``.

    Raises
    ------
    ValueError
        If no layers are named, or the teacher has no layer of a name.
    """
    if not layers:
        raise ValueError("layers must name at least one pair of layers")
    frozen = teachers.frozen(teacher)
    for name in layers.values():
        watching.find(frozen, name)

    def attending(model: nn.Module, images: Tensor, labels: Any) -> Tensor:
        outputs, found = features.run(model, layers.keys(), images)
        with torch.no_grad():
            logits, wanted = features.run(frozen.to(images.device), set(layers.values()), images)
        pairs = [(found[mine], wanted[theirs]) for mine, theirs in layers.items()]
        maps = loss(*zip(*pairs, strict=True), beta=beta, form=form)
        if weight == 0:
            return F.cross_entropy(outputs, labels) + maps
        return distillation_loss(outputs, logits, labels, temperature=temperature, weight=weight) + maps

    return attending
