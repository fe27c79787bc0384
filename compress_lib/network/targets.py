"""Which weights of a network may be pruned, and which are left alone and why.

The weights of linear and convolution layers are pruned. Biases and normalization parameters are not: they are a
small part of the bytes, and one of them moves a whole channel.
"""

from collections import Counter
from collections.abc import Collection

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

Layer = nn.Linear | nn.modules.conv._ConvNd  # for annotations
PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def prunable(model: nn.Module, exclude: Collection[str] = ()) -> dict[str, Layer]:
    """The layers whose ``weight`` may be pruned, by name, in the order of ``model.named_modules()``.

    A weight that several layers share is left out, because a mask on one of them would part them.

    Parameters
    ----------
    model : nn.Module
        Any network. A layer that is itself the whole model has the name ``""``.
    exclude : collection of str
        Names of layers to leave alone.

    Returns
    -------
    dict of str to Layer

    Raises
    ------
    TypeError
        If ``model`` is not a module or ``exclude`` is a single string.
    ValueError
        If ``exclude`` names a layer that is not prunable, a layer is lazy and has no weights yet, or nothing is left
        to prune.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a collection of layer names, got the single string {exclude!r}")
    shared = _shared(model)
    layers: dict[str, Layer] = {}
    for name, module in model.named_modules():
        if not isinstance(module, PRUNABLE) or id(module.weight) in shared:
            continue
        if is_lazy(module.weight):
            raise ValueError(f"layer {name!r} is lazy and has no weights yet; run one batch through the model first")
        layers[name] = module
    excluded = set(exclude)
    if unknown := sorted(excluded - layers.keys()):
        raise ValueError(f"exclude names {unknown}, which are not prunable layers; the model has {list(layers)}")
    kept = {name: module for name, module in layers.items() if name not in excluded}
    if not kept:
        raise ValueError(
            f"nothing to prune in this {type(model).__name__}: prunable {list(layers)}, excluded {sorted(excluded)}"
        )
    return kept


def skipped(model: nn.Module, exclude: Collection[str] = ()) -> dict[str, str]:
    """The parameters that pruning leaves alone: name to reason, the complement of `prunable`."""
    shared, excluded = _shared(model), set(exclude)
    reasons = {}
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue  # the inside of a masked layer, which is listed under the layer's own name
        kind = parametrize.type_before_parametrizations(module)
        own = [parameter for parameter, _ in module.named_parameters(recurse=False)]
        for parameter in [*own, *getattr(module, "parametrizations", {})]:
            full_name = f"{name}.{parameter}" if name else parameter
            if not issubclass(kind, PRUNABLE):
                reasons[full_name] = f"{kind.__name__} parameters are not pruned"
            elif parameter != "weight":
                reasons[full_name] = "biases are not pruned"
            elif id(module.weight) in shared:
                reasons[full_name] = "shared with another layer"
            elif name in excluded:
                reasons[full_name] = "excluded"
    return reasons


def sharing(model: nn.Module) -> frozenset[str]:
    """The names of the layers that own a parameter together with another layer."""
    shared = _shared(model)
    return frozenset(
        name for name, module in model.named_modules() if any(id(p) in shared for p in module.parameters(recurse=False))
    )


def _shared(model: nn.Module) -> set[int]:
    """The ids of the parameters that more than one module owns."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    return {parameter for parameter, count in owners.items() if count > 1}
