"""Least squares after pruning: the layers that lost inputs learn to do without them. Chapter 04.

He, Zhang, Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017, arXiv 1707.06168, equation 3.
Targets are the outputs of the layer in the original network; inputs are what reaches it in the pruned one. Layers are
refitted in the order in which the network runs, so each also corrects the error that has gathered before it.

With Θ the weights and the bias, and patches as in `compress_lib.network.patches`, the refit solves

    min_Θ  Σ ‖y − Θᵀx‖² + ρ ‖W − W₀‖²,        (G + ρI)(Θ − Θ₀) = R − GΘ₀,

with no ρ for the bias. The ridge pulls towards the weights W₀ that the layer has, not towards zero: where the images
say nothing, nothing changes, and since Θ₀ itself costs no penalty, the error on the sampled positions never grows.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress_lib import checks
from compress_lib.network import patches, watching
from compress_lib.network.patches import Moments
from compress_lib.pruning.surgery import SurgeryReport
from compress_lib.report import LayerRow, Report


@dataclass
class RefittedLayer(LayerRow):
    """One refitted layer. The errors are ``Σ ‖y − ŷ‖² / Σ ‖y‖²`` on the sampled positions."""

    samples: int
    error_before: float
    error_after: float


def least_squares(
    original: nn.Module,
    pruned: nn.Module,
    removal: SurgeryReport,
    images: Tensor,
    *,
    samples: int = 10,
    ridge: float = 1e-2,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[nn.Module, Report]:
    """Refit every layer that lost inputs to what it computed in the original network.

    Parameters
    ----------
    original, pruned : nn.Module
        The network before and after `surgery.remove`. Both are left as they are.
    removal : SurgeryReport
        What ``surgery.remove`` said about it.
    images : Tensor
        ``(N, C, H, W)``, uint8 or float; no labels are needed.
    samples : int
        Positions drawn from each output map of each image.
    ridge : float
        ρ in units of the mean square of the layer's inputs, times the number of positions; positive.
    seed, batch_size : int
        Of the draw of positions; images per forward pass.

    Returns
    -------
    model : nn.Module
        A copy of ``pruned`` with new weights, in evaluation mode.
    report : Report
        One `RefittedLayer` per refitted layer; ``skipped`` says why a layer that lost inputs was not refitted.

    Raises
    ------
    ValueError
        If there are no images, or ``samples`` or ``ridge`` is not positive.
    """
    checks.positive("ridge", ridge)
    reference, model = copy.deepcopy(original).eval(), copy.deepcopy(pruned).eval()
    order = watching.in_order(model, removal.kept_inputs, images)
    rows, idle = [], [name for name in removal.kept_inputs if name not in order]
    skipped = dict.fromkeys(idle, "it does not run in evaluation mode")
    for name in order:
        if reason := patches.refusal(model.get_submodule(name)):
            skipped[name] = reason
            continue
        layer = patches.get_layer(model, name)
        sums = patches.moments(
            model,
            name,
            images,
            reference=reference,
            outputs=removal.kept_outputs.get(name),
            samples=samples,
            seed=seed,
            batch_size=batch_size,
        )
        before, after = refit_(layer, sums, ridge=ridge)
        weights, kept = (net.get_parameter(f"{name}.weight").numel() for net in (reference, model))
        rows.append(RefittedLayer(name, type(layer).__name__, weights, kept, sums.samples, before, after))
    warnings = [
        f"layer {row.layer!r} has {row.samples:,} positions for {size:,} unknowns per output; use more images"
        for row in rows
        if row.samples < (size := len(patches.theta(patches.get_layer(model, row.layer))))
    ]
    return model, Report(rows, skipped, warnings, "Least squares of the layers that lost inputs")


def refit_(
    layer: patches.Layer, sums: Moments, *, free: Tensor | None = None, ridge: float = 1e-2
) -> tuple[float, float]:
    """Solve the equations of the module's text for one layer, in place.

    Parameters
    ----------
    layer : one that `patches.refusal` does not refuse.
    sums : its moments, with d + 1 inputs.
    free : (d,) bool, the weights' inputs that may change; all unless given. The others stay as they are.
    ridge : as for `least_squares`.

    Returns
    -------
    The relative error on the sampled positions before and after.
    """
    checks.positive("ridge", ridge)
    theta = patches.theta(layer)
    free = torch.ones(len(theta) - 1, dtype=torch.bool) if free is None else free
    free = torch.cat([free, torch.tensor([layer.bias is not None])])
    penalty = torch.full((len(theta),), ridge, dtype=theta.dtype)
    penalty *= sums.gram.diagonal()[:-1].mean().item() or 1.0  # inputs that are all zero leave the weights alone
    penalty[-1] = 0
    left = sums.gram[free][:, free] + penalty[free].diag()
    right = (sums.cross - sums.gram @ theta)[free]
    refitted = theta.clone()
    refitted[free] += torch.linalg.solve(left, right)
    patches.set_theta_(layer, refitted)
    return sums.error(theta), sums.error(patches.theta(layer))
