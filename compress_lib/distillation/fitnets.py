"""FitNets: a hint from the middle of the teacher starts a student that is thin and deep. Chapter 12.

Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta, Bengio, "FitNets: hints for thin deep nets", ICLR 2015,
arXiv 1412.6550.

Stage 1 trains the student up to its guided layer, so that a regressor can predict the teacher's hint layer from it.
Stage 2 throws the regressor away and trains the whole student on labels and on the teacher's logits, which count less
and less::

    fitnets.pretrain(student, teacher, "stage2", "stage2", images, epochs=2, seed=0)
    loss = fitnets.objective(teacher)
    training.fit(student, images, labels, epochs=10, seed=0, objective=loss, before_step=loss.at)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks, training
from compress_lib.distillation import features, teachers
from compress_lib.distillation.logits import distillation_loss
from compress_lib.distillation.teachers import Annealed, precise
from compress_lib.network import watching
from compress_lib.network.modes import evaluating


class Regressor(nn.Sequential):
    """A convolution without padding, and the non-linearity of the hint layer.

    From maps of N_g places on a side it predicts maps of N_g − k + 1. It has far fewer weights than a linear layer
    between the two, and sees as much of the image at each place of the hint. A 1×1 regressor takes over any mixing of
    the channels, so the guided layer only has to span what the hint layer shows.

    Parameters
    ----------
    in_channels, out_channels : int
        Of the guided layer and of the hint layer.
    kernel_size : int or (int, int)
        k.
    activation : nn.Module, optional
        The non-linearity that ends the hint layer; ReLU unless given, ``nn.Identity()`` if there is none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, kernel_size), activation or nn.ReLU())


class LinearRegressor(nn.Sequential):
    """A linear layer and the non-linearity of the hint layer, for a student without maps, such as an MLP.

    It predicts every number of the hint, so it may be larger than the student. It is thrown away after stage 1.

    Parameters
    ----------
    in_features : int
        Of the guided layer.
    hint : sequence of int
        The shape of the hint of one image, (C, H, W) or (C,).
    activation : nn.Module, optional
        As for `Regressor`.
    """

    def __init__(self, in_features: int, hint: Sequence[int], activation: nn.Module | None = None) -> None:
        numbers = torch.Size(hint).numel()
        super().__init__(nn.Linear(in_features, numbers), activation or nn.ReLU(), nn.Unflatten(1, tuple(hint)))


def regressor(guided: Tensor, hint: Tensor, activation: nn.Module | None = None) -> nn.Module:
    """The regressor from one activation to the other, with fresh weights.

    Parameters
    ----------
    guided, hint : Tensor
        Activations of the two layers on a batch: (N, C, H, W), or (N, C).
    activation : nn.Module, optional
        As for `Regressor`.

    Returns
    -------
    nn.Module
        A `Regressor` between maps, a `LinearRegressor` from a layer without maps.

    Raises
    ------
    ValueError
        If the hint's maps are larger, or only the student has maps.
    """
    if guided.dim() == 2 and hint.dim() in (2, 4):
        return LinearRegressor(guided.shape[1], hint.shape[1:], activation)
    kernel = [ours - theirs + 1 for ours, theirs in zip(guided.shape[2:], hint.shape[2:], strict=False)]
    if guided.dim() != 4 or hint.dim() != 4 or min(kernel) < 1:
        raise ValueError(
            f"student_layer gives {tuple(guided.shape)} and teacher_layer {tuple(hint.shape)}: maps of the student "
            "must be at least as large as those of the teacher; name another layer"
        )
    return Regressor(guided.shape[1], hint.shape[1], (kernel[0], kernel[1]), activation)


