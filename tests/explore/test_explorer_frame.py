"""What all explorers share: the question, dragging, playing, links to a position, and what is read out."""

import json
import re

import pytest
from browsing import explorer_modules, new_page, unlock, watch
from examples import example
from exploring import standalone
from matplotlib import pyplot as plt

from compress_lib.explore import Explorer, choice, slider
from compress_lib.explore.frontend.explorer import EXPLORERS, sources

SITE = "http://book.test/"


@pytest.fixture
def opened(browser):
    """Open an explorer on a page that has an address and storage; gives the page. Nothing may go wrong on it."""
    made, troubles = [], []

    def open_page(widget, path="", page=None, locked=False, **options):
        if page is None:
            page = new_page(browser, **({"viewport": {"width": 1280, "height": 800}} | options))
            made.append(page)
            troubles.append(watch(page, SITE.rstrip("/")))
        page.route(f"{SITE}*", lambda route: route.fulfill(body=standalone(widget), content_type="text/html"))
        page.goto(SITE + path)
        page.locator(".explorer-place[data-live]").wait_for()
        if not locked:
            unlock(page)
        return page

    yield open_page
    for page in made:
        page.close()
    assert not any(troubles)


def state(page) -> dict:
    """What the controls show."""
    read = "(all) => Object.fromEntries(all.map((e) => [e.name, e.getAttribute('aria-valuetext') ?? e.value]))"
    return page.locator(".ex-control :is(input, select)").evaluate_all(read)


def asking(question: dict, **changes) -> Explorer:
    """An explorer with two controls whose question Python gives."""
    given = example("weight_threshold")
    widget = Explorer(
        "weight_threshold",
        controls=[
            slider("k", "threshold", [0, 0.5, 1, 2, 3], 0.5, "σ"),
            choice("layer", "layer", ["all layers", "fc"], "fc"),
        ],
        title="Where would you cut?",
        fallback=plt.figure,
        alt="A histogram.",
        predict=question,
        **changes,
    )
    widget.data = given.data
    return widget


NUMBER = {"question": "How sparse at 2 σ?", "kind": "number", "result": "sparsity", "show": {"k": 2}}


def test_a_guess_unlocks_the_controls_and_stands_beside_the_truth(opened):
    page = opened(asking(NUMBER), locked=True)
    assert page.locator(".ex-control").count() == 0, "first the guess"
    page.get_by_role("textbox", name="How sparse at 2 σ?").fill("12.5")
    page.get_by_role("button", name="Guess").click()
    assert state(page) == {"k": "2\u00a0σ", "layer": "fc"}
    assert page.evaluate("document.activeElement.name") == "k", "keys go on from here"
    shown = float(page.locator("[data-result=sparsity]").get_attribute("value"))
    assert 0.9 < shown < 1
    said = page.locator(".ex-dock .ex-notice").inner_text()  # where the reader's hand is
    assert f"You said 12.5\u00a0%. The answer is {100 * shown:.1f}\u00a0%." in said
    page.get_by_role("button", name="Close this message").click()
    assert page.locator(".ex-notice").is_hidden()
    assert page.evaluate("document.activeElement.name") == "k"


def test_what_is_typed_out_of_range_is_refused_with_the_range(opened):
    page = opened(asking(NUMBER), locked=True)
    field = page.get_by_role("textbox", name="How sparse at 2 σ?")
    for typed in ("", "101", "-1", "much", "1e9", "NaN"):
        field.fill(typed)
        field.press("Enter")
        assert page.get_by_role("alert").inner_text() == "Type a number from 0 to 100."
        assert field.get_attribute("aria-invalid") == "true" and page.locator(".ex-control").count() == 0
    field.fill("50")
    field.press("Enter")
    assert page.locator(".ex-control").count() == 2


