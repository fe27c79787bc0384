import doctest
import re
from html.parser import HTMLParser

import pytest

from compress_lib import tables
from compress_lib.tables import Table


def example():
    rows = [["fc1", 235200, 0.9211234, None], ["fc<b>", 30000, 91.0, True]]
    return Table(["layer", "weights", "sparsity", "note"], rows, "A <title>", ["total", 265200, "", ""])


def test_text():
    assert str(example()).splitlines() == [
        "A <title>",
        "",
        "layer  weights  sparsity  note",
        "-----  -------  --------  ----",
        "fc1    235,200    0.9211  –",
        "fc<b>   30,000        91  True",
        "-----  -------  --------  ----",
        "total  265,200",
    ]


def test_formats_change_the_look_and_not_the_numbers():
    table = Table(["a", "b"], [["x", 0.5], ["y", 1]], formats={"b": ".1%"})
    assert str(table).splitlines()[2:] == ["x   50.0%", "y  100.0%"]
    assert table.rows == [["x", 0.5], ["y", 1]]


class Cells(HTMLParser):
    """Collects (tag, attributes, text) of every cell, and checks that tags are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.cells, self.tags = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        if tag in ("th", "td", "caption"):
            self.cells.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells[-1][2] += data


def test_html_is_well_formed_accessible_and_escaped():
    parsed = Cells(example()._repr_html_())
    assert parsed.cells[0] == ["caption", {}, "A <title>"]
    headers = [cell for cell in parsed.cells if cell[1].get("scope") == "col"]
    assert [cell[2] for cell in headers] == ["layer", "weights", "sparsity", "note"]
    assert [cell[2] for cell in parsed.cells if cell[1].get("scope") == "row"] == ["fc1", "fc<b>", "total"]
    assert [tag for tag in parsed.tags if tag in ("thead", "tbody", "tfoot")] == ["thead", "tbody", "tfoot"]
    by_text = {cell[2]: cell[1]["style"] for cell in parsed.cells[1:]}
    assert by_text["235,200"] == by_text["weights"] == "text-align: right"
    assert by_text["fc1"] == by_text["True"] == "text-align: left"


def test_html_sets_no_colors():
    assert not re.search(r"color|background|#[0-9a-f]{3}", example()._repr_html_())


def test_no_title_no_footer_no_rows():
    table = Table(["a"], [])
    assert str(table) == "a\n-"
    assert "caption" not in table._repr_html_()
    assert "tfoot" not in table._repr_html_()


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"\[1\] has 1 cells; the table has 2 columns"):
        Table(["a", "b"], [[1]])
    with pytest.raises(ValueError, match="has 3 cells"):
        Table(["a", "b"], [], footer=[1, 2, 3])
    with pytest.raises(ValueError, match=r"\['c'\].*\['a', 'b'\]"):
        Table(["a", "b"], [], formats={"c": ".1f"})


def test_the_example():
    assert doctest.testmod(tables).failed == 0
