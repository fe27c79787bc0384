"""A compressed network that runs in the page: a drawing pad, the bytes of its file, its answer. Chapter 07.

The reader of the file (``cnet.mjs``), the forward pass (``forward.mjs``), what becomes of a drawing (``garment.mjs``)
and what the sliders do (``simplify.mjs``) are plain JavaScript, tested against the library; ``network.mjs`` shows them.
The same parts make the landing page's script (``book/_extensions/live_network.py``).
"""

import anywidget
import traitlets

from compress_lib import ledger
from compress_lib.explore.frontend import explorer
from compress_lib.explore.live import joining

__all__ = ["LiveNetwork"]


class LiveNetwork(anywidget.AnyWidget):
    """LeNet-300-100 after deep compression, as a file that the page decodes and runs.

    It reads ``results/``: the file, and what ``python -m compress_lib live`` measured. Where scripts are off, or on
    GitHub, a static figure stands in its place.

    Attributes
    ----------
    alt : str
        What the static figure shows, in words.
    data : dict
        As from `joining.data`.
    """

    _esm = joining.joined("_esm")
    _css = joining.joined("_css")
    folder = traitlets.Unicode("live").tag(sync=True)  # where the site finds its parts.json
    alt = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)

    def __init__(self) -> None:
        data = joining.data(ledger.directory())
        figure, alt = _figure(data)
        self._fallback = explorer._png(figure)
        super().__init__(data=data, alt=alt)

    def __repr__(self) -> str:
        return f"LiveNetwork(): {self.alt}"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        assert bundle is not None, "it has a view"
        data, metadata = bundle
        data["text/plain"] = repr(self)
        data["image/png"] = self._fallback
        return data, {**metadata, "image/png": {"alt": self.alt}}
