"""The code solutions of the exercises run, each by itself, and their own assertions hold."""

import multiprocessing
import os
import re
import runpy

import pytest
from chapters import CHAPTERS, DETAILS, ROOT, markdown, read, section, subsections

pytestmark = pytest.mark.slow

FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def solutions():
    for path in CHAPTERS:
        for title, body in subsections(section(markdown(read(path)), "exercises")).items():
            for summary, text in DETAILS.findall(body):
                if summary == "Solution" and (code := "\n".join(FENCE.findall(text))):
                    yield pytest.param(code, id=f"{path.stem}: {title}")


@pytest.fixture(scope="module")
def warm():
    """Processes that fork from one that has torch: to import it takes longer than most solutions.

    The library is not among what has been imported: a solution has to import what it uses. And the process that is
    forked has run no operator, so that no thread is missed in its children.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nbformat", "pytest", "torch", "matplotlib.pyplot", "scipy.stats"])
    return context


def execute(program: str, said: str) -> None:
    """Run a program among the chapters; what it prints goes to the file ``said``."""
    os.chdir(ROOT / "notebooks")
    with open(said, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    runpy.run_path(program, run_name="__main__")


def run(context, code: str, folder) -> tuple[int, str]:
    """The exit status of a solution, and all that it says."""
    program, said = folder / "solution.py", folder / "said.txt"
    program.write_text(code, encoding="utf-8")
    process = context.Process(target=execute, args=(str(program), str(said)))
    process.start()
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", list(solutions()))
def test_solution_runs(warm, code, tmp_path):
    assert "assert" in code, "a solution checks its own claim"
    status, said = run(warm, code, tmp_path)
    assert status == 0, said


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("print(2)\nassert 1 + 1 == 3", 1, "AssertionError"),
        ("compress_lib.cost", 1, "name 'compress_lib' is not defined"),
        ("import os; os._exit(3)", 3, ""),
    ],
)
def test_a_wrong_solution_is_noticed(warm, code, status, words, tmp_path):
    found, said = run(warm, code, tmp_path)
    assert found == status and words in said


def test_every_chapter_has_a_solution_in_code():
    assert {param.id.partition(":")[0] for param in solutions()} == {path.stem for path in CHAPTERS}
