"""The glossary by its letters, and in a chapter the first use of each term with its definition."""

import re

import pytest
from browsing import new_page, settle, watch
from chapters import ROOT
from small_book import SmallBook, cell, notebook

GLOSSARY = """---
everyday: layer
---
# Glossary

In both languages (术语表).

```{glossary}
distillation · 知识蒸馏
  Training a small network on a large one's outputs.

entropy · 熵
  The least average number of bits per symbol.

exclusive-nor, XNOR · 同或
  True where two bits are equal.

k-means · k 均值
  Choosing $k$ centers.

knowledge distillation · 知识蒸馏
  See distillation.

layer · 层
  One step of a network.

rank · 秩
  The number of independent rows.

rank correlation · 秩相关
  The correlation of two rankings.
```
"""
CHAPTER = (
    "# 1. Rank and entropy",
    "A rank-one layer has `rank` and $rank$, a [rank](https://example.org).",
    "**Rank.** A label.\n\n<details><summary>More</summary>\n\nThe rank; knowledge distillation.\n</details>",
    "| rank |\n|---|\n| entropy |",
    cell("print()", prints="rank"),
    "Here is a **rank correlation**, then rank and rank. The K-means\nof two entropies. XNOR is exclusive nor.",
    "## Entropy\n\nOf entropies.",
    "## Quiz\n\n### Question 1.1\n\nWhat is a rank correlation?",
    "## Further reading\n\n- The knowledge distillation, 2015.",
)


@pytest.fixture
def book(tmp_path):
    pages = {
        "index.md": "# Book\n\nOf rank.\n\n```{toctree}\nbook/glossary\nnotebooks/01-one\n```\n",
        "book/glossary.md": GLOSSARY,
        "notebooks/01-one.ipynb": notebook(*CHAPTER),
    }
    return SmallBook(tmp_path, ["references", "terms"], pages)


def links(book):
    return [(a.text, a["href"].partition("#")[2]) for a in book.page("notebooks/01-one").select("a.term")]


def test_the_first_use_of_each_term_leads_to_its_entry(book):
    assert not book.build()
    assert links(book) == [
        ("knowledge distillation", "term-distillation"),
        ("rank correlation", "term-rank-correlation"),
        ("rank", "term-rank"),
        ("K-means", "term-k-means-k"),
        ("entropies", "term-entropy"),
        ("XNOR", "term-exclusive-nor-XNOR"),
    ]
    page = book.page("notebooks/01-one")
    assert not page.select_one("details").find("a", string="rank"), "what is folded comes last"
    assert not page.select("h1 a.term, h2 a.term, table a.term, pre a.term, #quiz a.term, #further-reading a.term")
    assert not book.page("index").select("a.term")
    glossary = book.page("book/glossary")
    assert all(glossary.select_one(f"dt#{anchor}") for _, anchor in links(book))


def test_the_definitions_come_along_hidden(book):
    book.build()
    page = book.page("notebooks/01-one")
    assert {box["id"] for box in page.select("[popover]")} == {f"about-{anchor}" for _, anchor in links(book)}
    box = page.select_one("#about-term-k-means-k")
    assert box.select_one(".term-name").text == "k-means · k 均值" and box.select_one("[lang=zh]").text == "均值"
    assert "Choosing" in box.text and box.select_one(".math")
    assert "large one" in page.select_one("#about-term-distillation").text


def test_the_glossary_has_its_letters_and_says_what_is_chinese(book):
    book.build()
    page = book.page("book/glossary")
    assert [(a.text, a["href"]) for a in page.select(".letters a")] == [
        (letter, f"#letter-{letter.lower()}") for letter in "DEKLR"
    ]
    assert [heading.contents[0] for heading in page.select("h2")] == list("DEKLR")
    assert [dt.contents[0].strip(" ·") for dt in page.select("#letter-e dt")] == ["entropy", "exclusive-nor, XNOR"]
    chinese = [text for text in page.find_all(string=re.compile("[\u4e00-\u9fff]"))]
    assert len(chinese) == 9 and all(text.parent.get("lang") == "zh" for text in chinese)


