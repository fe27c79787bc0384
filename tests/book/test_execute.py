"""The tool that executes chapters: what is stale, and what it stores."""

import json
import sys

import nbformat
import pytest
from chapters import ROOT

sys.path.insert(0, str(ROOT / "book" / "tools"))
import execute


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "STATUS", tmp_path / "execution.json")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    path = tmp_path / "99-a-chapter.ipynb"
    cells = [
        nbformat.v4.new_markdown_cell("prose"),
        nbformat.v4.new_code_cell(
            "from compress_lib import ledger\nprint(1)\nprint(2)", metadata={"tags": ["a"], "noise": 1}
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"noise": 1}), path)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["execute.py", *map(str, arguments)])
    execute.main()
    return {row["notebook"]: row for row in json.loads(execute.STATUS.read_text())["chapters"]}


def test_outputs_are_stored_and_noise_is_not(chapter, monkeypatch):
    row = run(monkeypatch, chapter)["99-a-chapter"]
    notebook = nbformat.read(chapter, as_version=4)
    assert [output.text for output in notebook.cells[1].outputs] == ["1\n2\n"]
    assert notebook.cells[1].execution_count == 1 and len(notebook.cells) == 2
    assert notebook.cells[1].metadata == {"tags": ["a"]} and "noise" not in notebook.metadata
    assert "compress_lib/ledger.py" in row["library"] and "compress_lib/training.py" not in row["library"]


def test_digest_follows_code_and_library_but_not_prose(chapter, monkeypatch, tmp_path):
    library = ["compress_lib/ledger.py"]
    before = execute.digest(chapter, library)
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[0].source = "better prose"
    nbformat.write(notebook, chapter)
    assert execute.digest(chapter, library) == before
    assert execute.digest(chapter, []) != before
    notebook.cells[1].source += "\nprint(3)"
    nbformat.write(notebook, chapter)
    assert execute.digest(chapter, library) != before


def test_chapter_that_writes_to_stderr_is_refused_and_kept(chapter, monkeypatch):
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[1].source = "import sys; print('oops', file=sys.stderr)"
    nbformat.write(notebook, chapter)
    before = chapter.read_bytes()
    with pytest.raises(RuntimeError, match="99-a-chapter.ipynb, cell 1 writes to stderr:\noops"):
        run(monkeypatch, chapter)
    assert chapter.read_bytes() == before
