"""A convolution as a linear layer on patches, and its least-squares statistics from sampled positions. Chapter 04.

At output position p a convolution computes ``y_p = W x_p + b``, where ``x_p`` is the patch under the kernel: input
channel × kernel position, ``d = in_channels · kernel positions`` numbers. A linear layer is the case of one kernel
position. With a constant 1 appended to each patch, ``y_p = Θᵀ x_p`` with ``Θ = [W, b]ᵀ``. Every quadratic function of
the outputs then needs only sums over positions, ``G = Σ x xᵀ``, ``R = Σ x yᵀ`` and ``Σ ‖y‖²``, which stay small however
many images there are:

    Σ ‖y − Θᵀx‖² = Σ ‖y‖² − 2⟨Θ, R⟩ + ⟨Θ, GΘ⟩.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib.network import watching

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = nn.Linear | Convolution
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Moments:
    """Sums over sampled positions, in float64 on the CPU. The last of the d + 1 inputs is the constant 1.

    Attributes
    ----------
    gram : Tensor
        G, (d + 1, d + 1); its last entry is the number of positions.
    cross : Tensor
        R, (d + 1, outputs).
    energy : float
        Σ ‖y‖².
    """

    gram: Tensor
    cross: Tensor
    energy: float

    @property
    def samples(self) -> int:
        """The number of positions."""
        return round(self.gram[-1, -1].item())

    def error(self, theta: Tensor) -> float:
        """``Σ ‖y − Θᵀx‖² / Σ ‖y‖²`` of the weights ``theta``, (d + 1, outputs)."""
        squares = self.energy - 2 * (theta * self.cross).sum() + (theta * (self.gram @ theta)).sum()
        return max(squares.item(), 0.0) / self.energy if self.energy else 0.0


def refusal(layer: nn.Module) -> str:
    """Why a layer is not linear on patches of all its input channels; empty if it is."""
    if type(layer) not in (nn.Linear, *_CONVOLUTIONS):  # a subclass may read its weight in another way
        return f"{type(layer).__name__} is no ordinary linear layer or convolution"
    if getattr(layer, "groups", 1) > 1:
        return f"a convolution in {layer.groups} groups: no output reads all channels"
    return ""


def get_layer(model: nn.Module, name: str) -> Layer:
    """The layer ``name``, one that `refusal` does not refuse."""
    layer = model.get_submodule(name)
    assert isinstance(layer, Layer), refusal(layer)
    return layer


def theta(layer: Layer) -> Tensor:
    """``Θ = [W, b]ᵀ``, (d + 1, outputs), in float64 on the CPU; zeros stand for a bias that the layer lacks."""
    weight = layer.weight.detach().flatten(1).double().cpu()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu()
    return torch.cat([weight, bias[:, None]], 1).T


@torch.no_grad()
def set_theta_(layer: Layer, values: Tensor) -> None:
    """Give a layer the weights and, if it has one, the bias that `theta` would return."""
    layer.weight.copy_(values[:-1].T.reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(values[-1])


def per_feature(layer: Layer, channels: Tensor) -> Tensor:
    """One entry per input channel, (in_channels,), repeated for each of the d numbers of a patch."""
    return channels.repeat_interleave(math.prod(layer.weight.shape[2:]))


@torch.no_grad()
def moments(
    model: nn.Module,
    name: str,
    images: Tensor,
    *,
    reference: nn.Module | None = None,
    outputs: Tensor | None = None,
    samples: int = 10,
    seed: int = 0,
    batch_size: int = 250,
) -> Moments:
    """The sums for one layer: patches from ``model``, targets from ``reference``, both in evaluation mode.

    Parameters
    ----------
    model, name : the network and its layer, one that `refusal` does not refuse.
    images : ``(N, C, H, W)``, uint8 or float.
    reference : the network whose layer of the same name makes the targets y; ``model`` itself unless given.
    outputs : which of the reference's output channels the layer still has; all unless given.
    samples : positions drawn from each output map, without repetition; all positions if there are fewer.
    seed, batch_size : of the draw; images per forward pass.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    layer = get_layer(model, name)
    generator = torch.Generator().manual_seed(seed)
    gram, cross = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    energy = 0.0
    for batch in watching.batches(model, images, batch_size):
        own = watching.calls(model, name, batch)
        for (x, y), (_, target) in zip(
            own, own if reference is None else watching.calls(reference, name, batch), strict=True
        ):
            x, y, target = (channels_second(layer, tensor) for tensor in (x, y, target))
            maps = math.prod(y.shape[2:])
            drawn = torch.rand(len(y), maps, generator=generator).topk(min(samples, maps)).indices.to(x.device)
            features = extract(layer, x, drawn, y.shape[2:]).double()
            features = torch.cat([features, features.new_ones(len(features), 1)], 1)
            if outputs is not None:
                target = target[:, outputs.to(target.device)]
            picked = target.flatten(2).gather(2, drawn[:, None].expand(-1, target.shape[1], -1))
            picked = picked.transpose(1, 2).flatten(0, 1).double()
            gram = gram + features.T @ features
            cross = cross + features.T @ picked
            energy += picked.square().sum().item()
    return Moments(gram.cpu(), cross.cpu(), energy)


def extract(layer: Layer, x: Tensor, positions: Tensor, output_size: torch.Size) -> Tensor:
    """The patches that a layer reads at some of its output positions.

    Parameters
    ----------
    layer : nn.Linear or a convolution
    x : Tensor
        (N, C, …), its input with the channels in second place.
    positions : Tensor
        (N, P) int64, numbers of output positions, counted row by row.
    output_size : torch.Size
        The spatial size of the output.

    Returns
    -------
    Tensor
        (N·P, C·K) with K kernel positions: the order of ``layer.weight.flatten(1)``.
    """
    if isinstance(layer, nn.Linear):
        index = positions[..., None]
    else:
        x = _padded(layer, x)
        index = torch.zeros((), dtype=torch.long, device=x.device)
        for axis, place in enumerate(torch.unravel_index(positions, output_size)):
            offsets = torch.arange(layer.kernel_size[axis], device=x.device) * layer.dilation[axis]
            along = (place * layer.stride[axis])[..., None] + offsets
            # (N, P, kernel positions so far, kernel positions on this axis), flat in the padded input
            index = (index * x.shape[axis + 2])[..., None] + along[:, :, *[None] * (axis > 0), :]
            index = index.flatten(2)
    picked = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    return picked.view(len(x), x.shape[1], *index.shape[1:]).transpose(1, 2).flatten(2).flatten(0, 1)


def channels_second(layer: nn.Module, tensor: Tensor) -> Tensor:
    """(N, …, features) of a linear layer to (N, features, positions); convolutions have it already."""
    if not isinstance(layer, nn.Linear):
        return tensor
    return tensor.reshape(len(tensor), -1, tensor.shape[-1]).transpose(1, 2)


def _padded(layer: Convolution, x: Tensor) -> Tensor:
    if layer.padding == "valid":
        return x
    sides: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):  # F.pad counts axes from the last
        if isinstance(layer.padding, str):  # "same"
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [layer.padding[axis]] * 2
    return F.pad(x, sides, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