def test_a_guess_is_kept_by_the_browser_and_a_new_question_is_asked(opened):
    page = opened(asking(NUMBER), locked=True)
    page.get_by_role("textbox", name="How sparse at 2 σ?").fill("30")
    page.get_by_role("button", name="Guess").click()
    assert "keeps no guesses" not in page.locator(".ex-notice").inner_text()
    opened(asking(NUMBER), page=page, locked=True)
    assert page.locator(".ex-control").count() == 2
    opened(asking(NUMBER | {"question": "And at 1 σ?", "show": {"k": 1}}), page=page, locked=True)
    assert page.get_by_role("textbox", name="And at 1 σ?").is_visible()


def test_without_storage_a_guess_is_taken_and_the_reader_told(opened):
    page = opened(asking(NUMBER), locked=True)
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    page.get_by_role("textbox", name="How sparse at 2 σ?").fill("30")
    page.get_by_role("button", name="Guess").click()
    assert "This browser keeps no guesses" in page.locator(".ex-notice").inner_text()


def test_a_choice_and_an_order_are_pressed(opened):
    forms = ["dense", "CSR", "bit mask"]
    page = opened(
        asking({"question": "Which is smallest?", "kind": "choice", "options": forms, "answer": 2}), locked=True
    )
    page.get_by_role("button", name="CSR").click()
    assert "You said “CSR”. The answer is “bit mask”." in page.locator(".ex-notice").inner_text()
    question = {"question": "From small to large?", "kind": "order", "options": forms, "answer": [2, 1, 0]}
    page = opened(asking(question), locked=True)
    press = lambda name: page.get_by_role("button", name=re.compile(f"{name}$")).click()
    for name in ("dense", "CSR", "dense", "bit mask"):  # the second press takes it back, with what came after
        press(name)
    assert page.get_by_role("button", name="Guess").is_disabled()
    press("CSR")
    press("dense")
    press("Guess")
    assert "You said bit mask, CSR, dense, which is right." in page.locator(".ex-notice").inner_text()


def test_the_question_can_be_skipped_and_nothing_moves(opened):
    widget = asking(NUMBER)
    page = opened(widget)
    assert state(page) == {"k": "0.5\u00a0σ", "layer": "fc"} and page.locator(".ex-notice").is_hidden()
    opened(widget, page=page, locked=True)
    assert page.get_by_role("textbox", name="How sparse at 2 σ?").is_visible(), "it is asked again"


def test_without_a_question_nothing_is_locked(opened):
    widget = example("weight_threshold")
    widget._compute = re.sub(r"export function predict", "function predict", widget._compute)
    assert opened(widget, locked=True).locator(".ex-control").count() == 2


def test_the_question_of_every_module_has_an_answer_that_a_reader_can_give(opened):
    """Once through: the answer is within the range or among the options, and the explorer can go there."""
    texts = {module: sources(module)["_compute"] for module in explorer_modules()}
    asked = [module for module, text in texts.items() if re.search(r"export (const|function) predict", text)]
    assert {"weight_threshold", "filter_surgery", "grid_choice", "centroids", "group_shuffle"} <= set(asked)
    for module in asked:
        page = opened(example(module), locked=True)
        question = page.locator(".ex-question")
        assert len(question.locator(".ex-asked").inner_text()) <= 120
        if (field := question.get_by_role("textbox")).count():
            field.fill("1")
            field.press("Enter")
            said = page.locator(".ex-notice").inner_text()
            assert re.search(r"You said .*1.*(The answer is .*\d|which is right)", said), said
        else:
            for option in question.locator(".ex-guess button").all():
                option.click()
                if not question.count():
                    break
        assert page.locator(".ex-notice").inner_text().startswith("You said")
        page.close()


