"""Captions and anchors from plain Markdown.

A paragraph ``**Figure 7.2.** …`` directly after a picture becomes its caption: both stand in one ``<figure>`` with the
anchor ``figure-7-2``. Results (boxes that begin with ``**Result 7.1.**``), exercises and questions (headings
``Exercise 7.1 (derive): …``) get the anchors ``result-7-1``, ``exercise-7-1`` and ``question-7-1``. In each chapter all
of them are numbered in order. ``references.py`` links to them.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
LABEL = re.compile(r"(Figure|Result|Exercise|Question) (\d+)\.(\d+)")


class Anchors(SphinxTransform):
    """Find the labels of a page, give each its anchor, and note them for other pages."""

    default_priority = 505  # after the boxes, before the opening

    def apply(self, **kwargs) -> None:
        found: dict[str, int] = {}
        for node in list(self.document.findall(labeled)):
            kind, chapter, number = LABEL.match(label_of(node)).groups()
            self.check_order(node, kind, int(chapter), int(number), found)
            anchor = f"{kind.lower()}-{chapter}-{number}"
            target = self.join(node) if kind == "Figure" else node.parent if isinstance(node, nodes.title) else node
            if target is not None:
                if anchor not in target["ids"]:  # a heading "Question 7.1" has it already
                    target["ids"].append(anchor)
                self.env.metadata[self.env.docname].setdefault("labels", {})[f"{kind} {chapter}.{number}"] = anchor

    def check_order(self, node, kind: str, chapter: int, number: int, found: dict[str, int]) -> None:
        """``found`` holds the last number of each kind."""
        wanted = found.get(kind, 0) + 1
        found[kind] = number
        own = re.match(r"notebooks/(\d\d)-", self.env.docname)
        if number != wanted or (own and int(own[1]) != chapter):
            expected = f"{kind} {int(own[1]) if own else chapter}.{wanted}"
            LOGGER.warning("%s %d.%d stands where %s should", kind, chapter, number, expected, location=node)

    @staticmethod
    def join(paragraph: nodes.paragraph) -> nodes.figure | None:
        """Put the picture before a caption and the caption into one figure."""
        picture = picture_of(paragraph.parent[paragraph.parent.index(paragraph) - 1])
        if picture is None:
            LOGGER.warning("%s is the caption of no picture", label_of(paragraph), location=paragraph)
            return None
        paragraph.parent.remove(paragraph)
        figure = nodes.figure()
        picture.replace_self(figure)
        caption = nodes.caption("", "", *paragraph.children)
        caption.source, caption.line = paragraph.source, paragraph.line
        figure += [picture, caption]
        return figure


def labeled(node) -> bool:
    return label_of(node) is not None


def label_of(node) -> str | None:
    """ "Figure 7.2" of a caption, "Result 7.1" of a box, "Exercise 7.3" of a heading."""
    if isinstance(node, nodes.title):
        words, kinds = node.astext(), ("Exercise", "Question")
    elif isinstance(node, nodes.block_quote) and len(node):
        words, kinds = bold_beginning(node[0]), ("Result",)
    elif isinstance(node, nodes.paragraph):
        words, kinds = bold_beginning(node), ("Figure",)
    else:
        return None
    label = LABEL.match(words)
    return label[0] if label and label[1] in kinds else None


def bold_beginning(paragraph) -> str:
    """The words in bold with which a paragraph begins."""
    first = next((node for node in paragraph.children if node.astext()), None)
    return first.astext() if isinstance(first, nodes.strong) else ""


def picture_of(node):
    """What there is to see of a cell with one picture, or of a paragraph that is an image."""
    if isinstance(node, nodes.paragraph) and len(node) == 1 and isinstance(node[0], nodes.image):
        return node
    if not isinstance(node, nodes.container):
        return None
    shown = [
        bundle
        for bundle in node.findall(nodes.container)
        if bundle.get("nb_element") == "mime_bundle"
        and any(form["mime_type"].startswith("image/") for form in bundle.children)
    ]
    return shown[0] if len(shown) == 1 else None


def setup(app):
    app.add_transform(Anchors)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