def hint_loss(predicted: Tensor, hint: Tensor) -> Tensor:
    """``½ ‖hint − predicted‖²``, summed over the numbers of an image and averaged over the images.

    Parameters
    ----------
    predicted, hint : Tensor
        (N, …) of one shape. No gradient flows to the hint.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != hint.shape:
        raise ValueError(f"predicted must have the shape of hint, got {tuple(predicted.shape)} and {tuple(hint.shape)}")
    return (precise(predicted) - precise(hint.detach())).square().sum() / (2 * len(hint))


class Guided(nn.Module):
    """The student as far as its guided layer, and the regressor: what stage 1 trains."""

    def __init__(self, student: nn.Module, layer: str, regressor: nn.Module) -> None:
        super().__init__()
        self.student, self.layer, self.regressor = student, layer, regressor

    def forward(self, images: Tensor) -> Tensor:
        """The predicted hint. What stands behind the guided layer does not run."""
        return self.regressor(features.up_to(self.student, self.layer, images))


def pretrain(
    student: nn.Module,
    teacher: nn.Module,
    student_layer: str,
    teacher_layer: str,
    images: Tensor,
    *,
    seed: int,
    activation: nn.Module | None = None,
    **options: Any,
) -> list[dict]:
    """Stage 1: train the student in place, up to its guided layer, to predict the teacher's hint.

    What is minimized is `hint_loss` divided by the number of places of the hint's maps, as in the authors' code: a
    learning rate then means the same at every resolution. Labels are not needed.

    Parameters
    ----------
    student : nn.Module
        What stands behind ``student_layer`` stays as it is, batch statistics too.
    teacher : nn.Module
        A copy is run on each batch, in evaluation mode and without gradients.
    student_layer, teacher_layer : str
        The guided layer and the hint layer; the middle ones in the paper.
    images : Tensor
        (N, C, H, W), uint8 or float.
    seed : int
        Of the regressor's first weights and of the run.
    activation : nn.Module, optional
        The non-linearity that ends the hint layer, as for `Regressor`.
    **options
        Of `compress_lib.training.fit`: ``epochs``, …. ``after_epoch`` gets the `Guided` network.

    Returns
    -------
    list of dict
        The history that `compress_lib.training.fit` returns.

    Raises
    ------
    ValueError
        For a layer that does not exist (with the nearest names) or does not run, or maps that do not fit.
    """
    frozen = teachers.frozen(teacher)
    batch = next(watching.batches(student, images[:2], 2))
    with evaluating(student), torch.random.fork_rng(devices=[]):
        guided = features.up_to(student, student_layer, batch)
        with torch.no_grad():
            hint = features.up_to(frozen.to(batch.device), teacher_layer, batch)
        torch.manual_seed(seed)
        head = regressor(guided, hint, activation).to(batch.device)
    places = hint.shape[2:].numel()

    def objective(model: nn.Module, images: Tensor, _: Any) -> Tensor:
        with torch.no_grad():
            hint = features.up_to(frozen.to(images.device), teacher_layer, images)
        return hint_loss(model(images), hint) / places

    idle = _behind(student, guided)
    try:
        for parameter in idle:  # several processes would wait for their gradients
            parameter.requires_grad_(False)
        network = Guided(student, student_layer, head)
        return training.fit(network, images, (), seed=seed, objective=objective, **options)
    finally:
        for parameter in idle:
            parameter.requires_grad_(True)


def _behind(student: nn.Module, guided: Tensor) -> list[nn.Parameter]:
    """Of the parameters to be trained, those that the guided layer's output does not depend on."""
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if not guided.requires_grad:
        raise ValueError("student has no parameter to train up to student_layer")
    slopes = torch.autograd.grad(guided.sum(), parameters, allow_unused=True)
    return [parameter for parameter, slope in zip(parameters, slopes, strict=True) if slope is None]


class FitNetsObjective(Annealed):
    """Made by `objective`."""

    def __init__(self, teacher: Any, temperature: float, start: float, end: float) -> None:
        checks.positive("temperature", temperature)
        checks.non_negative("start", start)
        checks.non_negative("end", end)
        self.source = teachers.reader(teacher)
        self.temperature, self.start, self.end = temperature, start, end

    @property
    def strength(self) -> float:
        """λ now."""
        return self.start + (self.end - self.start) * self._done()

    def __call__(self, model: nn.Module, images: Tensor, targets: Any) -> Tensor:
        labels, logits = self.source.read(images, targets)
        outputs = model(images)
        soft = distillation_loss(outputs, logits, temperature=self.temperature) / self.temperature**2
        hard = 0.0 if labels is None else F.cross_entropy(outputs, labels)
        return hard + self.strength * soft


def objective(
    teacher: nn.Module | Sequence[nn.Module] | None = None,
    *,
    temperature: float = 3.0,
    start: float = 4.0,
    end: float = 1.0,
) -> FitNetsObjective:
    """Stage 2: ``cross-entropy + λ · KL(p ‖ q)`` for `compress_lib.training.fit`, λ from ``start`` to ``end``.

    λ changes linearly over the run, from 4 to 1 at T = 3 in the authors' code. As there, the second term has no factor
    T²: its gradients are λ/T² times those of ``T² · KL``, 4/9 at the start. Give ``before_step=objective.at`` to the
    run.

    Parameters
    ----------
    teacher : nn.Module or sequence of nn.Module, optional
        As for `compress_lib.distillation.logits.objective`: without it, the targets of the run hold stored logits.
    temperature : float
        T > 0.
    start, end : float
        λ at the start and at the end of the run.

    Returns
    -------
    FitNetsObjective
        ``(model, images, targets) -> loss``, with ``at(done)``.
    """
    return FitNetsObjective(teacher, temperature, start, end)
