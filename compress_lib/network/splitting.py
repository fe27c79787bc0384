"""Cutting a network behind named layers into parts that run one after another. Chapter 12."""

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from torch import fx, nn

from compress_lib.network import tracing, watching
from compress_lib.network.targets import PRUNABLE

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def split(model: nn.Module, layers: Sequence[str], *, classifier: bool = False) -> list[fx.GraphModule]:
    """Parts of a copy of ``model``: run one after another, they compute what it computes.

    Parameters
    ----------
    model : nn.Module
        Left as it is. Layers of ``torch.nn`` keep their names in the parts.
    layers : sequence of str
        The part i ends with layer i; they are in the order in which they run. A layer may be a whole stage. Everything
        that is computed behind it comes from its output alone.
    classifier : bool
        Whether to cut once more, before the last linear or convolution layer and the dropout in front of it.

    Returns
    -------
    list of fx.GraphModule
        One part more than there are cuts.

    Raises
    ------
    TypeError
        If ``layers`` is a single string.
    ValueError
        If the model cannot be traced, or its ``forward`` itself does something else in training; if a layer does not
        exist (with the nearest names), does not run once, is bypassed, or what it returns is changed in place; or if
        the layers are in another order.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be a sequence of layer names, got the single string {layers!r}")
    graph = tracing.trace(model)
    if _text(graph) != _text(tracing.trace(model, training=True)):
        raise ValueError(
            f"model={type(model).__name__} cannot be split: its forward itself depends on the mode, as by "
            "F.dropout with self.training; use layers such as nn.Dropout"
        )
    nodes = list(graph.graph.nodes)
    places = [nodes.index(_output(graph, model, layer)) for layer in layers]
    if classifier:
        places.append(nodes.index(_features(graph)))
    if places != sorted(set(places)):
        raise ValueError(f"layers must be different and in the order in which they run, got {list(layers)}")
    for place in places:
        _check(graph, nodes, place)
    bounds = [-1, *places, len(nodes) - 1]
    return [_part(graph, nodes, start, end) for start, end in itertools.pairwise(bounds)]


def join(network: nn.Module, parts: Iterable[nn.Module]) -> nn.Module:
    """A copy of ``network`` with the weights of its parts, in evaluation mode, on the device of the parts.

    Parameters
    ----------
    network : nn.Module
        What was `split`; left as it is.
    parts : iterable of nn.Module
        What `split` gave, trained since.
    """
    joined = copy.deepcopy(network)
    state = {name: tensor for part in parts for name, tensor in part.state_dict().items()}
    joined.load_state_dict(state, strict=False)  # what never ran, the parts do not have
    return joined.to(next(iter(state.values())).device).eval()


def _text(graph: fx.GraphModule) -> list[tuple]:
    return [(node.op, str(node.target), str(node.args), str(node.kwargs)) for node in graph.graph.nodes]


def _output(graph: fx.GraphModule, model: nn.Module, layer: str) -> fx.Node:
    """The node whose value the layer returns: the one computed inside it that is read outside."""
    watching.find(model, layer)
    inside = [node for node in graph.graph.nodes if _is_inside(node, layer)]
    if not inside:
        raise ValueError(f"layer {layer!r} is not called when the model runs")
    read = [node for node in inside if any(user not in inside for user in node.users)]
    if len(read) != 1:
        raise ValueError(f"layer {layer!r} must run once and return one tensor, but {len(read)} values leave it")
    return read[0]


def _is_inside(node: fx.Node, layer: str) -> bool:
    return any(path == layer for path, _ in node.meta.get("nn_module_stack", {}).values())


def _features(graph: fx.GraphModule) -> fx.Node:
    """What the last linear or convolution layer reads, before dropout."""

    def layer(node: fx.Node) -> nn.Module | None:
        return graph.get_submodule(str(node.target)) if node.op == "call_module" else None

    last = [node for node in graph.graph.nodes if isinstance(layer(node), PRUNABLE)]
    if not last:
        raise ValueError("the model has no linear or convolution layer")
    node = last[-1].all_input_nodes[0]
    while isinstance(layer(node), _DROPOUT):
        node = node.all_input_nodes[0]
    return node


def _check(graph: fx.GraphModule, nodes: list[fx.Node], place: int) -> None:
    before, after = set(nodes[:place]), set(nodes[place + 1 :])
    if bypasses := [node.name for node in before if node.op != "get_attr" and after & set(node.users)]:
        raise ValueError(
            f"the model cannot be cut behind {nodes[place].name!r}: {sorted(bypasses)} of before is read behind it "
            "too; name a layer that everything passes, such as a whole stage"
        )
    # Whoever else reads the features would read what the next part left of them.
    if any(_changes(graph, user, nodes[place]) for user in nodes[place].users):
        raise ValueError(f"the output of {nodes[place].name!r} is changed in place; name the layer that changes it")


def _changes(graph: fx.GraphModule, reader: fx.Node, value: fx.Node) -> bool:
    """Whether a node writes into the value that it reads."""
    if reader.op == "call_module":
        return getattr(graph.get_submodule(str(reader.target)), "inplace", False)
    name = getattr(reader.target, "__name__", str(reader.target))
    writes = name.endswith("_") or bool(reader.kwargs.get("inplace", False))
    return writes and reader.args[:1] == (value,)


def _part(graph: fx.GraphModule, nodes: list[fx.Node], start: int, end: int) -> fx.GraphModule:
    """The nodes after ``start`` up to ``end``; what the first of them read, the part is given."""
    part = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    if start >= 0:
        copied[nodes[start]] = part.placeholder("features")

    def of_part(node: fx.Node) -> Any:
        if node not in copied:  # a parameter that an earlier part has read
            copied[node] = part.node_copy(node)
        return copied[node]

    for node in nodes[start + 1 : end + 1]:
        copied[node] = part.node_copy(node, of_part)
    if nodes[end].op != "output":
        part.output(copied[nodes[end]])
    return fx.GraphModule(graph, part)
