"""The set-up cell where the library is missing: without an address it says so in one sentence, with one it asks pip."""

import json
import subprocess
import sys

import pytest
from chapters import CHAPTERS, code_cells, read

# The cell in IPython, with the library hidden from find_spec and a %pip that only notes what it is asked for.
RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
if sys.argv[2] == "missing":
    sys.modules["compress_lib"] = None
asked = []
shell = InteractiveShell.instance()
shell.register_magic_function(asked.append, "line", "pip")
error = shell.run_cell(sys.argv[1]).error_in_exec
print("\\n" + json.dumps({"asked": asked, "error": error and f"{type(error).__name__}: {error}"}))
"""


def run(repository: str, library: str) -> dict:
    setup = code_cells(read(CHAPTERS[0]))[0].source
    assert setup.count('REPOSITORY = ""') == 1
    setup = setup.replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    done = subprocess.run([sys.executable, "-c", RUN, setup, library], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_without_an_address_one_sentence_says_what_is_missing():
    assert run("", "missing") == {
        "asked": [],
        "error": "ImportError: compress_lib is missing, and this copy does not say where to get it: "
        "write the book's address into REPOSITORY above.",
    }


def test_with_an_address_pip_is_asked_for_the_version_of_the_page():
    from compress_lib import __version__

    asked = run("https://github.com/somebody/a-book", "missing")
    assert asked["error"] is None
    assert len(asked["asked"]) == 1
    assert f"git+https://github.com/somebody/a-book@v{__version__} " in asked["asked"][0]


@pytest.mark.parametrize("repository", ["", "https://github.com/somebody/a-book"])
def test_with_the_library_nothing_happens(repository):
    assert run(repository, "present") == {"asked": [], "error": None}
