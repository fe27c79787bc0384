"""Removing neurons without data: a neuron that is a copy of another, up to scale, is merged into it. Chapter 03.

Srinivas, Babu, "Data-free parameter pruning for deep neural networks", BMVC 2015, arXiv 1507.06149.

Neuron j has incoming weights w_j and bias b_j and enters the next layer with the weights a_j, a column. A ReLU lets a
positive factor pass, so with α_j = ‖w_j‖

    a_j relu(w_j·x + b_j) = (α_j a_j) relu(ŵ_j·x + b̂_j),    ŵ_j = w_j/α_j,    b̂_j = b_j/α_j.

Replacing neuron j by neuron i changes what the next layer gets by α_j a_j (relu(ŵ_i·x + b̂_i) − relu(ŵ_j·x + b̂_j)). As
``|relu(u) − relu(v)| ≤ |u − v|``, its mean square over the next layer's neurons is at most s_ij ‖(x, 1)‖², where

    s_ij = ⟨(α_j a_j)²⟩ ‖ε_ij‖²,    ε_ij = (ŵ_i − ŵ_j, b̂_i − b̂_j).

The pair with the smallest s_ij is merged: a_i ← a_i + (α_j/α_i) a_j, and j goes. The merge is exact where ε_ij = 0: the
weights *and the bias* of j are those of i times one positive number.
"""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compress_lib.pruning import surgery
from compress_lib.pruning.neurons.chains import find_chains


class Merge(NamedTuple):
    """Neuron ``removed`` is merged into neuron ``into``, at the cost ``saliency`` (s_ij)."""

    removed: int
    into: int
    saliency: float


def merge_order(weight: Tensor, bias: Tensor | None, next_weight: Tensor, count: int) -> tuple[list[Merge], Tensor]:
    """Which neurons to merge into which, smallest saliency first; saliencies are computed again after every merge.

    Parameters
    ----------
    weight : Tensor
        (neurons, inputs), the incoming weights w. A neuron without any (a zero row) keeps its scale: α = 1.
    bias : Tensor, optional
        (neurons,), their biases b.
    next_weight : Tensor
        (outputs, neurons), the outgoing weights a, one column per neuron.
    count : int
        How many neurons to remove, from 0 to neurons − 1.

    Returns
    -------
    (list of Merge, Tensor)
        The merges in order, and ``next_weight`` after them in float64; the columns of removed neurons are zero.

    Raises
    ------
    ValueError
        If the shapes do not fit together, a weight is not finite, or ``count`` is out of range.
    """
    neurons = len(weight)
    weight, next_weight = weight.detach().double(), next_weight.detach().double()
    bias = weight.new_zeros(neurons) if bias is None else bias.detach().double()
    _check(weight, bias, next_weight, count)
    norm = weight.norm(dim=1)
    alpha = torch.where(norm > 0, norm, 1)
    outgoing = next_weight * alpha
    distance = _squared_distances(weight / alpha[:, None], bias / alpha)
    # The saliency of removing j is its outgoing mean square times the distance to the neuron nearest to it.
    nearest, partner = distance.min(dim=0)
    energy = outgoing.square().mean(dim=0)
    alive = torch.ones_like(norm, dtype=torch.bool)
    merges = []
    for _ in range(count):
        saliency = torch.where(alive, energy * nearest, torch.inf)
        j = int(saliency.argmin())
        i = int(partner[j])
        merges.append(Merge(j, i, float(saliency[j])))
        outgoing[:, i] += outgoing[:, j]
        outgoing[:, j] = 0
        energy[i] = outgoing[:, i].square().mean()
        alive[j] = False
        distance[j] = torch.inf
        orphans = partner == j
        nearest[orphans], partner[orphans] = distance[:, orphans].min(dim=0)
    return merges, outgoing / alpha


def prune(
    model: nn.Module, example_input: Tensor, counts: Mapping[str, int], *, merge: bool = True
) -> tuple[nn.Module, surgery.SurgeryReport]:
    """Remove hidden neurons of linear layers, merging each into the most similar one.

    Layers are treated in the network's order, each on the weights that the merges before it left.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        What the model takes, a batch of one or more; only its shape counts.
    counts : mapping of str to int
        Name of a linear layer to the number of neurons that it loses. The layer must be followed by a ReLU and then by
        exactly one linear layer.
    merge : bool
        If false, the same neurons are removed without being merged: the control experiment.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network and what `surgery.remove` says about it.

    Raises
    ------
    ValueError
        For a layer that is unknown or not followed as above, with the reason, or a count that is out of range.
    """
    found, refused = find_chains(model)
    for name in counts:
        if name not in found:
            reason = refused.get(name, "it is not a linear layer of the network")
            raise ValueError(f"counts names {name!r}: {reason}; possible are {list(found)}")
    merged, removed = copy.deepcopy(model), {}
    for name, consumer in found.items():
        if name in counts:
            bias = merged.get_submodule(name)._parameters["bias"]
            weight, following = (merged.get_parameter(f"{layer}.weight") for layer in (name, consumer))
            try:
                merges, next_weight = merge_order(weight, bias, following, counts[name])
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from None
            following.data.copy_(next_weight)
            removed[name] = [step.removed for step in merges]
    smaller, report = surgery.remove(merged if merge else model, example_input, removed)
    report.skipped = refused | {name: "no count given" for name in found if name not in counts}
    return smaller, report


def _squared_distances(weight: Tensor, bias: Tensor) -> Tensor:
    """(neurons, neurons) of ‖ε_ij‖², infinite on the diagonal: no neuron is merged into itself."""
    squares = weight.square().sum(dim=1)
    apart = (squares[:, None] + squares - 2 * weight @ weight.T).clamp_min(0)
    # Not in the product above: a bias may be huge beside the unit weights and would drown their difference.
    return (apart + (bias[:, None] - bias).square()).fill_diagonal_(torch.inf)


def _check(weight: Tensor, bias: Tensor, next_weight: Tensor, count: int) -> None:
    if (
        weight.dim() != 2
        or next_weight.dim() != 2
        or bias.shape != weight.shape[:1]
        or len(weight) != next_weight.shape[1]
    ):
        raise ValueError(
            "weight, bias and next_weight must be (neurons, inputs), (neurons,) and (outputs, neurons), "
            f"got {tuple(weight.shape)}, {tuple(bias.shape)} and {tuple(next_weight.shape)}"
        )
    if not all(tensor.isfinite().all() for tensor in (weight, bias, next_weight)):
        raise ValueError("weight, bias or next_weight has NaN or infinite entries")
    if not 0 <= count < len(weight):
        raise ValueError(f"count must be from 0 to {len(weight) - 1}, got {count}")
