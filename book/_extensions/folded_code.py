"""A run of folded cells is one fold: code that only prepares joins the cell that shows what it prepared."""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class FoldedCode(SphinxTransform):
    """Move the code of a folded cell without an output into the folded cell that follows it."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        for cell in list(self.document.findall(is_folded)):
            following = cell.next_node(descend=False, siblings=True)
            source = cell[0]
            if len(cell) == 1 and is_folded(following) and following[0]["nb_element"] == source["nb_element"]:
                following[0].insert(0, source.children)
                cell.parent.remove(cell)


def is_folded(node) -> bool:
    return isinstance(node, nodes.container) and node.get("hide_mode") in ("input", "all")


def setup(app):
    app.add_transform(FoldedCode)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
