"""The ledger: one row per measured compression, the same columns in every chapter.

A row says what was compressed, how, and what that did to accuracy (all 10,000 test images), to the bytes of the file
on disk, to the multiply–adds that the deployed form executes and to its latency. Rows live as JSON in
``results/ledger/``, one file per chapter; prose, tables and plots read them from there. This module needs no torch.
"""

import datetime
import functools
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress_lib import files

if TYPE_CHECKING:
    from IPython.display import Markdown

__all__ = ["directory", "headline", "headlines", "provenance", "read", "record", "select", "settings", "validate"]

PACKAGE = Path(__file__).parent
KEY = ("chapter", "method", "model", "data", "recipe", "seed")  # no two rows agree in all of these
ORDER = ("chapter", "method", "model", "data", "variant", "seed")  # of the rows of a file


def directory() -> Path:
    """Where the measured rows are: ``$COMPRESS_LIB_RESULTS``, the installed package's, or the clone's ``results/``."""
    if chosen := os.environ.get("COMPRESS_LIB_RESULTS"):
        return Path(chosen)
    installed = PACKAGE / "results"
    return installed if installed.is_dir() else PACKAGE.parent / "results"


@functools.cache
def schema() -> dict:
    """The JSON schema of a row."""
    return json.loads((PACKAGE / "ledger.schema.json").read_text(encoding="utf-8"))


@functools.cache
def _validator():
    import jsonschema

    return jsonschema.validators.validator_for(schema())(schema())


def validate(row: dict) -> None:
    """Raise ``ValueError`` that names the offending field unless ``row`` follows the schema."""
    from jsonschema.exceptions import best_match

    if error := best_match(_validator().iter_errors(row)):
        field = ".".join(map(str, error.absolute_path)) or "row"
        raise ValueError(f"ledger row, {field}: {error.message}")


def record(row: dict) -> dict:
    """Validate ``row``, complete it with its provenance, and write it to its chapter's file.

    A row with the same chapter, method, model, data, recipe and seed is replaced. The file is written atomically.

    Parameters
    ----------
    row : the fields of ``ledger.schema.json``; provenance (hardware, versions, commit, date) is added where missing.

    Returns
    -------
    The row as written.
    """
    row = {**provenance(row.get("command", "")), **row}
    validate(row)
    path = directory() / "ledger" / f"{row['chapter']}.json"
    rows = [old for old in _load(path) if any(old.get(field) != row[field] for field in KEY)] + [row]
    _dump(path, sorted(rows, key=lambda row: json.dumps([row[field] for field in ORDER])))
    return row


def read(chapter: str | None = None, **where: Any) -> list[dict]:
    """The rows of a ``chapter`` (the notebook's name without suffix), or all, that agree with ``where`` (`select`)."""
    paths = sorted((directory() / "ledger").glob("*.json" if chapter is None else f"{chapter}.json"))
    rows = [row for path in paths for row in _load(path)]
    for row in rows:
        validate(row)
    return select(rows, **where)


def select(rows: list[dict], **where: Any) -> list[dict]:
    """Those of the rows whose fields are as ``where`` has them.

    Parameters
    ----------
    rows : as from `read`.
    where : fields, as ``model="lenet-5"``. Of a field that is a mapping, as ``recipe={"k": 8, "epochs": 2}``, the
        entries that are named must be equal; it may have others.
    """
    return [row for row in rows if _agrees(row, where)]


def settings(rows: list[dict]) -> list[list[dict]]:
    """The rows in groups that differ in their seed alone, in the order in which they first appear."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        setting = json.dumps([row[field] for field in KEY if field != "seed"], sort_keys=True)
        groups.setdefault(setting, []).append(row)
    return list(groups.values())


def headline(chapter: str, value: str, label: str) -> "Markdown":
    """Write a chapter's headline number for the landing page and return it as Markdown for the notebook.

    Parameters
    ----------
    chapter : the notebook's name without suffix. value : the figure, formatted. label : what it is, in a few words.
    """
    from IPython.display import Markdown

    _dump(directory() / "headlines.json", headlines() | {chapter: {"value": value, "label": label}})
    return Markdown(f"**{value}** — {label}")


def headlines() -> dict[str, dict[str, str]]:
    """Chapter → ``{"value", "label"}`` for the chapters that have been run."""
    path = directory() / "headlines.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def provenance(command: str) -> dict:
    """What a figure needs to be traced: command, hardware, versions, commit, date (UTC)."""
    from compress_lib.cost import hardware, versions

    return {
        "command": command,
        "hardware": hardware(),
        "versions": versions(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _commit() -> str:
    """The clone's commit, marked when files differ from it; "none" outside a clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--", str(PACKAGE)) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _agrees(found: object, wanted: object) -> bool:
    """Whether what was found is what is wanted; mappings may have more entries."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(key in found and _agrees(found[key], value) for key, value in wanted.items())
    return found == wanted


def _load(path: Path) -> list[dict]:
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a JSON list of rows: {error}") from error


def _dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
