"""The product of two rows of signs, bit by bit: XNOR, then count the ones. Chapter 08.

The computation is in ``xnor_popcount.mjs``, the drawing in ``xnor_popcount_charts.mjs``. Courbariaux, Hubara et al.,
"Binarized neural networks", NIPS 2016, arXiv 1602.02830, section 1.3. The bits are those that `compress_lib.ops` packs,
the products those of its `binary_conv2d`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress_lib import ops
from compress_lib.explore import binary_filter
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.ops.packing import WORD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BYTE = 8  # bits


def explorer(filters: Mapping[str, np.ndarray], patch: np.ndarray, *, word: int = 1, bits: int = 5) -> Explorer:
    """The explorer of XNOR and popcount: some filters of a convolution, and one patch of its input, in words of signs.

    A bit is 1 for +1 and 0 for −1. The XNOR of two bits is 1 where they are equal, where the product of the signs is
    +1. Of n products, c of them +1, the sum is ``c − (n − c) = 2c − n``: ``ops.binary_conv2d``. Each place of the
    kernel has words of its own, of up to 64 channels each.

    Parameters
    ----------
    filters : mapping of str to array of shape (in, kh, kw)
        One to eight, name to weights, of one shape; ``in`` is at most 64, or a multiple of it. The first is shown at
        the start.
    patch : array of shape (in, kh, kw)
        What the filters see at one place of the layer's input, after a batch normalization.
    word : int
        At the start, from 1; there is no control for it where there is one only.
    bits : int
        Of this word compared at the start, from 0 to the number it has.

    Returns
    -------
    Explorer
        With ``results`` pairs (compared so far, those of the words before included), agree (the popcount of their
        XNOR), dot (2 · agree − pairs, the sum of their products) and total (the sum of all products).

    Raises
    ------
    ValueError
        If the arrays are none that `binary_filter.checked` takes, ``in`` is neither at most 64 nor a multiple of it, or
        the start is none the sliders allow.
    """
    given, patch = binary_filter.checked(filters, patch)
    channels, *kernel = patch.shape
    if channels > WORD and channels % WORD:
        raise ValueError(f"patch must have at most {WORD} channels or a multiple of {WORD}, got {channels}")
    size = min(WORD, channels)
    words = {name: _bytes(values) for name, values in given.items()}
    first = next(iter(words))
    count = len(words[first])
    return Explorer(
        "xnor_popcount",
        controls=[
            slider("bits", "pairs of bits compared", range(size + 1), bits),
            *([slider("word", "word", range(1, count + 1), word)] if count > 1 else []),
            choice("filter", "filter", list(given), first),
        ],
        title="A product without multiplying",
        data={
            "filters": [{"name": name, "words": packed} for name, packed in words.items()],
            "patch": _bytes(patch),
            "size": size,
            "kernel": kernel,
        },
        fallback=lambda: _figure(first, _bits(patch)[:size], _bits(given[first])[:size]),
        alt=(
            f"Three rows of {size} bits: the signs of the input, the signs of a filter, and their XNOR, which is 1 "
            f"where the two are equal. The ones of the third row are counted: twice their number minus {size} is the "
            f"product."
        ),
    )


def _packed(values: np.ndarray) -> torch.Tensor:
    """The signs, (kh · kw · ⌈in/64⌉,), int64."""
    return ops.pack_conv_weight(torch.from_numpy(values)[None]).flatten()


def _bytes(values: np.ndarray) -> np.ndarray:
    """The packed words, the least significant byte first: (words, 8), uint8."""
    return _packed(values).numpy().astype("<i8").view(np.uint8).reshape(-1, WORD // BYTE)


def _bits(values: np.ndarray) -> np.ndarray:
    """The bits of all words, one after the other."""
    return np.unpackbits(_bytes(values), bitorder="little")


def _figure(name: str, x: np.ndarray, w: np.ndarray) -> "Figure":
    from matplotlib import pyplot as plt

    same = (x == w).astype(int)
    figure, axis = plt.subplots(figsize=(8.4, 2.2), layout="constrained")
    axis.imshow([x, w, same], cmap="Blues", vmin=-0.3, vmax=1.4, aspect="auto")
    for row, bits in enumerate((x, w, same)):
        for column, bit in enumerate(bits):
            axis.text(column, row, int(bit), ha="center", va="center", fontsize=7, color="white" if bit else "black")
    axis.set_yticks(range(3), ["sign x", "sign w", "XNOR"])
    axis.set_xticks([])
    ones, pairs = same.sum(), len(same)
    axis.set_title(f"{name}: {ones} ones, 2 · {ones} − {pairs} = {2 * ones - pairs}", fontsize=10)
    return figure
