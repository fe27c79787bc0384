"""Python data as JSON for the browser; arrays travel as bytes, which is a quarter of their digits."""

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


def pack(value: Any, where: str) -> Any:
    """JSON-able copy of ``value``, called ``where`` in errors.

    An array becomes ``{"dtype", "shape", "base64"}`` with little-endian bytes; ``explorer.mjs`` unpacks it.

    Raises
    ------
    ValueError
        If a number is NaN or infinite.
    TypeError
        If something is neither number, string, list, mapping nor array of a dtype that browsers have.
    """
    if isinstance(value, np.ndarray):
        value = value.astype("uint8") if value.dtype == bool else value
        if value.dtype.name not in _DTYPES:
            raise TypeError(f"{where} must be an array of one of {', '.join(_DTYPES)} or bool, got {value.dtype}")
        if not np.isfinite(value).all():
            raise ValueError(f"{where} must be finite, got NaN or infinity")
        raw = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
        return {"dtype": value.dtype.name, "shape": list(value.shape), "base64": base64.b64encode(raw).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): pack(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [pack(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where} must be a number, a string, a list, a dict or an array, got {type(value).__name__}")


def levels(values: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """A picture as bytes, and the scale and the zero that give it back: ``(byte − zero) · scale``.

    Zero has a level of its own, so that nothing stays nothing; all else moves by at most one step.
    """
    low, high = min(values.min(), 0), max(values.max(), 0)
    scale = float(high - low) / 255 or 1.0
    zero = round(-low / scale)
    return np.clip(np.rint(values / scale) + zero, 0, 255).astype(np.uint8), {"scale": scale, "zero": zero}
