import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress_lib.pruning.weights import schedule as module
from compress_lib.pruning.weights.schedule import sparsity_schedule

ranges = {"final": st.floats(0, 0.999), "rounds": st.integers(1, 30)}


@given(**ranges, kind=st.sampled_from(["geometric", "cubic"]))
def test_it_rises_to_the_final_sparsity(final, rounds, kind):
    steps = sparsity_schedule(final, rounds, kind)
    assert len(steps) == rounds
    assert steps[-1] == final
    assert all(a <= b + 1e-12 for a, b in pairwise([0.0, *steps]))


@given(**ranges)
def test_geometric_removes_the_same_fraction_of_what_is_left_each_round(final, rounds):
    left = [1.0, *(1 - s for s in sparsity_schedule(final, rounds))]
    factors = [b / a for a, b in pairwise(left)]
    assert factors == pytest.approx([factors[0]] * rounds, rel=1e-6)


@given(**ranges)
def test_cubic_leaves_the_cube_of_the_time_left(final, rounds):
    """Independently of the closed form: third differences of a cubic are constant, and it is flat at the end."""
    steps = [0.0, *sparsity_schedule(final, rounds, "cubic")]
    for _ in range(3):
        steps = [b - a for a, b in pairwise(steps)]
    assert steps == pytest.approx([6 * final / rounds**3] * len(steps), abs=1e-9)
    if rounds >= 2:
        assert final - sparsity_schedule(final, rounds, "cubic")[-2] == pytest.approx(final / rounds**3)


def test_by_hand():
    assert sparsity_schedule(0.992, 3) == pytest.approx([0.8, 0.96, 0.992])
    assert sparsity_schedule(0.8, 2, "cubic") == pytest.approx([0.7, 0.8])
    assert sparsity_schedule(0.9, 1) == sparsity_schedule(0.9, 1, "cubic") == [0.9]
    assert sparsity_schedule(0, 2) == [0, 0]


def test_the_example():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 3), r"final_sparsity must be in \[0, 1\), got 1.0"),
        ((-0.1, 3), r"final_sparsity must be in \[0, 1\), got -0.1"),
        ((float("nan"), 3), "final_sparsity"),
        ((0.5, 0), "rounds must be at least 1, got 0"),
        ((0.5, 3, "linear"), "'geometric' or 'cubic', got 'linear'"),
        ((0.5, 1, "linear"), "'geometric' or 'cubic', got 'linear'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparsity_schedule(*arguments)
