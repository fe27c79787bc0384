"""Write into the chapters how many minutes they take, counted by one rule, so that nobody has to guess them.

    python book/tools/minutes.py            write them
    python book/tools/minutes.py --check    only name the chapters whose minutes are not those of the rule

A minute for 200 words and for a code cell that is to be read, three for a boxed result, five for an explorer. What is
folded (``<details>``, claims, code that shows nothing, what stands before the objectives) is for a second reading and
not counted, nor are exercises and quiz. A section that shows its minutes, ``## The method: … (8 min)``, gets its own;
the line under the title, ``*40 minutes to read and run. …*``, their sum.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the site's environment has no library; this one module of it needs no package
from compress_lib import files

WORDS_A_MINUTE, CODE_CELL, RESULT, EXPLORER = 200, 1, 3, 5
WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDED_CELLS = {"claims", "hide-cell", "remove-cell"}
NOT_READ_THROUGH = ("Exercises", "Quiz", "Further reading")

HEADING = re.compile(r"^## +(.*?)(?: \((\d+) min\))?$", re.MULTILINE)
TOTAL = re.compile(r"^\*(\d+) minutes\b", re.MULTILINE)
NOT_WORDS = [
    re.compile(r"<details>.*?</details>", re.DOTALL),
    re.compile(r"^>.*$", re.MULTILINE),  # boxes: a result has minutes of its own
    re.compile(r"^#+ .*$", re.MULTILINE),
    re.compile(r"\]\([^)]*\)|<[^>]*>"),  # where links lead, tags
]
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]*\$", re.DOTALL)


def sections(cells: list[dict]) -> dict[str, float]:
    """Title of each section → its minutes, not rounded."""
    minutes: dict[str, float] = {}
    title = None
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            if title:
                minutes[title] += of_code(cell)
            continue
        before, *parts = HEADING.split(source)
        if title:
            minutes[title] += of_text(before)
        for title, _, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            minutes[title] = minutes.get(title, 0) + of_text(text)
    return minutes


def of_text(text: str) -> float:
    open_text = NOT_WORDS[0].sub("", text)
    results = len(re.findall(r"^> \*\*Result ", open_text, re.MULTILINE))
    for pattern in NOT_WORDS:
        text = pattern.sub(" ", text)
    words = re.findall(r"\w[\w'’.-]*", FORMULA.sub(" formula ", text))
    return RESULT * results + len(words) / WORDS_A_MINUTE


def of_code(cell: dict) -> int:
    tags = set(cell["metadata"].get("tags", ()))
    if tags & FOLDED_CELLS or ("hide-input" in tags and not cell.get("outputs")):
        return 0
    outputs = [output.get("data", {}) for output in cell.get("outputs", ())]
    return EXPLORER if any(WIDGET in data for data in outputs) else CODE_CELL


def write(cells: list[dict]) -> None:
    """Put the minutes into the headings that show them, and their sum under the title."""
    counted = {title: max(1, round(minutes)) for title, minutes in sections(cells).items()}
    total = sum(minutes for title, minutes in counted.items() if title not in NOT_READ_THROUGH)
    for cell in cells:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            new = HEADING.sub(lambda m: f"## {m[1]} ({counted[m[1]]} min)" if m[2] else m[0], source)
            if cell is cells[0]:
                new = TOTAL.sub(f"*{total} minutes", new)
            cell["source"] = new.splitlines(keepends=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    stale = []
    for path in sorted((options.root / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        write(notebook["cells"])
        if notebook != json.loads(text):
            stale.append(path.stem)
            if not options.check:
                files.write(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())
    if stale:
        print(f"{'Minutes are not those of the rule' if options.check else 'Wrote the minutes'} of: {', '.join(stale)}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
