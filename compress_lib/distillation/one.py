"""ONE: branches of a network teach each other through a gated ensemble, trained on the fly. Chapter 12.

Lan, Zhu, Gong, "Knowledge distillation by on-the-fly native ensemble", NeurIPS 2018, arXiv 1806.04606.

Behind a named layer the network goes on in several branches. A gate, which reads the shared features, mixes their
logits to an ensemble z_e = Σ g_i z_i, and the ensemble teaches each branch. Only branch 0, the plain network, is
deployed::

    model = one.convert(network, "stage2", image)
    loss = one.objective()
    training.fit(model, images, labels, epochs=10, seed=0, objective=loss, before_step=loss.at)
    network = one.deploy(model)
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks
from compress_lib.distillation.features import pooled
from compress_lib.distillation.logits import distillation_loss
from compress_lib.distillation.teachers import Annealed, precise
from compress_lib.network.modes import evaluating
from compress_lib.network.splitting import join, split


class Gate(nn.Module):
    """Weights of the branches from the shared features: mean over the places → linear → batch normalization → ReLU →
    softmax.

    Parameters
    ----------
    channels, branches : int
        Of the shared features; to weigh.
    """

    def __init__(self, channels: int, branches: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, branches)
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, features: Tensor) -> Tensor:
        """(N, branches), each row of sum 1, from (N, channels, …)."""
        return self.norm(self.linear(pooled(features))).relu().softmax(1)


class MultiBranch(nn.Module):
    """A trunk, branches and a gate; made by `convert`.

    Attributes
    ----------
    trunk : nn.Module
        The shared part.
    branches : nn.ModuleList
        From the shared features to logits. Branch 0 has the weights of the network that was converted.
    gate : Gate
    """

    def __init__(self, network: nn.Module, trunk: nn.Module, branches: Sequence[nn.Module], gate: Gate) -> None:
        super().__init__()
        self.trunk, self.branches, self.gate = trunk, nn.ModuleList(branches), gate
        self.architecture = (copy.deepcopy(network),)  # in a tuple: its weights are not this module's

    def forward(self, images: Tensor, *, all_branches: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits of branch 0, (N, classes), without the others being run; with ``all_branches`` the logits of all,
        (N, branches, classes), and the gate's weights, (N, branches)."""
        shared = self.trunk(images)
        if not all_branches:
            return self.branches[0](shared)
        return torch.stack([branch(shared) for branch in self.branches], 1), self.gate(shared)


class Ensemble(nn.Module):
    """The gated ensemble of a `MultiBranch` as a network of its own; the weights are shared with it."""

    def __init__(self, model: MultiBranch) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits z_e, (N, classes)."""
        return mixed(*self.model(images, all_branches=True))


def convert(model: nn.Module, layer: str, image: Tensor, *, branches: int = 3) -> MultiBranch:
    """The train form: what stands behind ``layer`` becomes branch 0, and more branches like it are put beside it.

    Their weights are those of branch 0 with the numbers of each tensor shuffled. If the model is fresh, this is another
    draw of the same initialization, whatever it is; a normalization, which begins with equal numbers, stays.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    layer : str
        The last shared layer; everything behind it comes from its output alone.
    image : Tensor
        (1, C, H, W), a batch that the model takes.
    branches : int
        At least 1; 3 in the paper.

    Returns
    -------
    MultiBranch

    Raises
    ------
    TypeError, ValueError
        As for `compress_lib.network.splitting.split`, or for fewer than one branch.
    """
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    trunk, branch = split(model, [layer])
    with evaluating(trunk), torch.no_grad():
        shared = trunk(image)
    gate = Gate(shared.shape[1], branches).to(shared.device, shared.dtype)
    others = [_shuffled(branch) for _ in range(branches - 1)]
    return MultiBranch(model, trunk, [branch, *others], gate).train(model.training)


@torch.no_grad()
def _shuffled(branch: nn.Module) -> nn.Module:
    other = copy.deepcopy(branch)
    for parameter in other.parameters():
        order = torch.randperm(parameter.numel()).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other


def mixed(logits: Tensor, gates: Tensor) -> Tensor:
    """The ensemble's logits ``z_e = Σ g_i z_i``, (N, classes), of (N, branches, classes) and (N, branches)."""
    return (gates[:, :, None] * logits).sum(1)


