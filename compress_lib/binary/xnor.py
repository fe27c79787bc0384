"""XNOR-Net: convolutions and linear layers that multiply signs by signs. Chapter 08.

Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net: ImageNet classification using binary convolutional neural networks",
ECCV 2016, arXiv 1603.05279, section 3.2. With the scale α of each filter (see `binarization`), and A = the mean of
``|x|`` over channels,

    x * W ≈ (sign x ⊛ sign W) ⊙ K α,   K = A * k,   k = 1 / (kh · kw) everywhere:

K has, for each place of the output, the mean of ``|x|`` over what the filter sees there. With ``scale=True`` and
``input_scale=True`` that is XNOR-Net; with neither a layer of binarized neural networks (BNN; Courbariaux, Hubara et
al., NIPS 2016, arXiv 1602.02830).

Signs have no 0. What is outside the image counts as the sign of 0, +1, in the product, and as 0 in A. The layers take
the sign themselves, so no activation comes before them. What they compute is a whole number, times α, times K, plus the
bias, in this order and in both forms, which is why the deploy form (`packed_xnor`) has the same outputs to the last
bit: in float32, the type that a layer must have to be packed. ``torch.autocast`` changes neither form (see
`precision`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress_lib.binary import packed_xnor
from compress_lib.binary.binarization import scale, straight_through_sign
from compress_lib.binary.precision import Layer, check_float32, without_autocast


class XnorLinear(nn.Linear):
    """The train form of a linear layer.

    Parameters
    ----------
    in_features, out_features, bias : as of ``nn.Linear``.
    scale, input_scale : bool
        Whether there are an α and a K; K is one number for each input vector, the mean of ``|x|``.
    """

    binarizes_weight = True

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, scale: bool = True, input_scale: bool = False
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.scale, self.input_scale = scale, input_scale

    @classmethod
    def from_dense(cls, layer: nn.Linear, *, scale: bool = True, input_scale: bool = False) -> "XnorLinear":
        """A layer with the weights of a dense one, which become the real weights behind the signs.

        Raises
        ------
        TypeError
            If ``layer`` is no ``nn.Linear``, or a subclass of it, which may compute something else.
        """
        check_kind(layer, nn.Linear)
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, scale=scale, input_scale=input_scale)
        return copy_state(made, layer)

    @without_autocast
    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        y = functional.linear(straight_through_sign(x), straight_through_sign(self.weight))
        if self.scale:
            y = y * scale(self.weight)
        if self.input_scale:
            y = y * packed_xnor.mean_magnitude(x)
        return y if self.bias is None else y + self.bias

    def to_packed(self) -> packed_xnor.PackedXnorLinear:
        """The deploy form, in evaluation mode: of float32 inputs it makes the same outputs, to the last bit.

        Raises
        ------
        TypeError
            If the weights are not float32.
        """
        return packed_xnor.PackedXnorLinear.pack(
            check_float32(self), scale(self.weight.detach()) if self.scale else None
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}, input_scale={self.input_scale}"


class XnorConv2d(nn.Conv2d):
    """The train form of a convolution.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias : as of ``nn.Conv2d``.
        Padding in numbers; it is with +1.
    scale, input_scale : bool
        Whether there are an α and a K.
    """

    binarizes_weight = True
    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        scale: bool = True,
        input_scale: bool = False,
    ) -> None:
        if isinstance(padding, str):
            raise TypeError(f"padding must be a number or two, got {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.scale, self.input_scale = scale, input_scale

    @classmethod
    def from_dense(cls, layer: nn.Conv2d, *, scale: bool = True, input_scale: bool = False) -> "XnorConv2d":
        """As `XnorLinear.from_dense`; zeros that a layer pads with become +1.

        Raises
        ------
        TypeError
            As there.
        ValueError
            If the layer pads with something else than zeros, or by a word instead of numbers.
        """
        return copy_state(cls(*geometry(layer), scale=scale, input_scale=input_scale), layer)

    @without_autocast
    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        rows, columns = self.padding
        signs = functional.pad(straight_through_sign(x), (columns, columns, rows, rows), value=1.0)
        weight = straight_through_sign(self.weight)
        y = RoundStraightThrough.apply(
            functional.conv2d(signs, weight, None, self.stride, 0, self.dilation, self.groups)
        )
        if self.scale:
            y = y * scale(self.weight).view(-1, 1, 1)
        if self.input_scale:
            y = y * packed_xnor.magnitude_map(x, self)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    def to_packed(self) -> packed_xnor.PackedXnorConv2d:
        """The deploy form; as of `XnorLinear`."""
        return packed_xnor.PackedXnorConv2d.pack(
            check_float32(self), scale(self.weight.detach()) if self.scale else None
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}, input_scale={self.input_scale}"


def check_kind(layer: nn.Module, kind: type) -> None:
    """A TypeError refuses what is not of this very kind."""
    if type(layer) is not kind:
        raise TypeError(f"layer must be a torch.nn.{kind.__name__}, got {type(layer).__name__}")


def geometry(layer: nn.Conv2d) -> tuple:
    """What makes a convolution of the same shape; errors as for `XnorConv2d.from_dense`."""
    check_kind(layer, nn.Conv2d)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            "layer must pad with zeros, by numbers, "
            f"got padding_mode={layer.padding_mode!r} and padding={layer.padding!r}"
        )
    shape = layer.in_channels, layer.out_channels, layer.kernel_size
    return *shape, layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias is not None


def copy_state(made: Layer, layer: nn.Linear | nn.Conv2d) -> Layer:
    """``made`` with the numbers, the type, the device and the mode of ``layer``."""
    made.to(layer.weight).load_state_dict(layer.state_dict())
    return made.train(layer.training)


class RoundStraightThrough(torch.autograd.Function):
    """Rounds sums of whole numbers, which fast convolutions may miss by a little; the gradient goes through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Rounded, half to even."""
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Unchanged."""
        return gradient
