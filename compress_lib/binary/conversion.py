"""From a network of floats to its binary or ternary train form, and from that to its packed deploy form. Chapter 08.

The first and the last layer stay real, as in the papers: there are few weights in them, an image has more than two
levels, and logits should have. Where activations become signs, or codes of few bits, a layer takes them itself (`xnor`,
`dorefa`), and the ReLU before it goes; if a pooling stands between the two, as in C-B-A-P order, the activation is
put in its place.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from compress_lib.binary import binaryconnect, bwn, dorefa, packed_weight, ternary, xnor
from compress_lib.binary.binarization import Sign
from compress_lib.network.replacing import replace_

WEIGHTS = {
    "binaryconnect": binaryconnect.convert,
    "binaryconnect-stochastic": lambda model: binaryconnect.convert(model, stochastic=True),
    "bwn": bwn.convert,
    "twn": ternary.convert,
}
ACTIVATIONS = {
    "bnn": {"scale": False},
    "xnor": {"scale": True, "input_scale": True},
    "xnor-without-k": {"scale": True},
    "multibit": {},
}
METHODS = (*WEIGHTS, *ACTIVATIONS)

_TRAIN_FORMS = (xnor.XnorLinear, xnor.XnorConv2d, dorefa.DoReFaLinear, dorefa.DoReFaConv2d)


def convert(model: nn.Module, method: str, *, bits: int = 2) -> nn.Module:
    """The train form of a network, to be trained with `binaryconnect.clip` after each step.

    Parameters
    ----------
    model : nn.Sequential
        As of `models.block_cnn`: layers, normalizations, ReLUs, poolings. Left as it is.
    method : one of `METHODS`.
    bits : int
        Of activations ("multibit" only).

    Returns
    -------
    nn.Sequential
        A copy; its real weights are those of ``model``. A layer that is used twice stays one layer, and real if it is
        the first or the last one.

    Raises
    ------
    TypeError
        If it is no ``nn.Sequential``.
    ValueError
        If the method is unknown, there are no layers but the first and the last, or as the layers' ``from_dense``.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model must be a torch.nn.Sequential, got {type(model).__name__}")
    if method in WEIGHTS:
        return WEIGHTS[method](model)
    converted = copy.deepcopy(model)
    places = [each for each in model.named_modules(remove_duplicate=False) if each[0] and "." not in each[0]]
    layers = {name: module for name, module in places if isinstance(module, (nn.Linear, nn.Conv2d))}
    if len(layers) < 3:
        raise ValueError(f"model must have layers between the first and the last, got {list(layers)}")
    outer = [*layers.values()][:: len(layers) - 1]
    forms: dict[nn.Module, nn.Module] = {}
    train_form, activation = _train_forms(method, bits)
    inner, pooled = False, False  # of what reads the output of a module: is it to be converted, is it pooled before
    for name, module in reversed(places):
        if name in layers:
            inner, pooled = module not in outer, False
            if inner:
                forms[module] = forms.get(module) or train_form(module)
                converted.set_submodule(name, forms[module])
        elif isinstance(module, nn.MaxPool2d):
            pooled = True
        elif isinstance(module, nn.ReLU) and inner:
            converted.set_submodule(name, copy.deepcopy(activation) if pooled else nn.Identity())
    return converted


def _train_forms(method: str, bits: int) -> tuple[Callable[[nn.Module], nn.Module], nn.Module]:
    """What makes the train form of a layer, and the activation that stands where a pooling comes before the layer."""
    linear: Any = dorefa.DoReFaLinear if method == "multibit" else xnor.XnorLinear
    conv: Any = dorefa.DoReFaConv2d if method == "multibit" else xnor.XnorConv2d
    options = {"bits": bits} if method == "multibit" else ACTIVATIONS[method]
    activation = dorefa.QuantizedActivation(bits) if method == "multibit" else Sign()
    return lambda layer: (conv if isinstance(layer, nn.Conv2d) else linear).from_dense(layer, **options), activation


def deploy(model: nn.Module) -> nn.Module:
    """The packed form of a train form: the same outputs, in evaluation mode, from weights of one bit, or two.

    The same to the last bit, of float32 networks. Those of another type are refused where activations are of few bits,
    too, as the operators compute in float32. A layer that is used twice is one packed layer, in both places.

    Parameters
    ----------
    model : nn.Module
        From `convert`, or any network with such layers. Left as it is.

    Returns
    -------
    nn.Module

    Raises
    ------
    TypeError, ValueError
        As for `packed_weight.pack` and the layers' ``to_packed``.
    """
    deployed = packed_weight.pack(model)
    for name, module in model.named_modules():
        if isinstance(module, _TRAIN_FORMS):
            deployed = replace_(deployed, deployed.get_submodule(name), module.to_packed().eval())
    return deployed


def build_deployed(model: nn.Module, settings: Mapping) -> nn.Module:
    """A deployed network with other numbers, to load a state dict into.

    Parameters
    ----------
    model : nn.Module
        The architecture, with any weights.
    settings : mapping
        ``method`` and ``bits``, as for `convert`.

    Returns
    -------
    nn.Module
    """
    return deploy(convert(model, **settings))
