"""The live network's modules as one, because a page read from a disk cannot import a second one.

It needs nothing but Python: the site's extension, whose environment has no library, loads this file too.
"""

import base64
import json
import re
from pathlib import Path

FILE = "compressed/lenet-300-100.cnet"  # in the folder of the measured rows
EXPLORE = Path(__file__).parents[1]
PARTS = Path(__file__).with_name("parts.json")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./\w+\.mjs";\n', re.MULTILINE)


def paths(trait: str) -> list[Path]:
    """The files that make up a trait of the widget, ``_esm`` or ``_css``, in order."""
    return [EXPLORE / name for name in json.loads(PARTS.read_text(encoding="utf-8"))[trait]]


def joined(trait: str) -> str:
    """Their text, without what they import from each other."""
    return "\n".join(_IMPORT.sub("", path.read_text(encoding="utf-8")) for path in paths(trait))


def data(results: Path) -> dict:
    """What the widget shows, from the folder of the measured rows: the file, and ``live-network.json``."""
    measured = json.loads((results / "live-network.json").read_text(encoding="utf-8"))
    file = (results / FILE).read_bytes()
    shown = ("classes", "images", "labels", "dense", "sliders")
    return {"file": base64.b64encode(file).decode()} | {name: measured[name] for name in shown}
