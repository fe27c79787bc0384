"""Masks: the train form of a pruned network, and the way back to a plain one. Chapter 02.

A pruned weight is ``mask * original``. The mask is a parametrization (``torch.nn.utils.parametrize``), so every use of
``layer.weight`` sees the zeros, the gradient of a removed weight is exactly zero, and the surviving weights train on
from their values. `deploy` bakes the zeros in and returns an ordinary dense network.

A mask makes nothing smaller or faster: it is one more boolean per weight to store and one more pass over the weights
per step.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib.network import targets
from compress_lib.network.parametrized import bake_


class Mask(nn.Module):
    """Keep the weights where ``mask`` is true and replace the others by zero.

    The zeros are selected, not multiplied: a removed weight stays zero whatever its hidden original becomes, even
    infinite or NaN.
    """

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0)


def apply(model: nn.Module, keep: Mapping[str, Tensor]) -> nn.Module:
    """Mask the weights of some layers.

    On a layer that has a mask already the two are intersected: a weight once removed stays removed.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    keep : mapping of str to Tensor
        Layer name to a bool tensor of the shape of that layer's ``weight``, true where the weight is kept.

    Returns
    -------
    nn.Module
        A masked copy.

    Raises
    ------
    TypeError
        If a mask is not a bool tensor.
    ValueError
        If a layer does not exist or has no ``weight``, or a mask has another shape than the weight.
    """
    masked = copy.deepcopy(model)
    layers = {n: layer for n, layer in masked.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)}
    for name, mask in keep.items():
        if name not in layers:
            raise ValueError(f"no layer {name!r} with a weight; the model has {list(layers)}")
        weight = layers[name].weight
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"the mask of {name!r} must be a bool tensor, got {getattr(mask, 'dtype', type(mask))}")
        if mask.shape != weight.shape:
            raise ValueError(f"the mask of {name!r} has shape {tuple(mask.shape)}, its weight {tuple(weight.shape)}")
        mask = mask.detach().to(weight.device)
        if (present := _mask(layers[name])) is not None:
            present.mask &= mask
        else:
            parametrize.register_parametrization(layers[name], "weight", Mask(mask.clone()))
    return masked


def masks(model: nn.Module) -> dict[str, Tensor]:
    """The masks in force: layer name to a copy of its bool mask, for the masked layers only."""
    found = {name: _mask(module) for name, module in model.named_modules()}
    return {
        name: parametrization.mask.clone() for name, parametrization in found.items() if parametrization is not None
    }


def sparsity(model: nn.Module) -> float:
    """The fraction of prunable weights that are zero, whether by a mask or baked in.

    Raises
    ------
    ValueError
        If the model has no linear or convolution layer.
    """
    weights = [module.weight for module in targets.prunable(model).values()]
    return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def deploy(model: nn.Module) -> nn.Module:
    """A plain dense copy of a masked model: the zeros baked in, the masks gone.

    Its state dict has the names, the order and the shapes of the network before pruning. A model without masks is
    copied. Another parametrization stacked on a masked weight (weight normalization, say) is baked in with the mask.
    """
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if _mask(module) is not None:
            bake_(module)
    return plain


def _mask(module: nn.Module) -> Mask | None:
    """The mask on a layer's weight, if there is one."""
    if not parametrize.is_parametrized(module, "weight"):
        return None
    return next((p for p in module.get_submodule("parametrizations.weight").children() if isinstance(p, Mask)), None)
