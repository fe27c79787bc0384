"""What the tests of the chapters share: where they are and how to take them apart."""

import json
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


def fastest() -> Path:
    """The chapter that was executed in the shortest time: for what one chapter shows for all."""
    status = json.loads((ROOT / "results" / "execution.json").read_text(encoding="utf-8"))["chapters"]
    seconds = {row["notebook"]: row["seconds"] for row in status}
    return min(CHAPTERS, key=lambda path: seconds.get(path.stem, float("inf")))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def markdown(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def section(text: str, heading: str) -> str:
    """The part of ``text`` below the level-two heading that matches, up to the next one."""
    parts = re.split(r"^## +(.*)$", text, flags=re.MULTILINE)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if re.search(heading, title, re.IGNORECASE):
            return body
    raise AssertionError(f"no section {heading!r}")


def subsections(text: str) -> dict[str, str]:
    """Level-three heading → body."""
    parts = re.split(r"^### +(.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def checked(cell) -> bool:
    """Does nbval compare this cell's output?"""
    return "nbval-check-output" in cell.metadata.get("tags", []) or "NBVAL_CHECK_OUTPUT" in cell.source


def output_text(cell) -> str:
    """Everything a reader can read in a cell's outputs."""
    found = []
    for output in cell.get("outputs", []):
        found.append(output.get("text", ""))
        found += [value for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(found)
