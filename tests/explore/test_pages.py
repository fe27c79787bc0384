"""Every explorer on a page of its own: no trouble, nothing that axe-core finds, nothing wider than a phone."""

import functools

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import CONTRAST, SWEEP, WCAG, explorer_modules, new_page, on_one_screen, unlock, watch
from examples import example
from exploring import standalone

example = functools.cache(example)  # nothing here changes one


@pytest.mark.parametrize(("theme", "width", "height"), [("light", 1280, 800), ("dark", 390, 844)])
@pytest.mark.parametrize("module", explorer_modules())
def test_an_explorer_is_in_order(browser, module, theme, width, height):
    page = new_page(browser, viewport={"width": width, "height": height})
    troubles = watch(page, "about:blank")
    page.set_content(standalone(widget := example(module), theme))
    page.locator(".explorer-place[data-live]").wait_for()
    unlock(page)
    page.locator(".ex-fold > summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page, options=WCAG if theme == "light" else CONTRAST).response["violations"]
    assert [f"{v['id']}: {node['html'][:160]}" for v in found for node in v["nodes"]] == []
    page.locator(".ex-fold > summary").click()
    on_one_screen(page)
    for control in widget.controls:
        field = page.locator(f'[name="{control["name"]}"]')
        before = page.locator(".explorer").inner_html()
        if control["kind"] == "slider":
            heights = field.evaluate(SWEEP)
            assert len(set(heights)) == 1, f"{control['name']} changes the height of the explorer: {heights}"
            field.press("ArrowRight" if field.input_value() == "0" else "ArrowLeft")
        else:
            field.select_option(index=len(control["values"]) - 1)
        assert page.locator(".explorer").inner_html() != before
    on_one_screen(page)
    page.set_viewport_size({"width": 320, "height": 640})
    page.wait_for_function("document.querySelector('.ex-narrow')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert not troubles
    page.close()


@pytest.fixture(scope="module")
def opened(browser):
    """The filter explorer on a wide page."""
    page = new_page(browser, viewport={"width": 1280, "height": 900})
    page.set_content(standalone(example("filter_surgery")))
    page.locator(".explorer-place[data-live]").wait_for()
    unlock(page)
    page.locator(".ex-fold > summary").click()
    yield page
    page.close()


def test_the_first_chart_takes_the_whole_width_and_the_others_half(opened):
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
    for module in explorer_modules():
        page.set_content(standalone(widget := example(module)))
        assert page.get_by_role("img", name=widget.alt, exact=True).bounding_box()["width"] > 300
    page.close()
