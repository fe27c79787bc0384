"""Folded cells that only prepare join the folded cell that shows something."""

from small_book import SmallBook, cell, notebook


def folds(tmp_path, *cells):
    book = SmallBook(tmp_path, ["folded_code"], {"index.ipynb": notebook("# A page", *cells)})
    assert not book.build()
    return [
        [code.text.strip() for code in fold.select(".cell_input pre")] for fold in book.page("index").select("details")
    ]


def test_what_prepares_joins_what_shows(tmp_path):
    prepares, also, shows = (
        cell("a = 1", "hide-input"),
        cell("b = 2", "hide-input"),
        cell("a + b", "hide-input", prints="3"),
    )
    assert folds(tmp_path, prepares, also, shows) == [["a = 1", "b = 2", "a + b"]]


def test_an_output_a_text_or_open_code_ends_a_fold(tmp_path):
    first, second = cell("print(1)", "hide-input", prints="1"), cell("print(2)", "hide-input", prints="2")
    alone, open_code = cell("c = 3", "hide-input"), cell("print(4)", prints="4")
    found = folds(tmp_path, first, second, alone, "Text.", cell("c = 3", "hide-input"), open_code)
    assert found == [["print(1)"], ["print(2)"], ["c = 3"], ["c = 3"]]
