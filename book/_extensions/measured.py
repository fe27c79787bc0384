"""Directives that show what was measured, read from ``results/`` when the site is built; nothing here needs torch.

``{chapter-map}``       the chapters with their headline numbers; those not written yet are shown without a link
``{ledger}``            every row of the ledger, by chapter
``{execution-status}``  when and where each chapter was last run

Where a file is missing, the page says that it has not been measured yet.
"""

import json
import sys
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

NOT_YET = "not measured yet"


class Measured(SphinxDirective):
    """What the three have in common."""

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

    def table(self, columns: list[str], rows: list[list], title: str = "") -> nodes.table:
        """A table whose cells are text or nodes; numbers keep to the right."""
        table = nodes.table("", classes=["measured"])
        if title:
            table += nodes.title("", title)
        group = nodes.tgroup(cols=len(columns))
        table += group
        group += [nodes.colspec(colwidth=1) for _ in columns]
        head, body = nodes.thead(), nodes.tbody()
        group += [head, body]
        for part, cells in [(head, columns), *((body, row) for row in rows)]:
            row = nodes.row()
            part += row
            for cell in cells:
                content = cell if isinstance(cell, nodes.Node) else nodes.Text(str(cell))
                row += nodes.entry("", nodes.paragraph("", "", content))
        return table


class ChapterMap(Measured):
    """The chapters by part, as a list with the number each one ends with."""

    def run(self):
        headlines = self.ledger.headlines()
        plan = self.root / "book" / "chapters.yml"
        self.env.note_dependency(str(plan))
        out = []
        for part in yaml.safe_load(plan.read_text(encoding="utf-8")):
            out.append(nodes.rubric("", part["part"], classes=["chapter-part"]))
            items = nodes.bullet_list("", classes=["chapter-map"])
            items += [self.row(chapter, headlines.get(chapter["file"])) for chapter in part["chapters"]]
            out.append(items)
        return out

    def row(self, chapter: dict, headline: dict | None) -> nodes.list_item:
        name, title = chapter["file"], chapter["title"]
        number = name.split("-")[0]
        written = f"notebooks/{name}" in self.env.found_docs
        heading = nodes.paragraph(classes=["chapter-title"])
        if written:
            link = addnodes.pending_xref(
                "",
                refdomain="std",
                reftype="doc",
                reftarget=f"/notebooks/{name}",
                refexplicit=True,
                refdoc=self.env.docname,
            )
            link += nodes.inline("", title)
            heading += link
        else:
            heading += nodes.inline("", title)
        row = nodes.list_item(classes=["written" if written else "planned"])
        row += nodes.paragraph("", number, classes=["chapter-number"])
        row += heading
        row += nodes.paragraph("", chapter["summary"], classes=["chapter-summary"])
        note = nodes.paragraph(classes=["chapter-headline"])
        if headline:
            note += [nodes.strong("", headline["value"]), nodes.Text(f" {headline['label']}")]
        else:
            note += nodes.Text(NOT_YET if written else "planned")
        row += note
        return row


class Ledger(Measured):
    """One table per chapter, and under it the commands that measure its rows again."""

    def run(self):
        rows = self.ledger.read()
        if not rows:
            return [
                self.table(["method", "model", "accuracy", "bytes on disk", "latency"], [[NOT_YET, "–", "–", "–", "–"]])
            ]
        out = []
        for chapter in sorted({row["chapter"] for row in rows}):
            mine = [row for row in rows if row["chapter"] == chapter]
            columns = [
                "method",
                "model",
                "accuracy",
                "bytes on disk",
                "smaller",
                "multiply–adds",
                "speed-up",
                "seed",
                "date",
            ]
            out.append(self.table(columns, [self.cells(row) for row in mine], chapter))
            sources = nodes.bullet_list("", classes=["measured-sources"])
            for command, hardware, versions, commit in dict.fromkeys(map(self.source, mine)):
                text = nodes.paragraph(
                    "", "", nodes.literal("", command), nodes.Text(f" on {hardware}; {versions}; commit {commit}")
                )
                sources += nodes.list_item("", text)
            out.append(sources)
        return out

    @staticmethod
    def cells(row: dict) -> list:
        method = f"{row['method']}, {row['variant']}" if row["variant"] else row["method"]
        before, after = row["accuracy_before"], row["accuracy_after"]
        latency = row["latency_ratio"]
        return [
            method,
            f"{row['model']}, {row['data']}",
            f"{100 * before:.2f} → {100 * after:.2f} %",
            f"{row['nbytes_before']:,} → {row['nbytes_after']:,}",
            f"{row['nbytes_before'] / row['nbytes_after']:.2f}×",
            f"{row['macs_before']:,} → {row['macs_after']:,}",
            f"{latency['median']:.2f}× ({latency['low']:.2f}–{latency['high']:.2f})" if latency else "–",
            row["seed"],
            row["date"],
        ]

    @staticmethod
    def source(row: dict) -> tuple:
        versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
        return row["command"], row["hardware"], versions, row["commit"]


class ExecutionStatus(Measured):
    """When each chapter was last run, how long it took, and with what."""

    def run(self):
        path = self.ledger.directory() / "execution.json"
        chapters = json.loads(path.read_text(encoding="utf-8"))["chapters"] if path.exists() else []
        rows = [
            [
                nodes.literal("", run["notebook"]),
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
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("ledger", Ledger)
    app.add_directive("execution-status", ExecutionStatus)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
