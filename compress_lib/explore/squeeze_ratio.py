"""SqueezeNet's fire modules, squeezed more or less. Chapter 13; the computation is in ``squeeze_ratio.mjs``.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", arXiv 1602.07360,
section 5: its squeeze ratio SR, and the share of 3×3 filters in the expand layers.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from compress_lib import cost
from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.models.alexnet import alexnet_caffe
from compress_lib.models.squeezenet import Fire, SqueezeNet, squeezenet1_0

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = [i / 16 for i in range(1, 17)]
PERCENTS = [100 * i / 8 for i in range(9)]
FIRES = [f"fire{i}" for i in range(2, 10)]  # as the paper counts: layer 1 is a convolution
PAPER = 1 / 8
PARTS = {"squeeze": "squeeze", "expand1x1": "expand 1×1", "expand3x3": "expand 3×3"}
REST = "the rest"


def explorer(
    *,
    squeeze_ratio: float = PAPER,
    percent_3x3: float = 50,
    fire: str = "fire2",
    accuracies: Mapping[float, float] | None = None,
) -> Explorer:
    """The explorer of the squeeze ratio of SqueezeNet 1.0, beside AlexNet and beside plain 3×3 convolutions.

    Images are of 224×224 pixels, AlexNet's (Caffe's, in two groups) of 227×227.

    Parameters
    ----------
    squeeze_ratio : float
        At the start, SR = s₁ / (e₁ + e₃), a multiple of 1/16 up to 1.
    percent_3x3 : float
        At the start, 100 e₃ / (e₁ + e₃), a multiple of 12.5 up to 100.
    fire : str
        The fire module that is looked at, "fire2" to "fire9".
    accuracies : mapping of float to float, optional
        Squeeze ratio to the accuracy in [0, 1] that was measured with squeezenet-small, half of whose expand filters
        are 3×3. Without any there is no chart of them.

    Returns
    -------
    Explorer
        With ``results`` params, nbytes (4 for each) and macs of the network, fewer_than_alexnet and fewer_than_plain
        (their parameters ÷ params), macs_to_alexnet (macs ÷ AlexNet's), fire_params and fire_macs, and accuracy (None
        where none was measured).

    Raises
    ------
    ValueError
        If an argument is none that the controls allow, or an accuracy is at no such squeeze ratio or outside [0, 1].
    """
    accuracies = {} if accuracies is None else accuracies
    if unknown := [ratio for ratio in accuracies if ratio not in RATIOS]:
        raise ValueError(f"accuracies must have keys among the multiples of 1/16 up to 1, got {unknown}")
    scores = measured.accuracies(accuracies.values(), len(accuracies), "accuracies")
    ordered = sorted(zip(map(float, accuracies), scores, strict=True))
    controls = [
        slider("ratio", "squeeze ratio SR", RATIOS, squeeze_ratio),
        slider("percent", "3×3 of the expand filters", PERCENTS, percent_3x3, "%"),
        choice("fire", "fire module", FIRES, fire),
    ]
    figure, numbers = _figure()
    return Explorer(
        "squeeze_ratio",
        controls=controls,
        title="How narrow may the squeeze layers be?",
        data=_networks() | {"ratios": RATIOS, "measured": [list(pair) for pair in ordered]},
        fallback=lambda: figure,
        alt=(
            "Stacked bars of the parameters of SqueezeNet 1.0 in its squeeze layers, expand layers and the "
            "rest, against "
            f"the squeeze ratio: {numbers}. The expand layers' 3×3 filters are the largest part at every ratio."
        ),
    )


def _squeezenet(ratio: float) -> tuple[SqueezeNet, cost.Cost]:
    with torch.device("meta"):  # shapes are enough: no weights are drawn
        model = squeezenet1_0(squeeze_ratio=ratio)
    return model, cost.count(model, (3, 224, 224))


def _networks() -> dict:
    """What the page needs to count: the shapes of the fire modules, and all that no slider changes."""
    model, costs = _squeezenet(PAPER)
    sides = {row.name: row.output_shape[-1] for row in costs.layers if row.output_shape}
    convolutions = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    fires = [name for name, module in model.named_modules() if isinstance(module, Fire)]
    rest = [row for row in costs.layers if not row.name.startswith(tuple(f"{name}." for name in fires))]
    with torch.device("meta"):
        alexnet = cost.count(alexnet_caffe(), (3, 227, 227))
    return {
        "fires": [
            {
                "name": shown,
                "inputs": convolutions[f"{name}.squeeze.0"].in_channels,
                "width": sum(convolutions[f"{name}.{part}.0"].out_channels for part in ("expand1x1", "expand3x3")),
                "side": sides[f"{name}.squeeze.0"],
            }
            for shown, name in zip(FIRES, fires, strict=True)
        ],
        "rest": {"params": sum(row.params for row in rest), "macs": sum(row.macs for row in rest)},
        "alexnet": {"params": alexnet.params, "macs": alexnet.macs},
    }


def _figure() -> tuple["Figure", str]:
    """Parameters by part at the paper's squeeze ratios, and their totals in words."""
    from matplotlib import pyplot as plt

    ratios = [0.125, 0.25, 0.5, 0.75, 1.0]
    counts = [_squeezenet(ratio)[1] for ratio in ratios]
    parts = {
        label: [sum(row.params for row in c.layers if f".{part}." in row.name) / 1e6 for c in counts]
        for part, label in PARTS.items()
    }
    parts[REST] = [c.params / 1e6 - sum(values[i] for values in parts.values()) for i, c in enumerate(counts)]
    figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    bottom = [0.0] * len(ratios)
    for (label, values), (gray, hatch) in zip(
        parts.items(), (("0.25", ""), ("0.6", ""), ("0.85", "//"), ("1", "..")), strict=True
    ):
        axis.bar(range(len(ratios)), values, 0.6, bottom=bottom, label=label, color=gray, hatch=hatch, edgecolor="0.25")
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axis.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axis.set(xlabel="squeeze ratio", ylabel="parameters, millions")
    axis.legend(frameon=False, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)
    return figure, ", ".join(f"{c.params:,} at {ratio:g}" for ratio, c in zip(ratios, counts, strict=True))
