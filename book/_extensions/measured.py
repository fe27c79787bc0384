"""Directives that show what was measured, read from ``results/`` when the site is built; nothing here needs torch.

``{ledger}``            the ledger by chapter, a line for all seeds of a setting
``{execution-status}``  when and where each chapter was last run

Where a file is missing, the page says that it has not been measured yet.
"""

import json
import sys
from pathlib import Path
from statistics import mean

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

NOT_YET = "not measured yet"


class Measured(SphinxDirective):
    """What directives that show measurements have in common."""

    @property
    def root(self) -> Path:
        return Path(self.env.srcdir)

    @property
    def ledger(self):
        """The library's own reader of ``results/``; the site's environment need not have the library installed."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        from compress_lib import ledger

        for path in ledger.directory().rglob("*.json"):
            self.env.note_dependency(str(path))
        return ledger

    @property
    def plan(self) -> list[dict]:
        """The parts of the book and their chapters, written or not."""
        path = self.root / "book" / "chapters.yml"
        self.env.note_dependency(str(path))
        return yaml.safe_load(path.read_text(encoding="utf-8"))

    @property
    def chapters(self) -> list[dict]:
        """The chapters in order, written or not, each with its part."""
        return [chapter | {"part": part["part"]} for part in self.plan for chapter in part["chapters"]]

    @property
    def written(self) -> list[dict]:
        return [chapter for chapter in self.chapters if f"notebooks/{chapter['file']}" in self.env.found_docs]

    def file(self, name: str) -> str:
        """The text of a file of the book, empty if there is none."""
        path = self.root / name
        self.env.note_dependency(str(path))
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def title(self, name: str) -> str:
        """``02-pruning-weights`` as "2. Pruning weights"."""
        titles = {chapter["file"]: chapter["title"] for chapter in self.chapters}
        return f"{int(name[:2])}. {titles.get(name, name[3:])}"

    def link(self, name: str, text: str) -> nodes.Node:
        """A link to a chapter, or its plain title while there is no such page."""
        if f"notebooks/{name}" not in self.env.found_docs:
            return nodes.inline("", text)
        link = addnodes.pending_xref("", refdomain="std", reftype="doc", reftarget=f"/notebooks/{name}")
        link += nodes.inline("", text)
        link.attributes |= {"refexplicit": True, "refdoc": self.env.docname}
        return link

    @staticmethod
    def table(columns: list[str], rows: list[list]) -> nodes.table:
        """A table whose cells are text or nodes."""
        table = nodes.table("", classes=["measured"])
        group = nodes.tgroup(cols=len(columns))
        table += group
        group += [nodes.colspec(colwidth=1) for _ in columns]
        head, body = nodes.thead(), nodes.tbody()
        group += [head, body]
        for part, cells in [(head, columns), *((body, row) for row in rows)]:
            row = nodes.row()
            part += row
            for cell in cells:
                content = nodes.paragraph("", "", cell) if isinstance(cell, nodes.Node) else nodes.Text(str(cell))
                row += nodes.entry("", content)
        return table


class Ledger(Measured):
    """A section per chapter: a line for each setting, the mean of its seeds; behind a fold what measures them again."""

    def run(self):
        rows = self.ledger.read()
        columns = ["method", "model", "seeds", "accuracy", "bytes on disk", "multiply–adds", "speed-up"]
        if not rows:
            return [self.table(columns, [[NOT_YET, *"–" * (len(columns) - 1)]])]
        out = []
        for chapter in sorted({row["chapter"] for row in rows}):
            mine = [row for row in rows if row["chapter"] == chapter]
            section = nodes.section("", nodes.title("", self.title(chapter)), ids=[f"chapter-{chapter}"])
            section += self.table(columns, [self.cells(seeds) for seeds in self.ledger.settings(mine)])
            section += nodes.raw("", "<details><summary>How these rows were measured</summary>", format="html")
            section += self.sources(mine)
            section += nodes.raw("", "</details>", format="html")
            out.append(section)
        return out

    @staticmethod
    def cells(seeds: list[dict]) -> list:
        """The line of one setting: means; of times the middle one."""
        row = seeds[0]
        average = {key: mean(each[key] for each in seeds) for key in row if key.endswith(("_before", "_after"))}
        before, after = (100 * average[f"accuracy_{when}"] for when in ("before", "after"))
        timed = sorted(
            (each["latency_ratio"] for each in seeds if each["latency_ratio"]), key=lambda ratio: ratio["median"]
        )
        latency = timed[len(timed) // 2] if timed else None
        uncounted = sorted({operation for each in seeds for operation in each.get("macs_uncounted", ())})
        return [
            f"{row['method']}, {row['variant']}" if row["variant"] else row["method"],
            row["model"] if row["data"] == "fashion-mnist" else f"{row['model']}, {row['data']}",
            ", ".join(str(each["seed"]) for each in seeds),
            f"{after:.2f} % ({after - before:+.2f})".replace("-", "−"),
            f"{average['nbytes_after']:,.0f} ({average['nbytes_before'] / average['nbytes_after']:.3g}×)",
            f"{average['macs_after']:,.0f} ({average['macs_before'] / max(1, average['macs_after']):.3g}×)"
            + (f", without {', '.join(uncounted)}" if uncounted else ""),
            f"{latency['median']:.2f}× ({latency['low']:.2f}–{latency['high']:.2f})" if latency else "–",
        ]

    @staticmethod
    def sources(rows: list[dict]):
        """When and with what rows were measured, and the commands of each such occasion."""
        occasions = {}
        for row in rows:
            versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
            occasion = f"{row['date']}, {row['hardware']}; {versions}; commit {row['commit']}"
            occasions.setdefault(occasion, {})[row["command"]] = None
        for occasion, commands in occasions.items():
            text = "\n".join(commands)
            yield nodes.paragraph("", occasion, classes=["measured-sources"])
            yield nodes.literal_block(text, text, language="text")


class ExecutionStatus(Measured):
    """When each chapter was last run, how long it took, and with what."""

    def run(self):
        path = self.ledger.directory() / "execution.json"
        chapters = json.loads(path.read_text(encoding="utf-8"))["chapters"] if path.exists() else []
        rows = [
            [
                self.link(run["notebook"], self.title(run["notebook"])),
                f"{run['seconds']:.0f} s",
                run["executed"],
                f"Python {run['python']}, torch {run['torch']}",
                run["hardware"],
            ]
            for run in chapters
        ]
        columns = ["chapter", "time", "run on", "with", "machine"]
        return [self.table(columns, rows or [[NOT_YET, "–", "–", "–", "–"]])]


def setup(app):
    app.add_directive("ledger", Ledger)
    app.add_directive("execution-status", ExecutionStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
