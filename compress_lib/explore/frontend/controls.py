"""The controls of an explorer: a slider over a list of values, and a choice from a list."""

import itertools
from collections.abc import Iterable
from typing import Any


def slider(name: str, label: str, values: Iterable[float], value: float, unit: str = "") -> dict[str, Any]:
    """A slider over ``values``, which need not be evenly spaced: one arrow key is one entry of the list.

    Parameters
    ----------
    name : str
        Key of the control in ``Explorer.state`` and in the JavaScript module's ``state``.
    label : str
        What the reader sees beside the slider.
    values : iterable of numbers
        The allowed values, ascending, e.g. ``range(1, 8)`` or ``np.arange(0, 3.01, 0.05)``.
    value : number
        The value at the start, one of ``values``.
    unit : str
        Shown after the value.

    Raises
    ------
    ValueError
        If ``values`` holds fewer than two values or is not ascending, or ``value`` is not one of them.
    """
    values = [_tidy(v) for v in values]
    if len(values) < 2 or any(a >= b for a, b in itertools.pairwise(values)):
        raise ValueError(f"values of slider {name!r} must be at least two ascending numbers, got {values}")
    return _control("slider", name, label, values, _tidy(value), unit=unit)


def choice(name: str, label: str, options: Iterable[str | int], value: str | int) -> dict[str, Any]:
    """A drop-down list of ``options``, at least one, with ``value`` chosen at the start."""
    options = list(options)
    if not options:
        raise ValueError(f"options of choice {name!r} must not be empty")
    return _control("choice", name, label, options, value)


def _control(kind: str, name: str, label: str, values: list, value: Any, **more: Any) -> dict[str, Any]:
    if value not in values:
        raise ValueError(f"value of {kind} {name!r} must be one of {values}, got {value!r}")
    return {"kind": kind, "name": name, "label": label, "values": values, "value": value, **more}


def _tidy(value: float) -> int | float:
    """``np.arange(0, 1, 0.05)`` holds 0.15000000000000002; a reader wants 0.15."""
    value = float(f"{float(value):.10g}")
    return int(value) if value.is_integer() else value
