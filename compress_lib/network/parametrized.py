"""Layers whose weight is computed from other tensors (``torch.nn.utils.parametrize``): made, and made plain again."""

import copy
from collections.abc import Callable, Iterable

from torch import nn
from torch.nn.utils import parametrize

from compress_lib.network import targets

_KINDS = (nn.Linear, nn.Conv2d)


def parametrize_weights(model: nn.Module, layers: Iterable[str] | None, make: Callable[[], nn.Module]) -> nn.Module:
    """A copy with a parametrization on the ``weight`` of some layers.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    layers : iterable of str, optional
        Names of layers of the kinds ``nn.Linear`` and ``nn.Conv2d``; without it all but the first and the last.
    make : callable
        Makes the parametrization of one layer.

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError
        If ``model`` is no module, or ``layers`` a single string.
    ValueError
        If there is no such layer, it is parametrized already, or none is left.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be an iterable of names, got the single string {layers!r}")
    found = {name: layer for name, layer in targets.prunable(model).items() if isinstance(layer, _KINDS)}
    names = list(found)[1:-1] if layers is None else list(layers)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"layers names {unknown}; the linear layers and convolutions of the model are {list(found)}")
    if taken := [name for name in names if parametrize.is_parametrized(found[name])]:
        raise ValueError(f"layers must not be parametrized before, but {taken} are")
    if not names:
        raise ValueError(f"layers must name one at least: without the first and the last of {list(found)} none is left")
    converted = copy.deepcopy(model)
    for name in names:
        parametrize.register_parametrization(converted.get_submodule(name), "weight", make())
    return converted


def bake_(layer: nn.Module) -> None:
    """Replace a layer's parametrized ``weight`` by its value, in place: whatever the parametrization, it is gone.

    Raises
    ------
    ValueError
        If the weight is not parametrized.
    """
    # A deep copy shares the class that holds the property ``weight`` with its source, and removing the
    # parametrization deletes that property: without a class of its own, the source would break.
    cls = type(layer)
    layer.__class__ = type(cls.__name__, cls.__bases__, dict(vars(cls)))
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    if "bias" in layer._parameters:  # the weight came back last: restore the usual order weight, bias
        bias = layer._parameters["bias"]
        del layer.bias
        layer.register_parameter("bias", bias)
