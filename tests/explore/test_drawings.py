"""Drawings that the hand moves: pressing and dragging on them sets the controls they stand for."""

import json

import pytest
from browsing import new_page, unlock
from examples import example
from exploring import standalone

DRAGGED = {
    "criterion_choice": ["percent", "filter"],
    "towers": ["towers"],
    "xnor_popcount": ["bits"],
    "squeeze_ratio": ["ratio", "percent"],
    "width_and_resolution": ["block", "alpha", "size"],
    "binary_filter": ["percent"],
    "temperature": ["temperature"],
}
GRIPS = """(chart) => Array.from(chart.querySelectorAll('[data-drag]'), (grip) => {
    const drawing = grip.ownerSVGElement;
    const [box, whole] = [grip.getBoundingClientRect(), drawing.getBoundingClientRect()];
    const scale = whole.width / drawing.viewBox.baseVal.width;
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    return { ...grip.dataset, scale, left: whole.left, top: whole.top, x, y };
})"""


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser, viewport={"width": 1280, "height": 800})
    yield page
    page.close()


def value(page, name):
    """What a control shows."""
    field = page.locator(f'[name="{name}"]')
    return field.evaluate("(e) => e.type === 'range' ? Number(e.value) : e.selectedIndex")


def shown(page, module):
    page.set_content(standalone(widget := example(module)))
    page.locator(".explorer-place[data-live]").wait_for()
    unlock(page)
    return widget, page.locator(".ex-chart").first


@pytest.mark.parametrize(("module", "controls"), DRAGGED.items())
def test_dragging_sets_the_control_to_the_nearest_place(page, module, controls):
    widget, chart = shown(page, module)
    values = {control["name"]: control["values"] for control in widget.controls}
    assert {grip["drag"] for grip in chart.evaluate(GRIPS)} == set(controls)
    for which, name in enumerate(grip["drag"] for grip in chart.evaluate(GRIPS)):
        for wanted in (0, len(values[name]) // 2, len(values[name]) - 1):
            grip = chart.evaluate(GRIPS)[which]
            place = json.loads(grip["places"])[wanted]
            same = [i for i, other in enumerate(json.loads(grip["places"])) if other == place]
            x, y = place if grip["axis"] == "xy" else (place, place)
            across = grip["x"] if grip["axis"] == "y" else grip["left"] + grip["scale"] * x
            down = grip["y"] if grip["axis"] == "x" else grip["top"] + grip["scale"] * y
            page.mouse.move(grip["x"], grip["y"])
            page.mouse.down()
            page.mouse.move(across, down, steps=3)
            page.mouse.up()
            assert value(page, name) in same, (name, wanted)


def test_a_click_on_a_tile_of_the_file_looks_at_its_layer_and_a_second_one_leads_back(page):
    _, chart = shown(page, "byte_budget")
    tile = chart.locator("[data-pick]").filter(has=page.locator("title", has_text="gaps of fc2")).first
    tile.click()
    assert page.locator('[name="layer"]').input_value() == "fc2"
    chart.locator("[data-pick]").first.click()
    assert page.locator('[name="layer"]').input_value() == "all layers"


def test_the_window_of_a_layer_follows_the_pointer_and_slides_by_itself_only_where_motion_is_welcome(browser):
    places = {}
    for motion in ("reduce", "no-preference"):
        page = new_page(browser, viewport={"width": 1280, "height": 800}, reduced_motion=motion)
        _, chart = shown(page, "network_cost")
        window = chart.locator(".ex-window rect").first
        before = window.get_attribute("x")
        page.wait_for_timeout(300)
        places[motion] = before == window.get_attribute("x")
        if motion == "reduce":
            box = chart.locator("svg").first.bounding_box()
            page.mouse.move(box["x"] + 60, box["y"] + 100)
            near = float(window.get_attribute("x"))
            page.mouse.move(box["x"] + 130, box["y"] + 100)
            assert float(window.get_attribute("x")) > near
        page.close()
    assert places == {"reduce": True, "no-preference": False}
