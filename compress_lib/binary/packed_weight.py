"""Layers with weights of ±α, or of −α, 0 and α, stored in one bit each, or in two; activations are real. Chapter 08.

The train form is a parametrization of ``weight`` (`binaryconnect`, `bwn`, `ternary`), the deploy form a layer that
holds signs, where there are zeros another bit that says where, and the scale. It makes the numbers of its weight again
each time it runs, and multiplies them in float32: it saves memory and bytes of a file, no time. Its outputs are those
of the train form to the last bit, as the two multiply the same weights in the same type; under ``torch.autocast`` both
round them, and the activations, as PyTorch's own layers do. (``torch.stack((kept, signs))`` is a weight of
`ops.ternary_linear`.)
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from compress_lib import ops
from compress_lib.binary.binarization import along_filters
from compress_lib.network.replacing import replace_


@torch.no_grad()
def pack(model: nn.Module) -> nn.Module:
    """The deploy form of a train form.

    Parameters
    ----------
    model : nn.Module
        Left as it is.

    Returns
    -------
    nn.Module
        A copy in evaluation mode, in which each layer whose parametrization has ``parts`` is a packed one, and one that
        is used twice is one packed layer in both places. Other parametrizations stay.

    Raises
    ------
    ValueError
        If a convolution pads with something else than zeros, or another parametrization is stacked on such a one.
    """
    packed = copy.deepcopy(model).eval()
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer, "weight") and hasattr(layer.parametrizations.weight[0], "parts"):
            chain = layer.parametrizations.weight
            if len(chain) > 1:
                raise ValueError(f"model must have one parametrization on the weight of {name!r}, not {len(chain)}")
            kind = PackedConv2d if isinstance(layer, nn.Conv2d) else PackedLinear
            form = kind(layer, *chain[0].parts(chain.original)).eval()
            packed = replace_(packed, packed.get_submodule(name), form)
    return packed


class _Packed(nn.Module):
    """Signs, zeros and scale of a weight.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        Whose bias and geometry are taken over.
    signs : Tensor
        (out, …): negative where the weight is.
    kept : Tensor or None
        Bool, likewise: False where the weight is zero.
    scale : Tensor
        () or (out,).
    """

    signs: Tensor
    kept: Tensor | None
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d, signs: Tensor, kept: Tensor | None, scale: Tensor) -> None:
        super().__init__()
        self.shape = tuple(signs.shape)
        positive = signs.detach() if kept is None else torch.where(kept, signs.detach(), -1)
        self.register_buffer("signs", ops.pack_signs(positive.flatten(1)))
        self.register_buffer("kept", None if kept is None else ops.pack_signs(kept.float().flatten(1) - 0.5))
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        """The numbers that are multiplied, (out, …), in the type of the scale."""
        count = math.prod(self.shape[1:])
        weight = ops.unpack_signs(self.signs, count).to(self.scale.dtype)
        if self.kept is not None:
            weight = torch.where(ops.unpack_signs(self.kept, count) > 0, weight, 0)
        return (along_filters(self.scale, weight) * weight).reshape(self.shape)


class PackedLinear(_Packed):
    """A linear layer with a packed weight."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.shape[1]}, out_features={self.shape[0]}, bits={1 if self.kept is None else 2}"


class PackedConv2d(_Packed):
    """A convolution with a packed weight, padded with zeros."""

    def __init__(self, layer: nn.Conv2d, signs: Tensor, kept: Tensor | None, scale: Tensor) -> None:
        if layer.padding_mode != "zeros":
            raise ValueError(f"layer must have padding_mode='zeros', got {layer.padding_mode!r}")
        super().__init__(layer, signs, kept, scale)
        self.stride, self.dilation, self.groups = layer.stride, layer.dilation, layer.groups
        self.padding: Any = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"weight={self.shape}, stride={self.stride}, padding={self.padding}, bits={1 if self.kept is None else 2}"
        )
