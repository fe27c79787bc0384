"""The built site, once for all tests of it, and a browser to read it with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsing import chromium, served

ROOT = Path(__file__).parents[2]
PARTS = ("_config.yml", "_toc.yml", "book", "compress_lib", "notebooks", "results")


def copy_sources(target: Path) -> Path:
    """What the site is built from, in a folder of its own."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "api", "*.safetensors"))
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


def build(root: Path, *options: str) -> Path:
    """Build the book in ``root`` as ``make book`` does; gives the folder of the pages."""
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(root), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return root / "_build" / "html"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built pages: that of ``$BOOK_HTML``, or built here without a warning."""
    if built := os.environ.get("BOOK_HTML"):
        return Path(built).resolve()
    return build(copy_sources(tmp_path_factory.mktemp("book")), "-W", "-n", "--keep-going")


@pytest.fixture(scope="session")
def pages(site):
    """Every page, relative to the site."""
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)
    assert "book/index.html" in found and any(page.startswith("notebooks/") for page in found)
    return found


@pytest.fixture(scope="module")
def address(site):
    with served(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser
