"""Names of the library in the sidebars: short, and broken only where a name has a joint."""

import re

PACKAGE = "compress_lib."
NAME = re.compile(r">([A-Za-z_][\w.]*(?:\(\))?)<")


def shorten(app, pagename, templatename, context, doctree) -> None:
    chapters, contents = context.get("generate_toctree_html"), context.get("generate_toc_html")
    if chapters:
        context["generate_toctree_html"] = lambda *args, **kw: jointed(chapters(*args, **kw), PACKAGE)
    if contents:
        package = pagename.rpartition("/")[0].partition("book/api/")[2].replace("/", ".") + "."
        context["generate_toc_html"] = lambda *args, **kw: jointed(contents(*args, **kw), package, PACKAGE)


def jointed(html, *prefixes: str) -> str:
    """Take from each name the first of ``prefixes`` that it begins with; it may break after a dot or an underscore."""

    def short(match: re.Match) -> str:
        name = match[1]
        begins = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        return ">" + re.sub(r"([._])(?=\w)", r"\1<wbr>", name.removeprefix(begins)) + "<"

    return NAME.sub(short, str(html or ""))


def setup(app):
    app.connect("html-page-context", shorten, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
