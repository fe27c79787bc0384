"""The question that a reader answers before an explorer's controls unlock, where Python gives it: checks of it."""

from collections.abc import Mapping
from typing import Any

KINDS = ("number", "choice", "order")
FIELDS = ("question", "kind", "show", "unit", "min", "max", "options", "result", "answer", "mark")


def checked(predict: Mapping[str, Any], controls: list[dict[str, Any]]) -> dict[str, Any]:
    """``predict`` as a dict; its fields are described in ``explorer.mjs``.

    Raises
    ------
    ValueError
        If a field is unknown, the question is empty, the kind is none of "number", "choice" and "order", ``show`` is
        no setting of ``controls``, or the answer is missing or none that a reader could give.
    """
    found = dict(predict)
    if unknown := sorted(set(found) - set(FIELDS)):
        raise ValueError(f"predict may have the keys {list(FIELDS)}, got {unknown}")
    if not str(found.get("question", "")).strip():
        raise ValueError("predict['question'] must not be empty")
    if found.get("kind") not in KINDS:
        raise ValueError(f"predict['kind'] must be one of {list(KINDS)}, got {found.get('kind')!r}")
    allowed = {control["name"]: control["values"] for control in controls}
    for name, value in found.get("show", {}).items():
        if value not in allowed.get(name, ()):
            raise ValueError(f"predict['show'][{name!r}] must be one of {allowed.get(name, [])}, got {value!r}")
    if ("answer" in found) == ("result" in found) or ("result" in found and found["kind"] != "number"):
        raise ValueError("predict must have an answer or, if its kind is 'number', the name of a result instead")
    if found["kind"] != "number":
        _check_options(found["kind"], found.get("options", ()), found["answer"])
    return found


def _check_options(kind: str, options: Any, answer: Any) -> None:
    if not 2 <= len(options) <= 5:
        raise ValueError(f"predict['options'] must be two to five texts, got {len(options)}")
    indices = list(range(len(options)))
    right = answer in indices if kind == "choice" else sorted(answer) == indices
    if not right:
        wanted = f"one of {indices}" if kind == "choice" else f"{indices} in the right order"
        raise ValueError(f"predict['answer'] must be {wanted}, got {answer!r}")
