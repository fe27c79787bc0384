"""Linear layers and convolutions that multiply integers: unsigned codes in, unsigned codes out. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, sections 2.2 to 2.4. A layer has the codes of its weight, with zero point 0 and −127 out, its bias as
int32 on the grid ``S_input · S_weight``, and computes

    accumulator = Σ w (q − Z_input) + bias,
    q_output = Z_output + M · accumulator,   M = S_input · S_weight / S_output.

`QuantizedLayer.forward` runs oneDNN's int8 kernels, which PyTorch ships: the sum is exact in int32, and M is applied in
float32, with one rounding, half to even. `QuantizedLayer.integer` applies M in fixed point, as Jacob does for hardware
without floating point. With one rounding, a few codes in a million differ from those of the kernels, by one, where the
error of float32 decides; with the two roundings of his library, about one in 2,000.

Two cases compute in float32 between the codes: more than 8 bits, which no kernel multiplies, and what `onednn` says
that its kernels get wrong. ``layer.kernel`` tells, but for the few sizes of images among the latter.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress_lib.quantization.integer import onednn
from compress_lib.quantization.integer.qparams import QParams
from compress_lib.quantization.integer.quantized_layer import QuantizedLayer, check_settings


class QuantizedLinear(QuantizedLayer):
    """A linear layer on codes. The constructor makes one to load a state dict into; `from_dense` fills in numbers.

    Parameters
    ----------
    in_features, out_features : as of ``nn.Linear``.
    **settings : ``bias``, ``per_channel``, ``weight_bits``, ``input_bits``, ``output_bits`` and ``relu``
        As of `QuantizedLayer`, errors included.
    """

    def __init__(self, in_features: int, out_features: int, **settings: Any) -> None:
        super().__init__((out_features, in_features), **settings)
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def from_dense(
        cls,
        layer: nn.Linear,
        input_qparams: QParams,
        output_qparams: QParams | None,
        *,
        weight_scale: Tensor,
        weight_bits: int = 8,
        relu: bool = False,
    ) -> "QuantizedLinear":
        """Quantize a dense layer, which is left as it is.

        Parameters
        ----------
        layer : nn.Linear
        input_qparams : QParams
            Of the codes that come in.
        output_qparams : QParams or None
            Of the codes that go out; None for float32 numbers.
        weight_scale : Tensor
            (out_features,) or (), positive.
        weight_bits, relu : as of the class.

        Returns
        -------
        QuantizedLinear

        Raises
        ------
        TypeError
            If an argument has another type; a subclass of ``nn.Linear``, which may compute something else, is refused.
        ValueError
            If a weight or bias is NaN or infinite, a scale is not positive and finite, a bias does not fit int32 or
            ``weight_scale`` has another shape.
        """
        numbers = check_settings(layer, nn.Linear, input_qparams, output_qparams, weight_scale)
        made = cls(layer.in_features, layer.out_features, **numbers, weight_bits=weight_bits, relu=relu)
        return made._fill(layer, input_qparams, output_qparams, weight_scale)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._bits()}"

    def _check(self, codes: Tensor) -> None:
        self._check_dtype(codes)
        if not codes.dim() or codes.shape[-1] != self.in_features:
            raise ValueError(f"codes must have the shape (…, {self.in_features}), got {tuple(codes.shape)}")

    def _accumulate(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        return functional.linear(codes.to(dtype) - self.input_zero_point, self.weight.to(dtype))

    def _kernel(self, x: QParams) -> tuple:
        weight = torch.ops.onednn.qlinear_prepack(self.weight, None)
        return torch.ops.onednn.qlinear_pointwise.default, weight, ()


class QuantizedConv2d(QuantizedLayer):
    """A convolution on codes, padded with the zero point of its input, which stands for 0. Else as `QuantizedLinear`.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups : as of ``nn.Conv2d``.
        Padding in numbers, and with zeros.
    **settings
        As of `QuantizedLinear`.

    Raises
    ------
    ValueError
        If a number of bits is out of range, or ``groups`` does not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        **settings: Any,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        kernel_size = _pair(kernel_size)
        super().__init__((out_channels, in_channels // groups, *kernel_size), **settings)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.groups = kernel_size, groups
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)

    @classmethod
    def from_dense(
        cls,
        layer: nn.Conv2d,
        input_qparams: QParams,
        output_qparams: QParams | None,
        *,
        weight_scale: Tensor,
        weight_bits: int = 8,
        relu: bool = False,
    ) -> "QuantizedConv2d":
        """Quantize a dense layer, as `QuantizedLinear.from_dense` does.

        Raises
        ------
        TypeError
            As there.
        ValueError
            As there, and if the layer pads with something else than zeros, or more on one side than on the other.
        """
        numbers = check_settings(layer, nn.Conv2d, input_qparams, output_qparams, weight_scale)
        made = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=_padding(layer),
            dilation=layer.dilation,
            groups=layer.groups,
            **numbers,
            weight_bits=weight_bits,
            relu=relu,
        )
        return made._fill(layer, input_qparams, output_qparams, weight_scale)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, {self._bits()}"
        )

    def _check(self, codes: Tensor) -> None:
        self._check_dtype(codes)
        if codes.dim() != 4 or codes.shape[1] != self.in_channels:
            raise ValueError(f"codes must have the shape (N, {self.in_channels}, H, W), got {tuple(codes.shape)}")
        for size, kernel, padding, dilation in zip(
            codes.shape[2:], self.kernel_size, self.padding, self.dilation, strict=True
        ):
            if size + 2 * padding <= dilation * (kernel - 1):
                raise ValueError(
                    f"codes of shape {tuple(codes.shape)} are smaller, padding={self.padding} included, than the "
                    f"kernel_size={self.kernel_size} with dilation={self.dilation}"
                )

    def _kernel_takes(self, codes: Tensor) -> bool:
        return onednn.convolves(codes.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation)

    def _accumulate(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        # Padding comes after the subtraction: a 0 there is the zero point among the codes.
        x, weight = codes.to(dtype) - self.input_zero_point, self.weight.to(dtype)
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def _kernel(self, x: QParams) -> tuple:
        geometry = self.stride, self.padding, self.dilation, self.groups
        scale = self.weight_scale.reshape(-1)
        weight = torch.ops.onednn.qconv_prepack(self.weight, scale, x.scale, x.zero_point, *geometry)
        return torch.ops.onednn.qconv2d_pointwise.default, weight, geometry


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    if layer.padding_mode != "zeros":
        raise ValueError(f"layer must have padding_mode='zeros', got {layer.padding_mode!r}")
    if layer.padding == "valid":
        return 0, 0
    if not isinstance(layer.padding, str):
        return _pair(layer.padding)
    total = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    if any(rows % 2 for rows in total):
        raise ValueError(f"padding='same' of kernel_size={layer.kernel_size} pads one side more than the other")
    return total[0] // 2, total[1] // 2


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
