"""ThiNet: remove the channels whose contributions to the next layer cancel or vanish. Chapter 04.

Luo, Wu, Lin, "ThiNet: a filter level pruning method for deep neural network compression", ICCV 2017, arXiv 1707.06342.
What the layer after the pruned one computes is a sum over channels, ``y = Σ_c x̂_c``. Removing the set T costs
``Σ (Σ_{c in T} x̂_c)²`` over sampled output values. T grows by the channel that keeps this lowest. With the Gram matrix
``G_cd = Σ x̂_c x̂_d`` and the indicator 1_T the cost is ``1_Tᵀ G 1_T``, and one more channel makes it

    cost(T ∪ {c}) = cost(T) + 2 Σ_{d in T} G_cd + G_cc:

after the sums are kept up to date, a step takes O(C). Then the weights of each channel left are multiplied by a number,
by least squares. The paper draws one output channel per sampled position; G is summed over all of them here.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compress_lib.pruning.channels import consumers
from compress_lib.pruning.surgery import Coupling, SurgeryReport


def greedy(gram: Tensor, count: int) -> Tensor:
    """The channels to remove, by greedy growth from the empty set.

    Parameters
    ----------
    gram : Tensor
        (C, C), ``Σ x̂_c x̂_d``.
    count : int
        How many, from 0 to C.

    Returns
    -------
    Tensor
        (count,) int64, in the order of removal; the lower index first among equals.
    """
    if not 0 <= count <= len(gram):
        raise ValueError(f"count must be from 0 to {len(gram)}, got {count}")
    growth = gram.diagonal().clone()  # what adding a channel would add to the cost
    removed = []
    for _ in range(count):
        removed.append(int(growth.argmin()))
        growth += 2 * gram[:, removed[-1]]
        growth[removed[-1]] = torch.inf
    return torch.tensor(removed, dtype=torch.long)


def channel_scales(gram: Tensor, correlation: Tensor, kept: Tensor, *, ridge: float = 1e-6) -> Tensor:
    """The numbers w that minimize ``Σ (y − Σ_{c kept} w_c x̂_c)²``.

    The normal equations are ``G_kk w = r_k``; a ridge of ``ridge`` times the mean diagonal pulls towards 1.

    Parameters
    ----------
    gram : Tensor
        (C, C), ``Σ x̂_c x̂_d``.
    correlation : Tensor
        (C,), r, ``Σ x̂_c y``; where y is the sum of all contributions it is ``G 1``.
    kept : Tensor
        (K,) indices.

    Returns
    -------
    Tensor
        (K,)
    """
    left = gram[kept][:, kept]
    penalty = ridge * (left.diagonal().mean().item() or 1.0) * torch.eye(len(kept), dtype=gram.dtype)
    return 1 + torch.linalg.solve(left + penalty, correlation[kept] - left.sum(1))


def prune(
    model: nn.Module,
    example_input: Tensor,
    fraction: float | Mapping[str, float],
    images: Tensor,
    *,
    rescale: bool = True,
    samples: int = 10,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[nn.Module, SurgeryReport]:
    """Remove channels of some layers, one layer after the other in the order in which the network runs.

    Parameters
    ----------
    model, example_input : as for `surgery.remove`.
    fraction : float or mapping of str to float
        In [0, 1): ``⌊fraction · n⌋`` of the n units (see `surgery.Group`) that a layer's output channels make up, never
        all. A mapping names layers. If several layers read the channels, all their outputs count.
    images : Tensor
        ``(N, C, H, W)``, uint8 or float; no labels are needed.
    rescale : bool
        Multiply the weights of the channels left, in the layers that read them, by `channel_scales`.
    samples, seed, batch_size : as for `patches.moments`.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network, in evaluation mode; ``skipped`` says why the other layers keep their channels.

    Raises
    ------
    TypeError, ValueError
        For what `consumers.plan` and `surgery.remove` refuse.
    """

    def choose_(wide: nn.Module, candidate: consumers.Candidate, count: int) -> Tensor:
        gram, _ = consumers.measure(wide, candidate, images, samples=samples, seed=seed, batch_size=batch_size)
        removed = greedy(gram, count)
        scales = torch.ones(candidate.size, dtype=gram.dtype)
        scales[removed] = 0
        if rescale:
            kept = scales.nonzero().flatten()
            scales[kept] = channel_scales(gram, gram.sum(1), kept)
        consumers.scale_(wide, candidate, scales)
        return removed

    coupling = Coupling(copy.deepcopy(model).eval(), example_input)
    planned, skipped = consumers.plan(coupling, fraction)
    return consumers.prune_one_by_one(coupling, planned, choose_, skipped, "ThiNet")
