"""nbval would notice: a stored output that does not agree with what the cell prints makes it fail."""

import copy
import re
import subprocess
import sys

import nbformat
import pytest
from chapters import CHAPTERS, checked, fastest, read


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


def run(notebook, path):
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", path]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False)


@pytest.mark.slow
def test_altered_output_fails(tmp_path):
    """One chapter proves it for all: nbval is the same for each."""
    path = fastest()
    done = run(altered(read(path)), tmp_path / path.name)
    assert done.returncode == 1, done.stdout
    assert re.search(r"\b1 failed", done.stdout), done.stdout


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_what_nbval_compares_can_be_altered(path):
    """The first compared cell has an output of text: nbval passes over one that it finds empty."""
    short = altered(read(path))
    kinds = [output.output_type for output in short.cells[-1].outputs]
    assert kinds and set(kinds) <= {"stream", "execute_result", "display_data"}
    assert checked(short.cells[-1]) and short.cells[-1].source.strip()
