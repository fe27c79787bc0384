"""SVG pictures are part of the page: named, with ids of their own, in the page's colors, in the drawing that fits."""

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import nbformat
import pytest
from browsing import new_page
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from compress_lib import figures
from compress_lib.figures.svg import draw

ROOT = Path(__file__).parents[2]
ALT = 'A line that rises from 1 to 2; its name is "rising" & stands at its end.'
DIAGRAM = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 120" width="480" height="120" role="img"
  aria-labelledby="title"><title id="title">A box</title><defs><linearGradient id="g"/></defs>
  <rect width="480" height="120" fill="url(#g)"/><use href="#g"/></svg>"""
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n not looked at").decode()
MARKDOWN = f"""# Pictures

![{ALT}](book/diagrams/box.svg)

![The same box, once more.](book/diagrams/box.svg)

![A badge.](book/assets/badge.svg) ![With a style of its own.](styled.svg)
"""


def figure_svg() -> str:
    with matplotlib.rc_context():
        plt.switch_backend("agg")
        figures.use_book_style()
        plt.plot([0, 1], [1, 2], "o-", label="rising")
        figures.label_lines(plt.gca())
        content = draw(plt.gcf())
        plt.close("all")
    return content


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A page of Markdown images and of outputs, as HTML with and without the extension's builder."""
    root = tmp_path_factory.mktemp("pictures")
    source = root / "source"
    for name, content in {
        "book/diagrams/box.svg": DIAGRAM,
        "book/assets/badge.svg": DIAGRAM,
        "styled.svg": DIAGRAM.replace("<defs>", "<style>rect { fill: red }</style><defs>"),
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content, encoding="utf-8")
    output = nbformat.v4.new_output("display_data", {"image/svg+xml": figure_svg(), "text/plain": "<Figure>"})
    png = nbformat.v4.new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"})
    cells = [nbformat.v4.new_markdown_cell(MARKDOWN)] + [
        nbformat.v4.new_code_cell("1", outputs=[each], metadata={"mystnb": {"image": {"alt": ALT}}})
        for each in (output, output, png)
    ]
    python = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=python), source / "index.ipynb")

    def build(builder: str) -> str:
        warnings = io.StringIO()
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                source,
                None,
                root / "pages" / builder,
                root / "doctrees" / builder,
                builder,
                status=None,
                warning=warnings,
                confoverrides={"extensions": ["myst_nb", "inline_svg"], "nb_execution_mode": "off"},
            )
            app.build()
        assert not warnings.getvalue()
        return next((root / "pages" / builder).glob("index.*")).read_text(encoding="utf-8")

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_extensions")
        return {builder: build(builder) for builder in ("html", "xml")}


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    handle_startendtag = handle_starttag


def pictures(page: str) -> list[dict]:
    return [attributes for tag, attributes in Elements(page).found if tag == "svg"]


def test_diagrams_and_figures_are_part_of_the_page(built):
    found = pictures(built["html"])
    assert len(found) == 2 + 2 * 2, "two diagrams, and two figures drawn twice"
    assert [each["aria-label"] for each in found] == [ALT, "The same box, once more.", *[ALT] * 4]
    assert all(each["role"] == "img" and "width" not in each and "height" not in each for each in found)
    assert [re.search(r"max-width:min\(100%,([\d.]+)px", each["style"])[1] for each in found] == [
        "480", "480", "691.2", "350.4", "691.2", "350.4"
    ]  # fmt: skip
    assert "<title" not in re.sub(r"<head>.*?</head>", "", built["html"], flags=re.DOTALL)


def test_what_is_no_picture_of_the_book_stays_an_image(built):
    images = [attributes for tag, attributes in Elements(built["html"]).found if tag == "img"]
    assert [Path(each["src"]).suffix for each in images] == [".svg", ".svg", ".png"]
    assert [each["alt"] for each in images] == ["A badge.", "With a style of its own.", ALT]


def test_no_id_is_on_the_page_twice_and_each_reference_has_one(built):
    found = [attributes for _, attributes in Elements(built["html"]).found]
    ids = Counter(each["id"] for each in found if "id" in each)
    assert max(ids.values()) == 1
    body = built["html"].partition('class="picture')[2]
    references = set(re.findall(r'url\(#([^)]+)\)|<use[^>]* href="#([^"]+)"', body))
    assert len(references) > 4 and {a or b for a, b in references} <= set(ids)


def test_other_builders_keep_the_image(built):
    assert built["xml"].count("<image ") == 4 and "<svg" not in built["xml"]


def test_colors_follow_the_theme_and_the_drawing_the_width(built, browser, tmp_path):
    """In a browser, with the site's own style sheets."""
    css = "".join((ROOT / "book" / "assets" / name).read_text(encoding="utf-8") for name in ("book.css", "figures.css"))
    page_file = tmp_path / "page.html"
    page_file.write_text(
        f'<!doctype html><html data-theme="light"><style>{css}</style><body>{built["html"].partition("<body>")[2]}',
        encoding="utf-8",
    )
    page = new_page(browser, viewport={"width": 1280, "height": 800})
    page.goto(page_file.as_uri())
    line = page.locator(".for-page path[style*='--c0']").first
    stroke = "element => getComputedStyle(element).stroke"
    colors = []
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.style.colorScheme = theme; }", theme)  # as the theme does
        colors.append(line.evaluate(stroke))
    assert colors == ["rgb(31, 95, 153)", "rgb(125, 183, 238)"]
    for width, shown, hidden in ((1280, ".for-page", ".for-phone"), (390, ".for-phone", ".for-page")):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.locator(shown).first.is_visible() and not page.locator(hidden).first.is_visible()
        sizes = page.locator(f"{shown} text").evaluate_all(
            "texts => texts.map((text) => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"
        )
        assert min(sizes) >= 10, "letters of ten pixels can be read"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
