"""What the nodes of a graph do with codes: which layers are quantized, and where codes may flow. Chapter 05."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from compress_lib.quantization.integer import folding, int8

LAYERS: dict[type, Any] = {
    nn.Conv2d: int8.QuantizedConv2d,
    nn.Linear: int8.QuantizedLinear,
}
RELU = {nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"}
DROPOUT = {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d}
MAX_POOL = {nn.MaxPool2d, F.max_pool2d, torch.max_pool2d}
# Numbers are chosen or change their places: done to codes, it is done to what they stand for.
_PASSING = DROPOUT | MAX_POOL | {
    nn.Flatten, nn.Unflatten,
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
    "flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "contiguous",
}  # fmt: skip


def assign(network: fx.GraphModule) -> None:
    """Give each node of a network from `folding.trace_with_shapes` its role in ``meta``.

    The roles: "layer" is quantized, "passes" hands codes on, "float" computes in float32, "input" and "output" are
    those of the network, and "value" makes no tensor (a size, for example). Later, "quantizer" is an
    `fake_quant.ActivationQuantizer`.
    """
    alone = folding.running_alone(network, network.graph)
    for node in network.graph.nodes:
        what = kind(network, node)
        if node.op in ("placeholder", "get_attr"):
            role = "input"
        elif node.op == "output":
            role = "output"
        elif what in LAYERS:
            reason = _obstacle(network.get_submodule(node.target), node.target in alone)
            role = "float" if reason else "layer"
            node.meta["reason"] = f"{reason}, and runs in float32"
        elif what in _PASSING and node.meta["shape"] is not None:
            role = "passes"
        else:
            role = "float" if node.meta["tensors"] else "value"
            node.meta["reason"] = f"{getattr(what, '__name__', what)} runs in float32"
        node.meta["role"] = role


def kind(network: fx.GraphModule, node: fx.Node) -> Any:
    """What a node calls: the class of a module, a function, or the name of a method."""
    return type(network.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def floating(network: fx.GraphModule) -> dict[str, str]:
    """What runs in float32, and why: the names of modules, and of other nodes as ``torch.fx`` names them."""
    return {
        node.target if node.op == "call_module" else node.name: node.meta["reason"]
        for node in network.graph.nodes
        if node.meta["role"] == "float"
    }


def _obstacle(layer: nn.Module, alone: bool) -> str:
    """Why a layer cannot be quantized; empty if it can."""
    if not alone:
        return "it runs more than once, or shares its parameters"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has hooks"
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != "zeros":
            return f"it pads with padding_mode={layer.padding_mode!r}"
        uneven = [d for d, k in zip(layer.dilation, layer.kernel_size, strict=True) if d * (k - 1) % 2]
        if layer.padding == "same" and uneven:
            return "it pads more on one side than on the other"
    return ""


def consumers(node: fx.Node) -> Iterator[fx.Node]:
    """What reads the activation at ``node``, directly or as it is passed on."""
    for user in node.users:
        if user.meta["role"] == "passes":
            yield from consumers(user)
        else:
            yield user


def quantizer_of(node: fx.Node) -> fx.Node:
    """Where the activation at ``node`` was quantized."""
    while node.meta["role"] == "passes":
        node = node.all_input_nodes[0]
    return node
