"""How long reading takes, from the minutes that the chapters show (``book/tools/minutes.py`` counts them).

``{minutes}`all```      the shortest and the longest chapter that is written: "55 to 80"
``{hours}`1, 2, 3```    these chapters together, as far as they are written: "3 hours"
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

SHOWN = re.compile(r"^\*(\d+) minutes\b", re.MULTILINE)


class Reading(SphinxRole):
    def chapters(self) -> dict[int, int]:
        """Number → minutes of each chapter."""
        minutes = {}
        for path in sorted(Path(self.env.srcdir, "notebooks").glob("[0-9][0-9]-*.ipynb")):
            self.env.note_dependency(str(path))
            first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
            minutes[int(path.name[:2])] = int(SHOWN.search("".join(first["source"]))[1])
        return minutes


class Minutes(Reading):
    def run(self):
        minutes = self.chapters().values()
        return [nodes.Text(f"{min(minutes)} to {max(minutes)}")], []


class Hours(Reading):
    def run(self):
        minutes = self.chapters()
        halves = round(sum(minutes.get(int(number), 0) for number in re.findall(r"\d+", self.text)) / 30)
        hours = f"{halves // 2 or ''}{'½' if halves % 2 else ''}"
        return [nodes.Text(f"{hours} hour{'s' if halves > 2 else ''}")], []


def setup(app):
    app.add_role("minutes", Minutes())
    app.add_role("hours", Hours())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
