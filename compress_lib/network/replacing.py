"""Putting one layer in the place of another, wherever a network holds it."""

from torch import nn


def replace_(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put ``new`` wherever ``model`` holds ``old``, in place.

    A module may stand in several places (a shared layer, an activation function that is used twice): all change.

    Parameters
    ----------
    model : nn.Module
        Changed in place, unless it is ``old`` itself.
    old, new : nn.Module

    Returns
    -------
    nn.Module
        ``model``, or ``new`` if the model itself is what was replaced.
    """
    if model is old:
        return new
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
    return model
