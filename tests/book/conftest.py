"""The built site, once for all tests of it."""

import os
import shutil
from pathlib import Path

import pytest
from browsing import served
from bs4 import BeautifulSoup
from building import build, copy_sources
from filelock import FileLock


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built pages: that of ``$BOOK_HTML``, or built without a warning, once for all workers."""
    if built := os.environ.get("BOOK_HTML"):
        return Path(built).resolve()
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a build that failed has left
            folder.mkdir()
            build(copy_sources(folder), "-W", "-n", "--keep-going")
            (folder / "whole").touch()
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site):
    """Every page, relative to the site."""
    found = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)
    assert "book/index.html" in found and any(page.startswith("notebooks/") for page in found)
    return found


@pytest.fixture(scope="session")
def soups(site, pages):
    """The parsed pages."""
    return {page: BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser") for page in pages}


@pytest.fixture(scope="session")
def address(site):
    with served(site) as address:
        yield address
