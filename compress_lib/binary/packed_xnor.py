"""The deploy form of `xnor`: packed signs in the file and in the product. Chapter 08.

Rastegari et al., "XNOR-Net", ECCV 2016, arXiv 1603.05279. A weight takes one bit, in words of 64 along its input
channels, or its input features; so where these are a multiple of 64, its bytes are 1/32 of float32's. The products run
in `ops`, without gradients.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress_lib import ops
from compress_lib.binary.precision import without_autocast


def mean_magnitude(x: Tensor) -> Tensor:
    """K of a linear layer: the mean of ``|x|`` over the last axis, (…, features) to (…, 1)."""
    return x.abs().mean(-1, keepdim=True)


def magnitude_map(x: Tensor, layer: Any) -> Tensor:
    """K of a convolution: at each place of its output, the mean of ``|x|`` over what a filter sees.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W)
    layer : nn.Module
        With the attributes of an ``nn.Conv2d``. Padding counts as 0.

    Returns
    -------
    Tensor
        (N, 1, H', W'); with groups (N, out, H', W'), as each group sees channels of its own.
    """
    # Contiguous, because the order of a sum, and so its last bit, depends on the layout.
    magnitude = x.abs().contiguous().unflatten(1, (layer.groups, -1)).mean(2)
    rows, columns = layer.kernel_size
    kernel = torch.full((layer.groups, 1, rows, columns), 1 / (rows * columns), dtype=x.dtype, device=x.device)
    k = functional.conv2d(magnitude, kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return k if layer.groups == 1 else k.repeat_interleave(layer.out_channels // layer.groups, 1)


class _PackedXnor(nn.Module):
    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def _keep(self, weight: Tensor, scale: Tensor | None, bias: Tensor | None, input_scale: bool) -> None:
        for name, tensor in (("weight", weight), ("scale", scale), ("bias", bias)):
            self.register_buffer(name, None if tensor is None else tensor.detach().clone())
        self.input_scale = input_scale

    def _shape(self) -> str:
        """The numbers of the layer, for its ``repr``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self._shape()}, scale={self.scale is not None}, input_scale={self.input_scale}"


class PackedXnorLinear(_PackedXnor):
    """A linear layer of signs.

    Parameters
    ----------
    weight : Tensor
        (out, ⌈in/64⌉) int64, as of `ops.pack_signs`.
    in_features : int
    scale, bias : Tensor, optional
        (out,)
    input_scale : bool
        Whether the output is multiplied by `mean_magnitude` of the input.
    """

    def __init__(
        self,
        weight: Tensor,
        in_features: int,
        *,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        input_scale: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, len(weight)
        self._keep(weight, scale, bias, input_scale)

    @classmethod
    def pack(cls, layer: Any, scale: Tensor | None) -> "PackedXnorLinear":
        """The deploy form of a train form, with the scale of its filters."""
        packed = ops.pack_signs(layer.weight.detach())
        made = cls(packed, layer.in_features, scale=scale, bias=layer.bias, input_scale=layer.input_scale)
        return made.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        y = ops.binary_linear(x, self.weight, self.in_features, self.scale)
        if self.input_scale:
            y = y * mean_magnitude(x.float())  # which a layer before may have rounded, under autocast
        return y if self.bias is None else y + self.bias

    def _shape(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class PackedXnorConv2d(_PackedXnor):
    """A convolution of signs, padded with +1.

    Parameters
    ----------
    weight : Tensor
        (out, kh, kw, ⌈in/groups/64⌉) int64, as of `ops.pack_conv_weight`.
    in_channels : int
    stride, padding, dilation : (int, int)
    groups : int
    scale, bias : Tensor, optional
        (out,)
    input_scale : bool
        Whether the output is multiplied by `magnitude_map` of the input.
    """

    def __init__(
        self,
        weight: Tensor,
        in_channels: int,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
        input_scale: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, len(weight)
        self.kernel_size: Any = tuple(weight.shape[1:3])
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self._keep(weight, scale, bias, input_scale)

    @classmethod
    def pack(cls, layer: Any, scale: Tensor | None) -> "PackedXnorConv2d":
        """The deploy form of a train form, with the scale of its filters."""
        places = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "input_scale")}
        packed = ops.pack_conv_weight(layer.weight.detach())
        return cls(packed, layer.in_channels, **places, scale=scale, bias=layer.bias).eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        places = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups", "scale")}
        y = ops.binary_conv2d(x, self.weight, self.in_channels, self.kernel_size, **places)
        if self.input_scale:
            y = y * self._k(x)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    @without_autocast
    def _k(self, x: Tensor) -> Tensor:
        return magnitude_map(x, self)

    def _shape(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}"
        )
