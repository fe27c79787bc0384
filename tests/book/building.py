"""Building the site, or a part of it, from a copy of its sources."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("_config.yml", "_toc.yml", "CITATION.cff", "book", "compress_lib", "notebooks", "results")


def copy_sources(target: Path) -> Path:
    """What the site is built from, in a folder of its own."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "api", "*.safetensors")
            )
        else:
            shutil.copy2(ROOT / name, target / name)
    return target


def build(root: Path, *options: str) -> Path:
    """Build the book in ``root`` as ``make book`` does; gives the folder of the pages."""
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(root), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return root / "_build" / "html"
