"""Imports point one way: from what a user calls down to what everything stands on; methods do not import each other."""

import ast
from pathlib import Path

import pytest

import compress_lib

ROOT = Path(compress_lib.__file__).parent
FLOORS = [
    {"checks", "files", "figures", "progress", "source", "tables", "_version", "_data_files", "data", "statistics"},
    {"cost", "ops", "coding", "export"},
    {"ledger"},
    {"models", "network", "report", "training"},
    {"pruning", "quantization", "binary", "distillation"},  # the methods, side by side
    {"container", "pipelines"},
    {"explore", "experiments"},
    {"cli", "__main__"},
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
METHODS = FLOORS[4]


def rooms(path: Path) -> set[str]:
    """The rooms of the library that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "compress_lib":
            _, _, inside = node.module.partition(".")
            found |= {inside.split(".")[0]} if inside else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_lies_below_its_room(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    upward = {other for other in rooms(path) - {room, "__version__"} if FLOOR[other] > FLOOR[room]}
    assert not upward, f"{room} stands below {upward}"
    assert room not in METHODS or not (rooms(path) & METHODS) - {room}, "methods do not import each other"


def test_every_room_has_a_floor():
    assert {
        path.name.removesuffix(".py")
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } <= FLOOR.keys() | {"__init__"}
