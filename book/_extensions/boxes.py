"""Boxes from plain Markdown: a block quote that begins with **Result** becomes a result box.

Chapters are notebooks that must read well on GitHub and in Colab too, so they hold no directives.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

KINDS = ("Result", "Definition", "Predict", "Reveal", "Warning", "Note")


class Boxes(SphinxTransform):
    """Give ``> **Result 1.2** ...`` the class ``box box-result``, and so on for the other kinds."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        for quote in self.document.findall(nodes.block_quote):
            words = quote[0].children if len(quote) and isinstance(quote[0], nodes.paragraph) else []
            first = next((node for node in words if node.astext()), None)
            kind = re.match(r"\w+", first.astext()) if isinstance(first, nodes.strong) else None
            if kind and kind.group() in KINDS:
                quote["classes"] += ["box", f"box-{kind.group().lower()}"]


def setup(app):
    app.add_transform(Boxes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
