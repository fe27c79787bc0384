"""Chains Linear → ReLU → Linear: the hidden neurons of one layer that exactly one other layer reads. Chapter 03.

Only here is a neuron a row of one matrix, an entry of one bias and a column of the next matrix, and nothing else.
"""

import torch
from torch import fx, nn
from torch.nn import functional as F

from compress_lib.network import tracing

_RELU_CALLS = (torch.relu, F.relu, "relu", "relu_")
_NO_OPS = (nn.Identity, nn.Dropout)  # do nothing in evaluation mode


def find_chains(model: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """The linear layers whose neurons go through a ReLU into exactly one other linear layer, and the rest.

    Parameters
    ----------
    model : nn.Module
        Must be traceable. Dropout and identity layers on the way are allowed.

    Returns
    -------
    (dict of str to str, dict of str to str)
        In the network's order: name of the layer that makes the neurons to name of the layer that reads them; and for
        every other linear layer in use the reason why it is not there.

    Raises
    ------
    TypeError, ValueError
        If ``model`` is not a module or cannot be traced.
    """
    graph = tracing.trace(model)
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), nn.Linear):
            calls.setdefault(node.target, []).append(node)
    found, refused = {}, {}
    for name, nodes in calls.items():
        consumer, reason = _consumer(graph, nodes[0])
        if type(graph.get_submodule(name)) is not nn.Linear:
            reason = "its weight is masked or computed; bake that in first"
        elif len(nodes) > 1:
            reason = f"it is called {len(nodes)} times"
        elif not reason and len(calls[consumer]) > 1:
            reason = f"{consumer!r}, which reads it, is called {len(calls[consumer])} times"
        if reason:
            refused[name] = reason
        else:
            found[name] = consumer
    return found, refused


def _consumer(graph: fx.GraphModule, node: fx.Node) -> tuple[str, str]:
    """The linear layer that reads ``node`` through one ReLU, or the reason why there is none."""
    rectified = False
    while True:
        if len(node.users) != 1:
            return "", f"{len(node.users)} operations read what leaves {_describe(graph, node)}"
        (node,) = node.users
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(module) is nn.Linear and rectified:
            return str(node.target), ""
        if isinstance(module, nn.ReLU) or (node.op != "call_module" and node.target in _RELU_CALLS):
            rectified = True  # a second one changes nothing
        elif not isinstance(module, _NO_OPS):
            return "", f"{_describe(graph, node)} follows it, not a ReLU and then a linear layer"


def _describe(graph: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return f"{type(graph.get_submodule(str(node.target))).__name__} {node.target!r}"
    return "the output" if node.op == "output" else f"the operation {node.name!r}"
