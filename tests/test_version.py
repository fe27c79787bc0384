"""pyproject.toml is the one source of the version, and whatever repeats it agrees."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import compress_lib

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
SAY = "import compress_lib; print(compress_lib.__version__)"


@pytest.fixture
def clone(tmp_path) -> Path:
    """The package in a folder of its own, beside a pyproject.toml of another version."""
    shutil.copytree(ROOT / "compress_lib", tmp_path / "compress_lib", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "compress-lib"\nversion = "9.8.7"\n', encoding="utf-8")
    return tmp_path


def said(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", SAY], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_library_says_what_pyproject_says():
    assert compress_lib.__version__ == VERSION
    assert "__version__" in dir(compress_lib)


def test_a_clone_knows_its_own_version_whatever_is_installed(clone):
    assert said(clone) == "9.8.7"


@pytest.mark.parametrize("beside", [None, "[tool.ruff]\n", '[project]\nname = "another"\nversion = "1.0"\n'])
def test_an_installed_package_asks_its_metadata(clone, beside):
    (clone / "pyproject.toml").unlink()
    if beside is not None:
        (clone / "pyproject.toml").write_text(beside, encoding="utf-8")
    info = clone / "compress_lib-5.6.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: compress-lib\nVersion: 5.6.7\n", encoding="utf-8")
    assert said(clone) == "5.6.7"


def test_what_repeats_the_version_agrees():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == VERSION
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert chapters
    for path in chapters:
        source = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
        assert re.findall(r'^VERSION = "(.*)"$', source, re.MULTILINE) == [VERSION], path.name
    released = re.findall(r"^## \[?(\d[^\s\]]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == VERSION


def test_one_command_writes_it_and_changes_nothing_else(tmp_path):
    for name in ("pyproject.toml", "CITATION.cff"):
        shutil.copy2(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    paths = [tmp_path / "CITATION.cff", *(tmp_path / "notebooks").glob("*.ipynb")]
    before = {path: path.read_text(encoding="utf-8") for path in paths}
    project = tmp_path / "pyproject.toml"

    def write(version):
        text, found = re.subn(r'^version = ".*"$', f'version = "{version}"', project.read_text(), flags=re.MULTILINE)
        assert found == 1
        project.write_text(text, encoding="utf-8")
        tool = [sys.executable, ROOT / "book" / "tools" / "version.py", "--root", tmp_path]
        subprocess.run(tool, check=True, capture_output=True)
        return {path: path.read_text(encoding="utf-8") for path in paths}

    for path, text in write("12.0.1").items():
        changed = [new for old, new in zip(before[path].splitlines(), text.splitlines(), strict=True) if old != new]
        assert [line.strip() for line in changed] == [
            "version: 12.0.1" if path.suffix == ".cff" else r'"VERSION = \"12.0.1\"\n",'
        ]
    assert write(VERSION) == before