def test_chapters_follow_the_glossary(book):
    book.build()
    book.write("book/glossary.md", GLOSSARY.replace("of independent rows", "of rows that count"))
    book.build()
    assert "rows that count" in book.page("notebooks/01-one").select_one("#about-term-rank").text
    book.write("book/glossary.md", GLOSSARY.replace("layer\n---", "layer, rank\n---"))
    book.build()
    assert "rank" not in dict(links(book))


def test_the_book_s_glossary_is_sorted():
    source = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S.*) · (.+)$", source, re.MULTILINE)
    names = [name for name, _ in entries]
    assert len(names) > 140 and names == sorted(set(names), key=str.casefold)
    assert len(names) == len(re.findall(r"^  \S", source, re.MULTILINE)), "each has one definition, in one line"
    assert all(re.search("[\u4e00-\u9fff]", chinese) for _, chinese in entries)
    (everyday,) = re.findall(r"^everyday: (.*)$", source, re.MULTILINE)
    known = {word for name in names for word in name.split(", ")}
    assert {*everyday.split(", ")} <= known


CHAPTER_PAGE = "notebooks/02-pruning-weights.html"
SHOWN = "[...document.querySelectorAll('.term-definition:popover-open')].map((box) => box.id)"


@pytest.fixture
def chapter(request, browser, address):
    """A chapter, opened with the options that a test gives, and its first term."""
    page = new_page(browser, viewport={"width": 390, "height": 844}, **getattr(request, "param", {}))
    troubles = watch(page, address)
    settle(page, f"{address}/{CHAPTER_PAGE}")
    yield page, page.locator("a.term").first
    page.close()
    assert not troubles


def shows(page, link) -> bool:
    """Whether the definition of a term is open, alone, whole in the window and beside the term."""
    (shown,) = page.evaluate(SHOWN) or [None]
    if shown is None:
        return False
    assert shown == "about-" + link.get_attribute("href").partition("#")[2] == link.get_attribute("aria-describedby")
    box, term = page.locator(f"#{shown}").bounding_box(), link.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] >= 0 and box["y"] + box["height"] <= 844
    assert box["y"] >= term["y"] + term["height"] or box["y"] + box["height"] <= term["y"]
    return True


def test_a_pointer_shows_a_definition_and_can_go_to_it(chapter):
    page, link = chapter
    link.hover()
    page.locator(".term-definition:popover-open").wait_for()
    assert shows(page, link)
    page.locator(".term-definition:popover-open").hover()
    page.wait_for_timeout(400)  # longer than it takes to close
    assert shows(page, link)
    page.keyboard.press("Escape")
    assert not shows(page, link)
    link.hover()
    page.wait_for_function(f"{SHOWN}.length")
    page.mouse.move(5, 5)
    page.wait_for_function(f"!{SHOWN}.length")
    link.click()
    page.wait_for_url("**/glossary.html#term-*")


def test_the_focus_shows_a_definition(chapter):
    page, link = chapter
    for other in page.locator("a.term:visible").all()[::3]:
        other.focus()
        assert shows(page, other)
    link.focus()
    page.keyboard.press("Escape")
    assert page.evaluate(f"!{SHOWN}.length") and link.evaluate("link => link === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/glossary.html#term-*")


@pytest.mark.parametrize("chapter", [{"has_touch": True, "is_mobile": True}], indirect=True)
def test_a_tap_shows_a_definition_and_a_second_one_follows_the_link(chapter):
    page, link = chapter
    link.tap()
    assert shows(page, link) and "glossary" not in page.url
    page.locator("article h1").tap()
    assert not shows(page, link)
    link.tap()
    link.tap()
    page.wait_for_url("**/glossary.html#term-*")
