"""The repository's public address: one command writes it, one takes it out, and the site's buttons follow."""

import importlib.util
import json
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from building import ROOT, build, copy_sources

URL = "https://github.com/somebody/a-book"
PAGES = "https://somebody.github.io/a-book/"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("address", ROOT / "book" / "tools" / "address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """_config.yml and the chapters, without an address."""
    shutil.copy2(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def files(root):
    return {path.name: path.read_bytes() for path in [root / "_config.yml", *(root / "notebooks").glob("*.ipynb")]}


def sources(root):
    return [
        ["".join(cell["source"]) for cell in json.loads(p.read_text())["cells"]]
        for p in sorted((root / "notebooks").glob("*.ipynb"))
    ]


def test_set_twice_and_unset(tool, copy):
    assert tool.main(["--unset", "--root", str(copy)]) == 0
    unset = files(copy)
    assert tool.main([URL, "--root", str(copy)]) == 0
    written = files(copy)
    assert all(written[name] != content for name, content in unset.items())
    assert yaml.safe_load(written["_config.yml"])["repository"]["url"] == URL
    for cells, path in zip(sources(copy), sorted((copy / "notebooks").glob("*.ipynb")), strict=True):
        assert sum(cell.count(f'REPOSITORY = "{URL}"') for cell in cells) == 1
        heading, blank, badge, *_ = cells[0].splitlines()
        assert heading.startswith("# ") and not blank
        assert badge.endswith(
            f"(https://colab.research.google.com/github/somebody/a-book/blob/main/notebooks/{path.name})"
        )
    assert tool.main([URL, "--root", str(copy)]) == 0
    assert files(copy) == written
    assert tool.main(["--unset", "--root", str(copy)]) == 0
    assert files(copy) == unset


@pytest.mark.parametrize(
    "written",
    [f"{URL}.git", f"{URL}/", "git@github.com:somebody/a-book.git", "ssh://git@github.com/somebody/a-book.git"],
)
def test_git_writes_one_address_in_many_ways(tool, written):
    assert tool.normal(written) == URL


@pytest.mark.parametrize(
    "wrong", ["somebody/a-book", "https://github.com/somebody", "/tmp/book", "https://example.org/a/b"]
)
def test_what_is_no_address_is_refused_and_nothing_is_written(tool, copy, wrong, capsys):
    before = files(copy)
    assert tool.main([wrong, "--root", str(copy)]) == 1
    assert wrong in capsys.readouterr().err
    assert files(copy) == before


def test_the_remote_of_the_clone_is_taken(tool, copy, capsys):
    def git(*arguments):
        subprocess.run(["git", "-C", str(copy), *arguments], check=True, capture_output=True)

    git("init")
    assert tool.main(["--root", str(copy)]) == 1
    assert "no git remote" in capsys.readouterr().err
    git("remote", "add", "origin", "git@github.com:somebody/a-book.git")
    assert tool.main(["--root", str(copy)]) == 0
    assert yaml.safe_load((copy / "_config.yml").read_text())["repository"]["url"] == URL


def test_a_chapter_without_a_set_up_cell_is_named(tool, copy, capsys):
    path = min((copy / "notebooks").glob("*.ipynb"))
    path.write_text(path.read_text(encoding="utf-8").replace("REPOSITORY = ", "REPOSITORIES = "), encoding="utf-8")
    config = (copy / "_config.yml").read_bytes()
    assert tool.main([URL, "--root", str(copy)]) == 1
    assert path.name in capsys.readouterr().err
    assert (copy / "_config.yml").read_bytes() == config


@pytest.fixture(scope="module", params=["", URL], ids=["without", "with"])
def small(request, tool, tmp_path_factory):
    """A site of two pages, built without and with an address: (address, folder, the chapter's page)."""
    root = copy_sources(tmp_path_factory.mktemp("book"))
    assert tool.main([request.param or "--unset", "--root", str(root)]) == 0
    chapter = min((root / "notebooks").glob("*.ipynb")).stem
    for path in (root / "compress_lib").rglob("*/*.py"):  # of the library's reference, one page is enough
        if "live" not in path.parts:  # whose script the landing page runs
            path.unlink()
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: notebooks/{chapter}\nchapters: [file: book/notation]\n", encoding="utf-8"
    )
    return request.param, build(root), f"notebooks/{chapter}.html"


def page_of(folder, name):
    return BeautifulSoup((folder / name).read_text(encoding="utf-8"), "html.parser")


@pytest.mark.slow
def test_buttons_of_the_site_follow(small):
    address, site, name = small
    page = page_of(site, name)
    links = {a["href"] for a in page.select(".article-header-buttons a, .bd-article a")}
    launch = f"https://colab.research.google.com/github/somebody/a-book/blob/main/{name.replace('.html', '.ipynb')}"
    assert (launch in links) == bool(address)
    assert (URL in links) == bool(address)
    assert not [image["src"] for image in page.select("img") if "://" in image["src"]], "the badge is ours on the site"


@pytest.mark.slow
def test_what_others_show_of_a_page_follows(small):
    address, site, name = small
    page = page_of(site, name)
    here = f"{PAGES}{name}"
    tags = {tag.get("property") or tag.get("name"): tag["content"] for tag in page.select("meta[content]")}
    promise = page.select_one("article strong, article .lead").get_text()
    assert promise[:60] in tags["description"] and tags["og:description"] == tags["description"]
    assert tags["og:title"] == page.h1.find(string=True)
    canonical = [link["href"] for link in page.select("link[rel=canonical]")]
    assert canonical == ([here] if address else [])
    if address:
        assert (tags["og:url"], tags["og:image"]) == (here, f"{PAGES}_static/card.png")
    assert (site / "_static" / "card.png").is_file()


@pytest.mark.slow
def test_where_the_pages_are_follows(small):
    address, site, name = small
    robots = (site / "robots.txt").read_text(encoding="utf-8")
    assert robots.startswith("User-agent: *\nAllow: /\n")
    assert (f"Sitemap: {PAGES}sitemap.xml" in robots) == bool(address) == (site / "sitemap.xml").exists()
    if address:
        listed = {element.text for element in ElementTree.parse(site / "sitemap.xml").iter() if element.text}
        listed = {address for address in listed if "/book/api/" not in address}
        assert listed == {f"{PAGES}{page}" for page in (name, "book/notation.html")}
    missing = page_of(site, "404.html")
    places = [tag.get("href") or tag.get("src") for tag in missing.select("link[href], script[src], a[href], img[src]")]
    places = [place for place in places if not place.startswith(("#", "https://"))]
    assert len(places) > 5 and all(place.startswith("/a-book/" if address else "/") for place in places)


@pytest.mark.slow
def test_links_to_ask_and_to_edit_follow(small):
    address, site, name = small
    help_ = page_of(site, name).select_one(".page-help")
    links = {a.text: a["href"] for a in help_.select("a")}
    assert links == (
        {
            "Ask about this page": f"{URL}/issues/new?title=1.%20What%20a%20network%20costs",
            "Edit this page": f"{URL}/edit/main/{name.replace('.html', '.ipynb')}",
        }
        if address
        else {}
    )
    citation = help_.select_one("pre").text
    assert "title = {{1. What a network costs}}" in citation and (f"{PAGES}{name}" in citation) == bool(address)


def test_the_check_says_what_is_missing(tool, copy, capsys):
    for address in ("", URL):
        assert tool.main([address or "--unset", "--root", str(copy)]) == 0
        capsys.readouterr()
        assert tool.main(["--check", "--root", str(copy)]) == 0
        assert ("No repository address yet" in capsys.readouterr().out) == (not address)
