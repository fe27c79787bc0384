"""A chapter on paper, printed by a reader whose screen is dark."""

import pytest
from browsing import new_page, settle, watch
from chapters import CHAPTERS

PAPER = {"width": 660, "height": 940}  # A4 within its margins, in CSS pixels
FRAME = [
    ".bd-sidebar-primary",
    ".bd-sidebar-secondary",
    ".bd-header-article",
    ".prev-next-footer",
    ".bd-footer-content",
]

CUT = """() => [...document.querySelectorAll("article *")]
    .filter((e) => e.checkVisibility() && !e.matches("span.math, .math *, svg *"))
    .filter((e) => {
        const cuts = e.clientWidth && getComputedStyle(e).overflowX !== "visible";
        return cuts && e.scrollWidth > e.clientWidth + 2 || e.getBoundingClientRect().right > innerWidth + 1;
    })
    .map((e) => e.outerHTML.slice(0, 120))"""
LIGHTNESS = """(color) => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number); return (r + g + b) / 765 }"""


@pytest.fixture(scope="module")
def visit(browser, address):
    """A chapter, printed once, and then left as it is laid out for paper."""
    page = new_page(browser, viewport={"width": 1280, "height": 900}, color_scheme="dark")
    troubles = watch(page, address)
    settle(page, f"{address}/notebooks/{CHAPTERS[1].stem}.html")
    page.wait_for_function("document.querySelectorAll('.explorer-place:not([data-live])').length === 0")
    state = "[document.documentElement.dataset.theme, document.querySelectorAll('details:not([open])').length]"
    page.evaluate(f"addEventListener('beforeprint', () => (window.printing = {state}))")
    before, _ = page.evaluate(state), page.pdf()
    visit = {"page": page, "before": before, "printing": page.evaluate("printing"), "after": page.evaluate(state)}
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size(PAPER)
    yield visit
    page.close()
    assert not troubles


@pytest.fixture
def paper(visit):
    return visit["page"]


def lightness(page, selector: str, what: str) -> float:
    color = page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{what}")
    return page.evaluate(LIGHTNESS, color)


def test_paper_is_light_and_ink_is_dark(paper):
    assert lightness(paper, "body", "backgroundColor") == 1
    for selector in ("article p", "article h2", "article .highlight pre", "article td", "article blockquote"):
        assert lightness(paper, selector, "color") < 0.35, selector
    keywords = paper.locator("article .highlight .kn").first
    assert paper.evaluate(LIGHTNESS, keywords.evaluate("e => getComputedStyle(e).color")) < 0.5


def test_nothing_is_cut(paper):
    assert paper.evaluate(CUT) == []


def test_nothing_of_the_site_is_around_the_text(paper):
    assert [selector for selector in FRAME if paper.locator(selector).first.is_visible()] == []
    assert paper.locator("article h1").is_visible() and paper.locator("h1").count() == 1


def test_all_folds_are_open(paper):
    # Explorers are figures on paper, and what runs the page is not for readers of paper.
    folds = paper.locator("article details:not(.explorer-place *, .run-this-page)")
    assert folds.count() > 10
    hidden = folds.evaluate_all(
        """all => all.filter((d) => [...d.children].some((e) => !e.matches("summary") && !e.offsetHeight))
            .map((d) => d.outerHTML.slice(0, 200))"""
    )
    assert not hidden


def test_explorers_are_their_figures(paper):
    places = paper.locator(".explorer-place")
    assert places.count()
    for place in places.all():
        assert [child.is_visible() for child in place.locator("> *").all()] == [True, False]
        assert place.locator("img").evaluate("image => image.complete && image.naturalWidth > 300")


def test_printing_leaves_the_page_as_it_was(visit):
    assert visit["before"] == visit["after"] and visit["before"][0] == "dark" and visit["before"][1] > 10
    assert visit["printing"] == ["light", 0]
