"""A compressed network that runs in the page: a drawing pad, the bytes of its file, its answer. Chapter 07.

The reader of the file (``cnet.mjs``), the forward pass (``forward.mjs``), what becomes of a drawing (``garment.mjs``)
and what the sliders do (``simplify.mjs``) are plain JavaScript, tested against the library; ``network.mjs`` shows them.
The same parts make the landing page's script (``book/_extensions/live_network.py``).
"""

import base64
from typing import TYPE_CHECKING

import anywidget
import numpy as np
import torch
import traitlets

from compress_lib import container, ledger, training
from compress_lib.explore.frontend import explorer
from compress_lib.explore.live import joining

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


SHOWN = [0, 4, 12, 17]  # test images in the static figure, easy ones and others


def _figure(data: dict) -> tuple["Figure", str]:
    """Some images with the probabilities of the file's network and of the dense one; and the same in words."""
    from matplotlib import pyplot as plt

    pixels = np.frombuffer(base64.b64decode(data["images"]), np.uint8).reshape(-1, 1, 28, 28)[SHOWN]
    network = container.load(ledger.directory() / joining.FILE)
    compressed = training.predict(network, torch.tensor(pixels)).softmax(1).numpy()
    dense = torch.tensor(data["dense"]["logits"])[SHOWN].softmax(1).numpy()
    figure, axes = plt.subplots(2, len(SHOWN), figsize=(8.4, 4.4), height_ratios=(1, 1.6), layout="constrained")
    for i, (image, bars) in enumerate(axes.T):
        image.imshow(pixels[i, 0], cmap="gray_r")
        image.axis("off")
        bars.barh(data["classes"], compressed[i], color="0.55")
        bars.plot(dense[i], data["classes"], "D", color="C1", markerfacecolor="none")
        bars.set(xlim=(-0.04, 1.04), xlabel="probability")
        bars.invert_yaxis()
        if i:
            bars.set_yticklabels([])
        bars.spines[["top", "right"]].set_visible(False)
    size = len(base64.b64decode(data["file"]))
    names = [data["classes"][k] for k in compressed.argmax(1)]
    alike = "the same" if (compressed.argmax(1) == dense.argmax(1)).all() else "not always the same"
    alt = (
        f"Four of the first test images, and below each the probabilities of the ten classes: bars for the network in "
        f"a file of {size:,} bytes, diamonds for the dense one of {data['dense']['nbytes']:,}. The file's network "
        f"takes them for {', '.join(names)}; the dense network's answers are {alike}."
    )
    return figure, alt
