"""Checks of plain numbers at the public boundary, each said once. The operators have their own (`ops.checks`)."""

import math
from numbers import Real


def fraction(argument: str, value: float, *, below_one: bool = True) -> float:
    """The number if it lies in [0, 1), or in [0, 1] unless ``below_one``.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it lies outside; NaN does.
    """
    _number(argument, value)
    if not (0 <= value < 1 or value == 1 and not below_one):
        raise ValueError(f"{argument} must be in [0, 1{')' if below_one else ']'}, got {value}")
    return value


def non_negative(argument: str, value: float) -> float:
    """The number if it is finite and at least 0.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is negative, infinite or NaN.
    """
    _number(argument, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{argument} must be finite and at least 0, got {value}")
    return value


def positive(argument: str, value: float) -> float:
    """The number if it is finite and above 0; else an error, as in `non_negative`."""
    _number(argument, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{argument} must be positive and finite, got {value}")
    return value


def _number(argument: str, value: float) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{argument} must be a number, got {type(value).__name__}")
