"""Bits of a gap and number of shared values, as sliders over a real file. Chapter 07; the page is ``byte_budget.mjs``.

Han, Mao, Dally, "Deep compression", ICLR 2016, arXiv 1510.00149, sections 2 to 4. Nothing on the page is estimated: for
each setting all layers are encoded, and what is shown are the bytes of these records.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress_lib.coding import tensors
from compress_lib.container import header
from compress_lib.container.budget import LayerBytes
from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.quantization.codebooks import kmeans

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BITS = range(1, 9)
KS = (2, 4, 8, 16, 32, 64, 128, 256)
HUFFMAN = ("off", "on")
ALL = "all layers"
PARTS = ("entries", "codes", "indices", "codebook", "tables", "header", "biases")  # of a LayerBytes
FLOAT = 4  # bytes of a float32


def explorer(
    weights: Mapping[str, np.ndarray],
    *,
    biases: Mapping[str, np.ndarray] | None = None,
    accuracies: Mapping[int, float] | None = None,
    gap_bits: int = 5,
    values: int = 16,
) -> Explorer:
    """The explorer of the bytes of a file of pruned layers; 128 settings of it are written, in memory.

    For k = 2, 4, …, 256 the weights of each layer that are not zero share k values: `kmeans.cluster` from the linear
    start, rounded to float16; a layer of fewer different weights has as many values as these. Then for each width of a
    gap, with and without Huffman coding, each layer is encoded by ``tensors.encode(tensor, index_bits=…, huffman=…)``.
    "All layers" is the whole file that `container.save` writes of them without metadata; a layer by itself is its
    records.

    That encoder takes the smallest record there is. So with Huffman coding and gaps too narrow it may store the zeros
    of a layer as values, without gaps; and with nearly as many values as weights it may store these without a codebook.

    Parameters
    ----------
    weights : mapping of str to array
        Layer to its pruned weights, of two axes or more, rounded to float32; not all of them zero.
    biases : mapping of str to array, optional
        Layer, one of ``weights``, to its biases, (outputs,). Rounded to float16.
    accuracies : mapping of int to float, optional
        k to the accuracy in [0, 1] that was measured with k values in every layer, before fine-tuning.
    gap_bits : int
        At the start, from 1 to 8.
    values : int
        k at the start.

    Returns
    -------
    Explorer
        With ``results`` nbytes, ratio (4 bytes for each weight and bias ÷ nbytes), fillers (of the entries of layers
        that are stored with gaps; None without such), best_bits and best_nbytes (the width that makes the fewest bytes,
        the narrowest of several), huffman_saves and halving_saves (bytes that Huffman coding and k / 2 values save in
        place of none and k, all else equal; None for k = 2), rmse (of the weights that are not zero), and accuracy
        (None where none was measured).

    Raises
    ------
    ValueError
        If there are no layers, weights have too few axes, are not finite, all zero or too large for float16, biases are
        of no layer, an accuracy is of no such k or outside [0, 1], or the start is none the sliders allow.
    """
    if not weights:
        raise ValueError("weights must name at least one layer")
    biases = {} if biases is None else biases
    if unknown := sorted(set(biases) - set(weights)):
        raise ValueError(f"biases must be of the layers {list(weights)}, got {unknown}")
    accuracies = {} if accuracies is None else accuracies
    if others := [k for k in accuracies if k not in KS]:
        raise ValueError(f"accuracies must have keys among {KS}, got {others}")
    scores = dict(zip(accuracies, measured.accuracies(accuracies.values(), len(accuracies), "accuracies"), strict=True))
    controls = [
        slider("bits", "bits of a gap", BITS, gap_bits),
        slider("k", "shared values, k", KS, values),
        choice("huffman", "Huffman coding", HUFFMAN, "off"),
        choice("layer", "layer", [ALL, *weights], ALL),
    ]
    layers = [_layer(name, np.asarray(given, dtype=np.float32)) for name, given in weights.items()]
    plain = {name: _half(f"biases[{name!r}]", torch.tensor(np.float32(given))) for name, given in biases.items()}
    parts, around = _write(layers, plain)
    data = {
        "bits": list(BITS),
        "ks": list(KS),
        "layers": [
            {
                "name": layer["name"],
                "dense": FLOAT * (layer["size"] + (plain[layer["name"]].numel() if layer["name"] in plain else 0)),
                **{key: layer[key] for key in ("size", "kept", "left", "squares")},
                "parts": parts[i],
            }
            for i, layer in enumerate(layers)
        ],
        "around": around,
        "accuracies": [scores.get(k) for k in KS],
    }
    return Explorer(
        "byte_budget",
        controls=controls,
        title="Where do the bytes go?",
        data=data,
        fallback=lambda: _figure(parts[:, KS.index(values)].sum(0), around[KS.index(values)], gap_bits, values),
        alt=(
            f"Left, stacked bars of the bytes of the file with {values} shared values against the bits of a gap, "
            f"without Huffman coding: the wider the gaps, the less the indices of the values take. Right, all bytes "
            f"against the bits of a gap, without and with Huffman coding; the smallest of each and {gap_bits} bits are "
            f"marked."
        ),
    )


def _layer(name: str, weights: np.ndarray) -> dict:
    """A layer with its shared weights for each k, how many of these are not zero, and the squared error."""
    where = f"weights[{name!r}]"
    if weights.ndim < 2:
        raise ValueError(f"{where} must have two axes or more, got shape {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError(f"{where} must be finite, got NaN or infinity")
    dense = torch.tensor(weights)
    mask = dense != 0
    kept = dense[mask]
    if not len(kept):
        raise ValueError(f"{where} must hold weights other than 0, got {weights.size} zeros")
    distinct = len(kept.unique())
    every_k: list[torch.Tensor] = []
    left, squares = [], []
    for k in KS:
        centroids, codes = kmeans.cluster(kept, min(k, distinct))
        values = _half(where, centroids)
        shared = torch.zeros_like(dense)
        shared[mask] = values[codes.long()]
        every_k.append(shared)
        left.append(int(shared.count_nonzero()))  # a value may come out as 0
        squares.append(kmeans.sse(kept, values, codes))
    return {
        "name": name,
        "size": weights.size,
        "kept": len(kept),
        "shared": every_k,
        "left": left,
        "squares": squares,
    }


def _half(where: str, numbers: torch.Tensor) -> torch.Tensor:
    """Float32 numbers that float16 holds too."""
    half = numbers.half().float()
    if not half.isfinite().all():
        raise ValueError(f"{where} must be finite and fit into float16, got up to {numbers.abs().max():.4g}")
    return half


def _write(layers: list[dict], biases: Mapping[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each layer, (layers, k, bits, Huffman, parts), and those of the file besides, (k, bits, Huffman)."""
    parts = np.zeros((len(layers), len(KS), len(BITS), len(HUFFMAN), len(PARTS)), np.uint32)
    around = np.zeros(parts.shape[1:4], np.uint32)
    for place in np.ndindex(around.shape):
        k, bits, huffman = place
        encode = partial(tensors.encode, index_bits=BITS[bits], huffman=HUFFMAN[huffman] == "on")
        records = {}
        for i, layer in enumerate(layers):
            found = {"weight": encode(layer["shared"][k])}
            if layer["name"] in biases:
                found["bias"] = encode(biases[layer["name"]])
            records[layer["name"]] = found
            row = LayerBytes.of(layer["name"], found)
            parts[(i, *place)] = [getattr(row, part) for part in PARTS]
        around[place] = len(header.write(header.text({}), records)) - parts[(slice(None), *place)][:, 1:].sum()
    return parts, around


