"""In the kernel of a chapter: which files of the project does it read, and which does it write?

`execute.py` has it imported before the first cell. What a subprocess or compiled code opens is not seen.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_opened: dict[str, set[str]] = {"read": set(), "written": set()}


def _watch(event: str, arguments: tuple) -> None:
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
        _note(path, "written" if writes else "read")
    elif event == "os.rename":  # as of a file that is written under another name first
        _note(arguments[1], "written")


def _note(path, how: str) -> None:
    if isinstance(path, str | os.PathLike):
        _opened[how].add(os.path.abspath(path))


def files(folder: str) -> list[str]:
    """What was read under a folder of the project and is not the chapter's own work; code that was imported, too."""
    modules = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    found = {Path(name).resolve() for name in (_opened["read"] - _opened["written"]) | (modules - {None})}
    inside = [path for path in found if path.is_relative_to(ROOT / folder) and path.suffix != ".pyc"]
    return sorted(path.relative_to(ROOT).as_posix() for path in inside)


sys.addaudithook(_watch)
