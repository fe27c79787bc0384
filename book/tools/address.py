"""Write the repository's public address where it belongs, or take it out again.

    python book/tools/address.py                                   from the git remote "origin"
    python book/tools/address.py https://github.com/owner/name     as told
    python book/tools/address.py --unset                           take it out again
    python book/tools/address.py --check                           only say in one line what is missing

The address is one value, ``repository.url`` in _config.yml, from which the site makes its Colab and source buttons.
Each chapter repeats it where a reader in Colab or on GitHub needs it: ``REPOSITORY = "..."`` in the set-up cell, and a
link to Colab under the title. Doing it twice changes nothing.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the site's environment has no library; this one module of it needs no package
from compress_lib import files

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = re.compile(r"\n*\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*")
CONFIG = re.compile(r"^(repository:\n(?: +.*\n)*? +url: ).*$", re.MULTILINE)


def normal(address: str) -> str:
    """``https://github.com/owner/name`` from any of the ways in which git writes it."""
    match = re.fullmatch(
        r"(?:https://|ssh://git@|git@)github\.com[/:]([\w.-]+)/([\w.-]+?)(?:\.git)?/?", address.strip()
    )
    if not match:
        raise ValueError(
            f"address must be of a repository on GitHub, like https://github.com/owner/name, got {address!r}"
        )
    return f"https://github.com/{match[1]}/{match[2]}"


def write_config(root: Path, address: str) -> None:
    path = root / "_config.yml"
    text, found = CONFIG.subn(rf'\g<1>"{address}"', path.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(f"{path} must have one repository.url, found {found}")
    files.write(path, text.encode())


def edit(path: Path, change: Callable[[dict], None]) -> None:
    """Change a notebook in place; nothing else in the file changes."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    try:
        change(notebook)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    if notebook != json.loads(text):
        files.write(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def set_up(notebook: dict, name: str, value: str) -> None:
    """The line ``name = "value"`` of the set-up cell."""
    line = re.compile(rf'^{name} = ".*"$', re.MULTILINE)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and line.search("".join(cell["source"]))]
    if len(cells) != 1:
        raise ValueError(f'must have one cell with a line {name} = "...", found {len(cells)}')
    _set_source(cells[0], line.sub(f'{name} = "{value}"', "".join(cells[0]["source"])))


def link_to_colab(notebook: dict, target: str) -> None:
    """The badge under the title that leads to ``target``; none if it is empty."""
    title = notebook["cells"][0]
    if title["cell_type"] != "markdown" or not "".join(title["source"]).startswith("# "):
        raise ValueError("must begin with a cell of Markdown that begins with the title")
    heading, _, rest = COLAB.sub("\n\n", "".join(title["source"])).strip().partition("\n")
    link = f"[![Open in Colab]({BADGE})]({target})\n\n" if target else ""
    _set_source(title, f"{heading}\n\n{link}{rest.strip()}".strip())


def write_chapter(path: Path, address: str, branch: str) -> None:
    """Set-up cell and Colab link of one chapter."""
    colab = address.replace("https://github.com/", "https://colab.research.google.com/github/")

    def change(notebook: dict) -> None:
        set_up(notebook, "REPOSITORY", address)
        link_to_colab(notebook, address and f"{colab}/blob/{branch}/notebooks/{path.name}")

    edit(path, change)


def read_config(root: Path) -> tuple[str, str]:
    """The address and the branch that _config.yml names."""
    import yaml

    repository = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return repository["url"] or "", repository["branch"]


def _set_source(cell: dict, source: str) -> None:
    cell["source"] = source.splitlines(keepends=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", help="default: the git remote origin")
    parser.add_argument("--unset", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    present, branch = read_config(options.root)
    if options.check:
        if not present:
            print(
                "No repository address yet, so no Colab and source buttons. Give one: make address URL=https://github.com/…"
            )
        return 0
    address = options.address
    if not address and not options.unset:
        git = ["git", "-C", str(options.root), "remote", "get-url", "origin"]
        address = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        if not address:
            print('There is no git remote "origin": name the address, https://github.com/owner/name.', file=sys.stderr)
            return 1
    try:
        address = "" if options.unset else normal(address)
        chapters = sorted((options.root / "notebooks").glob("*.ipynb"))
        for chapter in chapters:
            write_chapter(chapter, address, branch)
        write_config(options.root, address)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The address is {address or 'unset'} in _config.yml and {len(chapters)} chapters.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
