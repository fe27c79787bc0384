"""The first screen of a chapter, and the minutes of its sections."""

import pytest
from small_book import SmallBook, cell, notebook

TITLE = """# 7. Deep compression

**Prune, share, encode: one small *file*.**

*45 minutes to read and run. Prerequisites: chapters 2 and 5 (folding); some patience.*"""
CELLS = (
    cell("REPOSITORY = ''", "hide-cell"),
    cell("import json", "hide-input"),
    cell("headline()", "hide-input", text_markdown="**44× smaller** — on disk, the whole file", text_plain="Markdown"),
)
REST = (
    "## Objectives\n\nThree.",
    "## The problem: a third of the bytes (4 min)\n\nText.\n\n[Again](#the-problem-a-third-of-the-bytes-4-min)",
)
COVER = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>'


@pytest.fixture
def book(tmp_path):
    pages = {
        "index.md": "# Book\n\n```{toctree}\n:maxdepth: 2\nnotebooks/07-deep\nbook/how-to-run\n```\n",
        "notebooks/07-deep.ipynb": notebook(TITLE, *CELLS, *REST),
        "book/how-to-run.md": "# How to run (5 min)\n\n**Bold.**\n\n*45 minutes. Prerequisites: none.*",
    }
    return SmallBook(tmp_path, ["opening"], pages)


def test_the_first_screen(book):
    assert not book.build()
    page = book.page("notebooks/07-deep")
    title, opening, runs, objectives = page.section.find_all(True, recursive=False)[:4]
    assert title.text.startswith("7. Deep compression") and objectives["id"] == "objectives"
    assert str(opening.select_one(".lead")) == '<p class="lead">Prune, share, encode: one small <em>file</em>.</p>'
    assert opening.select_one(".headline-value").text == "44× smaller"
    assert opening.select_one(".headline-label").text == "On disk, the whole file"
    badges = [badge.text.strip() for badge in opening.select(".badges li")]
    assert badges == ["45 minutes", "Prerequisites: chapters 2 and 5 (folding); some patience"]
    assert not opening.select("img, .cell")
    assert runs.summary.text == "Run this page" and not runs.has_attr("open")
    assert [code.text.strip() for code in runs.select(".cell_input pre")] == [cell.source for cell in CELLS]
    assert not runs.select("details, .cell_output"), "the code is folded once"
    assert [a["href"] for a in runs.select("p a")] == ["../_sources/notebooks/07-deep.ipynb", "../book/how-to-run.html"]


def test_a_picture_where_there_is_one_and_the_way_to_colab(book):
    book.write("book/diagrams/cover-07.svg", COVER)
    link = "[![Open in Colab](../book/colab.svg)](https://colab.research.google.com/github/a/b)"
    book.write("book/colab.svg", COVER)
    book.write("notebooks/07-deep.ipynb", notebook(TITLE.replace("\n\n**", f"\n\n{link}\n\n**"), *CELLS, *REST))
    assert not book.build()
    page = book.page("notebooks/07-deep")
    assert page.select_one(".opening.with-cover .cover[aria-hidden=true] img")["src"].endswith("cover-07.svg")
    assert page.select_one("details.run-this-page p a img")["alt"] == "Open in Colab"


def test_minutes_stand_beside_their_heading_and_not_in_it(book):
    assert not book.build()
    page = book.page("notebooks/07-deep")
    heading = page.select_one("section section:has(> .section-minutes) h2")
    assert heading.text == "The problem: a third of the bytes¶"
    assert heading.parent["id"] == "the-problem-a-third-of-the-bytes"
    assert heading.find_next_sibling().text == "4 min"
    contents = book.page("index").select_one(".toctree-wrapper")
    assert "a third of the bytes" in contents.text and "min" not in contents.text
    assert page.find("a", string="Again")["href"] == "#the-problem-a-third-of-the-bytes"


def test_other_pages_are_left(book):
    book.build()
    page = book.page("book/how-to-run")
    assert page.strong.text == "Bold." and page.em and not page.select(".opening, details")
