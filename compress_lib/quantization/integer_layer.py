"""What linear layers and convolutions on codes share: numbers, arithmetic and the choice of a kernel. Chapter 05.

The layers themselves, and the source, are in `int8`.
"""

import functools
import warnings

import torch
from torch import Tensor, nn

from compress_lib.quantization import affine, fixed_point
from compress_lib.quantization.grid import Grid, GridModule, codes_dtype, positive

_INT16, _INT32 = torch.iinfo(torch.int16), torch.iinfo(torch.int32)


class QuantizedLayer(GridModule):
    """What a linear layer and a convolution share. They add `_accumulate`, `_kernel` and `_check`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        bias: bool,
        per_channel: bool,
        weight_bits: int,
        input_bits: int,
        output_bits: int | None,
        relu: bool,
    ) -> None:
        super().__init__()
        affine.limits(weight_bits, signed=True, narrow=True)
        self.weight_bits, self.input_bits, self.output_bits, self.relu = weight_bits, input_bits, output_bits, relu
        self.register_buffer("weight", torch.zeros(shape, dtype=torch.int8 if weight_bits <= 8 else torch.int16))
        self.register_buffer("weight_scale", torch.ones(shape[:1] if per_channel else ()))
        self.register_buffer("bias", torch.zeros(shape[0], dtype=torch.int32) if bias else None)
        self.register_grid("input_", input_bits)
        if output_bits is not None:
            self.register_grid("output_", output_bits)

    def _fill(self, layer: nn.Module, input_grid: Grid, output_grid: Grid | None, weight_scale: Tensor):
        """Quantize a dense layer into this one, and take it to the device of that one."""
        for name, parameter in layer.named_parameters():
            affine.check_finite(name, parameter)
        axis = 0 if weight_scale.dim() else None
        self.weight.copy_(affine.quantize(layer.weight, weight_scale, 0, self.weight_bits, narrow=True, axis=axis))
        self.weight_scale.copy_(weight_scale)
        self.set_grid("input_", input_grid)
        if output_grid is not None:
            self.set_grid("output_", output_grid)
        if layer.bias is not None:
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
    def input_grid(self) -> Grid:
        """The grid of the codes that come in."""
        return self.read_grid("input_", self.input_bits)

    @property
    def output_grid(self) -> Grid | None:
        """The grid of the codes that go out; None if they are float32 numbers."""
        return None if self.output_bits is None else self.read_grid("output_", self.output_bits)

    @property
    def kernel(self) -> str:
        """``"int8"`` if oneDNN multiplies the codes, ``"float32"`` if they are converted before."""
        if max(self.weight_bits, self.input_bits, self.output_bits or 0) > 8:
            return "float32"
        support = _support() if self.weight.is_cpu else "missing"
        pair = 2 * affine.limits(self.weight_bits, signed=True)[1] * affine.limits(self.input_bits, signed=False)[1]
        if support == "exact" or (support == "saturating" and pair <= _INT16.max):
            return "int8"
        _warn_once(f"oneDNN's int8 kernels are {support} here: quantized layers compute in float32, which is slower")
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
            Codes likewise, or float32 without an output grid.

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
        if self.output_bits is None:
            output = (total * self._spread(self._product_scale())).float()
            return output.relu_() if self.relu else output
        grid = self.output_grid
        m0, shift = (self._spread(t) for t in fixed_point.multiplier(self._product_scale() / grid.scale))
        lowest = grid.zero_point if self.relu else grid.lowest
        limits = grid.zero_point, lowest, grid.highest
        requantized = fixed_point.requantize(total.int(), m0, shift, *limits, rounding=rounding)
        return requantized.to(codes_dtype(grid.bits))

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
        return real if self.output_bits is None else self.output_grid.quantize(real)

    def _prepare(self) -> tuple:
        """oneDNN's operator, its arguments after the codes, and the highest code where it is not uint8's."""
        positive("weight_scale", self.weight_scale)
        x, y = self.input_grid, self.output_grid
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


def settings(layer, kind: type, input_grid, output_grid, weight_scale) -> dict:
    """The constructor's arguments that a dense layer and the grids imply, once they have been checked."""
    if type(layer) is not kind:
        raise TypeError(f"layer must be an nn.{kind.__name__}, got {type(layer).__name__}")
    if not isinstance(input_grid, Grid):
        raise TypeError(f"input_grid must be a Grid, got {type(input_grid).__name__}")
    if not isinstance(output_grid, Grid | None):
        raise TypeError(f"output_grid must be a Grid or None, got {type(output_grid).__name__}")
    if not isinstance(weight_scale, Tensor) or not weight_scale.is_floating_point():
        raise TypeError(f"weight_scale must be a float tensor, got {weight_scale!r}")
    if weight_scale.shape not in ((), layer.weight.shape[:1]):
        raise ValueError(f"weight_scale must be () or ({len(layer.weight)},), got {tuple(weight_scale.shape)}")
    positive("weight_scale", weight_scale.float())
    return {
        "bias": layer.bias is not None,
        "per_channel": weight_scale.dim() == 1,
        "input_bits": input_grid.bits,
        "output_bits": None if output_grid is None else output_grid.bits,
    }


@functools.cache
def _support() -> str:
    """What oneDNN does with 8-bit codes on this processor: "exact", "saturating" (in int16) or "missing"."""
    codes, weight = torch.full((1, 2), 255, dtype=torch.uint8), torch.full((1, 2), 127, dtype=torch.int8)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
        arguments = (codes, 1.0, 0, packed, one, zero, None, 1.0, 0, torch.float32, "none", [], "")
        found = torch.ops.onednn.qlinear_pointwise.default(*arguments).item()
        torch.ops.onednn.qconv_prepack.default, torch.ops.onednn.qconv2d_pointwise.default  # noqa: B018
    except (AttributeError, NotImplementedError, RuntimeError):
        return "missing"
    return "exact" if found == 2 * 255 * 127 else "saturating"


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=4)
