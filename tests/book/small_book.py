"""A book of a few small pages, built in a second, for the tests of one extension."""

import contextlib
import io
import sys
import warnings
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from chapters import ROOT
from docutils import nodes
from docutils.parsers.rst import directives, roles
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx

CONFIGURATION = """
extensions = ["myst_nb", {extensions}]
source_suffix = {{".md": "myst-nb", ".ipynb": "myst-nb"}}
html_theme = "basic"
myst_enable_extensions = ["amsmath", "attrs_inline", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
"""


def notebook(*cells) -> str:
    """A page from Markdown (a string) and from cells that ``cell`` makes."""
    made = [new_markdown_cell(each) if isinstance(each, str) else each for each in cells]
    return nbformat.writes(new_notebook(cells=made, metadata={"language_info": {"name": "python"}}))


def cell(source: str, *tags: str, prints: str = "", **data: str):
    """A code cell with what it prints, or with one output of the given forms: ``text_markdown``, ``image_png``."""
    outputs = [new_output("stream", text=prints)] if prints else []
    if data:
        forms = {form.replace("_", "/"): content for form, content in data.items()}
        outputs.append(new_output("execute_result", data=forms, execution_count=1))
    return new_code_cell(source, execution_count=1, outputs=outputs, metadata={"tags": list(tags)})


class SmallBook:
    """``pages``: file name → content. ``build`` may be called again after ``write``: it is incremental."""

    def __init__(self, folder: Path, extensions: list[str], pages: dict[str, str]) -> None:
        self.source, self.target = folder / "source", folder / "target"
        self.write("conf.py", CONFIGURATION.format(extensions=", ".join(map(repr, extensions))))
        for name, content in pages.items():
            self.write(name, content)

    def write(self, name: str, content: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def build(self, parallel: int = 1) -> str:
        """Build what has changed; gives the warnings."""
        said = io.StringIO()
        folder = str(ROOT / "book" / "_extensions")
        with unchanged(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.path.insert(0, folder)
            try:
                app = Sphinx(
                    self.source, self.source, self.target, self.target / "doctrees", "html",
                    status=None, warning=said, parallel=parallel,
                )  # fmt: skip
                app.build()
            finally:
                sys.path.remove(folder)
        return said.getvalue()

    def page(self, name: str) -> BeautifulSoup:
        """The body of a page, without the theme around it."""
        html = (self.target / f"{name}.html").read_text(encoding="utf-8")
        return BeautifulSoup(html, "html.parser").select_one(".body")


@contextlib.contextmanager
def unchanged():
    """Sphinx adds nodes, roles and directives to docutils; afterwards they are gone."""
    saved = [(holder, dict(holder)) for holder in (directives._directives, roles._roles)]
    visitors = {kind: dict(vars(kind)) for kind in (nodes.GenericNodeVisitor, nodes.SparseNodeVisitor)}
    yield
    for holder, content in saved:
        holder.clear()
        holder.update(content)
    for kind, content in visitors.items():
        for name in set(vars(kind)) - set(content):
            delattr(kind, name)
