"""Each chapter has the same slots in the same order, and was run in order from a fresh kernel."""

import re
from itertools import pairwise, takewhile

import pytest
from chapters import CHAPTERS, DETAILS, checked, code_cells, markdown, read, section, subsections

SECTIONS = [
    "objectives",
    "problem",
    "derivation",
    "method",
    "predict, explore, reveal",
    "experiment",
    "what the papers report",
    "exercises",
    "quiz",
    "summary",
    "further reading",
]

FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
CLAIM = re.compile(r"\S.*: True")

chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def test_there_are_chapters():
    assert CHAPTERS


@chapter
def test_sections_come_in_order(path):
    titles = [title.lower() for title in re.findall(r"^## +(.*)$", markdown(read(path)), re.MULTILINE)]
    position = 0
    for wanted in SECTIONS:
        matches = [i for i in range(position, len(titles)) if wanted in titles[i]]
        assert matches, f"no section {wanted!r} after {titles[:position]}"
        position = matches[0] + 1


@chapter
def test_first_cell_promises(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \d+\. \S", first.source)
    assert re.search(r"\d+ minutes", first.source) and "Prerequisites" in first.source


@chapter
def test_objectives_are_three_things_to_do(path):
    items = re.findall(r"^\d\. (.*)$", section(markdown(read(path)), "objectives"), re.MULTILINE)
    assert len(items) == 3


def test_setup_cell_is_the_same_everywhere():
    setups = {code_cells(read(path))[0].source for path in CHAPTERS}
    assert len(setups) == 1
    (setup,) = setups
    assert "google.colab" in setup and "--no-deps" in setup


@chapter
def test_cells_are_short_and_ran_in_order(path):
    cells = [cell for cell in code_cells(read(path)) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    too_long = [cell.execution_count for cell in cells if len(cell.source.splitlines()) > 25]
    assert not too_long


@chapter
def test_no_line_of_code_is_cut_at_the_right(path):
    """88 columns are what a page shows without scrolling; solutions of exercises are code, too."""
    notebook = read(path)
    code = [cell.source for cell in code_cells(notebook)] + FENCE.findall(markdown(notebook))
    assert not [line for source in code for line in source.splitlines() if len(line) > 88]


@chapter
def test_claims_stand_in_cells_of_their_own(path):
    """What a cell with the tag prints are claims that hold, and no other cell prints one."""
    for cell in code_cells(read(path)):
        lines = [line for output in cell.outputs for line in output.get("text", "").splitlines()]
        if "claims" in cell.metadata.get("tags", []):
            assert checked(cell)
            assert [(output.output_type, output.get("name")) for output in cell.outputs] == [("stream", "stdout")]
            assert all(CLAIM.fullmatch(line) for line in lines), lines
        else:
            assert not [line for line in lines if re.search(r": (True|False)$", line)]


@chapter
def test_outputs_are_fit_for_readers(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
            if any(kind.startswith("image/") for kind in output.get("data", {})) and not widget(output):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
                assert len(alt) > 30, f"cell {cell.execution_count} shows a figure without alt text"


@chapter
def test_figures_have_captions_in_order(path):
    """Directly after each figure, drawn by a cell or shown by Markdown, comes its numbered caption."""
    notebook = read(path)
    parts = []  # of the page: its paragraphs, and an image where a cell draws one
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts += re.split(r"\n\s*\n", cell.source)
        else:
            parts += [figure(cell) or "code"]
    captions = [part for part in parts if part.startswith("**Figure ")]
    wanted = [f"**Figure {int(path.stem[:2])}.{n}.** " for n in range(1, len(captions) + 1)]
    assert [caption[: len(start)] for caption, start in zip(captions, wanted, strict=True)] == wanted
    for part, following in pairwise([*parts, ""]):
        assert part.startswith("![") == following.startswith("**Figure "), (part[:80], following[:80])
    assert all(len(caption.split()) < 60 for caption in captions)


@chapter
def test_enough_cells_are_compared(path):
    compared = [cell for cell in code_cells(read(path)) if checked(cell)]
    assert len(compared) >= 5
    assert all(cell.outputs for cell in compared)


@chapter
def test_a_boxed_result_is_followed_by_a_check(path):
    cells = read(path).cells
    boxed = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and "> **Result" in cell.source]
    assert len(boxed) >= 3
    for i in boxed:
        following = takewhile(lambda cell: cell.cell_type == "code", cells[i + 1 :])
        assert any("assert" in cell.source for cell in following), cells[i].source[:80]


@chapter
def test_explorer_is_stored_with_its_state(path):
    notebook = read(path)
    assert any(widget(output) for cell in code_cells(notebook) for output in cell.outputs)
    state = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert any("_esm" in model["state"] for model in state.values())


@chapter
def test_exercises_have_hints_and_solutions(path):
    exercises = subsections(section(markdown(read(path)), "exercises"))
    assert len(exercises) >= 4
    for kind in ("derive", "code", "experiment", "open"):
        assert any(f"({kind})" in title for title in exercises), f"no exercise of the kind {kind}"
    for title, body in exercises.items():
        summaries = [summary for summary, _ in DETAILS.findall(body)]
        assert summaries == ["Hint", "Solution"], f"{title}: {summaries}"


@chapter
def test_quiz_answers_explain_themselves(path):
    questions = subsections(section(markdown(read(path)), "quiz"))
    assert len(questions) >= 4
    for title, body in questions.items():
        answers = [answer.strip() for _, answer in DETAILS.findall(body)]
        assert len(answers) >= 3, title
        assert sum(answer.startswith("**Right.**") for answer in answers) == 1, title
        assert all(answer.startswith(("**Right.**", "**No.**")) and len(answer) > 40 for answer in answers), title


@chapter
def test_chapter_is_light(path):
    assert path.stat().st_size < 3e6


def figure(cell) -> str:
    """A cell that draws, in the form of a Markdown image; an explorer is no figure."""
    drawn = [o for o in cell.outputs if any(kind.startswith("image/") for kind in o.get("data", {})) and not widget(o)]
    return "![drawn]" if drawn else ""


def widget(output) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})
