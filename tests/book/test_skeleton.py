"""The skeleton of a chapter: its form is that of a chapter, and it does not pass for one."""

import shutil
import sys

import nbformat
import pytest
import test_anatomy
from chapters import ROOT, code_cells, markdown, read

sys.path.insert(0, str(ROOT / "book" / "tools"))
import chapter as tool


@pytest.fixture
def root(tmp_path):
    """A project with one chapter and the plan of all."""
    for name in ("book/chapters.yml", "notebooks/01-what-a-network-costs.ipynb"):
        (tmp_path / name).parent.mkdir()
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def path(root):
    return tool.write("09", "low-rank", root)


FORM = [
    test_anatomy.test_sections_come_in_order,
    test_anatomy.test_first_cell_promises,
    test_anatomy.test_objectives_are_three_things_to_do,
    test_anatomy.test_no_line_of_code_is_cut_at_the_right,
    test_anatomy.test_figures_have_captions_in_order,
    test_anatomy.test_outputs_are_fit_for_readers,
    test_anatomy.test_exercises_have_hints_and_solutions,
    test_anatomy.test_chapter_is_light,
]
CONTENT = [
    test_anatomy.test_cells_are_short_and_ran_in_order,
    test_anatomy.test_claims_stand_in_cells_of_their_own,
    test_anatomy.test_enough_cells_are_compared,
    test_anatomy.test_a_boxed_result_is_followed_by_a_check,
    test_anatomy.test_explorer_is_stored_with_its_state,
    test_anatomy.test_quiz_answers_explain_themselves,
]


def test_each_test_of_a_chapter_is_one_of_form_or_of_content():
    """Whoever adds a test of the anatomy says whether a skeleton passes it."""
    marks = {name: getattr(test, "pytestmark", []) for name, test in vars(test_anatomy).items() if name[:5] == "test_"}
    of_chapters = {name for name, found in marks.items() if any(mark.args[0] == "path" for mark in found)}
    assert {test.__name__ for test in FORM + CONTENT} == of_chapters


@pytest.mark.parametrize("check", FORM, ids=lambda check: check.__name__)
def test_the_form_is_there(path, check):
    check(path)


@pytest.mark.parametrize("check", CONTENT, ids=lambda check: check.__name__)
def test_what_is_not_written_is_missed(path, check):
    with pytest.raises((AssertionError, AttributeError)):
        check(path)


def test_the_notebook_is_sound_and_begins_as_planned(path, root):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# 9. Low rank\n")
    set_up, headline, *_ = code_cells(notebook)
    assert set_up.source == code_cells(read(next((root / "notebooks").glob("01-*"))))[0].source
    assert 'CHAPTER = "09-low-rank"' in headline.source
    assert "{" not in markdown(notebook)


@pytest.mark.parametrize(
    ("number", "name", "error", "message"),
    [
        ("9", "low-rank", ValueError, "N='9' must be two digits"),
        ("09", "Low rank", ValueError, "NAME='Low rank' must be lower-case words"),
        ("09", "high-rank", ValueError, "plans no chapter 09-high-rank; it plans 01-what-a-network-costs, "),
        ("01", "what-a-network-costs", FileExistsError, "there is notebooks/01-what-a-network-costs.ipynb"),
    ],
)
def test_what_is_not_planned_or_is_there_is_refused(root, number, name, error, message):
    before = sorted((root / "notebooks").iterdir())
    with pytest.raises(error, match=message):
        tool.write(number, name, root)
    assert sorted((root / "notebooks").iterdir()) == before


def test_the_command_says_what_is_wrong(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chapter.py", "09", "low-rank", "--root", str(root)])
    assert tool.main() == 0 and "notebooks/09-low-rank.ipynb has every slot" in capsys.readouterr().out
    assert tool.main() == 1 and "make chapter: there is notebooks/09-low-rank.ipynb" in capsys.readouterr().err
