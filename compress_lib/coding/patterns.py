"""Tensors as bit patterns: what is kept when "the same" means every bit. Used by `tensors`. Chapter 07.

−0 and 0 are equal numbers of different patterns, a NaN equals nothing and has a pattern too. Here values are compared
as unsigned integers of their width, and "zero" is the pattern of zero bits.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

TYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"),
    *("float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"),
)
MOST_AXES = 32
NARROWER = {
    "int16": ("int8",),
    "int32": ("int8", "int16"),
    "int64": ("int8", "int16", "int32"),
    "uint16": ("uint8",),
    "uint32": ("uint8", "uint16"),
    "uint64": ("uint8", "uint16", "uint32"),
    "float32": ("float16", "bfloat16"),
    "float64": ("float32",),
}
_WITHOUT_NUMPY = {"bool": "u1", "bfloat16": "u2", "complex64": "u8", "float8_e4m3fn": "u1", "float8_e5m2": "u1"}
_SAMPLE = 1 << 17  # values looked at before all are


def of(tensor: "Tensor") -> tuple[str, np.ndarray]:
    """A tensor's type and its values' patterns.

    Returns
    -------
    (str, numpy.ndarray)
        The type, one of `TYPES`, and (N,) unsigned integers of its width, in C order.

    Raises
    ------
    TypeError
        If it is no dense tensor of such a type.
    """
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"tensor must be a Tensor, got {type(tensor).__name__}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in TYPES or tensor.layout != torch.strided or tensor.is_meta or tensor.dim() > MOST_AXES:
        found = f"{dtype} on {tensor.device.type}, {tensor.layout}, of {tensor.dim()} axes"
        raise TypeError(f"tensor must be dense, of at most {MOST_AXES} axes and of a type in {TYPES}, got {found}")
    if not tensor.numel():  # whose strides can be anything
        return dtype, np.empty(0, unsigned(dtype))
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
    return dtype, flat.view(torch.uint8).numpy().view(unsigned(dtype))


def tensor(patterns: np.ndarray, dtype: str, shape: tuple[int, ...]) -> "Tensor":
    """The inverse of `of`; a ValueError refuses a bool that is neither 0 nor 1."""
    import torch

    if not len(patterns):
        return torch.empty(shape, dtype=getattr(torch, dtype))
    if dtype == "bool" and patterns.max() > 1:
        raise ValueError(f"data has a bool of {patterns.max()}, neither 0 nor 1")
    return torch.from_numpy(patterns.view(np.uint8)).view(getattr(torch, dtype)).reshape(shape)


def unsigned(dtype: str) -> np.dtype:
    """The unsigned integers of a type's width."""
    return np.dtype(f"u{np.dtype(_WITHOUT_NUMPY.get(dtype, dtype)).itemsize}")


def is_integer(dtype: str) -> bool:
    """Whether the numbers of a type are integers, a bool's too."""
    return "int" in dtype or dtype == "bool"


def integers(patterns: np.ndarray, dtype: str) -> np.ndarray:
    """The patterns of a type of integers as these."""
    return patterns.view(_WITHOUT_NUMPY.get(dtype, dtype))


def distinct(patterns: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct patterns, and each value's place among them.

    Parameters
    ----------
    patterns : numpy.ndarray
        (N,)
    positions : numpy.ndarray
        (K,) Where they are not zero.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray) or None
        (D,), zero last if it occurs and the others ascending, and (N,) uint8 or uint16. None if there are more than
        65,536, or 65,535 and zero.
    """
    nonzero = patterns[positions]
    found = np.unique(nonzero[:: max(1, len(nonzero) // _SAMPLE)])  # all of them, as a rule
    if len(found) >= 1 << 16:
        return None
    places = _places(found, nonzero)
    missed = found[places] != nonzero if len(found) else np.zeros(0, bool)
    if missed.any():
        found = np.union1d(found, nonzero[missed])
        if len(found) >= 1 << 16:
            return None
        places = _places(found, nonzero)
    if len(positions) == len(patterns):
        return found, places
    codes = np.full(len(patterns), len(found), np.uint8 if len(found) < 256 else np.uint16)
    codes[positions] = places
    return np.append(found, patterns.dtype.type(0)), codes


def _places(found: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where the values are among those found, which are ascending; anywhere if they are not there."""
    kind = np.uint8 if len(found) <= 256 else np.uint16
    if found.itemsize <= 2:
        table = np.zeros(1 << 8 * found.itemsize, kind)
        table[found] = np.arange(len(found))
        return table[values]
    return np.searchsorted(found, values).clip(max=len(found) - 1).astype(kind)


def narrowed(patterns: np.ndarray, dtype: str) -> tuple[str, np.ndarray]:
    """The first of the narrower types that holds the same values, or else the type itself; and the patterns in it."""
    for narrower in NARROWER.get(dtype, ()):
        if narrower in ("float16", "float32") and np.isnan(patterns.view(dtype)).any():
            continue  # what becomes of a NaN's other bits is up to the processor
        with np.errstate(all="ignore"):
            narrow = _converted(patterns, dtype, narrower)
            if np.array_equal(_converted(narrow, narrower, dtype), patterns):
                return narrower, narrow
    return dtype, patterns


def widened(patterns: np.ndarray, stored: str, dtype: str) -> np.ndarray:
    """The inverse of `narrowed`."""
    with np.errstate(all="ignore"):
        return patterns if stored == dtype else _converted(patterns, stored, dtype)


def _converted(patterns: np.ndarray, source: str, target: str) -> np.ndarray:
    if target == "bfloat16":  # the upper half of a float32
        return (patterns >> np.uint32(16)).astype(np.uint16)
    if source == "bfloat16":
        return patterns.astype(np.uint32) << np.uint32(16)
    return patterns.view(source).astype(target).view(unsigned(target))
