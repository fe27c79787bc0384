"""Deep compression: prune, share, and leave what an entropy coder likes. Chapter 07.

Han, Mao, Dally, "Deep compression: compressing deep neural networks with pruning, trained quantization and Huffman
coding", ICLR 2016, arXiv 1510.00149. Three steps, each of which starts from what the one before left:

1. prune by magnitude, layer by layer, and train the survivors on, in rounds;
2. let the survivors of a layer share k values, and train the values on by summed gradients;
3. encode what is left: for each survivor the index of its value and the gap to the survivor before, both Huffman-coded.

The first two are here and give a plain network with few distinct weights. The third is `compress_lib.container`,
which finds the zeros and the shared values by itself and loses nothing.
"""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib import training
from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.pruning.weights.schedule import sparsity_schedule
from compress_lib.quantization.codebooks import kmeans
from compress_lib.report import Report

__all__ = ["compress"]


def compress(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    keep: Mapping[str, float],
    k: int | Mapping[str, int],
    rounds: int = 3,
    epochs: int = 4,
    lr: float = 0.02,
    share_epochs: int = 2,
    share_lr: float | None = None,
    seed: int = 0,
    objective: training.Objective = training.cross_entropy,
    before_sharing: Callable[[nn.Module], nn.Module] | None = None,
    on_stage: Callable[[str, nn.Module], None] | None = None,
    work: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[nn.Module, Report]:
    """Prune, share and fine-tune a trained network.

    Codebooks, biases and all other numbers are rounded to float16 at the end: a codebook is a part of the file that
    does not shrink with pruning.

    Parameters
    ----------
    model : nn.Module
        A trained network; left as it is.
    images, labels : Tensor
        The training set, as for `compress_lib.training.fit`.
    keep : mapping of str to float
        Layer name to the fraction of its weights that survive, in (0, 1]. Layers that it does not name keep all.
    k : int or mapping of str to int
        The number of values that the survivors share, for all layers of ``keep`` or by name; at most so many as there
        are different survivors.
    rounds, epochs, lr : int, int, float
        Pruning takes ``rounds`` steps, each keeping the same fraction of what is left, with ``epochs`` of training at
        the peak rate ``lr`` after each.
    share_epochs, share_lr : int, float
        Of the training of the shared values; without a rate, that of `kmeans.learning_rate`.
    seed : int
        Of the training.
    objective : callable
        As for `compress_lib.training.fit`; the default is cross-entropy.
    before_sharing : callable, optional
        Takes the pruned network and returns the one whose weights are to be shared, of layers with the same names:
        where batch normalizations are folded, which keeps zeros, and would make shared values different again.
    on_stage : callable, optional
        Called with "pruned", "shared" and "tuned" and the plain network at that stage.
    work : path, optional
        Directory for the state of each training, so that the same call goes on after an interruption.
    progress : bool
        Show bars.

    Returns
    -------
    (nn.Module, Report)
        A plain network in evaluation mode, and one `kmeans.SharedLayer` per layer whose weights are shared.

    Raises
    ------
    TypeError, ValueError
        For what `magnitude.prune`, `kmeans.convert` and `training.fit` refuse, for a ``k`` whose layers are not those
        of ``keep``, and for numbers that float16 cannot hold.
    """
    sparsities = _sparsities(keep, rounds)
    centroids = dict.fromkeys(keep, k) if not isinstance(k, Mapping) else dict(k)
    if centroids.keys() != keep.keys():
        raise ValueError(f"k must name the layers of keep, {list(keep)}, got {list(centroids)}")
    if work is not None:
        Path(work).mkdir(parents=True, exist_ok=True)

    def fit(network: nn.Module, phase: str, epochs: int, seed: int, lr: float, **options: Any) -> None:
        checkpoint = None if work is None else Path(work) / f"{phase}.pt"
        training.fit(network, images, labels, epochs=epochs, seed=seed, lr=lr, objective=objective,
                     checkpoint=checkpoint, progress=progress, **options)  # fmt: skip

    def stage(name: str, network: nn.Module) -> nn.Module:
        if on_stage is not None:
            on_stage(name, network)
        return network

    pruned = model
    for step, sparsity in enumerate(sparsities):
        pruned, _ = magnitude.prune(pruned, sparsity, scope="layer")
        fit(pruned, f"round-{step}", epochs, seed * 1000 + step, lr)
    pruned = masks.deploy(pruned)
    pruned = stage("pruned", pruned if before_sharing is None else before_sharing(pruned))
    shared, report = kmeans.convert(pruned, centroids)
    stage("shared", kmeans.deploy(shared))
    if share_epochs:  # no decay: it would pull values to zero that thousands of weights were chosen for
        phase = "share-" + "-".join(str(count) for count in centroids.values())
        rate = kmeans.learning_rate(shared) if share_lr is None else share_lr
        fit(shared, phase, share_epochs, seed * 1000 + rounds, rate, weight_decay=0.0)
    tuned = stage("tuned", _in_half_precision(kmeans.deploy(shared)).eval())
    return tuned, Report(report.rows, report.skipped, report.warnings, title="Deep compression")


def _sparsities(keep: Mapping[str, float], rounds: int) -> list[dict[str, float]]:
    """For each round, layer name to sparsity."""
    if not isinstance(keep, Mapping) or not keep:
        raise TypeError(f"keep must map layer names to fractions, got {keep!r}")
    for name, fraction in keep.items():
        if not 0 < fraction <= 1:
            raise ValueError(f"keep[{name!r}] must be in (0, 1], got {fraction}")
    steps = {name: sparsity_schedule(1 - fraction, rounds) for name, fraction in keep.items()}
    return [{name: values[t] for name, values in steps.items()} for t in range(rounds)]


def _in_half_precision(model: nn.Module) -> nn.Module:
    """A copy whose numbers float16 holds exactly."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for name, tensor in rounded.state_dict().items():
            if tensor.is_floating_point():
                half = tensor.half().to(tensor.dtype)
                if not half.isfinite().all():
                    raise ValueError(f"{name!r} has numbers that float16 cannot hold, up to {tensor.abs().max():.4g}")
                tensor.copy_(half)
    return rounded
