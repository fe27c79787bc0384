"""Layers with weights of ±α, or of −α, 0 and α, stored in one bit each, or in two; activations are real. Chapter 08.

The train form is a parametrization of ``weight`` (`connect`, `bwn`, `ternary`), the deploy form a layer that holds
signs, where there are zeros another bit that says where, and the scale. It makes the numbers of its weight anew each
time it runs, and multiplies them in float32: it saves memory and bytes of a file, no time. Its outputs are those of the
train form to the last bit, as the two multiply the same weights in the same type; under ``torch.autocast`` both round
them, and the activations, as PyTorch's own layers do. (``torch.stack((kept, signs))`` is a weight of
`ops.ternary_linear`.)
"""

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from compress_lib import ops
from compress_lib.binary.binarization import along_filters
from compress_lib.network import targets

_KINDS = (nn.Linear, nn.Conv2d)


def parametrized(model: nn.Module, layers: Iterable[str] | None, make: Callable[[], nn.Module]) -> nn.Module:
    """A copy with a parametrization on the ``weight`` of some layers.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    layers : iterable of str, optional
        Names of layers of the kinds ``nn.Linear`` and ``nn.Conv2d``; without it all but the first and the last.
    make : callable
        Makes the parametrization of one layer.

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If ``model`` is no module, or ``layers`` a single string.
    ValueError
        If there is no such layer, it is parametrized already, or none is left.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be an iterable of names, got the single string {layers!r}")
    found = {name: layer for name, layer in targets.prunable(model).items() if isinstance(layer, _KINDS)}
    names = list(found)[1:-1] if layers is None else list(layers)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"layers names {unknown}; the linear layers and convolutions of the model are {list(found)}")
    if taken := [name for name in names if parametrize.is_parametrized(found[name])]:
        raise ValueError(f"layers must not be parametrized before, but {taken} are")
    if not names:
        raise ValueError(f"layers must name one at least: without the first and the last of {list(found)} none is left")
    converted = copy.deepcopy(model)
    for name in names:
        parametrize.register_parametrization(converted.get_submodule(name), "weight", make())
    return converted


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
    packed, forms = copy.deepcopy(model).eval(), {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(layer, "weight") and hasattr(layer.parametrizations.weight[0], "parts"):
            chain = layer.parametrizations.weight
            if len(chain) > 1:
                raise ValueError(f"model must have one parametrization on the weight of {name!r}, not {len(chain)}")
            if layer not in forms:
                kind = PackedConv2d if isinstance(layer, nn.Conv2d) else PackedLinear
                forms[layer] = kind(layer, *chain[0].parts(chain.original))
            packed = with_submodule(packed, name, forms[layer])
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

    def __init__(self, layer: nn.Module, signs: Tensor, kept: Tensor | None, scale: Tensor) -> None:
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
        self.stride, self.padding, self.dilation, self.groups = (
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"weight={self.shape}, stride={self.stride}, padding={self.padding}, bits={1 if self.kept is None else 2}"
        )


def with_submodule(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The model with one submodule replaced, in place; the new module if its name, "", is that of the whole."""
    if not name:
        return module.eval()
    model.set_submodule(name, module.eval())
    return model
