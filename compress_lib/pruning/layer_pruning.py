"""Removing layers: linear probes show which blocks of a network add nothing. Chapter 03.

Chen, Zhao, "Shallowing deep networks: layer-wise pruning based on feature representations", IEEE TPAMI 41(12), 2019.

A probe is a linear classifier on what leaves one block. If the probe after a block is hardly better than the probe
before it, the block did little that the classifier could use, and goes. The others then make up for it by learning
from the original network: see `compress_lib.distillation.logits`.
"""

import copy
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks, training
from compress_lib.network.watching import watching

_BATCH = 500


def probe(
    model: nn.Module,
    blocks: Sequence[str],
    images: Tensor,
    labels: Tensor,
    held_out_images: Tensor,
    held_out_labels: Tensor,
    *,
    l2: float = 1e-3,
) -> dict[str, float]:
    """How well a linear classifier does on the output of each block.

    Features are averaged over positions, so (N, C, H, W) becomes (N, C), then centered and scaled with the mean and the
    standard deviation over ``images``. The classifier is multinomial logistic regression, the minimum of the mean
    cross-entropy + ``l2``/2 · ‖W‖² (biases free), found by L-BFGS in float64 from zero: the same on every run.

    Parameters
    ----------
    model : nn.Module
        Left as it is; runs in evaluation mode.
    blocks : sequence of str
        Names of modules that run once per forward pass, in the network's order. Begin with what comes before the first
        block in question: `select` compares each with the one before it.
    images, labels : Tensor
        To train the probes on: ``(N, C, H, W)`` as in `compress_lib.training.predict`, and ``(N,)`` int64.
    held_out_images, held_out_labels : Tensor
        To score them on.
    l2 : float
        Strength of the penalty, above 0.

    Returns
    -------
    dict of str to float
        Block to accuracy on the held-out images, in [0, 1].

    Raises
    ------
    ValueError
        For a block that does not exist, does not run exactly once or does not return one tensor (N, C, …), for
        numbers of labels that do not fit, or ``l2`` that is not positive.
    """
    checks.positive("l2", l2)
    for name, x, y in (("labels", images, labels), ("held_out_labels", held_out_images, held_out_labels)):
        if len(x) != len(y):
            raise ValueError(f"{name} has {len(y)} entries for {len(x)} images")
    seen, unseen = _features(model, blocks, images), _features(model, blocks, held_out_images)
    accuracies = {}
    for name in blocks:
        mean, deviation = seen[name].mean(dim=0), seen[name].std(dim=0, correction=0)
        deviation[deviation == 0] = 1  # a feature that is constant tells nothing, whatever its scale
        weight, bias = logistic_regression((seen[name] - mean) / deviation, labels, l2)
        logits = (unseen[name] - mean) / deviation @ weight.T + bias
        accuracies[name] = (logits.argmax(dim=1) == held_out_labels).double().mean().item()
    return accuracies


def select(
    accuracies: Mapping[str, float],
    *,
    threshold: float | None = None,
    count: int | None = None,
    among: Collection[str] | None = None,
) -> list[str]:
    """The blocks whose probe improves least on the probe before it.

    Parameters
    ----------
    accuracies : mapping of str to float
        From `probe`, in the network's order. The first has nothing before it and is never selected.
    threshold : float, optional
        Select every block that improves by less than this, in the unit of the accuracies.
    count : int, optional
        Or select so many, those that improve least; the first in the network among equals.
    among : collection of str, optional
        Select from these blocks only, those that can be removed; the comparison is with all that were probed.

    Returns
    -------
    list of str
        In the network's order.

    Raises
    ------
    ValueError
        If not exactly one of ``threshold`` and ``count`` is given, ``count`` is out of range, or ``among`` names a
        block that was not probed or has none before it.
    """
    if (threshold is None) == (count is None):
        raise ValueError(f"give either threshold or count, got threshold={threshold} and count={count}")
    names = list(accuracies)
    gains = {name: accuracies[name] - accuracies[before] for before, name in itertools.pairwise(names)}
    if unknown := sorted(set(among or ()) - gains.keys()):
        raise ValueError(f"among names {unknown}; blocks that have a probe before them are {list(gains)}")
    if among is not None:
        gains = {name: gain for name, gain in gains.items() if name in among}
    if threshold is not None:
        return [name for name, gain in gains.items() if gain < threshold]
    assert count is not None
    if not 0 <= count <= len(gains):
        raise ValueError(f"count must be from 0 to {len(gains)}, got {count}")
    chosen = sorted(gains, key=gains.__getitem__)[:count]
    return [name for name in gains if name in chosen]


