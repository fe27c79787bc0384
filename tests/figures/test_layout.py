"""Where things stand in a figure, on a page and on a phone."""

import itertools
from collections import Counter

import numpy as np
import pytest
from drawing import SVG, drawings, everything, svg, texts
from matplotlib import pyplot as plt
from scipy.optimize import minimize

from compress_lib import figures
from compress_lib.figures.layout import PAGE, PHONE, apart, laid_out
from compress_lib.figures.ticks import Numbers, Powers


@pytest.mark.parametrize("seed", range(5))
def test_apart_moves_the_least(seed):
    """Against a general solver."""
    random = np.random.default_rng(seed)
    wanted, heights = np.sort(random.uniform(0, 60, 6)), random.uniform(4, 14, 6)
    gaps = (heights[:-1] + heights[1:]) / 2
    best = minimize(
        lambda x: ((x - wanted) ** 2).sum(),
        np.linspace(5, 75, 6),
        constraints={"type": "ineq", "fun": lambda x: np.diff(x) - gaps},
        bounds=[(heights[0] / 2, None), *[(None, None)] * 4, (None, 80 - heights[-1] / 2)],
        tol=1e-10,
    )
    assert best.success
    np.testing.assert_allclose(apart(wanted, heights, 0, 80), best.x, atol=1e-3)


def test_nothing_moves_that_has_room():
    assert apart([10, 30, 70], [8, 8, 8], 0, 80) == [10, 30, 70]
    assert apart([], [], 0, 80) == []


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        ((0, 3_000_000), {"0", "1,000,000", "2,500,000"}),
        ((-2, 2), {"−2.0", "0.5"}),
        ((1000.0, 1000.4), {"1,000.00", "1,000.25"}),
    ],
)
def test_numbers(limits, written):
    figure, axis = plt.subplots()
    axis.xaxis.set_major_formatter(Numbers())
    axis.set_xlim(limits)
    figure.draw_without_rendering()
    assert written <= {label.get_text() for label in axis.get_xticklabels()}


@pytest.mark.parametrize(("limits", "written"), [((1, 1e5), {"1", "1,000", "100,000"}), ((1e-5, 1), {"10⁻⁵", "10⁰"})])
def test_powers(limits, written):
    figure, axis = plt.subplots()
    axis.set(xscale="log", xlim=limits)
    axis.xaxis.set_major_formatter(Powers())
    figure.draw_without_rendering()
    assert written <= {label.get_text() for label in axis.get_xticklabels()}


def test_the_name_of_the_vertical_axis_stands_above_it_and_below_the_title():
    figure, axis = plt.subplots()
    axis.plot([0, 1], [5000, 6000])
    axis.set(ylabel="seconds", title="Title")
    page, _ = drawings(svg(figure))
    places = texts(page)
    assert places["Title"][1] < places["seconds"][1] < places["6,000"][1]
    assert places["Title"][0] == places["seconds"][0] < places["6,000"][0]  # that one ends there


def test_panels_stand_side_by_side_on_a_page_and_below_each_other_on_a_phone():
    page, phone = (laid_out(everything(), width) for width in (PAGE, PHONE))
    boxes = [[axis.get_window_extent() for axis in figure.axes] for figure in (page, phone)]
    assert boxes[0][0].x1 < boxes[0][1].x0 and boxes[0][0].y0 == pytest.approx(boxes[0][1].y0, abs=1)
    assert boxes[1][0].y0 > boxes[1][1].y1 and boxes[1][0].x0 == pytest.approx(boxes[1][1].x0, abs=1)
    assert [any(label.get_visible() for label in axis.get_yticklabels()) for axis in phone.axes] == [True, True]
    assert all(text in [each.get_text() for each in phone.axes[1].texts] for text in ["seconds"])  # it was shared


@pytest.mark.parametrize("width", [PAGE, PHONE])
def test_nothing_stands_outside_or_over_a_neighbor(width):
    figure = laid_out(everything(), width)
    titles = [axis.set_title(axis.get_title("left"), loc="left") for axis in figure.axes if axis.get_title("left")]
    labels = [label for label in figure.axes[0].texts if label.get_gid() == "line-label"]
    inside = [*titles, *labels, *figure.legends, *(axis.xaxis.label for axis in figure.axes)]
    for each in inside:
        box = each.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, each
        assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, each
    bottoms = sorted((label.get_window_extent().intervaly for label in labels), key=tuple)
    assert all(below[1] <= above[0] + 0.01 for below, above in itertools.pairwise(bottoms))


def test_the_legend_of_a_phone_is_below_and_keeps_its_marks():
    figure, axis = plt.subplots()
    axis.errorbar([1, 2], [3, 4], [0.5, 0.5], marker="D", label="a")
    axis.legend()
    phone = laid_out(figure, PHONE)
    assert phone.axes[0].get_legend() is None
    (legend,) = phone.legends
    assert legend.get_window_extent().y1 < phone.axes[0].get_window_extent().y0
    page, small = drawings(svg(figure))
    for drawing in (page, small):
        marks = Counter(use.get("href") for use in drawing.iter(f"{SVG}use"))
        assert 3 in marks.values(), "two points and one in the legend"
    assert "a" in texts(small)


def test_names_of_ticks_that_touch_are_thinned():
    figure, axis = plt.subplots()
    axis.set_xlim(0, 9)
    axis.set_xticks(range(10), [f"{i} thousand" for i in range(10)])
    kept = [label.get_text() for label in laid_out(figure, PHONE).axes[0].get_xticklabels()]
    assert kept == ["0 thousand", "4 thousand", "8 thousand"]
    assert len(axis.get_xticks()) == 10


def test_a_long_name_below_a_narrow_axis_is_broken_and_not_cut():
    figure, axis = plt.subplots()
    axis.plot([0, 1], [0, 1], label="a line with a name")
    axis.set(xlabel="fraction of filters removed from every layer")
    figures.label_lines(axis)
    phone = laid_out(figure, PHONE)
    name = phone.axes[0].xaxis.label
    assert "\n" in name.get_text()
    assert name.get_window_extent().x0 >= -1 and name.get_window_extent().x1 <= phone.bbox.x1 + 1


def test_rows_with_names_of_several_lines_keep_apart():
    rows = {f"a name of row {i} that takes several lines": i for i in range(8)}
    for columns in (1, 2):
        figure, axes = plt.subplots(1, columns, figsize=(7.2, 3.2), sharey=True, squeeze=False)
        for axis in axes[0]:
            figures.dot_plot(rows, "times as fast", axis=axis)
        for axis in laid_out(figure, PHONE).axes:
            boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
            spans = sorted((box.intervaly for box in boxes), key=tuple)
            assert all(below[1] <= above[0] + 0.5 for below, above in itertools.pairwise(spans))


def test_below_each_other_each_panel_names_its_lines():
    figure, axes = plt.subplots(1, 2, sharey=True)
    for axis in axes:
        axis.plot([0, 1], [0, 1], label="rising")
        axis.plot([0, 1], [1, 0], label="falling")
    figures.label_lines(axes[1])
    named = [
        [[text.get_text() for text in axis.texts] for axis in laid_out(figure, width).axes] for width in (PAGE, PHONE)
    ]
    assert named[0][0] == [] and {"rising", "falling"} <= {*named[0][1]}
    assert all({"rising", "falling"} <= {*names} for names in named[1])
