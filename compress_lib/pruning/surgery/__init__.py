"""Removing channels from a network: what is left is an ordinary, smaller, dense network. Chapter 03.

`groups` and `remove` answer one question each. A method that asks for the groups and removes some of their units
afterwards builds a `Coupling` once and works with it.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from compress_lib.pruning.surgery.coupling import Coupling, Group
from compress_lib.pruning.surgery.cutting import load, save
from compress_lib.pruning.surgery.removal import SurgeryReport

__all__ = ["Coupling", "Group", "SurgeryReport", "groups", "load", "remove", "save"]


def groups(model: nn.Module, example_input: Tensor) -> list[Group]:
    """The groups of coupled channels of a network, in the order in which its layers make them.

    Parameters
    ----------
    model, example_input : as for `Coupling`.

    Returns
    -------
    list of Group

    Raises
    ------
    TypeError, ValueError
        For what `Coupling` refuses.
    """
    return Coupling(model, example_input).groups


def remove(
    model: nn.Module, example_input: Tensor, removals: Mapping[str, Iterable[int]]
) -> tuple[nn.Module, SurgeryReport]:
    """Remove channels, and all that is coupled to them.

    Parameters
    ----------
    model, example_input : as for `Coupling`.
    removals : mapping of str to iterable of int
        Layer name to the indices of the output channels (features) to remove.

    Returns
    -------
    model : nn.Module
        A smaller network of the same class, with ordinary dense layers.
    report : SurgeryReport
        What shrank, and which channels are left.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        For what `Coupling` and `Coupling.remove` refuse.
    """
    return Coupling(model, example_input).remove(removals)
