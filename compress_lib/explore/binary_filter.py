"""Real filters in one bit or two: signs and a scale. Chapter 08.

The computation is in ``binary_filter.mjs``; the product of signs, bit by bit, is in `xnor_popcount`. The scale of signs
is that of Rastegari et al., "XNOR-Net", ECCV 2016, arXiv 1603.05279 (`compress_lib.binary.binarization`); threshold and
scale of signs with zeros are those of Li, Zhang, Liu, "Ternary weight networks", arXiv 1605.04711
(`compress_lib.binary.ternary`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress_lib.binary import binarization, ternary
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.ops.packing import WORD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = ("binary", "ternary")
PERCENTS = range(0, 201, 5)
FILTERS = 8  # at most: each is a row of a table


def explorer(
    filters: Mapping[str, np.ndarray],
    patch: np.ndarray,
    *,
    weights: str = "binary",
    percent: int = 100,
) -> Explorer:
    """The explorer of some filters of a convolution, and of their product with one patch of its input.

    W is nearest to αB with the signs B of W (that of 0 is +1) and α = mean ``|W|``, or, where weights up to Δ = 0.7
    mean ``|W|`` become 0, with the mean of the other magnitudes, filter by filter: ``binarize.scale`` and
    ``ternary.ternary(weight, per_filter=True)``. With K = mean ``|x|`` over the patch, x·W ≈ α K (sign x · B), which
    for signs is ``xnor.XnorConv2d`` with ``input_scale=True``.

    Parameters
    ----------
    filters : mapping of str to array of shape (in, kh, kw)
        One to eight, name to weights, of one shape, rounded to float32. The first is shown at the start.
    patch : array of shape (in, kh, kw)
        What the filters see at one place of the layer's input, rounded to float32. Take it where a binary layer has its
        input, after a batch normalization: after a ReLU there would be one sign only.
    weights : {"binary", "ternary"}
        At the start.
    percent : int
        At the start: α in percent of the best, a multiple of 5 from 0 to 200.

    Returns
    -------
    Explorer
        With ``results`` alpha (the scale as set), error (``‖W − αB‖² / ‖W‖²``), kept (weights of B that are not 0),
        nbytes (packed: 8 for each word of up to 64 channels at one place of the kernel, twice that with zeros, and 4
        for the scale), signs (sign x · B), scaled (α K times that), real_input (α (x · B)) and exact (x · W).

    Raises
    ------
    ValueError
        If the arrays are none that `checked` takes, the start is none the controls allow, or all are too large for a
        page.
    """
    given, patch = checked(filters, patch)
    first = next(iter(given))
    channels, *kernel = patch.shape
    return Explorer(
        "binary_filter",
        controls=[
            slider("percent", "α ÷ best α", PERCENTS, percent, "%"),
            choice("weights", "weights", WEIGHTS, weights),
            choice("filter", "filter", list(given), first),
        ],
        title="How much of a filter is in its signs?",
        data={
            "filters": [{"name": name, "values": values} for name, values in given.items()],
            "patch": patch,
            "ratio": ternary.RATIO,
            "word": WORD,
        },
        fallback=lambda: _figure(first, torch.from_numpy(given[first]), torch.from_numpy(patch), weights),
        alt=(
            f"Left, the squared error of {first} in one bit per weight and in two, against the scale α: two parabolas "
            "from 100 % at α = 0 down to their least and up again. Right, the running sums of its product "
            "with a patch "
            f"of {channels} × {kernel[0]} × {kernel[1]} numbers: x·W, with {weights} weights, and with signs of x too."
        ),
    )


def checked(filters: Mapping[str, np.ndarray], patch: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Filters and a patch of one shape, in float32.

    Raises
    ------
    ValueError
        If there are no filters or more than eight, an array is not finite, has not three axes or is 0 throughout, or
        the shapes differ.
    """
    if not 1 <= len(filters) <= FILTERS:
        raise ValueError(f"filters must name one to {FILTERS} filters, got {list(filters)}")
    given = {name: _numbers(f"filters[{name!r}]", values) for name, values in filters.items()}
    first, shape = next((name, values.shape) for name, values in given.items())
    for name, values in given.items():
        if values.shape != shape:
            raise ValueError(f"filters must have one shape, got {shape} for {first!r} and {values.shape} for {name!r}")
    patch = _numbers("patch", patch)
    if patch.shape != shape:
        raise ValueError(f"patch must have the shape of the filters, {shape}, got {patch.shape}")
    return given, patch


def _numbers(where: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # an infinity is refused below
        numbers = np.asarray(values, dtype=np.float32)
    if numbers.ndim != 3 or not numbers.size:
        raise ValueError(f"{where} must have the shape (in, kh, kw), no axis empty, got {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{where} must be finite, got NaN or infinity")
    if not numbers.any():
        raise ValueError(f"{where} must hold a number other than 0, got {numbers.size} zeros")
    return numbers


def _forms(weight: torch.Tensor) -> dict[str, tuple[torch.Tensor, float]]:
    """Signs, without zeros and with them, and the best scale of each."""
    kept, alpha = ternary.approximate(weight[None], per_filter=True)
    signs = binarization.sign(weight)
    return {"binary": (signs, binarization.scale(weight[None]).item()), "ternary": (signs * kept[0], alpha.item())}


def _figure(name: str, weight: torch.Tensor, patch: torch.Tensor, weights: str) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    forms = _forms(weight)
    shares = np.array(PERCENTS) / 100
    for (form, (signs, best)), style in zip(forms.items(), ("-", "--"), strict=True):
        errors = [((weight - share * best * signs).square().sum() / weight.square().sum()).item() for share in shares]
        (curve,) = left.plot(shares * best, errors, style, marker="none", label=form)
        left.plot(best, min(errors), "o", color=curve.get_color())
    left.set(xlabel=f"scale α of {name}", ylabel="squared error ÷ ‖W‖²", ylim=(0, 1.02))
    signs, best = forms[weights]
    x, w, b = (values.permute(1, 2, 0).ravel() for values in (patch, weight, signs))
    sums = {
        "x·W": x * w,
        "α (x·B)": best * x * b,
        "αK (sign x·B)": best * x.abs().mean() * binarization.sign(x) * b,
    }
    for (label, products), style in zip(sums.items(), ("-", "--", ":"), strict=True):
        right.plot(np.arange(len(x) + 1), [0, *products.cumsum(0)], style, marker="none", label=label)
    right.set(xlabel="elements multiplied", ylabel="sum so far")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