def test_dragging_the_cut_line_moves_the_slider_and_back(opened):
    page = opened(example("weight_threshold"))
    grip = page.locator("[data-drag=k]").bounding_box()
    line = page.locator(".ex-marker").last
    at = line.bounding_box()["x"]
    y = grip["y"] + grip["height"] / 2
    page.mouse.move(at, y)
    page.mouse.down()
    page.mouse.move(at + 60, y, steps=3)
    moved = state(page)["k"]
    assert page.locator(".ex-marker").last.bounding_box()["x"] == pytest.approx(at + 60, abs=6)
    page.mouse.up()
    page.mouse.move(at, y)
    assert state(page)["k"] == moved != "0.5\u00a0σ", "let go is let go"


def test_a_tap_on_a_filter_takes_it_and_those_before_it(opened):
    widget = example("filter_surgery")
    page = opened(widget, viewport={"width": 390, "height": 844}, has_touch=True)
    order = widget.data["orders"]["smallest L1 norm first"]
    cell = lambda j: page.locator(".ex-cell", has=page.get_by_text(str(j), exact=True))
    assert state(page)["removed"] == "9"
    cell(order[12]).tap()
    assert state(page)["removed"] == "13"
    cell(order[2]).tap()
    assert state(page)["removed"] == "2", "what is gone comes back"


def test_what_is_locked_cannot_be_dragged(opened):
    page = opened(example("weight_threshold"), locked=True)
    before = page.locator(".ex-sentence").inner_text()
    box = page.locator("[data-drag=k]").bounding_box()
    page.mouse.click(box["x"] + 20, box["y"] + 20)
    assert page.locator(".ex-sentence").inner_text() == before


def test_a_link_leads_to_a_position(opened):
    page = opened(example("weight_threshold"), "#explorer=weight_threshold&k=2.05&layer=fc")
    assert state(page) == {"k": "2.05\u00a0σ", "layer": "fc"} and page.locator(".ex-notice").is_hidden()
    page.locator("[name=k]").press("ArrowRight")
    page.get_by_role("button", name="Copy link to this position").click()
    page.locator(".ex-notice").wait_for()
    link = page.evaluate("location.href")
    assert link == f"{SITE}#explorer=weight_threshold&k=2.1&layer=fc"
    page.goto("about:blank")
    opened(example("weight_threshold"), link.removeprefix(SITE), page=page)
    assert state(page)["k"] == "2.1\u00a0σ"
    page.evaluate("location.hash = '#explorer=weight_threshold&k=1'")
    page.wait_for_function("document.querySelector('[name=k]').getAttribute('aria-valuetext').startsWith('1\u00a0')")


WRONG = [
    ("k=2&layer=fc9", "2\u00a0σ", "layer: “fc9” is not possible"),
    ("k=2.07", "0.5\u00a0σ", "threshold, in standard deviations of each layer: “2.07” is not possible"),
    ("k=1&mystery=3", "1\u00a0σ", "there is no control “mystery”"),
    ("k=%3Cimg%20src=x%3E", "0.5\u00a0σ", "“<img src=x>” is not possible"),
]


def test_only_what_is_possible_is_taken_from_a_link(opened):
    page = opened(example("weight_threshold"))
    for asked, k, said in WRONG:
        page.get_by_role("button", name="Reset").click()
        page.evaluate("(asked) => { location.hash = `explorer=weight_threshold&${asked}`; }", asked)
        page.wait_for_function("(said) => document.querySelector('.ex-notice').textContent.includes(said)", arg=said)
        assert state(page)["k"] == k
        page.wait_for_function("document.activeElement.name === 'k'")
        page.evaluate("document.activeElement.blur()")
    page.get_by_role("button", name="Close this message").click()
    assert page.locator(".ex-notice").is_hidden()


def test_a_link_to_another_explorer_is_not_for_this_one(opened):
    page = opened(example("weight_threshold"), "#explorer=towers&k=2", locked=True)
    assert page.locator(".ex-question").is_visible() and page.locator(".ex-notice").is_hidden()


