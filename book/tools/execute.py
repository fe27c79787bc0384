"""Execute the chapters whose code, or the library code they use, has changed, and store their outputs.

Each chapter runs in a fresh kernel from its first cell to its last. Widget state is stored with it, so that the
explorers live on the static page. What was run, when and on what goes to ``results/execution.json``.
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

# Run at the end of each chapter, then dropped: which files of the library did the chapter use?
PROBE = """
import json as _json, sys as _sys
print(_json.dumps(sorted({m.__file__ for n, m in list(_sys.modules.items())
                          if n.split(".")[0] == "compress_lib" and getattr(m, "__file__", None)})))
"""


def main() -> None:
    os.environ["TQDM_DISABLE"] = "1"  # progress is for who waits, not for the stored page
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all that are stale")
    arguments = parser.parse_args()
    status = {row["notebook"]: row for row in _read_status()}
    for path in arguments.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")):
        row = status.get(path.stem)
        if not arguments.notebooks and row and row["digest"] == digest(path, row["library"]):
            print(f"{path.stem}: up to date")
            continue
        status[path.stem] = execute(path)
        rows = {"chapters": [status[key] for key in sorted(status)]}
        files.write(STATUS, (json.dumps(rows, indent=2) + "\n").encode())
        print(f"{path.stem}: {status[path.stem]['seconds']} s")


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
    )
    started = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - started
    used = json.loads(notebook.cells.pop().outputs[0].text)
    library = sorted(str(Path(file).resolve().relative_to(ROOT)) for file in used)
    library += sorted(str(file.relative_to(ROOT)) for file in (ROOT / "compress_lib" / "explore").glob("*.*js"))
    _tidy(notebook, path)
    files.write(path, (nbformat.writes(notebook) + "\n").encode())
    return {
        "notebook": path.stem,
        "seconds": round(seconds, 1),
        "executed": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **versions(),
        "hardware": hardware(),
        "library": library,
        "digest": digest(path, library),
    }


def digest(path: Path, library: list[str]) -> str:
    """A hash of a chapter's code cells and of the library files it uses."""
    cells = nbformat.read(path, as_version=4).cells
    total = hashlib.sha256("\0".join(cell.source for cell in cells if cell.cell_type == "code").encode())
    for name in library:
        file = ROOT / name
        total.update(file.read_bytes() if file.exists() else b"gone")
    return total.hexdigest()


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
