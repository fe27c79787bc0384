"""A displayed formula may follow its sentence on the very next line, as GitHub and Jupyter also allow.

MyST reads such a formula as part of the paragraph (``myst_dmath_double_inline``); HTML has no block inside a paragraph,
so the paragraph is split there.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class SplitParagraphs(SphinxTransform):
    """Make "text, formula, text" in one paragraph a paragraph, a formula and a paragraph."""

    default_priority = 400  # before the boxes are recognized by their first paragraph

    def apply(self, **kwargs) -> None:
        for paragraph in list(self.document.findall(nodes.paragraph)):
            if any(isinstance(child, nodes.math_block) for child in paragraph):
                paragraph.replace_self(list(self.pieces(paragraph)))

    @staticmethod
    def pieces(paragraph: nodes.paragraph):
        piece = nodes.paragraph()
        for child in paragraph.children:
            if not isinstance(child, nodes.math_block):
                piece += child
                continue
            if piece.astext().strip():
                yield piece
            yield child
            piece = nodes.paragraph()
        if piece.astext().strip():
            yield piece


def setup(app):
    app.add_transform(SplitParagraphs)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