def _figure(parts: np.ndarray, around: np.ndarray, bits: int, k: int) -> "Figure":
    """For one k: parts (bits, Huffman, parts) of all layers together and around (bits, Huffman)."""
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    kilobytes = parts[..., 1:] / 1000
    codes, gaps = kilobytes[:, 0, 0], kilobytes[:, 0, 1]
    rest = kilobytes[:, 0, 2:].sum(-1) + around[:, 0] / 1000
    left.bar(BITS, codes, label="which value: indices")
    left.bar(BITS, gaps, bottom=codes, color="0.85", hatch="///", edgecolor="0.4", linewidth=0, label="where: gaps")
    left.bar(BITS, rest, bottom=codes + gaps, color="0.2", linewidth=0, label="all else")
    totals = (kilobytes.sum(-1) + around / 1000).T
    for total, label, style in zip(
        totals, ("without Huffman coding", "with Huffman coding"), ("o-", "s--"), strict=True
    ):
        best = int(total.argmin())
        (line,) = right.plot(BITS, total, style, markersize=4, label=label)
        right.plot(BITS[best], total[best], "v", color=line.get_color(), markersize=9, linestyle="none")
    right.axvline(bits, color="0.4", linewidth=1, linestyle=":", marker="none")
    for axis in (left, right):
        axis.set(xlabel="bits of a gap", ylabel=f"kB with {k} values", xticks=BITS)
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
