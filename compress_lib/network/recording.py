"""What a layer does on real images: its activations, their gradients, and the normalization after it. Chapter 04.

Criteria that look beyond the weights read an `LayerRecord`. A filter is judged by what the next layer sees of it, so
activations are taken after the normalization and the activation function that directly follow the layer.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from compress_lib.data import as_input
from compress_lib.network import tracing
from compress_lib.network.op_kinds import ELEMENTWISE, ELEMENTWISE_OPERATIONS, PER_CHANNEL
from compress_lib.network.targets import PRUNABLE

_BATCH = 100


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """What is known about a layer besides its weights.

    Attributes
    ----------
    activations : Tensor or None
        ``(N, C, …)``, one slice per image and output channel, after the normalization and the activation function that
        directly follow the layer; ``(N, C)`` for a linear layer. None without images.
    gradients : Tensor or None
        d(loss of image n) / d(activations of image n), of the same shape. None without labels.
    batch_norm : nn.Module or None
        The batch normalization that directly follows the layer, the caller's own module.
    """

    activations: Tensor | None = None
    gradients: Tensor | None = None
    batch_norm: nn.Module | None = None


def record(
    model: nn.Module,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    layers: Collection[str] | None = None,
) -> dict[str, LayerRecord]:
    """Run the model in evaluation mode and record its layers.

    From each layer on, the batch normalizations, element-wise activation functions and dropouts that directly follow
    it are passed, as long as each value has one reader; anything else (a sum, a pool, a second reader) ends the way.

    All tensors are kept, so memory is what the network's activations take on all images, twice with gradients.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    images : Tensor, optional
        ``(N, …)``; uint8 is normalized as by `compress_lib.training.predict`, float is taken as it is.
    labels : Tensor, optional
        ``(N,)`` int64, for gradients of each image's own cross-entropy.
    layers : collection of str, optional
        Linear and convolution layers; all that run exactly once unless given.

    Returns
    -------
    dict of str to LayerRecord
        In the order of execution; tensors on the CPU.

    Raises
    ------
    TypeError
        If ``model`` is not a module or ``layers`` is a single string.
    ValueError
        If the model cannot be traced, ``layers`` names one that is not observable, the images do not fit the model,
        or the labels do not fit the images.
    """
    graph = tracing.trace(model)
    ways = {name: _follow(graph, node) for name, node in _calls(graph, layers).items()}
    norms = {name: None if norm is None else model.get_submodule(norm) for name, (_, norm) in ways.items()}
    if images is None:
        if labels is not None:
            raise ValueError("labels were given without images; gradients need both")
        return {name: LayerRecord(batch_norm=norm) for name, norm in norms.items()}
    _check(images, labels)
    recorder = _Recorder(graph, {end: name for name, (end, _) in ways.items()})
    records = [
        _record(recorder, images[start : start + _BATCH], None if labels is None else labels[start : start + _BATCH])
        for start in range(0, len(images), _BATCH)
    ]
    observations = {}
    for name, norm in norms.items():
        # The features of a linear layer are its last axis.
        axis = -1 if isinstance(graph.get_submodule(name), nn.Linear) else 1
        parts = zip(*(record[name] for record in records), strict=True)
        activations, gradients = (_join(part, axis) for part in parts)
        observations[name] = LayerRecord(activations, gradients, norm)
    return observations


def _join(parts: Sequence[Tensor | None], axis: int) -> Tensor | None:
    """One tensor of those of the batches, with ``axis`` in second place; None if there are none."""
    tensors = [part for part in parts if part is not None]
    return torch.cat(tensors).movedim(axis, 1) if tensors else None


def _calls(graph: fx.GraphModule, layers: Collection[str] | None) -> dict[str, fx.Node]:
    """The wanted layers, each with the node that runs it."""
    if isinstance(layers, str):
        raise TypeError(f"layers must be a collection of layer names, got the single string {layers!r}")
    calls = [n for n in graph.graph.nodes if n.op == "call_module" and isinstance(_module(graph, n), PRUNABLE)]
    times = Counter(node.target for node in calls)
    once = {node.target: node for node in calls if times[node.target] == 1}
    wanted = set(once if layers is None else layers)
    if unknown := sorted(wanted - once.keys()):
        raise ValueError(f"layers names {unknown}; the linear and convolution layers that run once are {list(once)}")
    return {name: node for name, node in once.items() if name in wanted}


def _follow(graph: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, str | None]:
    """The node at the end of a layer's way, and the name of the normalization on it."""
    norm = None
    while len(node.users) == 1 and _passes(graph, reader := next(iter(node.users))):
        node = reader
        if norm is None and isinstance(_module(graph, node), _BatchNorm):
            norm = _name(node)
    return node, norm


def _passes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a normalization or works number by number on its one input."""
    if len(node.all_input_nodes) != 1:
        return False
    if node.op == "call_module":
        return isinstance(_module(graph, node), ELEMENTWISE + PER_CHANNEL)
    name = _name(node) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name.rstrip("_") in ELEMENTWISE_OPERATIONS


def _name(node: fx.Node) -> str:
    """The target of a node that calls a module or a method, which is a string."""
    return cast(str, node.target)


def _module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(_name(node)) if node.op == "call_module" else None


class _Recorder(fx.Interpreter):
    """Runs the graph and keeps the values of some nodes.

    To each value a zero is added, and the gradient is taken with respect to that zero: no parameter needs a gradient,
    and an operation that later changes its input in place does not touch what was kept.
    """

    values: dict[str, Tensor]
    zeros: dict[str, Tensor]

    def __init__(self, graph: fx.GraphModule, names: dict[fx.Node, str]):
        super().__init__(graph)
        self.extra_traceback = False
        self.names = names

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node not in self.names:
            return value
        name = self.names[node]
        self.values[name] = value.detach()
        self.zeros[name] = torch.zeros_like(value, requires_grad=torch.is_grad_enabled())
        return value + self.zeros[name]

    def run(self, *args: Any, **options: Any) -> Any:
        self.values, self.zeros = {}, {}
        return super().run(*args, **options)


def _record(recorder: _Recorder, images: Tensor, labels: Tensor | None) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Layer name to activations, and gradients if there are labels, of one batch."""
    device = next((p.device for p in recorder.module.parameters()), torch.device("cpu"))
    images = images.to(device)
    with torch.set_grad_enabled(labels is not None):
        try:
            logits = recorder.run(as_input(images))
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(f"images of shape {tuple(images.shape)} do not run through the model: {error}") from error
        values, zeros = recorder.values, recorder.zeros
        if labels is None:
            return {name: (value.cpu(), None) for name, value in values.items()}
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"labels need a model that returns logits (N, classes), got {shape}")
        if labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise ValueError(f"labels must be in [0, {logits.shape[1]}), got {labels.min()} to {labels.max()}")
        # The images do not mix in evaluation mode, so the gradient of the sum holds each image's own.
        loss = F.cross_entropy(logits, labels.to(device), reduction="sum")
        slopes = torch.autograd.grad(loss, list(zeros.values()), allow_unused=True, materialize_grads=True)
    return {name: (values[name].cpu(), slope.cpu()) for name, slope in zip(zeros, slopes, strict=True)}


def _check(images: Tensor, labels: Tensor | None) -> None:
    if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 or float tensor, got {kind}")
    if images.dim() == 0 or len(images) == 0:
        raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
    if labels is None:
        return
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        raise TypeError(f"labels must be an int64 tensor, got {getattr(labels, 'dtype', type(labels).__name__)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels has shape {tuple(labels.shape)} for {len(images)} images")
