"""All that needs the book's public address, ``repository.url`` in _config.yml; while that is empty, none of it is here.

From that one value come the buttons for Colab and the source, the links "edit this page" and "ask", and where the
pages are published (GitHub Pages, unless ``html.baseurl`` names another place): canonical links, the addresses in the
tags for messengers, the sitemap, and the address of the 404 page's style.
"""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

import yaml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def use_address(app, config) -> None:
    options = config.html_theme_options
    repository = options.get("repository_url")
    if not repository:
        LOGGER.info("No repository address yet, so no Colab and source buttons: python book/tools/address.py URL")
        return
    options["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
    options |= {"use_repository_button": True, "use_source_button": True}
    config.html_baseurl = (config.html_baseurl or pages_of(repository)).rstrip("/") + "/"
    config.ogp_site_url = config.html_baseurl
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path


def pages_of(repository: str) -> str:
    """Where GitHub Pages publishes ``https://github.com/owner/name``."""
    owner, name = repository.rstrip("/").split("/")[-2:]
    host = f"https://{owner.lower()}.github.io"
    return host if name.lower() == f"{owner.lower()}.github.io" else f"{host}/{name}"


def add_page_help(app, pagename, templatename, context, doctree) -> None:
    """What page-help.html shows under a page: how to cite it and, with an address, where to edit it and to ask."""
    if doctree is None or pagename.startswith("book/api/"):
        return
    title = re.sub(r"<[^>]*>", "", context["title"])
    context["citation"] = citation(Path(app.srcdir), title, context.get("pageurl"))
    repository = app.config.html_theme_options.get("repository_url")
    if repository:
        branch = app.config.html_theme_options.get("repository_branch") or "main"
        source = app.env.doc2path(pagename, base=False)
        context["edit_url"] = f"{repository}/edit/{branch}/{source}"
        context["ask_url"] = f"{repository}/issues/new?title={quote(title)}"


def citation(root: Path, title: str, url: str | None) -> str:
    """BibTeX for one page of the book, from CITATION.cff."""
    book = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    released = book["date-released"]
    fields = {
        "author": " and ".join(f"{{{author['name']}}}" for author in book["authors"]),
        "title": f"{{{title}}}",
        "booktitle": f"{{{book['title']}}}",
        "year": f"{released.year}",
        "note": f"Version {book['version']}",
    }
    if url:
        fields["url"] = url
    return "@incollection{compression-measured,\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items()) + "}"


def write_robots(app, exception) -> None:
    """Everything may be read; with an address, also where the list of pages is."""
    if exception or app.builder.format != "html":
        return
    lines = ["User-agent: *", "Allow: /"]
    if app.config.html_baseurl:
        lines.append(f"Sitemap: {app.config.html_baseurl}{app.config.sitemap_filename}")
    (Path(app.outdir) / "robots.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app):
    app.connect("config-inited", use_address)
    app.connect("html-page-context", add_page_help, priority=400)  # before the theme asks which templates are empty
    app.connect("build-finished", write_robots)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
