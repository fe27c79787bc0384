"""The landing page: its number is a measured one, every chapter has a card, and nothing is a hole."""

import re

import pytest
import yaml
from browsing import new_page, settle, watch
from chapters import CHAPTERS, ROOT

from compress_lib import ledger

SIZES = [(1280, 800), (390, 844)]


@pytest.fixture
def landing(soups):
    return soups["book/index.html"]


def words(element) -> str:
    return " ".join(element.get_text().split())


def test_the_large_number_is_the_headline_of_a_chapter(landing):
    shown = words(landing.select_one(".hero-number"))
    chapter = landing.select_one(".hero-source a")["href"].split("/")[-1].removesuffix(".html")
    headline = ledger.headlines()[chapter]
    assert shown == headline["value"] and shown.startswith("44×")
    assert words(landing.select_one(".hero-source")).startswith(headline["label"])


def test_one_button_starts_with_the_first_chapter(landing):
    (button,) = landing.select(".start a")
    assert words(button) == f"Start with chapter {int(CHAPTERS[0].stem[:2])}"
    assert button["href"] == f"../notebooks/{CHAPTERS[0].stem}.html"


def test_every_chapter_that_is_written_has_a_card_and_no_other(landing):
    cards = landing.select(".chapter-map > li")
    assert [card.select_one("a")["href"] for card in cards] == [f"../notebooks/{path.stem}.html" for path in CHAPTERS]
    headlines = ledger.headlines()
    for card, path in zip(cards, CHAPTERS, strict=True):
        assert words(card.select_one(".chapter-number")) == str(int(path.stem[:2]))
        assert words(card.select_one(".chapter-headline strong")) == headlines[path.stem]["value"]
        assert words(card.select_one(".chapter-summary")) and words(card.select_one(".chapter-part"))


def test_what_is_missing_is_one_quiet_line(landing):
    planned = [c for part in yaml.safe_load((ROOT / "book" / "chapters.yml").read_text()) for c in part["chapters"]]
    written = {path.stem for path in CHAPTERS}
    missing = [chapter["title"] for chapter in planned if chapter["file"] not in written]
    lines = [words(line) for line in landing.select(".chapters-coming")]
    assert lines == ([f"Coming: {'; '.join(missing)}."] if missing else [])
    assert not re.search("planned|not measured yet", words(landing.select_one("article")))


def test_three_doors(landing):
    doors = {link["href"] for link in landing.select(".doors a.sd-stretched-link")}
    assert doors == {"how-to-read.html", "how-to-run.html", "how-to-teach.html"}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_first_screen_has_the_promise_the_number_and_the_button(browser, address, size):
    page = new_page(browser, viewport={"width": size[0], "height": size[1]})
    troubles = watch(page, address)
    settle(page, f"{address}/book/index.html")
    for part in ("h1", ".hero-words p", ".hero-number", ".start a"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= size[1], part
    assert page.locator("#live-network").bounding_box()["height"] > 100
    summary = page.locator(".chapter-map > li .chapter-summary").nth(1)
    summary.scroll_into_view_if_needed()
    box = summary.bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + 5)  # the whole card is the link
    page.wait_for_url(f"**/{CHAPTERS[1].stem}.html")
    page.close()
    assert not troubles
