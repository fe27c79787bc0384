"""The shared kinds of plot: what is drawn is what was measured."""

import math
import re
from statistics import mean, stdev

import numpy as np
import pytest
from drawing import SVG, drawings, svg, texts
from matplotlib import pyplot as plt

from compress_lib import figures

ROWS = {"magnitude": [89.1, 89.4, 89.6], "random": [84.0, 85.5, 86.1], "once": 88.0}


def test_dots_whiskers_and_numbers_are_at_their_places():
    """Read from the SVG, by the numbers that are written along the axis."""
    axis = figures.dot_plot(ROWS, "accuracy in %", baseline=("dense", 90.0), highlight="random")
    page, _ = drawings(svg(axis.get_figure()))
    written = texts(page)
    ticks = {float(name): x for name, (x, _) in written.items() if re.fullmatch(r"\d\d", name)}
    (a, xa), (b, xb) = min(ticks.items()), max(ticks.items())
    x_of = lambda value: xa + (value - a) * (xb - xa) / (b - a)
    for name, values in ROWS.items():
        values = values if isinstance(values, list) else [values]
        x, y = written[f"{mean(values):.2f}"]
        assert x == pytest.approx(x_of(mean(values)), abs=0.1)
        assert y == pytest.approx(written[name][1], abs=14)
    assert written["magnitude"][1] < written["random"][1] < written["once"][1]
    assert written["dense"][0] == pytest.approx(x_of(90), abs=0.1)

    paths = [re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", path.get("d", "")) for path in page.iter(f"{SVG}path")]
    spans = [(float(left), float(right)) for found in paths for left, right in found]
    for values in (ROWS["magnitude"], ROWS["random"]):
        error = stdev(values) / math.sqrt(3)
        wanted = x_of(mean(values) - error), x_of(mean(values) + error)
        assert any(span == pytest.approx(wanted, abs=0.1) for span in spans), wanted


def test_rows_are_compared_in_several_respects():
    _, axes = plt.subplots(1, 2, sharey=True)
    for axis in axes:
        assert figures.dot_plot(ROWS, "x", axis=axis) is axis
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(ROWS)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({}, {}, "rows must not be empty"),
        ({"a": []}, {}, "rows\\['a'\\] must hold finite numbers, at least one"),
        ({"a": [1.0, math.nan]}, {}, "rows\\['a'\\] must hold finite"),
        ({"a": 1.0}, {"highlight": "b"}, "highlight must be one of \\['a'\\], got 'b'"),
    ],
)
def test_rows_that_cannot_be_drawn_are_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        figures.dot_plot(rows, "x", **options)


def test_lines_carry_their_names():
    _, axis = plt.subplots()
    axis.plot([0, 1], [0, 1], label="rising")
    axis.plot([0, 1], [1, 0], label="falling")
    axis.axhline(0.5)
    figures.label_lines(axis)
    assert [(each.get_text(), tuple(each.xy), each.get_color()) for each in axis.texts] == [
        ("rising", (1, 1), figures.BLUE),
        ("falling", (1, 0), figures.ORANGE),
    ]


def test_without_names_nothing_is_labeled():
    _, axis = plt.subplots()
    axis.plot([0, 1])
    with pytest.raises(ValueError, match="no line of this axis has a label"):
        figures.label_lines(axis)


def test_a_matrix_is_squares_where_it_is_not_zero():
    _, axis = plt.subplots()
    figures.matrix(axis, np.array([[0, 2, 4], [0, 0, 1]]), largest=4, numbers=True)
    (squares,) = axis.collections
    middles = [path.vertices[:4].mean(axis=0).round(3).tolist() for path in squares.get_paths()]
    assert middles == [[1.5, 0.5], [2.5, 0.5], [2.5, 1.5]]
    assert squares.get_facecolor()[:, 3] == pytest.approx([0.5, 1, 0.25], abs=0.005)
    assert [text.get_text() for text in axis.texts] == ["2", "4", "1"]
    assert axis.get_ylim() == (2, 0)


@pytest.mark.parametrize("values", [[[1.0, -1.0]], [1.0, 2.0]])
def test_what_is_no_such_matrix_is_refused(values):
    with pytest.raises(ValueError, match="values must be a matrix without negative numbers"):
        figures.matrix(plt.gca(), values)
