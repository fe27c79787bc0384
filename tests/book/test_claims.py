"""Cells of claims become one mark; a claim that does not hold is a warning."""

import pytest
from small_book import SmallBook, cell, notebook

TRUE = "the file is smaller: True\nthe network is as accurate: True\n"


def build(tmp_path, *cells):
    book = SmallBook(tmp_path, ["claims"], {"index.ipynb": notebook("# A page", *cells)})
    said = book.build()
    return book.page("index"), said


def test_neighboring_cells_become_one_closed_mark_that_shows_code_and_output(tmp_path):
    page, said = build(
        tmp_path,
        cell("x = 1"),
        cell("print('a')", "claims", prints=TRUE),
        cell("print('b')", "claims", prints="it is faster: True\n"),
        "## Another section",
        cell("print('c')", "claims", prints="one more: True\n"),
    )
    assert not said
    first, second = page.select("details.claims")
    assert first.summary.text == "3 claims checked" and second.summary.text == "1 claim checked"
    assert not first.has_attr("open")
    assert [code.text for code in first.select(".cell_input pre")] == ["print('a')\n", "print('b')\n"]
    assert [out.text for out in first.select(".cell_output pre")] == [TRUE, "it is faster: True\n"]
    assert page.select_one("section section details.claims") is second
    assert [code.text for code in page.select(".cell_input pre") if not code.find_parent("details")] == ["x = 1\n"]


def test_a_text_between_two_cells_parts_them(tmp_path):
    one, two = (cell("print()", "claims", prints=f"{name}: True\n") for name in ("one", "two"))
    page, _ = build(tmp_path, one, "And then:", two)
    assert [mark.summary.text for mark in page.select("details.claims")] == ["1 claim checked"] * 2


@pytest.mark.parametrize("line", ["the file is smaller: False", "the file is smaller:", "44 times smaller", ": True"])
def test_what_does_not_hold_or_is_no_claim_is_a_warning(tmp_path, line):
    _, said = build(tmp_path, cell("print()", "claims", prints=f"{TRUE}{line}\n"))
    assert said.count("WARNING") == 1 and repr(line) in said