def loss(logits: Tensor, gates: Tensor, labels: Tensor, *, temperature: float = 3.0, strength: float = 1.0) -> Tensor:
    """``Σ CE_i + CE_e + w T² Σ KL(p_e ‖ p_i)``: branches and ensemble learn the labels, branches also the ensemble.

    As in the authors' code p_e is detached in the last sum: the ensemble does not move towards its branches. So with
    one branch, where the ensemble is that branch, the gradient is twice that of the cross-entropy.

    Parameters
    ----------
    logits : Tensor
        (N, branches, classes).
    gates : Tensor
        (N, branches), each row of sum 1.
    labels : Tensor
        (N,) int64.
    temperature : float
        T > 0.
    strength : float
        w, at least 0; `ramp` in training.

    Returns
    -------
    Tensor
        Scalar, the mean over the images.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range or logits that do not fit.
    """
    checks.non_negative("strength", strength)
    if logits.dim() != 3 or gates.shape != logits.shape[:2]:
        raise ValueError(
            "logits must be (N, branches, classes) and gates (N, branches), "
            f"got {tuple(logits.shape)} and {tuple(gates.shape)}"
        )
    logits = precise(logits)
    ensemble = mixed(logits, gates)
    total = F.cross_entropy(ensemble, labels)
    for branch in logits.unbind(1):
        soft = distillation_loss(branch, ensemble, temperature=temperature)
        total = total + F.cross_entropy(branch, labels) + strength * soft
    return total


def ramp(done: float, length: float) -> float:
    """``exp(−5 (1 − done / length)²)``, from 0.007 up to 1 at ``length``, then 1.

    Laine, Aila, "Temporal ensembling for semi-supervised learning", ICLR 2017, arXiv 1610.02242. At first the ensemble
    has nothing to teach.
    """
    return math.exp(-5 * (1 - min(done / length, 1)) ** 2)


class OneObjective(Annealed):
    """Made by `objective`."""

    def __init__(self, temperature: float, ramp_length: float) -> None:
        checks.positive("temperature", temperature)
        checks.fraction("ramp_length", checks.positive("ramp_length", ramp_length), below_one=False)
        self.temperature, self.ramp_length = temperature, ramp_length

    def __call__(self, model: nn.Module, images: Tensor, labels: Any) -> Tensor:
        strength = ramp(self._done(), self.ramp_length)
        logits, gates = model(images, all_branches=True)
        return loss(logits, gates, labels, temperature=self.temperature, strength=strength)


def objective(*, temperature: float = 3.0, ramp_length: float = 80 / 300) -> OneObjective:
    """The objective of `compress_lib.training.fit` that minimizes `loss` of a `MultiBranch`, its KL ramped up.

    Give ``before_step=objective.at`` to the run.

    Parameters
    ----------
    temperature : float
        T > 0.
    ramp_length : float
        The part of the run over which w goes up to 1, as by `ramp`; 80 of 300 epochs in the authors' code.

    Returns
    -------
    OneObjective
        ``(model, images, labels) -> loss``, with ``at(done)``.
    """
    return OneObjective(temperature, ramp_length)


def deploy(model: MultiBranch) -> nn.Module:
    """The architecture that was given to `convert`, with the weights of the trunk and of branch 0; evaluation mode.

    Parameters
    ----------
    model : MultiBranch
        Left as it is.

    Returns
    -------
    nn.Module
    """
    return join(model.architecture[0], [model.trunk, model.branches[0]])
