"""The rule for differences against scipy's paired t-test, and Holm's correction against its definition."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compress_lib.statistics import LEVEL, paired_differences

SEED_VALUES = st.integers(2, 8).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(8_000, 9_999).map(lambda k: k / 10_000), min_size=n, max_size=n)] * 2)
)


def one(first, second):
    (row,) = paired_differences({"a − b": (first, second)})
    return row


@settings(max_examples=200, deadline=None)
@given(SEED_VALUES)
def test_one_comparison_is_scipys_paired_t_test(pair):
    differences = [round(10_000 * (x - y)) for x, y in zip(*pair, strict=True)]
    row = one(*pair)
    assert row.seeds == len(differences)
    assert row.mean == pytest.approx(sum(differences) / len(differences) / 10_000, abs=1e-15)
    if len(set(differences)) == 1:
        assert row.standard_error == 0 and row.low == row.high == row.mean
        assert row.p == (0 if differences[0] else 1)
        return
    expected = stats.ttest_rel(*pair)
    low, high = expected.confidence_interval(0.95)
    assert row.standard_error == pytest.approx(stats.sem(np.array(differences)) / 10_000)
    assert (row.low, row.high) == pytest.approx((low, high), abs=1e-12)
    assert row.p == pytest.approx(expected.pvalue)
    assert row.seen == (expected.pvalue < 0.05) == (not low <= 0 <= high)


def holm_by_definition(p, level):
    """Which are rejected: up from the smallest, each held to level ÷ (how many are left), until the first miss."""
    rejected, left = set(), len(p)
    for i in sorted(range(len(p)), key=p.__getitem__):
        if p[i] >= level / left:
            break
        rejected.add(i)
        left -= 1
    return rejected


def by_closed_testing(p, level):
    """Which are rejected if every set of comparisons with it is, each by its smallest p × its size (Bonferroni)."""
    every = [c for r in range(1, len(p) + 1) for c in itertools.combinations(range(len(p)), r)]
    passed = {c for c in every if min(p[i] for i in c) * len(c) < level}
    return {i for i in range(len(p)) if all(c in passed for c in every if i in c)}


@settings(max_examples=100, deadline=None)
@given(st.lists(SEED_VALUES, min_size=1, max_size=5))
def test_several_comparisons_are_corrected_by_holm(pairs):
    rows = list(paired_differences({str(i): pair for i, pair in enumerate(pairs)}))
    alone = [one(*pair) for pair in pairs]
    p = [row.p for row in alone]
    assert {i for i, row in enumerate(rows) if row.seen} == holm_by_definition(p, LEVEL) == by_closed_testing(p, LEVEL)
    for level in (0.001, 0.01, 0.2, 0.5):
        assert {i for i, row in enumerate(rows) if row.p < level} == holm_by_definition(p, level)
    for row, single in zip(rows, alone, strict=True):
        assert single.p <= row.p <= 1
        assert (row.mean, row.standard_error, row.low, row.high) == (
            single.mean,
            single.standard_error,
            single.low,
            single.high,
        )


def test_luck_alone_shows_a_difference_in_one_table_of_twenty():
    generator = np.random.default_rng(0)
    draws = generator.normal(size=(2000, 6, 2, 3))
    tables = [paired_differences({str(i): tuple(pair) for i, pair in enumerate(table)}) for table in draws]
    share = sum(any(row.seen for row in table) for table in tables) / len(tables)
    assert share == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


def test_what_is_the_same_in_each_seed_has_no_spread():
    same = one([0.90, 0.92, 0.91], [0.90, 0.92, 0.91])
    assert (same.mean, same.standard_error, same.p, same.seen) == (0, 0, 1, False)
    assert str(same) == "a − b: the same in each of 3 seeds"
    constant = one([0.92, 0.91, 0.90], [0.91, 0.90, 0.89])  # not quite the same in binary
    assert (constant.mean, constant.standard_error, constant.p, constant.seen) == (pytest.approx(0.01), 0, 0, True)
    assert str(constant) == "a − b: +0.01 in each of 3 seeds"
    assert one([0.1 + 0.2, 0.5], [0.3, 0.5]).mean == 0  # 0.1 + 0.2 is not quite 0.3


def test_sentences():
    assert str(one([0.91, 0.92, 0.90], [0.90, 0.90, 0.89])) == (
        "a − b: +0.0133 ± 0.0033 (standard error, 3 seeds; 95 % interval -0.00101 to +0.0277, p = 0.057): "
        "no difference that we can see"
    )
    assert str(one([1.0, 2.0, 3.0], [2.0, 3.01, 4.01])).endswith("p = 1.1e-05): lower")
    assert one([2.0, 3.01, 4.01], [1.0, 2.0, 3.0]).verdict == "higher"


def test_the_table_shows_every_comparison_and_says_what_was_corrected():
    found = paired_differences({"a − b": ([1.0, 2.0, 3.0], [2.0, 3.01, 4.01]), "a − c": ([1.0, 2.0], [0.0, 3.0])})
    for text in (str(found), repr(found), found._repr_html_()):
        for shown in (
            "a − b",
            "a − c",
            "-1.01",
            "lower",
            "no difference that we can see",
            "corrected for 2 comparisons",
        ):
            assert shown in text
        assert "color" not in text
    assert "corrected" not in str(paired_differences({"a − b": ([1.0, 2.0], [0.0, 3.0])}))
    assert len(found) == 2 and found["a − c"].seeds == 2
    with pytest.raises(KeyError):
        found["a − d"]


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ({}, ValueError, "pairs must hold at least one"),
        ([([1.0, 2.0], [1.0, 2.0])], TypeError, "pairs must map names"),
        ({"a": ([1.0], [2.0])}, ValueError, r"pairs\['a'\] has values of 1 seed\(s\); a spread takes at least 2"),
        ({"a": ([1.0, 2.0], [2.0])}, ValueError, r"pairs\['a'\] must be two lists of one length"),
        ({"a": ([[1.0, 2.0]], [[2.0, 1.0]])}, ValueError, r"pairs\['a'\] must be two lists of one length"),
        ({"a": ([1.0, 2.0], [2.0, math.nan])}, ValueError, r"pairs\['a'\] must hold finite numbers, not nan"),
        ({"a": ([1.0, math.inf], [2.0, 1.0])}, ValueError, r"pairs\['a'\] must hold finite numbers, not inf"),
        ({"a": ([1.0, "x"], [2.0, 1.0])}, TypeError, r"pairs\['a'\] must be two lists of numbers"),
        ({"a": 3.0}, TypeError, r"pairs\['a'\] must be two lists of numbers"),
        ({"a": ([1.0, 2.0],)}, TypeError, r"pairs\['a'\] must be two lists of numbers"),
    ],
)
def test_bad_arguments(pairs, error, message):
    with pytest.raises(error, match=message):
        paired_differences(pairs)
