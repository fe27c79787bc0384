"""The grid of an activation, and the modules that go from float32 to its codes and back. Chapter 05."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress_lib.quantization.integer import affine


@dataclass(frozen=True)
class QParams:
    """The grid of an activation: ``r = scale · (q − zero_point)`` with unsigned codes q.

    Attributes
    ----------
    scale : float
        Positive, as is its inverse in float32; rounded to float32.
    zero_point : int
        From 0 to ``highest``.
    bits : int
        From 1 to 16.

    Raises
    ------
    TypeError, ValueError
        If an attribute is not of this type, or is out of this range.
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        _, highest = affine.quant_range(self.bits, signed=False)
        if isinstance(self.zero_point, bool) or not isinstance(self.zero_point, int):
            raise TypeError(f"zero_point must be an int, got {self.zero_point!r}")
        if not 0 <= self.zero_point <= highest:
            raise ValueError(f"zero_point must be from 0 to {highest} of {self.bits} bits, got {self.zero_point}")
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float):
            raise TypeError(f"scale must be a float, got {self.scale!r}")
        scale = positive("scale", torch.tensor(self.scale, dtype=torch.float32))
        object.__setattr__(self, "scale", scale.item())
        object.__setattr__(self, "_inverse", scale.reciprocal().item())

    @property
    def lowest(self) -> int:
        """0"""
        return 0

    @property
    def highest(self) -> int:
        """``2^bits − 1``"""
        return affine.quant_range(self.bits, signed=False)[1]

    def quantize(self, x: Tensor) -> Tensor:
        """Codes of the shape of ``x``: uint8 for up to 8 bits, then int32. The numbers and errors of `affine.quantize`.

        That function checks a grid each time, which takes longer than a small layer; this one was checked when made.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError(f"x must be a float tensor, got {getattr(x, 'dtype', type(x).__name__)}")
        if not x.sum().isfinite():  # or the sum alone overflows; of all reductions it is fast in every layout
            affine.check_finite("x", x)
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        codes = (wide * self._inverse).round_().add_(self.zero_point).clamp_(0, self.highest)
        return codes.to(codes_dtype(self.bits))

    def dequantize(self, q: Tensor) -> Tensor:
        """The numbers, float32, that codes stand for. See `affine.dequantize`."""
        return affine.dequantize(q, self.scale, self.zero_point)


class GridModule(nn.Module):
    """A module whose buffers are its numbers: they keep their types, and what is derived from them is made anew."""

    def __init__(self) -> None:
        super().__init__()
        self._derived = None

    def register_grid(self, name: str, bits: int) -> None:
        """Buffers for a scale and a zero point, with ``name`` before theirs."""
        affine.quant_range(bits, signed=False)
        self.register_buffer(f"{name}scale", torch.ones(()))
        self.register_buffer(f"{name}zero_point", torch.zeros((), dtype=torch.int32))

    def set_grid(self, name: str, grid: QParams) -> None:
        """Put a grid into them."""
        getattr(self, f"{name}scale").fill_(grid.scale)
        getattr(self, f"{name}zero_point").fill_(grid.zero_point)

    def read_grid(self, name: str, bits: int) -> QParams:
        """The grid in them."""
        return QParams(getattr(self, f"{name}scale").item(), getattr(self, f"{name}zero_point").item(), bits)

    def _apply(self, fn, recurse: bool = True):
        # ``half()`` and the like convert what is floating; seen as integers, the scales only change their place.
        self._derived = None
        return super()._apply(lambda t: fn(t.view(torch.int32)).view(t.dtype) if t.is_floating_point() else fn(t))

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._derived = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_derived": None}  # a copy packs its own; oneDNN's tensors cannot be copied or pickled


class _OnGrid(GridModule):
    """A module that does one thing with one grid; in the state dict are its scale and its zero point.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: QParams) -> None:
        super().__init__()
        self.bits = grid.bits
        self.register_grid("", grid.bits)
        self.set_grid("", grid)

    @property
    def grid(self) -> QParams:
        """The grid."""
        if self._derived is None:
            self._derived = self.read_grid("", self.bits)
        return self._derived

    def extra_repr(self) -> str:
        return f"{self.bits} bits"


class Quantize(_OnGrid):
    """Float32 numbers to the codes of a grid, by `Grid.quantize`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.grid.quantize(x)


class Dequantize(_OnGrid):
    """Codes of a grid to the float32 numbers that they stand for, by `Grid.dequantize`."""

    def forward(self, q: Tensor) -> Tensor:
        return self.grid.dequantize(q)


def positive(name: str, scale: Tensor) -> Tensor:
    """The scale, if it and its inverse are positive and finite; else a ``ValueError`` with the name."""
    if not ((scale > 0) & scale.isfinite() & scale.reciprocal().isfinite()).all():
        raise ValueError(f"{name} must be positive and finite, and so must its inverse, got {scale.tolist()}")
    return scale


def codes_dtype(bits: int) -> torch.dtype:
    """Of activations: what oneDNN multiplies, or something wide enough."""
    return torch.uint8 if bits <= 8 else torch.int32
