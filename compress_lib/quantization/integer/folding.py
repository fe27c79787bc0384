"""Batch normalization folded into the layer before it: one layer less, and the same function. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, section 3.2. In evaluation mode ``γ (w x + b − μ) / √(σ² + ε) + β`` is the layer with

    w_fold = γ w / √(σ² + ε),   b_fold = β + γ (b − μ) / √(σ² + ε),

and it is these weights that must be quantized, because they are the ones that run.
"""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress_lib.network import targets, tracing
from compress_lib.network.replacing import replace_
from compress_lib.report import Report

_AXES: dict[type[nn.Module], int] = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}  # of a map


@dataclass
class Folded:
    """A batch normalization that was folded, and into what; the numbers of both before and after, with statistics."""

    layer: str
    into: str
    channels: int
    weights: int
    kept: int


def fold(model: nn.Module, example_input: Tensor) -> tuple[nn.Module, Report]:
    """Fold each batch normalization into the convolution or linear layer whose output it alone reads.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes; only its shape matters.

    Returns
    -------
    (nn.Module, Report)
        A copy in evaluation mode, with an ``nn.Identity`` in place of each folded normalization, and one `Folded` for
        each; ``skipped`` says why the others stay.

    Raises
    ------
    TypeError
        If ``model`` is not a module or ``example_input`` not a tensor.
    ValueError
        If ``torch.fx`` cannot trace the model, ``example_input`` does not fit it, or a fold would make weights that are
        NaN or infinite.
    """
    traced = trace_with_shapes(model, example_input)
    folded = copy.deepcopy(model).eval()
    return folded, fold_(folded, traced.graph)


def trace_with_shapes(model: nn.Module, example_input: Tensor) -> fx.GraphModule:
    """The graph of ``model``, over a copy of its weights, in evaluation mode, with notes on what each node makes.

    In the ``meta`` of a node are ``"shape"`` (None if it makes no tensor) and ``"tensors"`` (whether it makes one or
    more). The errors are those of `fold`.
    """
    if not isinstance(example_input, Tensor):
        raise TypeError(f"example_input must be a tensor, got {type(example_input).__name__}")
    network = tracing.trace(model)
    try:
        with torch.no_grad():
            _Shapes(network).run(example_input)
    except Exception as error:
        raise ValueError(
            f"example_input {tuple(example_input.shape)} does not run through the model: {error}"
        ) from error
    return network


def fold_(model: nn.Module, graph: fx.Graph) -> Report:
    """As `fold`, in place.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; may be the ``fx.GraphModule`` of the graph.
    graph : fx.Graph
        Of the model, from `trace_with_shapes`.

    Returns
    -------
    Report
    """
    pairs, skipped = _pairs(graph, model)
    rows = []
    for norm_name, layer_name in pairs.items():
        norm: Any = model.get_submodule(norm_name)
        layer = model.get_submodule(layer_name)
        before = _numbers(norm) + _numbers(layer)
        _fold_(layer, norm)
        if not all(parameter.isfinite().all() for parameter in layer.parameters()):
            raise ValueError(f"{norm_name!r} folded into {layer_name!r} makes weights that are NaN or infinite")
        replace_(model, norm, nn.Identity().eval())
        rows.append(Folded(norm_name, layer_name, norm.num_features, before, _numbers(layer)))
    return Report(rows, skipped, title="Folded batch normalizations")


def running_alone(model: nn.Module, graph: fx.Graph) -> set[str]:
    """The names of modules that run once, and whose parameters nothing else reads."""
    times = Counter(node.target for node in graph.nodes if node.op == "call_module")
    direct = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    return {name for name, count in times.items() if count == 1} - targets.sharing(model) - direct


class _Shapes(fx.Interpreter):
    """Runs the graph and notes what each node makes."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.extra_traceback = False

    def run_node(self, node: fx.Node) -> Any:
        """As it is, with notes in ``meta``."""
        value = super().run_node(node)
        tensors: list[Tensor] = []
        fx.node.map_aggregate(value, lambda leaf: tensors.append(leaf) if isinstance(leaf, Tensor) else None)
        node.meta["shape"] = value.shape if isinstance(value, Tensor) else None
        node.meta["tensors"] = bool(tensors)
        return value


def _pairs(graph: fx.Graph, model: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Normalization to layer, in the order in which they run; and normalization to the reason why there is none."""
    calls = [node for node in graph.nodes if node.op == "call_module"]
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    alone = running_alone(model, graph)
    run = {node.target for node in calls}
    skipped = {name: "it does not run as a layer in evaluation mode" for name in norms if name not in run}
    pairs: dict[str, str] = {}
    nodes: dict[fx.Node, fx.Node] = {}
    for node in calls:
        if node.target not in norms:
            continue
        source = node.all_input_nodes[0]
        producer = nodes.get(source, source)  # what a folded normalization made, its layer makes
        if reason := _obstacle(model, node, source, producer, alone):
            skipped[node.target] = reason
        else:
            pairs[node.target], nodes[node] = producer.target, producer
    return pairs, skipped


def _obstacle(model: nn.Module, node: fx.Node, source: fx.Node, producer: fx.Node, alone: set[str]) -> str:
    """Why the normalization at ``node`` cannot be folded into the layer at ``producer``; empty if it can."""
    norm: Any = model.get_submodule(str(node.target))
    if norm.running_mean is None:
        return "it has no running statistics"
    if node.target not in alone:
        return "it runs more than once, or shares its parameters"
    layer: Any = model.get_submodule(str(producer.target)) if producer.op == "call_module" else None
    if type(layer) not in _AXES:
        what = type(layer).__name__ if layer is not None else getattr(producer.target, "__name__", producer.target)
        return f"it reads {what}, not a convolution or linear layer"
    if producer.meta["shape"][1:2] != (norm.num_features,) or not _channels_on_axis_1(layer, producer):
        return f"its channels are not those of {producer.target}"
    if producer.target not in alone:
        return f"{producer.target} runs more than once, or shares its parameters"
    if len(source.users) > 1:
        return f"the output of {producer.target} has another reader"
    if norm._forward_hooks or norm._forward_pre_hooks or layer._forward_hooks:
        return f"it or {producer.target} has hooks"
    return ""


def _channels_on_axis_1(layer: nn.Module, node: fx.Node) -> bool:
    """Not so for a linear layer that is applied along a sequence, and for a convolution without a batch."""
    return len(node.meta["shape"]) == _AXES[type(layer)] + 2


@torch.no_grad()
def _fold_(layer: Any, norm: Any) -> None:
    """Give the layer the weights and the bias above, computed in float64."""
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor *= norm.weight.double()
    bias = -norm.running_mean.double() * factor
    if norm.bias is not None:
        bias += norm.bias.double()
    if layer.bias is not None:
        bias += layer.bias.double() * factor
    weight = layer.weight.double() * factor.view(-1, *[1] * (layer.weight.dim() - 1))
    trained = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), trained)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), trained)


def _numbers(module: nn.Module) -> int:
    """Parameters and running statistics; the counter of batches is none of the network's numbers."""
    return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.is_floating_point())
