"""A search of the whole book by Pagefind, which the site serves itself: an index of the texts, read in pieces.

What is indexed of a page is its article: no menus, no code, no TeX behind a formula. Chapters come first, then the
book's other pages; entries of the glossary stand after the best page; the library reference is asked only where a
reader wants it. The page of results is ``_templates/search.html`` with ``assets/search.js``.
"""

import asyncio
import shutil
from html import escape as html_escape
from pathlib import Path

from bs4 import BeautifulSoup
from pagefind.index import IndexConfig, PagefindIndex
from references import labels

FOLDER = "_pagefind"
NOT_TEXT = (
    "script, style, svg, annotation, button, .headerlink, .highlight, .prev-next-area, .book-search, table.measured, "
    "table.dataframe, #further-reading, dl.glossary"  # whose entries are found one by one
)
NO_PAGES = ("search", "genindex", "404", "index")
LISTS = dict.fromkeys(["book/ledger", "book/bibliography", "book/execution-status"], ("book", 0.5))
KINDS = {"notebooks/": ("book", 10.0), "book/api/": ("library", 1.0), **LISTS}
OTHERS = ("book", 3.0)
UNUSED = ("pagefind-*ui*", "pagefind-highlight.js")  # Pagefind's own panels


def article(soup: BeautifulSoup, page: str) -> str | None:
    """What there is to find on a page, with the weight of its kind; None if it has no article."""
    found = soup.select_one("article.bd-article")
    if found is None:
        return None
    for element in found.select(NOT_TEXT):
        element.decompose()
    title = found.select_one("h1")
    kind, weight = next((each for start, each in KINDS.items() if page.startswith(start)), OTHERS)
    name = html_escape(" ".join(title.get_text().split())) if title else page
    return (
        f'<!doctype html><html lang="en"><head><title>{name}</title></head>'
        f'<body data-pagefind-body data-pagefind-filter="kind:{kind}" data-pagefind-weight="{weight}">'
        f"{found}</body></html>"
    )


def definitions(soup: BeautifulSoup) -> dict[str, str]:
    """The entries of a glossary as pages of their own, by the anchor of their term."""
    found = {}
    for term in soup.select("dl.glossary > dt[id]"):
        for element in term.select(".headerlink"):
            element.decompose()
        name = term.get_text().partition(" · ")[0]  # without the Chinese
        found[term["id"]] = (
            f'<!doctype html><html lang="en"><head><title>Glossary</title></head>'
            f'<body data-pagefind-body data-pagefind-filter="kind:term">'
            f'<h1 data-pagefind-meta="title">{html_escape(name)}</h1>'
            f"<p>{term.decode_contents()}</p>{term.find_next_sibling('dd')}</body></html>"
        )
    return found


async def write_index(target: Path) -> None:
    """Index every page of the built site."""
    async with PagefindIndex(IndexConfig(output_path=str(target / FOLDER), force_language="en")) as index:
        for path in sorted(target.rglob("*.html")):
            page = path.relative_to(target).as_posix()
            if page.startswith("_") or page.removesuffix(".html") in NO_PAGES:
                continue
            soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            for anchor, content in definitions(soup).items():
                await index.add_html_file(content=content, url=f"{page}#{anchor}")
            content = article(soup, page)  # last, as it takes out what is no text
            if content is not None:
                await index.add_html_file(content=content, url=page)


def index_site(app, exception) -> None:
    if exception is None and app.builder.format == "html":
        target = Path(app.outdir)
        shutil.rmtree(target / FOLDER, ignore_errors=True)  # what an earlier build has left
        asyncio.run(write_index(target))
        for path in [path for pattern in UNUSED for path in (target / FOLDER).glob(pattern)]:
            path.unlink()


def give_labels(app, pagename, templatename, context, doctree) -> None:
    """Whoever types "Result 6.4" is led to it."""
    if pagename == "search":
        found = labels(app.env).items()
        context["labels"] = {label.lower(): f"{page}.html#{anchor}" for label, (page, anchor) in found}


def setup(app):
    app.connect("html-page-context", give_labels)
    app.connect("build-finished", index_site, priority=900)  # of the pages as they are in the end
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
