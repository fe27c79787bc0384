"""DropNeuron: penalties on the weights into and out of a hidden neuron, which remove whole neurons. Chapter 03.

Pan, Dong, Guo, "DropNeuron: simplifying the structure of deep neural networks", 2016, arXiv 1606.07326.

Neuron j of layer W (outputs, inputs) is constant if its row w_j is zero, and unread if its column a_j in the next
layer's matrix is. Its incoming group is w_j, its outgoing group a_j, and the loss gets λ Σ ‖w_j‖ and λ Σ ‖a_j‖. The
norm is not squared, so that its pull does not fade as the group shrinks; but a gradient step only jumps around zero and
never lands on it. The proximal step does. It solves

    argmin_u  ½‖u − w‖² + τ‖u‖  =  max(0, 1 − τ/‖w‖) w,

which is zero as soon as ‖w‖ ≤ τ. `shrink_` takes that step after each step of the optimizer::

    hidden, _ = find_chains(model)
    fit(…, after_step=lambda model, lr: shrink_(model, hidden, lr * strength, lr * strength))

With momentum μ the optimizer's steps add up to lr/(1 − μ) per gradient, so ``strength`` is λ/(1 − μ). Weight decay
pulls on all weights besides, and leaves zeros alone.
"""

import copy
import operator
from collections.abc import Mapping
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from compress_lib import checks
from compress_lib.pruning import surgery
from compress_lib.pruning.neurons.chains import find_chains


def incoming_penalty(model: nn.Module, hidden: Mapping[str, str]) -> Tensor:
    """``Σ ‖w_j‖``, the lengths of the rows that make the hidden neurons.

    Parameters
    ----------
    model : nn.Module
    hidden : mapping of str to str
        Name of each linear layer that makes neurons to name of the one that reads them, as from `chains.find_chains`.

    Returns
    -------
    Tensor
        Scalar, differentiable, to be scaled and added to the loss. Its gradient at a zero row is zero.
    """
    return reduce(operator.add, (_weight(model, layer).norm(dim=1).sum() for layer in hidden))


def outgoing_penalty(model: nn.Module, hidden: Mapping[str, str]) -> Tensor:
    """``Σ ‖a_j‖``, the lengths of the columns that read the hidden neurons; otherwise as `incoming_penalty`."""
    return reduce(operator.add, (_weight(model, layer).norm(dim=0).sum() for layer in hidden.values()))


def shrunk(weight: Tensor, amount: float, dim: int) -> Tensor:
    """The group soft threshold: every row or column shorter by ``amount``, and zero if it was not longer than that.

    Parameters
    ----------
    weight : Tensor
        (outputs, inputs).
    amount : float
        τ ≥ 0.
    dim : int
        The axis that runs along a group: 1 for rows, 0 for columns.

    Returns
    -------
    Tensor
        As ``weight``: the point closest to it when ``τ · (sum of the groups' lengths)`` is added to half the square of
        the distance.
    """
    length = weight.norm(dim=dim, keepdim=True)
    return torch.where(length > amount, weight * (1 - amount / length), 0)


@torch.no_grad()
def shrink_(model: nn.Module, hidden: Mapping[str, str], incoming: float, outgoing: float) -> None:
    """The proximal step on all hidden neurons, in place.

    A matrix between two hidden layers has groups along both axes: first its columns are shrunk, then its rows. Each
    is the exact proximal step of its own penalty; their composition is that of the sum only up to the square of the
    amounts, which falls with the square of the learning rate.

    Parameters
    ----------
    model : nn.Module
    hidden : mapping of str to str
        As in `incoming_penalty`.
    incoming, outgoing : float
        τ ≥ 0 of the rows and of the columns.

    Raises
    ------
    ValueError
        If an amount is negative or not finite.
    """
    for name, amount in (("incoming", incoming), ("outgoing", outgoing)):
        checks.non_negative(name, amount)
    for layer, consumer in hidden.items():
        rows, columns = _weight(model, layer), _weight(model, consumer)
        rows.copy_(shrunk(rows, incoming, 1))
        columns.copy_(shrunk(columns, outgoing, 0))


@torch.no_grad()
def prune(model: nn.Module, example_input: Tensor) -> tuple[nn.Module, surgery.SurgeryReport]:
    """Remove the hidden neurons whose incoming or outgoing weights are all exactly zero; the function stays the same.

    A neuron with zero incoming weights emits the constant relu(b_j) whatever the input. The next layer gets
    relu(b_j) a_j from it, which moves into that layer's bias; if it has none, the neuron stays. A neuron that vanishes
    may leave others without weights, in the layer before and in the layer after: the search is repeated until it finds
    none.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network, equal to ``model`` in evaluation mode up to rounding, and what shrank. A layer in which
        every neuron vanishes keeps one, which does nothing.

    Raises
    ------
    ValueError
        If the model cannot be traced, or the layers cannot be cut.
    """
    hidden, skipped = find_chains(model)
    folded = copy.deepcopy(model)
    gone = {name: torch.zeros_like(_weight(folded, name)[:, 0], dtype=torch.bool) for name in hidden}
    found = True
    while found:
        found = False
        for name, consumer in hidden.items():
            layer, following = (
                cast(nn.Linear, folded.get_submodule(name)),
                cast(nn.Linear, folded.get_submodule(consumer)),
            )
            vanished = _vanished(layer, following) & ~gone[name]
            if vanished.any():
                _fold_(layer, following, vanished)
                gone[name] |= vanished
                found = True
    warnings = []
    for name, mask in gone.items():
        if stuck := int(((_weight(folded, name) == 0).all(dim=1) & ~mask).sum()):
            skipped[name] = f"constant neurons stay ({stuck}): {hidden[name]!r} has no bias to take what they emit"
        if mask.all():
            warnings.append(f"every neuron of layer {name!r} vanished; one is kept, which does nothing")
            mask[0] = False
    removed = {name: mask.nonzero().flatten().tolist() for name, mask in gone.items()}
    smaller, report = surgery.remove(folded, example_input, removed)
    report.skipped, report.warnings = skipped, warnings
    return smaller, report


def _weight(model: nn.Module, layer: str) -> Tensor:
    return model.get_parameter(f"{layer}.weight")


def _vanished(layer: nn.Linear, consumer: nn.Linear) -> Tensor:
    """(neurons,) true where a neuron can go: it is unread, or it is constant and the constant has where to go."""
    unread = (consumer.weight == 0).all(dim=0)
    constant = (layer.weight == 0).all(dim=1)
    if consumer.bias is None:
        constant &= _emitted(layer) == 0
    return unread | constant


def _fold_(layer: nn.Linear, consumer: nn.Linear, neurons: Tensor) -> None:
    """Move what these neurons emit into the bias of the layer that reads them, and make them do nothing."""
    if consumer.bias is not None:
        consumer.bias.add_(consumer.weight[:, neurons] @ _emitted(layer)[neurons])
    consumer.weight[:, neurons] = 0
    layer.weight[neurons] = 0
    if layer.bias is not None:
        layer.bias[neurons] = 0


def _emitted(layer: nn.Linear) -> Tensor:
    """(neurons,) what comes out of the ReLU for neurons without incoming weights."""
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.relu()
