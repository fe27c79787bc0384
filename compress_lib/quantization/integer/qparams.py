"""The quantization parameters of an activation, and modules that go from float32 to its codes and back. Chapter 05."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from compress_lib.quantization.integer import affine


@dataclass(frozen=True)
class QParams:
    """The grid of an activation: ``r = scale · (q − zero_point)`` with unsigned codes q. Checked once, when it is made.

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
    _inverse: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _, highest = affine.quant_range(self.bits, signed=False)
        if isinstance(self.zero_point, bool) or not isinstance(self.zero_point, int):
            raise TypeError(f"zero_point must be an int, got {self.zero_point!r}")
        if not 0 <= self.zero_point <= highest:
            raise ValueError(f"zero_point must be from 0 to {highest} of {self.bits} bits, got {self.zero_point}")
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float):
            raise TypeError(f"scale must be a float, got {self.scale!r}")
        scale = torch.tensor(self.scale, dtype=torch.float32)
        affine.check_scale("scale", scale)
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
        """Codes of the shape of ``x``: uint8 for up to 8 bits, then int32. The numbers and errors are those of
        `affine.quantize`."""
        affine.check_float("x", x)
        affine.check_finite("x", x)
        codes = affine.to_codes(x, self._inverse, self.zero_point).clamp_(0, self.highest)
        return codes.to(codes_dtype(self.bits))

    def dequantize(self, q: Tensor) -> Tensor:
        """The numbers, float32, that codes stand for. The errors of `affine.dequantize`."""
        affine.check_integers("q", q)
        return affine.from_codes(q, self.scale, self.zero_point)


class QParamsModule(nn.Module):
    """A module whose buffers hold quantization parameters.

    They keep their types, and what is derived from them is dropped when they change.
    """

    def __init__(self) -> None:
        super().__init__()
        self._derived: Any = None

    def register_qparams(self, prefix: str, bits: int) -> None:
        """Buffers for a scale and a zero point, whose names start with ``prefix``."""
        affine.quant_range(bits, signed=False)
        self.register_buffer(f"{prefix}scale", torch.ones(()))
        self.register_buffer(f"{prefix}zero_point", torch.zeros((), dtype=torch.int32))

    def set_qparams(self, prefix: str, qparams: QParams) -> None:
        """Fill these buffers."""
        getattr(self, f"{prefix}scale").fill_(qparams.scale)
        getattr(self, f"{prefix}zero_point").fill_(qparams.zero_point)

    def get_qparams(self, prefix: str, bits: int) -> QParams:
        """What is in these buffers."""
        return QParams(getattr(self, f"{prefix}scale").item(), getattr(self, f"{prefix}zero_point").item(), bits)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # ``half()`` and the like convert what is floating; seen as integers, the scales only change their place.
        self._derived = None
        return super()._apply(lambda t: fn(t.view(torch.int32)).view(t.dtype) if t.is_floating_point() else fn(t))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._derived = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_derived": None}  # a copy packs its own; oneDNN's tensors cannot be copied or pickled


class _OneGrid(QParamsModule):
    """A module that does one thing with one grid; in the state dict are its scale and its zero point."""

    def __init__(self, qparams: QParams) -> None:
        super().__init__()
        self.bits = qparams.bits
        self.register_qparams("", qparams.bits)
        self.set_qparams("", qparams)

    @property
    def qparams(self) -> QParams:
        """The grid."""
        if self._derived is None:
            self._derived = self.get_qparams("", self.bits)
        return self._derived

    def extra_repr(self) -> str:
        return f"{self.bits} bits"


class Quantize(_OneGrid):
    """Float32 numbers to codes, by `QParams.quantize`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.qparams.quantize(x)


class Dequantize(_OneGrid):
    """Codes to the float32 numbers that they stand for, by `QParams.dequantize`."""

    def forward(self, q: Tensor) -> Tensor:
        return self.qparams.dequantize(q)


def codes_dtype(bits: int) -> torch.dtype:
    """Of activations: what oneDNN multiplies, or something wide enough."""
    return torch.uint8 if bits <= 8 else torch.int32