def remove(model: nn.Module, example_input: Tensor, names: Collection[str]) -> nn.Module:
    """Replace blocks by the identity.

    A residual block adds something to its input and passes both on, so the identity is what is left of it when that
    something is nothing. A block can go if its output has the shape of its input.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes.
    names : collection of str
        Blocks, as in ``model.named_modules()``.

    Returns
    -------
    nn.Module
        A copy in which an ``nn.Identity`` stands in the place of each.

    Raises
    ------
    TypeError
        If ``names`` is a single string.
    ValueError
        For a block that does not exist, does not run exactly once, or changes the shape of its input.
    """
    if isinstance(names, str):
        raise TypeError(f"names must be a collection of block names, got the single string {names!r}")
    shallow = copy.deepcopy(model)
    found = shapes(model, example_input, names)
    for name in sorted(found, reverse=True):  # what is inside a block before the block
        before, after = found[name]
        if before != after:
            raise ValueError(f"names: block {name!r} cannot go: it turns {before} into {after}")
        shallow.set_submodule(name, nn.Identity())
    return shallow


def shapes(
    model: nn.Module, example_input: Tensor, names: Collection[str]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shapes of what enters and of what leaves some blocks; a block with equal ones can be removed.

    Parameters
    ----------
    model, example_input, names
        As in `remove`.

    Returns
    -------
    dict of str to (tuple of int, tuple of int)

    Raises
    ------
    ValueError
        For a block that does not exist or does not run exactly once.
    """
    found = _watch(model, names, example_input, lambda entering, leaving: (tuple(entering.shape), tuple(leaving.shape)))
    return {name: each[0] for name, each in found.items()}


def logistic_regression(features: Tensor, labels: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Weights (classes, features) and biases (classes,) that minimize mean cross-entropy + ``l2``/2 · ‖W‖².

    Parameters
    ----------
    features : Tensor
        (N, features).
    labels : Tensor
        (N,) int64, from 0.
    l2 : float
        Above 0, so that there is one minimum.

    Returns
    -------
    (Tensor, Tensor)
        float64.
    """
    features = features.double()
    weight = features.new_zeros(int(labels.max()) + 1, features.shape[1], requires_grad=True)
    bias = features.new_zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-6, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(features, weight, bias), labels) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    return weight.detach(), bias.detach()


def _features(model: nn.Module, blocks: Collection[str], images: Tensor) -> dict[str, Tensor]:
    """Block to its output, averaged over positions: (N, C), float64."""

    def pooled(_: Tensor, output: Tensor) -> Tensor:
        return output.double().flatten(2).mean(dim=2).cpu() if output.dim() > 2 else output.double().cpu()

    return {name: torch.cat(parts) for name, parts in _watch(model, blocks, images, pooled).items()}


def _watch(model: nn.Module, names: Collection[str], images: Tensor, what: Callable[[Tensor, Tensor], Any]) -> dict:
    """Block to a list, one entry per batch of images: ``what(input, output)`` of the block."""
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules]:
        raise ValueError(
            f"the model has no block {unknown[0]!r}; its children are {list(dict(model.named_children()))}"
        )
    found: dict[str, list] = {name: [] for name in names}

    def note(name: str, inputs: tuple, output: Tensor) -> None:
        if len(inputs) != 1 or not isinstance(output, Tensor) or output.dim() < 2:
            raise ValueError(f"block {name!r} does not take one tensor and return one of shape (N, C, …)")
        found[name].append(what(inputs[0], output))

    with watching(model, found, note):
        training.predict(model, images, batch_size=_BATCH)
    batches = -(-len(images) // _BATCH)
    for name, parts in found.items():
        if len(parts) != batches:
            raise ValueError(f"block {name!r} runs {len(parts) / batches:g} times per forward pass, not once")
    return found
