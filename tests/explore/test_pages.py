"""Every explorer on a page of its own: no trouble, nothing that axe-core finds, nothing wider than a phone."""

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browsing import new_page, watch
from exploring import standalone
from torch import nn

from compress_lib import cost
from compress_lib.explore import (
    binary_filter,
    byte_budget,
    centroids,
    criterion_choice,
    filter_surgery,
    grid_choice,
    group_shuffle,
    network_cost,
    squeeze_ratio,
    towers,
    weight_threshold,
    width_and_resolution,
)

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
RNG = np.random.default_rng(0)
CURVE = np.linspace(0.9, 0.1, 32).tolist()


def threshold():
    weights = {"fc": RNG.normal(size=(20, 25))}
    return weight_threshold.explorer(weights, {"fc": ([0, 1], [0.9, 0.1])}, images=("fc", RNG.normal(size=(6, 5, 5))))


def surgery():
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3))
    orders = {"smallest L1 norm first": range(32), "by lot": torch.randperm(32).tolist()}
    return filter_surgery.explorer(
        RNG.random((2, 32, 14, 14)),
        orders,
        dict.fromkeys(orders, CURVE),
        images={"T-shirt": RNG.random((28, 28)), "Ankle boot": RNG.random((28, 28))},
        norms=("L1 norm", RNG.random(32)),
        costs=cost.count(model, (16, 60, 60)),
        shapes={name: p.shape for name, p in model.named_parameters()},
        layer="0",
        batch_norm="1",
        reader="3",
        recovered=("after fresh batch statistics", dict.fromkeys(orders, CURVE)),
        removed=9,
    )


def choice():
    names = ["L1 norm", "geometric median", "batch norm scale", "reconstruction error"]
    curves = {recovery: CURVE[:5] for recovery in ("none", "batch norm", "least squares")}
    return criterion_choice.explorer(
        {name: RNG.normal(size=64) for name in names},
        {name: curves for name in [*names, "random"]},
        [0, 0.25, 0.5, 0.75, 0.9],
        layer="features.20",
        deviation=dict.fromkeys(curves, np.full(5, 0.05)),
        criterion="geometric median",
    )


def grid():
    tensors = {"weights of features.14": RNG.normal(size=(64, 9)), "activations": np.maximum(RNG.normal(size=900), 0)}
    return grid_choice.explorer(tensors, bits=8)


def shared():
    weights = RNG.normal(size=(30, 40))
    return centroids.explorer({"fc2": weights, "fc2, pruned": weights * (np.abs(weights) > 1)}, k=24)


def file_bytes():
    weights = {name: RNG.normal(size=(40, 50)) * (RNG.random((40, 50)) < 0.1) for name in ("fc1", "fc2")}
    return byte_budget.explorer(weights, biases={"fc1": RNG.normal(size=40)}, accuracies={16: 0.8})


def signs():
    filters = {f"features.20, filter {i}": RNG.normal(size=(64, 3, 3)) for i in range(4)}
    return binary_filter.explorer(filters, RNG.normal(size=(64, 3, 3)), weights="ternary", percent=150)


def squeezed():
    return squeeze_ratio.explorer(accuracies={1 / 8: 0.8, 1: 0.9})


def multipliers():
    return width_and_resolution.explorer(alpha=0.75, size=160)


BUILDS = [network_cost.explorer, threshold, surgery, choice, grid, shared, file_bytes, signs, squeezed, multipliers]
BUILDS += [group_shuffle.explorer, towers.explorer]


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
@pytest.mark.parametrize("build", BUILDS)
def test_an_explorer_is_in_order(browser, build, theme, width):
    page = new_page(browser, viewport={"width": width, "height": 900})
    troubles = watch(page, "about:blank")
    page.set_content(standalone(widget := build(), theme))
    page.locator(".explorer-place[data-live]").wait_for()
    assert not troubles
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page, options=WCAG).response["violations"]
    assert [f"{v['id']}: {node['html'][:160]}" for v in found for node in v["nodes"]] == []
    for control in widget.controls:
        field = page.locator(f'[name="{control["name"]}"]')
        before = page.locator(".explorer").inner_html()
        if control["kind"] == "slider":
            field.press("ArrowRight" if field.input_value() == "0" else "ArrowLeft")
        else:
            field.select_option(index=len(control["values"]) - 1)
        assert page.locator(".explorer").inner_html() != before
    page.close()


@pytest.fixture(scope="module")
def opened(browser):
    """The filter explorer on a wide page."""
    page = new_page(browser, viewport={"width": 1280, "height": 900})
    page.set_content(standalone(surgery()))
    page.locator(".explorer-place[data-live]").wait_for()
    yield page
    page.close()


def test_wide_charts_take_the_whole_width_and_the_others_half(opened):
    widths = [chart.bounding_box()["width"] for chart in opened.locator(".ex-chart").all()]
    assert widths[0] == pytest.approx(2 * widths[1] + 24) and widths[1] == widths[2]


def test_removed_maps_are_crossed_out(opened):
    cross = "(all) => all.map((e) => getComputedStyle(e, '::after').backgroundImage)"
    marks = opened.locator(".ex-picture").evaluate_all(cross)
    assert [mark.count("gradient") for mark in marks] == [0] + [2] * 9 + [0] * 23


def test_tables_that_are_cut_off_take_the_focus(opened):
    stops = "Array.from(document.querySelectorAll('.ex-table'), (t) => t.tabIndex)"
    assert opened.evaluate(stops) == [-1, -1]
    opened.set_viewport_size({"width": 230, "height": 900})
    opened.wait_for_function(f"{stops}.join() === '0,0'")
    opened.set_viewport_size({"width": 1280, "height": 900})
    opened.wait_for_function(f"{stops}.join() === '-1,-1'")


def test_the_figure_stays_without_scripts(browser):
    page = new_page(browser, java_script_enabled=False)
    wired = (group_shuffle.explorer, towers.explorer)
    for build in (surgery, choice, grid, shared, file_bytes, signs, squeezed, multipliers, *wired):
        page.set_content(standalone(widget := build()))
        assert page.get_by_role("img", name=widget.alt, exact=True).bounding_box()["width"] > 300
    page.close()
