"""Importing the package is light."""

import subprocess
import sys
from pathlib import Path

import pytest

import compress_lib


def test_import_loads_no_submodule_and_no_heavy_package():
    code = (
        "import sys; import compress_lib; "
        "print([m for m in sys.modules if m.startswith('compress_lib.') or m in ('torch', 'numpy', 'anywidget')])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


def test_every_package_is_found_by_attribute():
    packages = {path.parent.name for path in Path(compress_lib.__file__).parent.glob("*/__init__.py")}
    assert packages - {"commands"} <= set(compress_lib._SUBMODULES)


def test_submodules_are_found_by_attribute():
    for name in compress_lib._SUBMODULES:
        assert getattr(compress_lib, name).__name__ == f"compress_lib.{name}"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        compress_lib.nothing  # noqa: B018
