"""nbval would notice: a stored output that does not agree with what the cell prints makes it fail."""

import copy
import re
import subprocess
import sys

import nbformat
import pytest
from chapters import CHAPTERS, checked, read


def altered(notebook):
    """The chapter up to its first compared cell, with one digit (or word) of that cell's stored output changed."""
    short = copy.deepcopy(notebook)
    last = next(i for i, cell in enumerate(short.cells) if checked(cell))
    short.cells = short.cells[: last + 1]
    short.metadata.pop("widgets", None)
    output = short.cells[last].outputs[0]
    holder, key = (output, "text") if "text" in output else (output.data, "text/plain")
    text = holder[key]
    holder[key] = (
        re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), text, count=1) if re.search(r"\d", text) else text + "?"
    )
    assert holder[key] != text
    return short


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_altered_output_fails(path, tmp_path):
    copied = tmp_path / path.name
    nbformat.write(altered(read(path)), copied)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        str(copied),
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 1, run.stdout
    assert re.search(r"\b1 failed", run.stdout), run.stdout
