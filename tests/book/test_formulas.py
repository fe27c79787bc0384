"""Formulas: what is in the sources is on the pages, and two converters agree on it."""

import json
import re
import sys
import unicodedata
from collections import Counter

import latex2mathml.converter
import pytest
from bs4 import BeautifulSoup
from building import ROOT
from chapters import CHAPTERS
from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from small_book import unchanged

sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import formulas

MARKDOWN = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True).use(amsmath_plugin)
SAME = str.maketrans("−∗‖∣ˆ′ϕϵ˜⋅∼·⋯", "-*∥|^'φε~.~.…")  # two characters for one sign
INVISIBLE = re.compile(r"[\s\u2061-\u2064\u200b\ufe00]")


def in_markdown(text):
    """The TeX of all formulas, read without MyST and Sphinx."""
    found = []
    for token in MARKDOWN.parse(text):
        for part in [token, *(token.children or ())]:
            if part.type.startswith("math_") or part.type == "amsmath":
                found.append(part.content)
    return Counter("".join(tex.split()) for tex in found)


def test_every_formula_of_the_sources_is_on_its_page(site):
    pages = {f"notebooks/{path.stem}.html": path for path in CHAPTERS}
    pages |= {f"book/{path.stem}.html": path for path in (ROOT / "book").glob("*.md")}
    total = 0
    for page, path in pages.items():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        soup = BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")
        shown = Counter("".join(formula["data-tex"].split()) for formula in soup.select("article .math"))
        wanted = in_markdown(text)
        assert not wanted - shown, page
        total += wanted.total()
    assert total > 1000


def letters(mathml):
    """What one reads, without styles: letters, digits and signs in their order."""
    text = unicodedata.normalize("NFKD", BeautifulSoup(mathml, "html.parser").get_text().translate(SAME))
    return INVISIBLE.sub(
        "", unicodedata.normalize("NFKC", text.translate(SAME).replace("\u0303", "~").replace("...", "…"))
    )


def test_another_converter_reads_the_same(site):
    seen = set()
    for page in [*site.glob("notebooks/*.html"), *site.glob("book/*.html")]:
        for formula in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select(".math"):
            if (tex := formula["data-tex"]) not in seen:
                seen.add(tex)
                other = latex2mathml.converter.convert(tex)
                ours = "".join(map(str, formula.select("math")))
                assert letters(ours) == letters(other), (page.name, tex)
    assert len(seen) > 500


@pytest.mark.parametrize(
    ("tex", "parts"),
    [
        (r"a = b, \qquad c = \text{d \quad e}", ["a = b,", r"c = \text{d \quad e}"]),
        (r"\left( a \quad b \right) \quad c", [r"\left( a \quad b \right)", "c"]),
        (r"\begin{cases} 1 & x \quad y \end{cases}", [r"\begin{cases} 1 & x \quad y \end{cases}"]),
        ("x", ["x"]),
    ],
)
def test_only_wide_gaps_outside_of_everything_part_a_formula(tex, parts):
    assert formulas.parts(tex) == parts


def test_lines_without_an_environment_are_aligned():
    table = BeautifulSoup(formulas.mathml(r"a &= b \\ &= c", True), "html.parser")
    assert [[cell.get_text() for cell in row.select("mtd")] for row in table.select("mtr")] == [["a", "=b"], ["", "=c"]]
    assert not BeautifulSoup(formulas.mathml(r"\begin{cases}1\\2\end{cases}", True), "html.parser").select(
        "mtable mtable"
    )


def test_a_page_of_its_own(tmp_path):
    """Numbers and links of equations, environments, tables and folds, and a formula that nobody can read."""
    from sphinx.application import Sphinx

    (tmp_path / "index.md").write_text(
        "# Title with $x_0$\n\n$$a^2$$ (squares)\n\nSee {eq}`squares`.\n\n"
        "\\begin{align}a &= b\\\\ c &= d\\end{align}\n\n"
        "| a | b |\n|---|---|\n| $t$ | 1 |\n\n<details><summary>Hint</summary>\n\nUse $h$.\n\n</details>\n\n"
        "$\\nonsense$\n"
    )
    settings = {
        "extensions": ["myst_parser", "formulas"],
        "source_suffix": {".md": "markdown"},  # or it would go into Sphinx's default, for every book of this process
        "myst_enable_extensions": ["dollarmath", "amsmath"],
        "myst_dmath_double_inline": True,
    }
    warnings = (tmp_path / "warnings").open("w+")
    out = tmp_path / "out"
    with unchanged():
        Sphinx(tmp_path, None, out, tmp_path / "trees", "html", settings, status=None, warning=warnings).build()
    warnings.seek(0)
    told = [line for line in warnings if "WARNING" in line]
    assert len(told) == 1 and r"\nonsense" in told[0]
    page = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert page.select_one("h1 math").get_text() == "x0"
    assert page.select_one("td math").get_text() == "t"
    assert page.select_one("details math").get_text() == "h"
    squares = page.select_one("div.math:has(.eqno)")
    assert squares.select_one("math[display=block]").get_text() == "a2" and "(1)" in squares.select_one(".eqno").text
    assert page.select_one(f'p a[href="#{squares["id"]}"]').text == "(1)"
    assert [row.get_text() for row in page.select("mtr")] == ["a=b", "c=d"]
    assert page.select_one("span.math > code").text == r"\nonsense"
    assert not [script for script in page.select("script[src]") if "mathjax" in script["src"].lower()]