def test_reset_goes_back_to_the_start(opened):
    page = opened(example("weight_threshold"))
    before = state(page)
    page.locator("[name=k]").press("End")
    page.locator("[name=layer]").select_option("fc")
    assert state(page) != before
    page.get_by_role("button", name="Reset").click()
    assert state(page) == before


def test_one_clause_is_read_out_after_a_rest(browser):
    page = new_page(browser)
    page.clock.install()
    page.set_content(standalone(example("weight_threshold")))
    page.locator(".explorer-place[data-live]").wait_for()
    unlock(page)
    live = page.locator(".ex-live")
    assert live.get_attribute("role") == "status" and live.text_content() == "", "nothing when the page opens"
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    for _ in range(3):
        page.locator("[name=k]").press("ArrowRight")
        page.clock.run_for(300)
    assert live.text_content() == ""
    page.clock.run_for(150)
    assert re.fullmatch(r"[\d.]+\s% of the weights are kept, in CSR [\d.]+× (smaller|larger)", live.text_content())
    page.close()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_sequence_plays_until_the_reader_takes_over(browser, motion):
    page = new_page(browser, reduced_motion=motion)
    page.clock.install()
    page.set_content(standalone(example("group_shuffle")))
    page.locator(".explorer-place[data-live]").wait_for()
    unlock(page)
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    layers = lambda: page.locator("[name=layers]").get_attribute("aria-valuetext")
    page.locator("[name=layers]").press("Home")
    play = page.locator(".ex-play")
    play.click()
    seen = [layers()]
    for _ in range(3):
        page.clock.run_for(1600)
        seen.append(layers())
    if motion == "reduce":
        assert seen == ["2"] * 4 and play.inner_text().startswith("Step"), "one press, one step"
    else:
        assert seen == ["2", "3", "4", "4"] and play.inner_text().startswith("Play"), "it stops at the end"
        play.click()
        assert layers() == "1" and play.inner_text().startswith("Pause"), "and begins again"
        page.locator("[name=groups]").press("ArrowRight")
        page.clock.run_for(5000)
        assert layers() == "1" and play.inner_text().startswith("Play"), "the reader's hand pauses it"
    page.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "essay"}, r"predict\['kind'\] must be one of"),
        ({"question": " "}, "must not be empty"),
        ({"hint": "x"}, r"got \['hint'\]"),
        ({"show": {"k": 7}}, r"predict\['show'\]\['k'\] must be one of \[0, 0.5, 1, 2, 3\], got 7"),
        ({"show": {"depth": 7}}, r"must be one of \[\], got 7"),
        ({"answer": 3}, "must have an answer or"),
        ({"result": None, "kind": "choice", "options": ["a"], "answer": 0}, "two to five texts"),
        ({"result": None, "kind": "choice", "options": ["a", "b"], "answer": 2}, r"must be one of \[0, 1\], got 2"),
        ({"result": None, "kind": "order", "options": ["a", "b"], "answer": [0, 0]}, "in the right order"),
    ],
)
def test_questions_without_an_answer_are_named(changes, words):
    question = {key: value for key, value in (NUMBER | changes).items() if value is not None}
    with pytest.raises(ValueError, match=words):
        asking(question)


def test_the_parts_are_the_files_that_the_list_names():
    parts = json.loads((EXPLORERS / "frontend" / "parts.json").read_text(encoding="utf-8"))
    named = {
        path
        for patterns in parts.values()
        for pattern in patterns
        for path in EXPLORERS.glob(pattern.format(module="*"))
    }
    here = [EXPLORERS, EXPLORERS / "frontend"]
    files = {path for folder in here for ending in ("mjs", "css") for path in folder.glob(f"*.{ending}")}
    assert files == named, "no file is forgotten"
    found = sources("group_shuffle")
    assert list(found) == list(parts)
    assert found["_charts"].endswith((EXPLORERS / "group_shuffle_charts.mjs").read_text(encoding="utf-8"))
    assert "export function compute" in found["_compute"] and "export default" in found["_esm"]
