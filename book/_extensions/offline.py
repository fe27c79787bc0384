"""Nothing on a page comes from elsewhere: MathJax is served with the book, and remote images are refused.

MathJax's files are those of the installed sphinx-mathjax-offline, of which a page uses two files in a hundred.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "a11y/assistive-mml.js", "input/tex/extensions", "ui")
SEARCH_SCRIPTS = re.compile(
    r'\s*<script src="[./]*(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>'
)
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


class LocalImages(SphinxTransform):
    """Show the Colab badge that notebooks carry from a file of ours; warn about any other image from elsewhere."""

    default_priority = 400  # before Sphinx collects the images

    def apply(self, **kwargs) -> None:
        for image in self.document.findall(nodes.image):
            if image["uri"] == COLAB_BADGE:
                image["uri"] = "/book/assets/open-in-colab.svg"
            elif "://" in image["uri"]:
                LOGGER.warning("image from another site: %s", image["uri"], location=image)


def copy_mathjax(app, exception) -> None:
    """Copy what a page can ask for, once."""
    if exception or app.builder.format != "html":
        return
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    for name in MATHJAX:
        source, target = package / name, Path(app.outdir) / "_static" / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)


def drop_unused(app, exception) -> None:
    """The theme's icon script is replaced by its icon font (_templates/static); its maps help nobody here."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for path in [*static.glob("scripts/*.map"), *static.glob("styles/*.map"), static / "scripts" / "fontawesome.js"]:
        path.unlink(missing_ok=True)


def drop_search_scripts(app, exception) -> None:
    """The theme puts the search index on every page for results as you type, which are off: keep it for search.html."""
    if exception or app.builder.format != "html" or app.config.html_theme_options.get("search_as_you_type"):
        return
    for page in Path(app.outdir).rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        if page.name != "search.html" and SEARCH_SCRIPTS.search(content):
            page.write_text(SEARCH_SCRIPTS.sub("", content), encoding="utf-8")


def setup(app):
    app.add_transform(LocalImages)
    app.add_config_value("comments_config", {}, "")  # Jupyter Book sets it for an extension that is not loaded
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_unused)
    app.connect("build-finished", drop_search_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
