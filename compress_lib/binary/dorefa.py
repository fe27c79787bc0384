"""Activations of k bits times signs, after DoReFa-Net. Chapter 08.

Zhou, Wu, Ni, Zhou, Wen, Zou, "DoReFa-Net: training low bitwidth convolutional neural networks with low bitwidth
gradients", arXiv 1606.06160. An activation is clipped to [0, 1] and rounded to ``q / n`` with the code q from 0 to
n = 2^k − 1; its gradient goes through the rounding, and is 0 outside [0, 1]. Weights are α sign W, with an α for each
filter, as in `binarization` (the paper has one for all). Padding is with the code 0, a true zero.

A code is a sum of its bits, ``q = Σ_i 2^i q_i``, and a bit is half of 1 and a sign, ``q_i = (1 + s_i) / 2``. So

    2 Σ q B = Σ_i 2^i Σ s_i B + n Σ B:

k products of signs, on the kernels of `xnor`, and a number that belongs to the filter. All are whole numbers, so the
deploy form has the outputs of the train form to the last bit, in float32, the type that a layer must have to be packed.
``torch.autocast`` changes neither form (see `precision`).
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress_lib import ops
from compress_lib.binary import xnor
from compress_lib.binary.binarization import scale, sign, straight_through_sign
from compress_lib.binary.precision import check_float32, without_autocast

MOST_BITS = 8
_LARGEST = 1 << 23  # twice a sum is still a whole number of float32


def codes(x: Tensor, bits: int) -> Tensor:
    """``round(n · clip(x, 0, 1))`` with n = 2^bits − 1, half to even; 0 for NaN.

    Parameters
    ----------
    x : Tensor
        Of any shape, floating.
    bits : int
        From 1 to `MOST_BITS`.

    Returns
    -------
    Tensor
        Whole numbers of the type of ``x``, with the gradient of ``n · clip(x, 0, 1)``.

    Raises
    ------
    ValueError
        If the bits are out of range.
    """
    clipped = torch.where(x >= 0, x, 0)  # NaN is not
    return xnor.RoundStraightThrough.apply(torch.where(clipped <= 1, clipped, 1) * _highest(bits))


class QuantizedActivation(nn.Module):
    """An activation on the grid of ``bits`` bits over [0, 1]."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.highest = bits, _highest(bits)

    def forward(self, x: Tensor) -> Tensor:
        return codes(x, self.bits) / self.highest

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class DoReFaLinear(nn.Linear):
    """The train form of a linear layer, which rounds its input itself.

    Parameters
    ----------
    in_features, out_features, bias : as of ``nn.Linear``.
    bits : int
        Of the input, from 1 to `MOST_BITS`.
    """

    binarizes_weight = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, bits: int) -> None:
        super().__init__(in_features, out_features, bias)
        self.bits, self.highest = bits, _highest(bits)

    @classmethod
    def from_dense(cls, layer: nn.Linear, *, bits: int) -> "DoReFaLinear":
        """As `xnor.XnorLinear.from_dense`."""
        xnor.check_kind(layer, nn.Linear)
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, bits=bits)
        return xnor.copy_state(made, layer)

    @without_autocast
    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        y = functional.linear(codes(x, self.bits), straight_through_sign(self.weight))
        y = y * (scale(self.weight) / self.highest)
        return y if self.bias is None else y + self.bias

    def to_packed(self) -> "PackedDoReFaLinear":
        """The deploy form, in evaluation mode; as of `xnor.XnorLinear`.

        Raises
        ------
        TypeError
            As there.
        ValueError
            If a sum may be larger than float32 counts exactly.
        """
        return PackedDoReFaLinear(check_float32(self)).eval()


class DoReFaConv2d(nn.Conv2d):
    """The train form of a convolution.

    Parameters as of ``nn.Conv2d``, padding in numbers and with zeros, and ``bits`` as above.
    """

    binarizes_weight = True
    padding: tuple[int, int]

    def __init__(self, *places: Any, bits: int, **named: Any) -> None:
        super().__init__(*places, **named)
        if isinstance(self.padding, str):
            raise TypeError(f"padding must be a number or two, got {self.padding!r}")
        if self.padding_mode != "zeros":
            raise ValueError(f"padding_mode must be 'zeros', got {self.padding_mode!r}")
        self.bits, self.highest = bits, _highest(bits)

    @classmethod
    def from_dense(cls, layer: nn.Conv2d, *, bits: int) -> "DoReFaConv2d":
        """As `xnor.XnorConv2d.from_dense`, but zeros that are padded stay zeros."""
        return xnor.copy_state(cls(*xnor.geometry(layer), bits=bits), layer)

    @without_autocast
    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        signs = straight_through_sign(self.weight)
        y = functional.conv2d(codes(x, self.bits), signs, None, self.stride, self.padding, self.dilation, self.groups)
        y = xnor.RoundStraightThrough.apply(y) * (scale(self.weight) / self.highest).view(-1, 1, 1)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    def to_packed(self) -> "PackedDoReFaConv2d":
        """The deploy form; as of `DoReFaLinear`."""
        return PackedDoReFaConv2d(check_float32(self)).eval()


class _PackedDoReFa(nn.Module):
    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    sums: Tensor

    def __init__(self, layer: "DoReFaLinear | DoReFaConv2d", packed: Tensor) -> None:
        super().__init__()
        weight = layer.weight.detach()
        if (count := weight[0].numel()) * layer.highest > _LARGEST:
            raise ValueError(f"a sum of {count:,} codes of {layer.bits} bits may be beyond what float32 counts exactly")
        self.bits, self.highest = layer.bits, layer.highest
        self.register_buffer("weight", packed)
        self.register_buffer("scale", scale(weight) / layer.highest)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.register_buffer("sums", sign(weight).flatten(1).sum(1).to(torch.int32))

    def _products(self, x: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """``Σ_i 2^i Σ s_i B`` for the codes of ``x``; see above."""
        q = codes(x, self.bits).to(torch.int32)
        planes = (product((q >> i & 1).to(x.dtype) - 0.5).mul_(2**i) for i in range(self.bits))
        return cast(Tensor, sum(planes))


class PackedDoReFaLinear(_PackedDoReFa):
    """The deploy form of a `DoReFaLinear`: a bit for each weight."""

    def __init__(self, layer: DoReFaLinear) -> None:
        super().__init__(layer, ops.pack_signs(layer.weight.detach()))
        self.in_features = layer.in_features

    @without_autocast
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        y = self._products(x, lambda signs: ops.binary_linear(signs, self.weight, self.in_features))
        y = (y + self.highest * self.sums) / 2 * self.scale
        return y if self.bias is None else y + self.bias


class PackedDoReFaConv2d(_PackedDoReFa):
    """The deploy form of a `DoReFaConv2d`: a bit for each weight."""

    def __init__(self, layer: DoReFaConv2d) -> None:
        super().__init__(layer, ops.pack_conv_weight(layer.weight.detach()))
        self.in_channels, self.padding = layer.in_channels, layer.padding
        self.kernel_size: Any = layer.kernel_size
        self.places: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "dilation", "groups")}

    @without_autocast
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        rows, columns = self.padding
        x = functional.pad(x, (columns, columns, rows, rows))  # here, as the kernels would pad each plane with +1
        y = self._products(
            x, lambda s: ops.binary_conv2d(s, self.weight, self.in_channels, self.kernel_size, **self.places)
        )
        y = (y + (self.highest * self.sums).view(-1, 1, 1)) / 2 * self.scale.view(-1, 1, 1)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


def _highest(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits must be an integer from 1 to {MOST_BITS}, got {bits!r}")
    return 2**bits - 1
