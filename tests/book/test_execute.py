"""The tool that executes chapters: what is stale, and what it stores."""

import json
import re
import shutil
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
    assert not any(name.startswith("compress_lib/explore") for name in row["library"]) and row["results"] == []


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the library and of the results, which a test may change."""
    for name in ("book/tools", "compress_lib", "results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "TOOLS", tmp_path / "book" / "tools")
    monkeypatch.setattr(execute, "WATCH", execute.WATCH.replace(str(ROOT), str(tmp_path)))
    monkeypatch.delenv("COMPRESS_LIB_RESULTS")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


READS = """
import json
from compress_lib import ledger
from compress_lib.explore import towers
rows = ledger.read("02-pruning-weights")
same = json.loads((ledger.directory() / "same-macs.json").read_text())
ledger.headline("99-a-chapter", "1", "one")
explorer = towers.explorer()
"""


def test_a_chapter_is_stale_when_something_changes_that_it_reads_and_else_not(project, chapter, monkeypatch):
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[1].source = READS
    nbformat.write(notebook, chapter)
    row = run(monkeypatch, chapter)["99-a-chapter"]
    assert row["results"] == ["results/ledger/02-pruning-weights.json", "results/same-macs.json"]
    explorers = {name for name in row["library"] if "towers" in name or "group_shuffle" in name}
    assert {f"compress_lib/explore/towers{end}" for end in (".py", ".mjs", "_charts.mjs")} == explorers

    def becomes_stale(name, change):
        path = project / name
        before = path.read_text(encoding="utf-8")
        assert change(before) != before
        path.write_text(change(before), encoding="utf-8")
        found = execute.stale(chapter, row)
        path.write_text(before, encoding="utf-8")
        assert not execute.stale(chapter, row)
        return found

    def blank(text):
        return text + "\n"

    def other_accuracy(text):
        return re.sub(r'"accuracy_after": 0\.\d', '"accuracy_after": 0.0', text, count=1)

    def other_date(text):
        return re.sub(r'"date": "\d+', '"date": "1999', text)

    assert becomes_stale("results/ledger/02-pruning-weights.json", other_accuracy)
    assert becomes_stale("results/same-macs.json", blank)
    for name in ("ledger.py", "files.py", "explore/towers.py", "explore/towers.mjs", "explore/frontend/charts.mjs"):
        assert becomes_stale(f"compress_lib/{name}", blank), name
    assert not becomes_stale("results/ledger/02-pruning-weights.json", other_date)
    for name in ("results/ledger/03-pruning-filters.json", "results/headlines.json"):
        assert not becomes_stale(name, blank), name
    for name in ("explore/group_shuffle.mjs", "explore/group_shuffle.py", "training.py"):
        assert not becomes_stale(f"compress_lib/{name}", blank), name


def test_check_names_what_is_stale_and_runs_nothing(chapter, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["execute.py", str(chapter), "--check"])
    assert execute.main() == 1 and not execute.STATUS.exists()
    assert "stale, for make execute: 99-a-chapter" in capsys.readouterr().out
    run(monkeypatch, chapter)
    monkeypatch.setattr(sys, "argv", ["execute.py", str(chapter), "--check"])
    assert execute.main() == 0
    assert "1 chapters are up to date" in capsys.readouterr().out


def test_digest_follows_code_and_library_but_not_prose(chapter, monkeypatch, tmp_path):
    library = ["compress_lib/ledger.py"]
    before = execute.digest(chapter, library, [])
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[0].source = "better prose"
    nbformat.write(notebook, chapter)
    assert execute.digest(chapter, library, []) == before
    assert execute.digest(chapter, [], []) != before
    notebook.cells[1].source += "\nprint(3)"
    nbformat.write(notebook, chapter)
    assert execute.digest(chapter, library, []) != before


def test_chapter_that_writes_to_stderr_is_refused_and_kept(chapter, monkeypatch):
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[1].source = "import sys; print('oops', file=sys.stderr)"
    nbformat.write(notebook, chapter)
    before = chapter.read_bytes()
    with pytest.raises(RuntimeError, match="99-a-chapter.ipynb, cell 1 writes to stderr:\noops"):
        run(monkeypatch, chapter)
    assert chapter.read_bytes() == before
