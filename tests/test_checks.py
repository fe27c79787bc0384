"""Numbers at the boundary: what is let through, and what the errors say."""

import math

import pytest

from compress_lib import checks


@pytest.mark.parametrize("value", [0, 0.5, 1 - 1e-9])
def test_fractions_pass(value):
    assert checks.fraction("part", value) == value
    assert checks.fraction("part", 1, below_one=False) == 1


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.fraction, 1, r"part must be in \[0, 1\), got 1"),
        (checks.fraction, -0.1, r"part must be in \[0, 1\), got -0.1"),
        (checks.fraction, math.nan, r"part must be in \[0, 1\), got nan"),
        (checks.non_negative, -1, "part must be finite and at least 0, got -1"),
        (checks.non_negative, math.inf, "part must be finite and at least 0, got inf"),
        (checks.positive, 0, "part must be positive and finite, got 0"),
        (checks.positive, math.nan, "part must be positive and finite, got nan"),
    ],
)
def test_what_lies_outside_is_named(check, value, message):
    with pytest.raises(ValueError, match=message):
        check("part", value)
    with pytest.raises(TypeError, match="part must be a number, got str"):
        check("part", "0.5")


def test_a_closed_range_ends_at_one():
    with pytest.raises(ValueError, match=r"part must be in \[0, 1\], got 1.5"):
        checks.fraction("part", 1.5, below_one=False)
