"""A chapter that the text names before it is written is marked as coming, so that nobody looks for it in vain.

Which chapters there will be is in ``book/chapters.yml``. Once the notebook is there, nothing is marked.
"""

import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.transforms import SphinxTransform

MENTION = re.compile(r"\b[Cc]hapter (\d+)\b")
LEAVE = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.title, nodes.reference)


class MarkComing(SphinxTransform):
    """Write "chapter 12 (coming)" where chapter 12 is planned but not there."""

    default_priority = 600

    def apply(self, **kwargs) -> None:
        unwritten = unwritten_chapters(self.env)
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, LEAVE) and any(int(n) in unwritten for n in MENTION.findall(text)):
                text.parent.replace(text, list(self.marked(str(text), unwritten)))

    @staticmethod
    def marked(text: str, unwritten: set[int]):
        end = 0
        for mention in MENTION.finditer(text):
            if int(mention[1]) in unwritten:
                yield nodes.Text(text[end : mention.end()])
                yield nodes.inline("", " (coming)", classes=["coming"])
                end = mention.end()
        yield nodes.Text(text[end:])


def unwritten_chapters(env) -> set[int]:
    """The numbers of the chapters that are planned and not written."""
    path = Path(env.srcdir) / "book" / "chapters.yml"
    env.note_dependency(str(path))
    chapters = [chapter for part in yaml.safe_load(path.read_text(encoding="utf-8")) for chapter in part["chapters"]]
    return {int(chapter["file"][:2]) for chapter in chapters if f"notebooks/{chapter['file']}" not in env.found_docs}


def setup(app):
    app.add_transform(MarkComing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
