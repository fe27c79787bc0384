"""The library's version, of which pyproject.toml is the one source."""

import tomllib
from importlib import metadata
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "pyproject.toml"


def version() -> str:
    """What the pyproject.toml beside the package says; without one, what the installed package says.

    In that order, so that a clone on the path knows its own version, whatever else is installed.
    """
    if _SOURCE.is_file():
        project = tomllib.loads(_SOURCE.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "compress-lib":  # not one that another package left in site-packages
            return project["version"]
    return metadata.version("compress-lib")
