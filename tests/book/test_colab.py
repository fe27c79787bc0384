"""A chapter runs the way Colab runs it: an empty directory, no library, only the notebook and its set-up cell.

Colab brings torch and the scientific packages; here they are lent by the test environment. The library is not: the
set-up cell must install it, from this repository under the tag of its version.
"""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from chapters import ROOT, code_cells, fastest, read

pytestmark = pytest.mark.slow

# Stands in for Colab's own module, and notes what the set-up cell asks of it.
COLAB = (
    "class output:\n    @staticmethod\n    def enable_custom_widget_manager():\n        print('custom widgets on')\n"
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """A repository with the present state of the tree, tagged with its version."""
    from compress_lib import __version__

    clone = tmp_path_factory.mktemp("remote") / "book"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    clone.mkdir()
    subprocess.run(["tar", "-c", "--null", "-T", "-", "-f", str(clone / "tree.tar")], input=files, cwd=ROOT, check=True)
    subprocess.run("tar xf tree.tar && rm tree.tar && git init -q . && git add -A", shell=True, cwd=clone, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "tree"], cwd=clone, check=True)
    subprocess.run(["git", "tag", f"v{__version__}"], cwd=clone, check=True)
    return clone.as_uri()


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """An environment with everything but the library."""
    home = tmp_path_factory.mktemp("colab")
    venv.create(home, with_pip=True, symlinks=True)
    site = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # A path file inside a path file is not followed, so the editable install of the library stays unseen.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").write_text(COLAB)
    (site / "preload.pth").write_text("import google.colab\n")
    return home / "bin" / "python"


def run(colab, *arguments, cwd):
    """In Colab nothing points at a clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([colab, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def test_library_is_absent_to_begin_with(colab, tmp_path):
    found = run(colab, "-c", "import torch, importlib.util as u; print(u.find_spec('compress_lib'))", cwd=tmp_path)
    assert (found.stdout.strip(), found.returncode) == ("None", 0), found.stderr


def test_chapter_runs_in_an_empty_directory(repository, colab, tmp_path):
    path = fastest()
    notebook = read(path)
    setup = code_cells(notebook)[0]
    setup.source = re.sub(r'REPOSITORY = ".*"', f'REPOSITORY = "{repository}"', setup.source)
    notebook.cells.append(
        nbformat.v4.new_code_cell("import compress_lib, torch; print(compress_lib.__file__, torch.__file__)")
    )
    nbformat.write(notebook, tmp_path / path.name)
    script = (
        "import sys, nbformat, nbclient\n"
        "nb = nbformat.read(sys.argv[1], as_version=4)\n"
        "client = nbclient.NotebookClient(nb, timeout=600, kernel_name='python3')\n"
        "try:\n"
        "    client.execute()\n"
        "finally:\n"
        "    print([o.get('text') for c in nb.cells if c.cell_type == 'code' for o in c.get('outputs', [])][:3])\n"
        "print(nb.cells[-1].outputs[0].text)\n"
    )
    done = run(colab, "-c", script, path.name, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    library, torch = done.stdout.splitlines()[-2].split()
    assert str(colab.parents[1]) in library, "the library is the one the set-up cell installed"
    assert sysconfig.get_path("purelib") in torch, "torch is the one that was there"
    assert "custom widgets on" in done.stdout
