"""The ledger: one row per measured compression, the same columns in every chapter.

A row says what was compressed, how, and what that did to accuracy (all 10,000 test images), to the bytes of the file
on disk, to the multiply–adds that the deployed form executes and to its latency. Rows live as JSON in
``results/ledger/``, one file per chapter; prose, tables and plots read them from there. This module needs no torch.
"""

import datetime
import functools
import json
import os
import statistics
import subprocess
from pathlib import Path

from compress_lib import files

__all__ = ["compact", "directory", "headline", "headlines", "latency", "provenance", "read", "record", "validate"]

PACKAGE = Path(__file__).parent
KEY = ("chapter", "method", "model", "data", "variant", "seed")


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

    A row with the same chapter, method, model, data, variant and seed is replaced. The file is written atomically.

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
    rows = [old for old in _load(path) if _key(old) != _key(row)] + [row]
    _dump(path, sorted(rows, key=lambda r: json.dumps(_key(r))))
    return row


def read(chapter: str | None = None, **where) -> list[dict]:
    """All rows, of one ``chapter`` if given, whose fields equal ``where`` (``model="lenet-5"``, …)."""
    paths = sorted((directory() / "ledger").glob("*.json" if chapter is None else f"{chapter}.json"))
    rows = [row for path in paths for row in _load(path)]
    for row in rows:
        validate(row)
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def compact(name: str, **options) -> list[dict]:
    """The rows of ``python -m compress_lib compact NAME``, trained as that command does by default, one for each seed.

    Parameters
    ----------
    name : of a small network of chapters 13 to 16, ``"squeezenet-small"`` and the like.
    options : of its builder; those that are not named have their defaults.

    Raises
    ------
    ValueError : an unknown name or option, or no row of such a network.
    """
    from compress_lib.models import zoo

    if unknown := options.keys() - zoo.options(name).keys():
        raise ValueError(f"{name} has no option {min(unknown)!r}; it has {', '.join(zoo.options(name))}")
    wanted = {"architecture": name, "options": zoo.options(name) | options}
    rows = [row for row in read() if row["variant"].endswith("epochs 6, images 20000, lr 0.1")]
    rows = [row for row in rows if wanted.items() <= row.get("details", {}).items()]
    if not rows:
        raise ValueError(f"nobody has measured {name} with {options}; python -m compress_lib compact {name} does")
    return rows


def latency(rows: list[dict], batch: int, layout: str) -> tuple[float, float]:
    """Of rows from `compact`: how many times as fast as plain-small, and seconds; medians over the seeds.

    Parameters
    ----------
    rows : one network with several seeds.
    batch : images at a time, 1 or 32.
    layout : ``"contiguous"`` or ``"channels-last"``.
    """
    wanted = ({"contiguous": "contiguous_format", "channels-last": "channels_last"}[layout], batch)
    timed = [each for row in rows for each in row["details"]["latency"]]
    timed = [each for each in timed if (each["layout"], each["ratio"]["batch"]) == wanted]
    ratios, seconds = [each["ratio"]["median"] for each in timed], [each["seconds_after"] for each in timed]
    return statistics.median(ratios), statistics.median(seconds)


def headline(chapter: str, value: str, label: str):
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


def _key(row: dict) -> list:
    return [row.get(field) for field in KEY]


def _load(path: Path) -> list[dict]:
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a JSON list of rows: {error}") from error


def _dump(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
