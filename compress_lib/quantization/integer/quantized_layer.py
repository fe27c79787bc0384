"""What linear layers and convolutions on codes share: numbers, arithmetic and the choice of a kernel. Chapter 05.

The layers themselves, and the source, are in `int8`.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from compress_lib.quantization.integer import affine, fixed_point, onednn
from compress_lib.quantization.integer.qparams import QParams, QParamsModule, codes_dtype

_INT32 = torch.iinfo(torch.int32)


class QuantizedLayer(QParamsModule):
    """What a linear layer and a convolution share. They add `_accumulate`, `_kernel`, `_kernel_takes` and `_check`.

    Parameters
    ----------
    shape : tuple of int
        Of the weight.
    bias : bool
        Whether there is one.
    per_channel : bool
        A weight scale for each output, or one for all.
    weight_bits : int
        From 2 to 16.
    input_bits : int
        From 1 to 16.
    output_bits : int, optional
        From 1 to 16; None for float32 numbers.
    relu : bool
        Whether a ReLU follows.

    Raises
    ------
    ValueError
        If a number of bits is out of range.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        bias: bool = True,
        per_channel: bool = True,
        weight_bits: int = 8,
        input_bits: int = 8,
        output_bits: int | None = 8,
        relu: bool = False,
    ) -> None:
        super().__init__()
        affine.quant_range(weight_bits, signed=True, narrow=True)
        self.weight_bits, self.input_bits, self.output_bits, self.relu = weight_bits, input_bits, output_bits, relu
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8 if weight_bits <= 8 else torch.int16))
        self.register_buffer("weight_scale", torch.ones(shape[:1] if per_channel else ()))
        self.register_buffer("bias", torch.zeros(shape[0], dtype=torch.int32) if bias else None)
        self.register_qparams("input_", input_bits)
        if output_bits is not None:
            self.register_qparams("output_", output_bits)

    def _fill(
        self,
        layer: nn.Conv2d | nn.Linear,
        input_qparams: QParams,
        output_qparams: QParams | None,
        weight_scale: Tensor,
    ) -> Self:
        """Quantize a dense layer into this one, and take it to the device of that one."""
        for name, parameter in layer.named_parameters():
            affine.check_finite(name, parameter)
        axis = 0 if weight_scale.dim() else None
        self.weight.copy_(affine.quantize(layer.weight, weight_scale, 0, self.weight_bits, narrow=True, axis=axis))
        self.weight_scale.copy_(weight_scale)
        self.set_qparams("input_", input_qparams)
        if output_qparams is not None:
            self.set_qparams("output_", output_qparams)
        if layer.bias is not None and self.bias is not None:
            codes = (layer.bias.detach().cpu().double() / self._product_scale()).round()
            if (codes.abs() > _INT32.max).any():
                channel = int(codes.abs().argmax())
                raise ValueError(
                    f"bias[{channel}]={layer.bias[channel].item()} does not fit int32 on a grid of the scale "
                    f"{(self._product_scale() + 0 * codes)[channel].item()}: weight_scale must be larger"
                )
            self.bias.copy_(codes)
        return self.to(layer.weight.device)

    @property
    def input_qparams(self) -> QParams:
        """The grid of the codes that come in."""
        return self.get_qparams("input_", self.input_bits)

    @property
    def output_qparams(self) -> QParams | None:
        """The grid of the codes that go out; None if they are float32 numbers."""
        return None if self.output_bits is None else self.get_qparams("output_", self.output_bits)

    @property
    def kernel(self) -> str:
        """``"int8"`` if oneDNN multiplies the codes, ``"float32"`` if they are converted before."""
        few = max(self.weight_bits, self.input_bits, self.output_bits or 0) <= 8
        if few and onednn.multiplies(self.weight_bits, self.input_bits, self.weight.device):
            return "int8"
        return "float32"

    def forward(self, codes: Tensor) -> Tensor:
        """The layer's output, in the fastest way.

        Parameters
        ----------
        codes : Tensor
            uint8 of up to 8 bits, int32 of more; of the shape that the dense layer takes, with a batch axis.

        Returns
        -------
        Tensor
            Codes likewise, or float32 without ``output_qparams``.

        Raises
        ------
        TypeError
            If ``codes`` has another dtype.
        ValueError
            If it has another shape.
        """
        self._check(codes)
        if self._derived is None:
            self._derived = self._prepare()
        operator, arguments, highest = self._derived
        # Of an empty batch, oneDNN's linear layer loses axes.
        if operator is None or not codes.numel() or not self._kernel_takes(codes):
            return self._float32(codes)
        output = operator(codes, *arguments)
        return output if highest is None else output.clamp_(max=highest)

    def integer(self, codes: Tensor, *, rounding: str = "once") -> Tensor:
        """The same by integers alone: exact sums in int32, and a fixed-point multiplier for each channel.

        A float32 output is the sum times ``S_input · S_weight``.

        Parameters
        ----------
        codes : as for `forward`.
        rounding : {"once", "twice"}
            See `fixed_point.requantize`.

        Returns
        -------
        Tensor
            As from `forward`, where some codes differ by one.

        Raises
        ------
        TypeError, ValueError
            As for `forward`, if a sum does not fit int32, and if ``rounding`` is unknown.
        """
        self._check(codes)
        # Integers below 2^53 are exact in float64, whatever the order of the sum, and its products are the fast ones.
        total = self._accumulate(codes, torch.float64)
        if self.bias is not None:
            total += self._spread(self.bias)
        if (total.abs() > _INT32.max).any():
            raise ValueError(
                f"a sum does not fit int32: {total.abs().max().item():.0f}; use fewer bits or shorter sums"
            )
        out = self.output_qparams
        if out is None:
            output = (total * self._spread(self._product_scale())).float()
            return output.relu_() if self.relu else output
        m0, shift = (self._spread(t) for t in fixed_point.multiplier(self._product_scale() / out.scale))
        lowest = out.zero_point if self.relu else out.lowest
        limits = out.zero_point, lowest, out.highest
        requantized = fixed_point.requantize(total.int(), m0, shift, *limits, rounding=rounding)
        return requantized.to(codes_dtype(out.bits))

    def _check(self, codes: Tensor) -> None:
        """TypeError or ValueError for codes of another dtype or shape."""
        raise NotImplementedError

    def _accumulate(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """``Σ w (q − Z_input)``, in this dtype."""
        raise NotImplementedError

    def _kernel(self, x: QParams) -> tuple[Callable, Tensor, tuple]:
        """oneDNN's operator, the weight as it wants it, and the geometry that it is told."""
        raise NotImplementedError

    def _kernel_takes(self, codes: Tensor) -> bool:
        """Whether oneDNN's kernel can be trusted with codes of this shape."""
        return True

    # What is not for oneDNN: the sums in float32, whose rounding, if any, is far below that to the output's codes.
    def _float32(self, codes: Tensor) -> Tensor:
        scale = self._product_scale()
        real = self._accumulate(codes, torch.float32) * self._spread(scale.float())
        if self.bias is not None:
            real += self._spread((self.bias * scale).float())
        if self.relu:
            real.relu_()
        out = self.output_qparams
        return real if out is None else out.quantize(real)

    def _prepare(self) -> tuple:
        """oneDNN's operator, its arguments after the codes, and the highest code where it is not uint8's."""
        affine.check_scale("weight_scale", self.weight_scale)
        x, y = self.input_qparams, self.output_qparams
        if self.kernel == "float32":
            return None, (), None
        bias = None if self.bias is None else (self.bias * self._product_scale()).float()
        scale = self.weight_scale.reshape(-1)  # one of all, or one per channel
        zero_points = torch.zeros(len(scale), dtype=torch.int32)
        output = (1.0, 0, torch.float32) if y is None else (y.scale, y.zero_point, torch.uint8)
        operator, weight, geometry = self._kernel(x)
        arguments = (x.scale, x.zero_point, weight, scale, zero_points, bias, *geometry, *output)
        highest = None if y is None or y.bits == 8 else y.highest
        return operator, (*arguments, "relu" if self.relu else "none", [], ""), highest

    def _product_scale(self) -> Tensor:
        """``S_input · S_weight``, the scale of the sums and of the bias: () or (C,), float64."""
        return self.input_scale.double() * self.weight_scale.double()

    def _spread(self, per_channel: Tensor) -> Tensor:
        """A tensor of () or (C,), with axes to be broadcast over the output."""
        return per_channel.view(-1, *[1] * (self.weight.dim() - 2)) if per_channel.dim() else per_channel

    def _bits(self) -> str:
        output = "float32" if self.output_bits is None else f"{self.output_bits} bits"
        weight = f"weight {self.weight_bits} bits per {'channel' if self.weight_scale.dim() else 'tensor'}"
        return f"{self.input_bits} bits → {output}, {weight}, bias={self.bias is not None}, relu={self.relu}"

    def _check_dtype(self, codes: Tensor) -> None:
        if codes.dtype != codes_dtype(self.input_bits):
            raise TypeError(f"codes must be {codes_dtype(self.input_bits)}, got {codes.dtype}")


def check_settings(
    layer: Any, kind: type[nn.Module], input_qparams: Any, output_qparams: Any, weight_scale: Any
) -> dict:
    """The constructor's arguments that a dense layer and the grids imply, once they have been checked."""
    found = type(layer)
    if found is not kind:  # a subclass may compute something else
        raise TypeError(f"layer must be an nn.{kind.__name__}, got {found.__name__}")
    if not isinstance(input_qparams, QParams):
        raise TypeError(f"input_qparams must be QParams, got {type(input_qparams).__name__}")
    if not isinstance(output_qparams, QParams | None):
        raise TypeError(f"output_qparams must be QParams or None, got {type(output_qparams).__name__}")
    if not isinstance(weight_scale, Tensor) or not weight_scale.is_floating_point():
        raise TypeError(f"weight_scale must be a float tensor, got {weight_scale!r}")
    if weight_scale.shape not in ((), layer.weight.shape[:1]):
        raise ValueError(f"weight_scale must be () or ({len(layer.weight)},), got {tuple(weight_scale.shape)}")
    affine.check_scale("weight_scale", weight_scale.float())
    return {
        "bias": layer.bias is not None,
        "per_channel": weight_scale.dim() == 1,
        "input_bits": input_qparams.bits,
        "output_bits": None if output_qparams is None else output_qparams.bits,
    }
