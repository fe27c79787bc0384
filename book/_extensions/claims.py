"""Cells with the tag ``claims`` become one quiet mark, "3 claims checked", which opens and shows them.

Such a cell prints lines ``claim: True`` and nothing else. A line that says anything else is a warning, so the book is
not built with it. Neighboring cells share a mark.
"""

import re
from itertools import groupby

from docutils import nodes
from folds import fold
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
HOLDS = re.compile(r"\S.*: True")


class Claims(SphinxTransform):
    """Fold each run of cells of claims."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        for parent in {id(cell.parent): cell.parent for cell in self.document.findall(is_claims)}.values():
            for together, run in groupby(list(parent.children), key=is_claims):
                if together:
                    self.fold(list(run))

    def fold(self, cells: list[nodes.Element]) -> None:
        lines = [(line, cell) for cell in cells for line in printed(cell)]
        for line, cell in lines:
            if not HOLDS.fullmatch(line):
                LOGGER.warning("a cell of claims prints %r, not a claim that is True", line, location=cell)
        count = f"{len(lines)} claim{'s' if len(lines) > 1 else ''} checked"
        mark = fold("", summary=count, classes=["claims"])
        cells[0].replace_self(mark)
        for cell in cells[1:]:
            cell.parent.remove(cell)
        mark += cells


def is_claims(node) -> bool:
    return isinstance(node, nodes.container) and "tag_claims" in node["classes"]


def printed(cell: nodes.Element) -> list[str]:
    """The lines of a cell's output."""
    outputs = [part for part in cell.children if part.get("nb_element") == "cell_code_output"]
    return [line for output in outputs for line in output.astext().splitlines() if line]


def setup(app):
    app.setup_extension("folds")
    app.add_transform(Claims)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
