"""The code solutions of the exercises run, each by itself, and their own assertions hold."""

import contextlib
import multiprocessing
import os
import re
import traceback

import pytest
from chapters import CHAPTERS, DETAILS, ROOT, markdown, read, section, subsections

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
    context.set_forkserver_preload(["torch", "matplotlib.pyplot", "scipy.stats"])
    return context


def execute(code: str, answer) -> None:
    """Run ``code`` as a program of its own among the chapters, and send what it raises, or None."""
    os.chdir(ROOT / "notebooks")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            exec(compile(code, "<solution>", "exec"), {"__name__": "__main__"})
        except BaseException:  # SystemExit, too, ends a program before its assertions
            answer.send(traceback.format_exc())
        else:
            answer.send(None)


@pytest.mark.parametrize("code", list(solutions()))
def test_solution_runs(warm, code):
    assert "assert" in code, "a solution checks its own claim"
    failure = run(warm, code)
    assert failure is None, failure


def run(context, code: str) -> str | None:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=execute, args=(code, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return f"the process ended with {process.exitcode}"
    finally:
        process.join()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("assert 1 + 1 == 3", "AssertionError"),
        ("compress_lib.cost", "NameError"),
        ("import os; os._exit(3)", "ended with 3"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_a_wrong_solution_is_noticed(warm, code, said):
    assert said in run(warm, code)


def test_every_chapter_has_a_solution_in_code():
    assert {param.id.partition(":")[0] for param in solutions()} == {path.stem for path in CHAPTERS}
