"""Execute the chapters whose code, or the library code or results they read, have changed, and store their outputs.

    python book/tools/execute.py                      all that are stale
    python book/tools/execute.py notebooks/09-*.ipynb  as told
    python book/tools/execute.py --check              only say which are stale; fails if any is

Each chapter runs in a fresh kernel from its first cell to its last. Widget state is stored with it, so that the
explorers live on the static page. What was run, when, on what and with which files goes to ``results/execution.json``.
"""

import argparse
import datetime
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from compress_lib import files
from compress_lib.cost import hardware, versions

ROOT = Path(__file__).parents[2]
STATUS = ROOT / "results" / "execution.json"

TOOLS = Path(__file__).parent
# Before the first cell, and leaving no name behind for the chapter to use:
WATCH = f"__import__('sys').path.insert(0, {str(TOOLS)!r}); __import__('watching'); __import__('sys').path.pop(0)"
# Run at the end of each chapter, then dropped.
PROBE = "import json, watching; print(json.dumps([watching.files('compress_lib'), watching.files('results')]))"


def main() -> int:
    os.environ["TQDM_DISABLE"] = "1"  # progress is for who waits, not for the stored page
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all that are stale")
    parser.add_argument("--check", action="store_true", help="run nothing; name the chapters that are stale")
    arguments = parser.parse_args()
    status = {row["notebook"]: row for row in _read_status()}
    paths = arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    if arguments.check:
        old = [path.stem for path in paths if stale(path, status.get(path.stem))]
        print(f"stale, for make execute: {', '.join(old)}" if old else f"{len(paths)} chapters are up to date")
        return 1 if old else 0
    for path in paths:
        if not arguments.notebooks and not stale(path, status.get(path.stem)):
            print(f"{path.stem}: up to date")
            continue
        status[path.stem] = execute(path)
        rows = {"chapters": [status[key] for key in sorted(status)]}
        files.write(STATUS, (json.dumps(rows, indent=2) + "\n").encode())
        print(f"{path.stem}: {status[path.stem]['seconds']} s")
    return 0


def stale(path: Path, row: dict | None) -> bool:
    """Whether a chapter would run something else, or read something else, than when its ``row`` was written."""
    return row is None or row["digest"] != digest(path, row["library"], row.get("results", []))


def execute(path: Path) -> dict:
    """Run one chapter, store it, and return its row of the execution status."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    client = NotebookClient(
        notebook,
        timeout=600,
        record_timing=False,
        store_widget_state=True,
        coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
        extra_arguments=[f"--IPKernelApp.exec_lines={WATCH}"],
    )
    started = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - started
    library, results = json.loads(notebook.cells.pop().outputs[0].text)
    _tidy(notebook, path)
    files.write(path, (nbformat.writes(notebook) + "\n").encode())
    return {
        "notebook": path.stem,
        "seconds": round(seconds, 1),
        "executed": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **versions(),
        "hardware": hardware(),
        "library": library,
        "results": results,
        "digest": digest(path, library, results),
    }


def digest(path: Path, library: list[str], results: list[str]) -> str:
    """A hash of a chapter's code cells, of the library's files that it uses, and of the results that it reads."""
    cells = nbformat.read(path, as_version=4).cells
    total = hashlib.sha256("\0".join(cell.source for cell in cells if cell.cell_type == "code").encode())
    for name in library + results:
        file = ROOT / name
        total.update(_content(file) if file.exists() else b"gone")
    return total.hexdigest()


def _content(file: Path) -> bytes:
    """Of the ledger the figures: a row that is measured again with the same outcome makes no chapter stale."""
    content = file.read_bytes()
    if file.parent.name == "ledger":
        rows = [{key: row[key] for key in row if key not in ("commit", "date")} for row in json.loads(content)]
        return json.dumps(rows).encode()
    return content


def _tidy(notebook, path: Path) -> None:
    """Keep what readers and tests need of the metadata; refuse what a reader should not see."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            **{key: notebook.metadata[key] for key in ("widgets",) if key in notebook.metadata},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {key: cell.metadata[key] for key in ("tags", "mystnb") if key in cell.metadata}
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}, cell {number} writes to stderr:\n{output.text}")


def _read_status() -> list[dict]:
    return json.loads(STATUS.read_text(encoding="utf-8"))["chapters"] if STATUS.exists() else []


if __name__ == "__main__":
    sys.exit(main())
