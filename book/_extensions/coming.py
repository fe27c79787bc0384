"""A chapter that the text names before it is written is marked as coming, so that nobody looks for it in vain.

Which chapters there will be is in ``book/chapters.yml``. Once the notebook is there, nothing is marked, and
``references.py`` makes the words a link.
"""

import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.transforms import SphinxTransform

NAMED = re.compile(r"\bchapters?\s\d+(?:(?:,\s*(?:and\s+)?|\s+(?:and|or|to)\s+)\d+)*\b", re.IGNORECASE)
NOT_IN = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.title, nodes.reference)


class MarkComing(SphinxTransform):
    """Write "chapters 8 and 9 (coming)" where chapter 9 is planned but not there."""

    default_priority = 600

    def apply(self, **kwargs) -> None:
        coming = unwritten(self.env)
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, NOT_IN):
                marked = mark(str(text), coming)
                if marked != text:
                    text.parent.replace(text, nodes.Text(marked))


def mark(text: str, coming: set[int]) -> str:
    def marked(number: re.Match) -> str:
        return f"{number[0]} (coming)" if int(number[0]) in coming else number[0]

    return NAMED.sub(lambda named: re.sub(r"\d+", marked, named[0]), text)


def unwritten(env) -> set[int]:
    """The numbers of the chapters that are planned and not there."""
    path = Path(env.srcdir) / "book" / "chapters.yml"
    env.note_dependency(str(path))
    names = [c["file"] for part in yaml.safe_load(path.read_text(encoding="utf-8")) for c in part["chapters"]]
    return {int(name[:2]) for name in names if f"notebooks/{name}" not in env.found_docs}


def setup(app):
    app.add_transform(MarkComing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
