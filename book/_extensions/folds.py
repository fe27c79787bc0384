"""What unfolds: a node that becomes ``<details>`` with a summary, for the extensions that fold a part of a page."""

from html import escape

from docutils import nodes


class fold(nodes.General, nodes.Element):
    """``fold("", *content, summary="Run this page", classes=["run-this-page"])``; closed at first."""


def visit_fold(self, node) -> None:
    self.body.append(self.starttag(node, "details"))
    self.body.append(f"<summary>{escape(node['summary'])}</summary>\n")


def depart_fold(self, node) -> None:
    self.body.append("</details>\n")


def skip(self, node) -> None:
    """Where nothing unfolds, the content stands as it is."""


def setup(app):
    app.add_node(fold, html=(visit_fold, depart_fold), latex=(skip, skip), text=(skip, skip))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
