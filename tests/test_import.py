"""Importing the package is light."""

import pkgutil
import subprocess
import sys

import pytest

import compress_lib

MODULES = [module.name for module in pkgutil.walk_packages(compress_lib.__path__, "compress_lib.")]
MODULES = [name for name in MODULES if not name.endswith((".__main__", ".triton_kernels"))]  # a program; needs Triton


def test_import_loads_no_submodule_and_no_heavy_package():
    code = (
        "import sys; import compress_lib; "
        "print([m for m in sys.modules if m.startswith('compress_lib.') or m in ('torch', 'numpy', 'anywidget')])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_there_by_the_ordinary_import(module):
    package, _, name = module.rpartition(".")
    assert getattr(__import__(package, fromlist=[name]), name).__name__ == module
