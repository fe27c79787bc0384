"""Codebooks: all weights of a layer share k values, found by k-means and trained on by summed gradients. Chapter 06.

Han, Mao, Dally, "Deep compression", ICLR 2016, arXiv 1510.00149, section 3; before them Gong, Liu, Yang, Bourdev,
"Compressing deep convolutional networks using vector quantization", 2014, arXiv 1412.6115.

On a line, the weights nearest to a centroid are a run of the sorted weights. After one sort and one prefix sum S, a
step of Lloyd's algorithm finds where the k − 1 midpoints between the centroids fall, by binary search, and the mean of
the run from a to b is ``(S_b − S_a) / (b − a)``: O(k log n) in place of O(k n).

To fine-tune, a layer's weight becomes ``c[code]`` with c as the parameter, so ``∂L/∂c_k = Σ_{code_ij = k} ∂L/∂w_ij``.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib.network import targets
from compress_lib.network.parametrized import bake_
from compress_lib.quantization.codebooks.sorted_weights import SortedWeights, to_numpy
from compress_lib.report import LayerRow, Report


def cluster(
    weights: Tensor, k: int, *, init: str = "linear", max_iterations: int = 10_000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on a line, to its fixed point: every centroid the mean of the weights nearest to it.

    A centroid to which no weight is nearest moves into the cluster of the largest error, which is cut in two at its
    mean. That lowers the error, and the k centroids stay different.

    Parameters
    ----------
    weights : Tensor
        Of any shape and floating-point type, finite.
    k : int
        From 1 to the number of distinct weights.
    init : {"linear", "density", "random"}
        Where the centroids start: evenly between the smallest and the largest weight; at the (i + ½)/k quantiles, so
        evenly along the cumulative distribution; or at k distinct weights drawn with ``seed``.
    max_iterations : int
        At least 1. Where it ends the search the centroids may be a step from the fixed point.

    Returns
    -------
    (Tensor, Tensor)
        Centroids (k,), ascending, float64 if the weights are and float32 if not; and for each weight the index of the
        nearest one, in the weights' shape: uint8 up to k = 256, then int16, beyond 32,768 int32.

    Raises
    ------
    TypeError, ValueError
        For an unknown ``init``, ``max_iterations`` below 1, and what `sorted_weights.SortedWeights` refuses.
    """
    if init not in ("linear", "density", "random"):
        raise ValueError(f"init must be 'linear', 'density' or 'random', got {init!r}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    line = SortedWeights(weights, k)
    if init == "linear":
        centroids = np.linspace(line.values[0], line.values[-1], k)
    elif init == "density":
        centroids = line.values[(2 * np.arange(k) + 1) * len(line.values) // (2 * k)]
    else:
        distinct = line.values[line.first]
        drawn = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))[:k]
        centroids = np.sort(distinct[drawn.numpy()])
    before = None
    for _ in range(max_iterations):
        cuts = line.cuts(centroids)
        if (cuts[1:] == cuts[:-1]).any():
            cuts = line.without_empty(cuts)
        if before is not None and np.array_equal(cuts, before):
            break
        centroids, before = line.means(cuts), cuts
    found = torch.from_numpy(centroids.astype(line.dtype)).to(weights.device)
    return found, nearest(weights, found)


def nearest(weights: Tensor, centroids: Tensor) -> Tensor:
    """For each weight the index of the nearest of the ascending centroids, the lower one in a tie; as in `cluster`."""
    values, wide = to_numpy(weights), centroids.detach().double().cpu().numpy()
    midpoints = (wide[:-1] + wide[1:]) / 2
    below = midpoints.astype(values.dtype)
    below = np.where(below > midpoints, np.nextafter(below, -np.inf, dtype=values.dtype), below)  # rounded down: exact
    if len(centroids) > 256:
        codes: np.ndarray = np.searchsorted(below, values).astype(np.int16 if len(centroids) <= 32768 else np.int32)
    else:
        codes = np.zeros(values.shape, np.uint8)
        for midpoint in below:  # a pass per midpoint is for vector units; binary search takes longer, even of 256
            codes += (values > midpoint).view(np.uint8)
    return torch.from_numpy(codes).to(weights.device)


def reconstruct(centroids: Tensor, codes: Tensor) -> Tensor:
    """``centroids[codes]``, differentiable in the centroids: their gradients are the sums over equal codes."""
    return centroids.index_select(0, codes.flatten().int()).view(codes.shape)


def sse(weights: Tensor, centroids: Tensor, codes: Tensor) -> float:
    """The sum of squared errors ``Σ (w − c[code])²``, in double precision."""
    return (weights.detach().double() - reconstruct(centroids.detach().double(), codes)).square().sum().item()


