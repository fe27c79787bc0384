"""Channel pruning by LASSO: keep the channels that a sparse regression keeps. Chapter 04.

He, Zhang, Sun, "Channel pruning for accelerating very deep neural networks", ICCV 2017, arXiv 1707.06168. The layer
that reads the channels computes ``Y = Σ_c X_c W_cᵀ``. One number per channel is fitted,

    min_β  1/(2N) ‖Y − Σ_c β_c Z_c‖² + λ ‖β‖₁,        Z_c = X_c W_cᵀ / ‖W_c‖_F,

and the channels with ``β_c ≠ 0`` are kept. λ is lowered from where all are zero until more than wanted are not. (The
paper raises it until no more are; that differs only where a channel leaves again.) Y comes from the original network,
X from the pruned one. Then the weights are fitted by least squares (`reconstruction`, a tool that other methods use as
well), which absorbs β.

Let ``G_cd = ⟨Z_c, Z_d⟩`` and ``r_c = ⟨Z_c, Y⟩``, let A be the channels in use, s their signs, and μ = Nλ. At the
minimum ``r_A − G_AA β_A = μ s``, so β is a straight line in μ until a channel enters or leaves A::

    β_A = G_AA⁻¹ r_A − μ G_AA⁻¹ s,        |r_c − G_cA β_A| ≤ μ for all c.

Following the line from event to event (Efron et al., "Least angle regression", 2004) finds the sets one after the
other, with no search for λ.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib.network import patches
from compress_lib.pruning.channels import consumers, reconstruction
from compress_lib.pruning.surgery import Coupling, SurgeryReport

_ROUNDING = 1e-9
_EVENTS = 20  # per channel; a path has little more than one


def path(gram: Tensor, correlation: Tensor) -> Iterator[tuple[float, Tensor]]:
    """The minimizers of ``½ βᵀGβ − rᵀβ + μ ‖β‖₁`` where channels enter or leave, from the largest μ down.

    Between two of them β is linear in μ. A channel that is a combination of those in use never enters.

    Parameters
    ----------
    gram : Tensor
        G, (C, C), float64, positive semi-definite.
    correlation : Tensor
        r, (C,), float64.

    Yields
    ------
    penalty : float
        μ, from ``max |r|``, where β is zero, to 0, where it is a least-squares solution.
    beta : Tensor
        (C,), with exact zeros for the channels not in use.
    """
    penalty = correlation.abs().max().item()
    end = _ROUNDING * penalty
    yield penalty, torch.zeros_like(correlation)
    count, first = len(gram), int(correlation.abs().argmax())
    active, signs = [first], [correlation[first].sign().item()]
    for _ in range(_EVENTS * count):
        if penalty == 0:
            return
        sign = correlation.new_tensor(signs)
        right = torch.stack([correlation[active], sign], 1)
        free, slope = torch.linalg.solve(gram[active][:, active], right).unbind(1)
        # The residual correlations are a + μ b. Channel c enters where they reach ±μ on the way down, and a channel in
        # use leaves where its β reaches zero: two rows and one of penalties, where zero stands for never.
        a, b = correlation - gram[:, active] @ free, gram[:, active] @ slope
        closing = torch.stack([1 - b, 1 + b])
        entering = torch.where(closing > _ROUNDING, torch.stack([a, -a]) / closing, 0)
        entering[:, active] = 0
        leaving = torch.where(slope * sign < 0, free / slope, 0)
        events = torch.cat([entering.flatten(), leaving])
        event = int(events.argmax())
        penalty = min(penalty, events[event].item())
        penalty = penalty if penalty > end else 0.0
        beta = torch.zeros_like(correlation)
        beta[active] = free - penalty * slope
        if penalty and event >= 2 * count:
            beta[active.pop(event - 2 * count)] = 0
            signs.pop(event - 2 * count)
        elif penalty:
            active.append(event % count)
            signs.append(1.0 if event < count else -1.0)
        yield penalty, beta
    raise RuntimeError(f"the path of {count} channels does not end; some of them are too much alike")


def select(gram: Tensor, correlation: Tensor, count: int) -> Tensor:
    """The channels that the LASSO keeps.

    Parameters
    ----------
    gram, correlation : Tensor
        G, (C, C); r, (C,). Float64.
    count : int
        How many, from 1 to C: those in use at the last bend of the path before one with more. If they are fewer, those
        of the next bend with the largest ``|β_c| √G_cc`` join, and then those with the largest G_cc.

    Returns
    -------
    Tensor
        (count,) int64, ascending.
    """
    if not 1 <= count <= len(gram):
        raise ValueError(f"count must be from 1 to {len(gram)}, got {count}")
    kept = following = torch.zeros_like(correlation)
    for _, following in path(gram, correlation):
        if following.count_nonzero() > count:
            break
        kept = following
    size = (following.abs() * gram.diagonal().sqrt()).tolist()
    order = sorted(range(len(gram)), key=lambda c: (kept[c] == 0, -size[c], -gram[c, c]))
    return torch.tensor(sorted(order[:count]))


def prune(
    model: nn.Module,
    example_input: Tensor,
    fraction: float | Mapping[str, float],
    images: Tensor,
    *,
    reconstruct: bool = True,
    ridge: float = 1e-2,
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
    reconstruct : bool
        Refit the layers that read the channels by least squares, before the next layer is looked at.
    ridge : as for `reconstruction.least_squares`.
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
    original = copy.deepcopy(model).eval()
    sampling: dict[str, Any] = {"reference": original, "samples": samples, "seed": seed, "batch_size": batch_size}

    def choose_(wide: nn.Module, candidate: consumers.Candidate, count: int) -> Tensor:
        gram, correlation = consumers.measure(wide, candidate, images, **sampling)
        norms = _norms(wide, candidate)
        kept = select(gram / norms / norms[:, None], correlation / norms, candidate.size - count)
        stays = torch.zeros(candidate.size, dtype=torch.bool)
        stays[kept] = True
        consumers.scale_(wide, candidate, stays.to(gram))
        for consumer, units in candidate.consumers.items() if reconstruct else ():
            layer = patches.get_layer(wide, consumer)
            free = patches.per_feature(layer, stays[units] | (units < 0))
            reconstruction.refit_(layer, patches.moments(wide, consumer, images, **sampling), free=free, ridge=ridge)
        return (~stays).nonzero().flatten()

    coupling = Coupling(copy.deepcopy(model).eval(), example_input)
    planned, skipped = consumers.plan(coupling, fraction)
    return consumers.prune_one_by_one(coupling, planned, choose_, skipped, "Channel pruning by LASSO")


def _norms(model: nn.Module, candidate: consumers.Candidate) -> Tensor:
    """``‖W_c‖_F`` over all consumers; 1 for units that nobody reads with a weight other than zero."""
    squares = torch.zeros(candidate.size + 1, dtype=torch.float64)  # the last for −1
    for consumer, units in candidate.consumers.items():
        weight = model.get_parameter(f"{consumer}.weight").detach().double().cpu()
        squares.index_add_(0, units % (candidate.size + 1), weight.transpose(0, 1).flatten(1).square().sum(1))
    norms = squares[:-1].sqrt()
    return torch.where(norms > 0, norms, 1)
