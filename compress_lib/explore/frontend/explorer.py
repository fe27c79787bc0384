"""The widget every chapter's explorer is an instance of.

The computation is JavaScript over data that Python embeds, so it needs no kernel: the same module runs on the static
page, in JupyterLab and in Colab. Where scripts are off, or on GitHub, the static figure is shown in its place.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from compress_lib.explore.frontend import predictions
from compress_lib.explore.frontend.packing import pack

HERE = Path(__file__).parent
EXPLORERS = HERE.parent
DATA_LIMIT = 300_000


def sources(module: str) -> dict[str, str]:
    """The text of each part of an explorer's front end, by the name of its trait.

    ``parts.json`` names the files that are joined, as patterns below ``compress_lib/explore``; a file that an explorer
    does not have is left out. The book's pages read the same list (``book/_extensions/explorer_page.py``).
    """
    parts = json.loads((HERE / "parts.json").read_text(encoding="utf-8"))
    return {
        trait: "\n".join(
            path.read_text(encoding="utf-8")
            for pattern in patterns
            for path in sorted(EXPLORERS.glob(pattern.format(module=module)))
        )
        for trait, patterns in parts.items()
    }


class Explorer(anywidget.AnyWidget):
    """Controls, a sentence, numbers and charts, computed by a JavaScript module over embedded data.

    Parameters
    ----------
    module : str
        Name of the computation, the file ``compress_lib/explore/<module>.mjs``. It exports ``labels`` and ``compute``,
        and may export ``predict`` and ``play``, as described in ``explorer.mjs``. Chart types and style of its own are
        in ``<module>_charts.mjs`` and ``<module>.css``, if it has some.
    controls : list of dict
        Made by `slider` and `choice`; at least one.
    title : str
        Heading of the explorer.
    fallback : callable
        Draws the static figure, a ``matplotlib.figure.Figure``, which is rendered to PNG and closed. It is called last:
        an explorer that is refused draws nothing.
    alt : str
        What the static figure shows, in words.
    data : dict, optional
        Anything JSON can hold, and NumPy arrays, which the module receives as typed arrays with a ``shape``.
    predict : dict, optional
        What the reader guesses before the controls unlock, in place of the module's own question: ``question``,
        ``kind`` ("number", "choice" or "order"), then ``result`` (the name of a result) or ``answer`` (a number, an
        index of ``options``, or all indices in order); further ``show``, ``unit``, ``min``, ``max``, ``options`` and
        ``mark`` as described in ``explorer.mjs``.

    Attributes
    ----------
    state : dict
        Value of each control by name. Setting it moves the controls.
    results : dict
        The numbers the page shows, by name; empty until a browser has computed them.

    Raises
    ------
    ValueError
        If the module does not exist, the data exceed 300 kB as JSON or hold a NaN or an infinity, ``alt`` or
        ``title`` is empty, ``predict`` asks what nobody can answer, or ``state`` is set to something the controls do
        not allow.
    TypeError
        If ``data`` holds an object that cannot be sent to a browser.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    _charts = traitlets.Unicode().tag(sync=True)
    _compute = traitlets.Unicode().tag(sync=True)
    module = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    controls: "traitlets.List[dict[str, Any]]" = traitlets.List().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    predict = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    results = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        module: str,
        *,
        controls: list[dict[str, Any]],
        title: str,
        fallback: Callable[[], Any],
        alt: str,
        data: Mapping | None = None,
        predict: Mapping | None = None,
    ):
        known = sorted(p.stem for p in EXPLORERS.glob("*.py") if p.with_suffix(".mjs").exists())
        if module not in known:
            raise ValueError(f"module must be one of {known}, got {module!r}")
        if not title.strip() or not alt.strip():
            raise ValueError(f"title and alt must not be empty, got {title!r} and {alt!r}")
        names = [control["name"] for control in controls]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"controls must have different names, at least one, got {names}")
        packed = pack(data or {}, "data")
        size = len(json.dumps(packed))
        if size > DATA_LIMIT:
            raise ValueError(f"data must take at most {DATA_LIMIT:,} bytes as JSON, got {size:,}")
        asked = predictions.checked(predict, controls) if predict is not None else {}
        self._fallback = _png(fallback())
        super().__init__(
            module=module,
            title=title,
            alt=alt,
            controls=controls,
            data=packed,
            predict=asked,
            state={control["name"]: control["value"] for control in controls},
            **sources(module),
        )

    @traitlets.validate("state")
    def _check_state(self, proposal):
        state = proposal["value"]
        allowed = {control["name"]: control["values"] for control in self.controls}
        if set(state) != set(allowed):
            raise ValueError(f"state must have the keys {sorted(allowed)}, got {sorted(state)}")
        for name, value in state.items():
            if value not in allowed[name]:
                raise ValueError(f"state[{name!r}] must be one of {allowed[name]}, got {value!r}")
        return state

    def __repr__(self) -> str:
        return f"Explorer({self.module!r}): {self.title}. {self.alt}"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        assert bundle is not None, "an explorer has a view"
        data, metadata = bundle
        data["text/plain"] = repr(self)
        data["image/png"] = self._fallback
        return data, {**metadata, "image/png": {"alt": self.alt}}


def _png(figure: Any) -> str:
    if not hasattr(figure, "savefig"):
        raise TypeError(f"fallback must be a matplotlib figure, got {type(figure).__name__}")
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)  # otherwise the notebook would show it a second time, after the cell
    return base64.b64encode(buffer.getvalue()).decode("ascii")
