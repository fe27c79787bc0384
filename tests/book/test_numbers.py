"""Numbers in the prose come from a cell or from a result file, never from the keyboard.

A measured-looking figure (with a %, ×, byte, time or point unit) in a chapter's text must be printed by one of its
cells, stand in ``results/``, be arithmetic that the text itself spells out with an equals sign, or stand in a paragraph
that cites its paper.
"""

import json
import re

import pytest
from chapters import CHAPTERS, ROOT, code_cells, output_text, read

FIGURE = re.compile(
    r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)\s?(%|×(?!\s?\d)|kB|MB|KiB|bytes\b|ms\b|µs\b|points?\b)",
)
CITED = re.compile(r"\{cite|arXiv|\(paper\)|et al\.", re.IGNORECASE)
QUIZ_OR_EXERCISE = re.compile(r"^#{2,3} +(Exercise|Question|Quiz)", re.MULTILINE)


def results() -> str:
    files = (ROOT / "results").rglob("*.json")
    text = "\n".join(json.dumps(json.loads(path.read_text(encoding="utf-8"))) for path in files)
    return re.sub(r'"[0-9a-f]{12,}', '"', text)  # digests and commits, whose digits measure nothing


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_in_the_prose_are_measured(path):
    notebook = read(path)
    known = "\n".join(output_text(cell) + cell.source for cell in code_cells(notebook)) + results()
    known = set(re.findall(r"\d[\d,]*(?:\.\d+)?", known))
    known |= {number.replace(",", "") for number in known}
    unknown = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown" or QUIZ_OR_EXERCISE.search(cell.source):
            continue
        for paragraph in re.split(r"\n\s*\n", cell.source):
            if CITED.search(paragraph) or "=" in paragraph:
                continue
            for number, unit in FIGURE.findall(paragraph):
                if number not in known and number.replace(",", "") not in known:
                    unknown.append(f"{number} {unit} in: {paragraph[:90]}")
    assert not unknown, "\n".join(unknown)
