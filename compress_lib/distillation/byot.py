"""Be your own teacher: the deepest exit of a network teaches exits on the way. Chapter 12.

Zhang, Song, Gao, Chen, Bao, Ma, "Be your own teacher: improve the performance of convolutional neural networks via self
distillation", ICCV 2019, arXiv 1905.08094.

Behind chosen layers stand exits: a bottleneck that makes features as many as those of the deepest layer, and a
classifier. One training trains all. Afterwards the deepest exit is the plain network again, each early exit is a small
network, and images that an early exit is sure of need not go further::

    model = byot.attach(network, ["stage1", "stage2"], image)
    training.fit(model, images, labels, epochs=10, seed=0, objective=byot.objective())
    logits, exits = byot.early_exit(model, images, threshold=0.9)
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compress_lib import checks
from compress_lib.distillation.features import pooled
from compress_lib.distillation.logits import distillation_loss
from compress_lib.distillation.teachers import precise
from compress_lib.network import watching
from compress_lib.network.modes import evaluating
from compress_lib.network.splitting import join, split

_REDUCTION = 4  # of the channels inside a bottleneck


class Exit(nn.Module):
    """A bottleneck that makes features like the deepest ones, and a classifier.

    Behind maps: a 1×1 convolution to a quarter of the features, one of stride k on k × k places, a 1×1 convolution to
    the features, each with batch normalization and ReLU, and the mean over the places. Behind a linear layer: one
    linear layer with batch normalization and ReLU.

    Parameters
    ----------
    activation : Tensor
        (N, C, H, W) or (N, C), what the layer puts out.
    features, classes : int
        Of the deepest exit.
    stride : int
        k.
    """

    def __init__(self, activation: Tensor, features: int, classes: int, stride: int) -> None:
        super().__init__()
        channels = activation.shape[1]
        if activation.dim() == 2:
            self.bottleneck = nn.Sequential(nn.Linear(channels, features), nn.BatchNorm1d(features), nn.ReLU())
        else:
            inner = max(features // _REDUCTION, 1)
            self.bottleneck = nn.Sequential(
                *(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
                *(nn.Conv2d(inner, inner, stride, stride, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
                *(nn.Conv2d(inner, features, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU()),
            )
        self.classifier = nn.Linear(features, classes)

    def features(self, activation: Tensor) -> Tensor:
        """(N, features)."""
        return pooled(self.bottleneck(activation))

    def forward(self, activation: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.classifier(self.features(activation))


class MultiExit(nn.Module):
    """A network with exits; made by `attach`.

    Attributes
    ----------
    parts : nn.ModuleList
        The network, cut behind the layers with exits and before its classifier, the last part.
    exits : nn.ModuleList
        The early exits.
    """

    def __init__(self, network: nn.Module, parts: Sequence[nn.Module], exits: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts, self.exits = nn.ModuleList(parts), nn.ModuleList(exits)
        self.architecture = (copy.deepcopy(network),)  # in a tuple: its weights are not this module's

    def forward(self, images: Tensor, *, all_exits: bool = False) -> Tensor | tuple[list[Tensor], list[Tensor]]:
        """The deepest logits (N, classes); with ``all_exits`` the logits and the features of all, the deepest last."""
        logits, features, x = [], [], images
        for number, part in enumerate(self.parts[:-1]):
            x = part(x)
            if all_exits and number < len(self.exits):
                early = cast(Exit, self.exits[number])
                features.append(early.features(x))
                logits.append(early.classifier(features[-1]))
        deepest = self.parts[-1](x)
        return ([*logits, deepest], [*features, pooled(x)]) if all_exits else deepest


def attach(model: nn.Module, layers: Sequence[str], image: Tensor) -> MultiExit:
    """Put exits with fresh weights behind named layers.

    Parameters
    ----------
    model : nn.Module
        Left as it is. Its last linear or convolution layer is the classifier, and what that layer reads, averaged over
        the places of a map, are the deepest features.
    layers : sequence of str
        In the order in which they run; everything behind a layer comes from its output alone. None are allowed too.
    image : Tensor
        (1, C, H, W), a batch that the model takes.

    Returns
    -------
    MultiExit

    Raises
    ------
    TypeError, ValueError
        As for `compress_lib.network.splitting.split`; or if a layer gives neither maps nor a vector per image.
    """
    parts = split(model, layers, classifier=True)
    with evaluating(*parts), torch.no_grad():
        activations, x = [], image
        for part in parts[:-1]:
            x = part(x)
            activations.append(x)
        classes = parts[-1](x).shape[1]
        smallest = _smallest_side(parts[:-1], image)
    exits = []
    for layer, activation in zip(layers, activations, strict=False):
        if activation.dim() not in (2, 4):
            raise ValueError(f"layer {layer!r} must give (N, C, H, W) or (N, C), got {tuple(activation.shape)}")
        stride = max(min(activation.shape[2:], default=1) // smallest, 1)
        exits.append(Exit(activation, pooled(x).shape[1], classes, stride).to(x.device, x.dtype))
    return MultiExit(model, parts, exits).train(model.training)


def _smallest_side(parts: Sequence[fx.GraphModule], image: Tensor) -> int:
    """Of the maps of the network, the shorter side of the smallest that has more than one place."""
    sides, x = [1], image
    for part in parts:
        names = [name for name, _ in part.named_modules() if name]

        def note(_: str, __: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
                sides.append(min(output.shape[2:]))

        with watching.watching(part, names, note):
            x = part(x)
    return min(sides[1:], default=1)


def loss(
    logits: Sequence[Tensor],
    features: Sequence[Tensor],
    labels: Tensor,
    *,
    alpha: float = 0.1,
    feature_weight: float = 1e-4,
    temperature: float = 3.0,
) -> Tensor:
    """The sum over the exits i of ``(1 − α) CE_i + α T² KL(p ‖ p_i) + λ ‖F_i − F‖²``, p and F of the deepest one.

    For the deepest exit α = 0, as in the paper: only its cross-entropy counts, with the weight 1. It learns nothing
    from the others, because p and F are detached. All terms are means over the images. Public code that sums the last
    term over a batch of 128 images with λ = 10⁻⁶ has the same gradient at ``feature_weight`` = 1.28 · 10⁻⁴.

    Parameters
    ----------
    logits, features : sequence of Tensor
        (N, classes) and (N, D) of each exit, the deepest last: what a `MultiExit` gives with ``all_exits``.
    labels : Tensor
        (N,) int64.
    alpha : float
        Of the deepest exit's probabilities against the labels, in [0, 1].
    feature_weight : float
        λ, at least 0.
    temperature : float
        T > 0.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    TypeError, ValueError
        For numbers out of range or logits that do not fit.
    """
    checks.fraction("alpha", alpha, below_one=False)
    checks.non_negative("feature_weight", feature_weight)
    total = F.cross_entropy(precise(logits[-1]), labels)
    for outputs, found in zip(logits[:-1], features[:-1], strict=True):
        distance = (precise(found) - precise(features[-1].detach())).square().sum(1).mean()
        soft = distillation_loss(outputs, logits[-1], labels, temperature=temperature, weight=alpha)
        total = total + soft + feature_weight * distance
    return total


def objective(
    *, alpha: float = 0.1, feature_weight: float = 1e-4, temperature: float = 3.0
) -> Callable[[nn.Module, Tensor, Any], Tensor]:
    """The objective of `compress_lib.training.fit` that minimizes `loss` of a `MultiExit`."""

    def self_distillation(model: nn.Module, images: Tensor, labels: Any) -> Tensor:
        logits, features = model(images, all_exits=True)
        return loss(logits, features, labels, alpha=alpha, feature_weight=feature_weight, temperature=temperature)

    return self_distillation


@torch.no_grad()
def early_exit(model: MultiExit, images: Tensor, threshold: float, *, batch_size: int = 250) -> tuple[Tensor, Tensor]:
    """Let each image leave at the first exit that is sure of it. What is behind that exit is not computed for it.

    Parameters
    ----------
    model : MultiExit
        Run in evaluation mode; its modes are as before afterwards.
    images : Tensor
        (N, C, H, W), uint8 or float.
    threshold : float
        In [0, 1]. An image leaves early if the largest probability exceeds it: with 1 none does.
    batch_size : int
        Images that start together.

    Returns
    -------
    (Tensor, Tensor)
        Logits (N, classes), and the number of the exit that gave them, (N,) int64 from 0; on the CPU.

    Raises
    ------
    TypeError, ValueError
        For a threshold outside [0, 1], or no images.
    """
    checks.fraction("threshold", threshold, below_one=False)
    logits, exits = [], []
    with evaluating(model):
        for batch in watching.batches(model, images, batch_size):
            found, numbers = _leave_early(model, batch, threshold)
            logits.append(found.cpu())
            exits.append(numbers.cpu())
    return torch.cat(logits), torch.cat(exits)


def _leave_early(model: MultiExit, x: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    staying = torch.arange(len(x), device=x.device)
    exits = torch.full_like(staying, len(model.exits))
    places, given = [], []
    for number, (part, head) in enumerate(zip(model.parts, model.exits, strict=False)):
        x = part(x)
        outputs = head(x)
        sure = outputs.softmax(1).amax(1) > threshold
        places.append(staying[sure])
        given.append(outputs[sure])
        exits[staying[sure]] = number
        x, staying = x[~sure], staying[~sure]
        if not len(staying):
            break
    else:
        for part in model.parts[len(model.exits) :]:
            x = part(x)
        places.append(staying)
        given.append(x)
    return torch.cat(given)[torch.cat(places).argsort()], exits


def deploy(model: MultiExit, exit: int | None = None) -> nn.Module:
    """The network of one exit alone, in evaluation mode.

    Parameters
    ----------
    model : MultiExit
        Left as it is.
    exit : int, optional
        The number of an early exit, from 0. Unless given it is the deepest: the architecture that was given to
        `attach`, with the trained weights.

    Returns
    -------
    nn.Module
        Logits (N, classes) of images.

    Raises
    ------
    ValueError
        If there is no such exit.
    """
    if exit is None:
        return join(model.architecture[0], model.parts)
    if not 0 <= exit < len(model.exits):
        raise ValueError(f"exit must be in [0, {len(model.exits)}) or None for the deepest, got {exit}")
    return copy.deepcopy(nn.Sequential(*model.parts[: exit + 1], model.exits[exit])).eval()
