"""The first screen of a chapter: promise, headline number, picture, badges; and what runs the page, folded.

A chapter's notebook begins with a title, a promise in bold, a line in italics with its minutes and prerequisites, a
cell of set-up, and a cell whose output is the headline number, ``**44× smaller** — what it is``. That reads well in
Jupyter and on GitHub. Here it becomes the first screen. ``book/diagrams/cover-NN.svg`` is its picture, if there is one.
"""

import re
from pathlib import Path

from docutils import nodes
from folds import fold
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

CHAPTER = re.compile(r"notebooks/(\d\d)-")
LINE = re.compile(r"(?P<minutes>\d+) minutes\b[^.]*\.\s*Prerequisites: (?P<needs>.*?)\.?", re.DOTALL)


class Opening(SphinxTransform):
    """Compose the first screen of a chapter."""

    default_priority = 510  # after the boxes and the claims

    def apply(self, **kwargs) -> None:
        chapter = CHAPTER.match(self.env.docname)
        if not chapter:
            return
        page = next(iter(self.document.findall(nodes.section)))
        title, *before = page.children[: page.first_child_matching_class(nodes.section)]
        opening = nodes.container(classes=["opening"])
        runs = fold("", summary="Run this page", classes=["run-this-page"])
        for node in before:
            page.remove(node)
            if is_cell(node):
                node.attributes.pop("hide_mode", None)
                self.take_headline(node, opening)
                runs += node
            elif promise := only_child(node, nodes.strong):
                opening.insert(0, nodes.paragraph("", "", *promise.children, classes=["lead"]))
            elif (line := only_child(node, nodes.emphasis)) and (words := LINE.fullmatch(line.astext())):
                opening += badges(f"{words['minutes']} minutes", f"Prerequisites: {words['needs']}")
            elif any(node.findall(nodes.image)):  # the badge that opens the chapter in Colab
                runs.insert(0, node)
            else:
                opening += node
        if cover := self.cover(chapter[1]):
            opening += cover
            opening["classes"].append("with-cover")
        runs.insert(0, self.how_to_run())
        page.insert(page.index(title) + 1, [opening, runs])

    @staticmethod
    def take_headline(cell: nodes.Element, opening: nodes.Element) -> None:
        """Move ``**value** — label`` from the cell's output to the first screen."""
        for output in [part for part in cell.children if part.get("nb_element") == "cell_code_output"]:
            for paragraph in output.findall(nodes.paragraph):
                value, *rest = spoken(paragraph)
                if isinstance(value, nodes.strong):
                    label = re.sub(r"^\s*—\s*", "", "".join(node.astext() for node in rest))
                    opening += nodes.container(
                        "",
                        nodes.paragraph("", value.astext(), classes=["headline-value"]),
                        nodes.paragraph("", label[:1].upper() + label[1:], classes=["headline-label"]),
                        classes=["headline"],
                    )
                    cell.remove(output)
                    return

    def cover(self, number: str) -> list[nodes.Node]:
        """The chapter's picture: decoration, since the promise stands beside it, so it is read to nobody."""
        name = f"book/diagrams/cover-{number}.svg"
        if not (Path(self.env.srcdir) / name).exists():
            return []
        begin = nodes.raw("", '<div class="cover" aria-hidden="true">', format="html")
        return [begin, nodes.image(uri=f"/{name}", alt="Cover"), nodes.raw("", "</div>", format="html")]

    def how_to_run(self) -> nodes.paragraph:
        """Where the notebook is, and the page that says how to run it."""
        notebook = Path(self.env.docname).name + ".ipynb"
        download = nodes.reference("", "Download this notebook", refuri=f"../_sources/notebooks/{notebook}")
        words = [nodes.Text("Every number on this page was measured by running it. "), download]
        if "book/how-to-run" in self.env.found_docs:
            how = addnodes.pending_xref("", refdomain="std", reftype="doc", reftarget="/book/how-to-run")
            how.attributes |= {"refexplicit": True, "refdoc": self.env.docname}
            how += nodes.inline("", "how to run it")
            words += [nodes.Text(", and read "), how]
        return nodes.paragraph("", "", *words, nodes.Text("."))


def badges(*texts: str) -> nodes.bullet_list:
    items = [nodes.list_item("", nodes.paragraph("", text)) for text in texts]
    return nodes.bullet_list("", *items, classes=["badges"])


def is_cell(node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def spoken(node: nodes.Element) -> list[nodes.Node]:
    """The children of a node without the empty texts that a parser leaves."""
    return [child for child in node.children if not isinstance(child, nodes.Text) or child.astext()]


def only_child(node, kind):
    """The child of a paragraph that has no other."""
    children = spoken(node)
    alone = isinstance(node, nodes.paragraph) and len(children) == 1 and isinstance(children[0], kind)
    return children[0] if alone else None


class SectionMinutes(SphinxTransform):
    """``## The problem: … (4 min)``: the minutes leave heading, anchor and contents, and stand beside the heading."""

    default_priority = 511

    def apply(self, **kwargs) -> None:
        for section in self.document.findall(nodes.section):
            last = section[0][-1] if isinstance(section[0], nodes.title) and len(section[0]) else None
            minutes = re.search(r"\s*\((\d+) min\)$", last.astext()) if isinstance(last, nodes.Text) else None
            if not minutes:
                continue
            last.parent.replace(last, nodes.Text(last.astext()[: minutes.start()]))
            section.insert(1, nodes.paragraph("", f"{minutes[1]} min", classes=["section-minutes"]))
            self.rename(section, re.sub(rf"-{minutes[1]}-min$", "", section["ids"][0]))

    def rename(self, section: nodes.section, name: str) -> None:
        """Give a section another anchor, if it is free; links to the section by its heading's slug follow."""
        if name in self.document.ids:
            return
        old, section["ids"][0] = section["ids"][0], name
        self.document.ids[name] = self.document.ids.pop(old)
        slugs = self.env.metadata[self.env.docname].get("myst_slugs", {})
        for slug, (line, anchor, text) in slugs.items():
            if anchor == old:
                slugs[slug] = (line, name, text)


def setup(app):
    app.setup_extension("folds")
    app.add_transform(Opening)
    app.add_transform(SectionMinutes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