class SharedWeights(nn.Module):
    """A parametrization of ``weight`` by its codebook, the parameter ``parametrizations.weight.original``.

    Parameters
    ----------
    codes : Tensor
        Of the weight's shape: integers below k.
    mask : Tensor
        Of the weight's shape, bool: false where the weight is zero whatever the codebook becomes.
    k : int
        The length of the codebook.
    """

    codes: Tensor
    mask: Tensor

    def __init__(self, codes: Tensor, mask: Tensor, k: int) -> None:
        super().__init__()
        self.k = k
        self.register_buffer("codes", codes)
        self.register_buffer("mask", mask)

    def forward(self, codebook: Tensor) -> Tensor:
        return torch.where(self.mask, reconstruct(codebook, self.codes), 0)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The codebook nearest to a weight, given the codes: the mean of each code's weights, zero for unused ones."""
        codes = self.codes[self.mask].int()
        sums = torch.bincount(codes, weights=weight[self.mask].double(), minlength=self.k)
        return (sums / torch.bincount(codes, minlength=self.k).clamp(min=1)).to(weight.dtype)


@dataclass
class SharedLayer(LayerRow):
    """One layer with shared weights. ``rmse`` is the root mean square change of its kept weights."""

    sparsity: float
    centroids: int
    rmse: float


def convert(
    model: nn.Module, k: int | Mapping[str, int], *, init: str = "linear", seed: int = 0, keep_zeros: bool = True
) -> tuple[nn.Module, Report]:
    """Give the linear and convolution layers codebooks that can be trained on.

    Parameters
    ----------
    model : nn.Module
        Left as it is. Masks and other parametrizations of the weights to share are baked in first.
    k : int or mapping of str to int
        The number of centroids; a mapping names layers and leaves the others alone.
    init, seed : as for `cluster`.
    keep_zeros : bool
        Weights that are zero, masked or baked in, stay zero and take no part in the clustering.

    Returns
    -------
    (nn.Module, Report)
        A copy whose weights are `SharedWeights`, and one `SharedLayer` per layer that has them.

    Raises
    ------
    TypeError, ValueError
        For what `cluster` refuses, with the layer's name; for unknown layers, or a model without such layers.
    """
    layers = targets.prunable(model)
    wanted = k if isinstance(k, Mapping) else dict.fromkeys(layers, k)
    if unknown := sorted(wanted.keys() - layers.keys()):
        raise ValueError(
            f"k names {unknown}, which are not among the layers whose weights can be shared: {list(layers)}"
        )
    shared = copy.deepcopy(model)
    skipped = {name: reason.replace("pruned", "clustered") for name, reason in targets.skipped(model).items()}
    rows = []
    for name in layers:
        layer: Any = shared.get_submodule(name)
        full_name = f"{name}.weight" if name else "weight"
        if name not in wanted:
            skipped[full_name] = "no k given"
            continue
        if parametrize.is_parametrized(layer, "weight"):
            bake_(layer)
        weight = layer.weight.detach()
        kept = weight != 0 if keep_zeros else torch.ones_like(weight, dtype=torch.bool)
        count, total = int(kept.sum()), weight.numel()
        if not count:
            skipped[full_name] = "all its weights are zero"
            continue
        try:
            centroids, found = cluster(weight[kept], wanted[name], init=init, seed=seed)
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from None
        codes = torch.zeros_like(weight, dtype=found.dtype)
        codes[kept] = found
        rmse = math.sqrt(sse(weight[kept], centroids, found) / count)
        rows.append(SharedLayer(name, type(layer).__name__, total, count, 1 - count / total, len(centroids), rmse))
        parametrize.register_parametrization(layer, "weight", SharedWeights(codes, kept, len(centroids)))
        with torch.no_grad():
            layer.parametrizations.weight.original.copy_(centroids)
    return shared, Report(rows, skipped, title="Shared weights")


def learning_rate(model: nn.Module) -> float:
    """A rate to train shared values at: the number of values divided by the number of weights that share them.

    A summed gradient moves a value by the rate times the *sum* of its weights' gradients. At this rate that is, on
    average over the values, the mean of these gradients.

    Raises
    ------
    ValueError
        If the model has no `SharedWeights`.
    """
    shared = [module for module in model.modules() if isinstance(module, SharedWeights)]
    if not shared:
        raise ValueError(f"model must have shared weights, got a {type(model).__name__} without; see convert")
    return sum(module.k for module in shared) / sum(int(module.mask.count_nonzero()) for module in shared)


def deploy(model: nn.Module) -> nn.Module:
    """A copy with plain weights in place of the shared ones."""
    plain = copy.deepcopy(model)
    layer: Any
    for layer in list(plain.modules()):
        stack = layer.parametrizations.weight if parametrize.is_parametrized(layer, "weight") else ()
        if any(isinstance(parametrization, SharedWeights) for parametrization in stack):
            bake_(layer)
    return plain
