"""The code solutions of the exercises run, each by itself, and their own assertions hold."""

import re
import subprocess
import sys

import pytest
from chapters import CHAPTERS, DETAILS, ROOT, markdown, read, section, subsections

FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def solutions():
    for path in CHAPTERS:
        for title, body in subsections(section(markdown(read(path)), "exercises")).items():
            for summary, text in DETAILS.findall(body):
                if summary == "Solution" and (code := "\n".join(FENCE.findall(text))):
                    yield pytest.param(code, id=f"{path.stem}: {title}")


@pytest.mark.parametrize("code", list(solutions()))
def test_solution_runs(code):
    assert "assert" in code, "a solution checks its own claim"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "notebooks", check=False
    )
    assert run.returncode == 0, run.stderr


def test_every_chapter_has_a_solution_in_code():
    assert {param.id.partition(":")[0] for param in solutions()} == {path.stem for path in CHAPTERS}
