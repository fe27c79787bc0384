"""Write the version where it is repeated: in the chapters' set-up cells and in CITATION.cff.

    python book/tools/version.py

Its one source is ``project.version`` in pyproject.toml; ``compress_lib.__version__`` reads it there. Doing it twice
changes nothing.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

from address import ROOT, edit, files, set_up

CITATION = re.compile(r"^version: .*$", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    root = parser.parse_args(arguments).root
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    citation = root / "CITATION.cff"
    text, found = CITATION.subn(f"version: {version}", citation.read_text(encoding="utf-8"))
    chapters = sorted((root / "notebooks").glob("*.ipynb"))
    try:
        if found != 1:
            raise ValueError(f"{citation} must have one line version: ..., found {found}")
        for chapter in chapters:
            edit(chapter, lambda notebook: set_up(notebook, "VERSION", version))
        files.write(citation, text.encode())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The version is {version} in CITATION.cff and {len(chapters)} chapters. The date there is yours to set.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
