"""From a network to its train form with fake quantization, and from that to a network of integers. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877. `convert` folds the batch normalizations, fuses each ReLU with the layer before it, and puts an
`ActivationQuantizer` behind every activation that will be stored as codes: what convolutions and linear layers write
and read. `deploy` makes layers of `int8` of them. Codes flow from one to the next, through pooling by the maximum and
changes of shape as well. Everything else, such as the sum of a residual block or a mean, reads numbers in float32
(`qparams.Dequantize`), and what it makes is quantized again (`qparams.Quantize`) where a quantized layer reads it. What
only leads to the output of the network, its logits as a rule, is float32.

The network is traced once, in `convert`; each step works on that graph and hands it on. The structure depends on the
architecture and the settings alone; `build_deployed` makes it without the numbers.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from compress_lib.quantization.integer import folding, pooling, roles
from compress_lib.quantization.integer.fake_quant import ActivationQuantizer, FakeQuantizedLayer, WeightQuantizer
from compress_lib.quantization.integer.observers import make_observer
from compress_lib.quantization.integer.qparams import Dequantize, QParams, Quantize
from compress_lib.quantization.integer.quantized_layer import QuantizedLayer

Bits = int | Mapping[str, int]
# Of what is added to a network: they are in the names of tensors in files, and stay.
QUANTIZERS, DEQUANTIZERS = "grids", "numbers"


def convert(
    model: nn.Module,
    example_input: Tensor,
    *,
    weight_bits: Bits = 8,
    activation_bits: Bits = 8,
    per_channel: bool = True,
    range: str = "min_max",
    weight_range: str = "min_max",
) -> fx.GraphModule:
    """The train form of a network, to be calibrated by `fake_quant.calibrate`; until then it computes in float32.

    Parameters
    ----------
    model : nn.Module
        Left as it is. Quantized are its ``nn.Conv2d``, padded with zeros, and ``nn.Linear`` that run once.
    example_input : Tensor
        A batch that the model takes, float; only its shape matters.
    weight_bits : int or mapping of str to int
        From 2 to 16. A mapping names layers; those that it does not name have 8.
    activation_bits : int or mapping of str to int
        From 1 to 16. A mapping names layers and means their inputs; activations that no layer reads, as before the sum
        of a residual block, have 8.
    per_channel : bool
        A scale for each output channel of a weight, or one for all.
    range, weight_range : str
        See `observers.make_observer` and `fake_quant.WeightQuantizer`. With "kl" the input of the network keeps its
        least and greatest number: images have levels that half of the pixels share, and to keep such a peak in shape
        the divergence would clip right behind it.

    Returns
    -------
    fx.GraphModule
        In evaluation mode. ``meta["settings"]`` holds ``weight_bits``, ``activation_bits`` and ``per_channel``, and
        ``meta["skipped"]`` what runs in float32, and why.

    Raises
    ------
    TypeError, ValueError
        For what `folding.fold` refuses; if there is no layer to quantize, a mapping names an unknown one or
        gives two numbers of bits to one activation, a number of bits is out of range or a range unknown.
    """
    network = folding.trace_with_shapes(model, example_input)
    unfolded = folding.fold_(network, network.graph).skipped
    if taken := [name for name in (QUANTIZERS, DEQUANTIZERS) if hasattr(network, name)]:
        raise ValueError(f"model must have no attribute {taken}: these are the names of what is added")
    for node in list(network.graph.nodes):
        if node.op == "call_module" and type(network.get_submodule(node.target)) is nn.Identity:
            _erase(node)
        elif node.op == "call_method" and node.target == "view" and not isinstance(node.args[-1], torch.dtype):
            node.target = "reshape"  # the int8 kernels leave the channels innermost, and a view cannot change that
    network.graph.eliminate_dead_code()
    roles.assign(network)
    layers = {node.target: node for node in network.graph.nodes if node.meta["role"] == "layer"}
    if not layers:
        raise ValueError(f"nothing to quantize in this {type(model).__name__}: {roles.floating(network)}")
    weight_bits = _checked("weight_bits", weight_bits, layers)
    activation_bits = _checked("activation_bits", activation_bits, layers)
    with_relu = {name for name, node in layers.items() if _fuse_relu(network, node)}
    for node in network.graph.nodes:
        if node.target in unfolded:
            node.meta["reason"] = f"{unfolded[node.target]}, and runs in float32"
    network.meta["skipped"] = roles.floating(network)
    for node in list(network.graph.nodes):
        _insert_quantizer(network, node, activation_bits, range)
    for name, node in layers.items():
        bits = weight_bits if isinstance(weight_bits, int) else weight_bits.get(name, 8)
        layer: Any = network.get_submodule(name)
        weight_quantizer = WeightQuantizer(bits, len(layer.weight) if per_channel else None, weight_range)
        input_quantizer: Any = network.get_submodule(str(roles.quantizer_of(node.all_input_nodes[0]).target))
        network.add_submodule(name, FakeQuantizedLayer(layer, input_quantizer, weight_quantizer, name in with_relu))
    settings = {"weight_bits": weight_bits, "activation_bits": activation_bits, "per_channel": per_channel}
    network.meta["settings"] = settings
    return _finished(network)


def deploy(model: fx.GraphModule) -> fx.GraphModule:
    """The network of integers that a calibrated train form stands for.

    Parameters
    ----------
    model : fx.GraphModule
        From `convert`; left as it is.

    Returns
    -------
    fx.GraphModule
        In evaluation mode: float images in, float32 out; ``meta`` as there.

    Raises
    ------
    ValueError
        If a grid is not known yet; and for what the ``from_dense`` of `int8` refuses.
    """
    network = copy.deepcopy(model).eval()
    grids = _known_grids(network)
    codes: dict[fx.Node, QParams] = {}  # the nodes that make codes, and their grids
    numbers: dict[fx.Node, fx.Node] = {}  # codes to the node that makes numbers of them
    for node in list(network.graph.nodes):
        role, inputs = node.meta["role"], node.all_input_nodes
        if role == "layer":
            after = next(iter(node.users))
            out = grids[after.target] if after.meta["role"] == "quantizer" else None
            train_form: Any = network.get_submodule(node.target)
            network.add_submodule(node.target, _integer_layer(train_form, codes[inputs[0]], out))
            if out is not None:
                codes[node] = out
                _erase(after)
        elif role == "quantizer" and inputs:  # not one that a layer took over
            codes[node] = grids[node.target]
            network.add_submodule(node.target, Quantize(grids[node.target]))
        elif role == "passes" and inputs[0] in codes:
            if roles.kind(network, node) in roles.DROPOUT:
                _erase(node)
            else:
                codes[_of_codes(network, node)] = codes[inputs[0]]
        elif role in ("float", "output"):
            for source in inputs:
                if source in codes:
                    numbers[source] = numbers.get(source) or _dequantized(network, source, codes[source])
                    node.replace_input_with(source, numbers[source])
    return _finished(network)


def build_deployed(model: nn.Module, example_shape: tuple[int, ...], settings: dict) -> fx.GraphModule:
    """A deployed network with other numbers, to load a state dict into.

    Parameters
    ----------
    model : nn.Module
        The architecture, with any weights.
    example_shape : tuple of int
        Of a batch that it takes.
    settings : dict
        ``meta["settings"]`` of the deployed network, as it is or from JSON.

    Returns
    -------
    fx.GraphModule

    Raises
    ------
    TypeError, ValueError
        As for `convert`.
    """
    converted = convert(model, torch.zeros(example_shape), **settings)
    for module in converted.modules():
        if isinstance(module, ActivationQuantizer):
            module.state = "frozen"
    return deploy(converted)


class IntegerRun(fx.Interpreter):
    """Runs a deployed network with the ``integer`` of each quantized layer: no floating point from codes to codes.

    What runs in float32 (see ``meta["skipped"]``) still does. ``IntegerRun(deployed).run(images)``; slow. See
    `fixed_point.requantize` for ``rounding``."""

    def __init__(self, deployed: fx.GraphModule, *, rounding: str = "once") -> None:
        super().__init__(deployed)
        self.rounding = rounding

    def call_module(self, target, args, kwargs):
        """A quantized layer in integers; any other module as it is."""
        module = self.fetch_attr(target)
        if isinstance(module, QuantizedLayer):
            return module.integer(*args, **kwargs, rounding=self.rounding)
        return super().call_module(target, args, kwargs)


def _checked(name: str, bits: Bits, layers: Mapping[str, fx.Node]) -> Bits:
    """The setting as JSON keeps it."""
    if isinstance(bits, int):
        return bits
    if not isinstance(bits, Mapping):
        raise TypeError(f"{name} must be an int or a mapping of layers to ints, got {type(bits).__name__}")
    if unknown := sorted(set(bits) - set(layers)):
        raise ValueError(f"{name} names {unknown}, which are not layers to quantize; there are {list(layers)}")
    return dict(bits)


def _fuse_relu(network: fx.GraphModule, node: fx.Node) -> bool:
    """Take away the ReLU that alone reads the layer at ``node``; whether there was one."""
    if len(node.users) != 1:
        return False
    user = next(iter(node.users))
    if roles.kind(network, user) not in roles.RELU:
        return False
    _erase(user)
    return True


def _insert_quantizer(network: fx.GraphModule, node: fx.Node, bits: Bits, range: str) -> None:
    """Put a quantizer behind ``node`` if it makes an activation that is to be stored as codes."""
    consumers = list(roles.consumers(node))
    layers = [str(consumer.target) for consumer in consumers if consumer.meta["role"] == "layer"]
    if node.meta["role"] == "layer":
        needed = any(consumer.meta["role"] != "output" for consumer in consumers)
    else:
        needed = node.meta["role"] in ("input", "float") and bool(layers)
    if not needed:
        return
    if isinstance(bits, Mapping):
        asked = {name: bits[name] for name in layers if name in bits}
        if len(set(asked.values())) > 1:
            raise ValueError(f"activation_bits must be the same for layers that read the same activation, got {asked}")
        bits = next(iter(asked.values()), 8)
    if node.meta["role"] == "input" and range == "kl":
        range = "min_max"
    name = f"{QUANTIZERS}.{node.name}"
    network.add_submodule(name, ActivationQuantizer(bits, make_observer(range, bits)))
    with network.graph.inserting_after(node):
        quantizer = network.graph.call_module(name, (node,))
    quantizer.meta["role"] = "quantizer"
    node.replace_all_uses_with(quantizer, delete_user_cb=lambda user: user is not quantizer)


def _known_grids(network: fx.GraphModule) -> dict[str, QParams]:
    """The grids of all quantizers, by their names; a ValueError names those that are not calibrated."""
    quantizers = {name: m for name, m in network.named_modules() if isinstance(m, ActivationQuantizer)}
    if unknown := [name for name, quantizer in quantizers.items() if quantizer.state == "calibrate"]:
        raise ValueError(f"model has no grids for {unknown} yet: run fake_quant.calibrate first")
    return {name: quantizer.qparams() for name, quantizer in quantizers.items()}


def _integer_layer(layer: FakeQuantizedLayer, input_qparams: QParams, output_qparams: QParams | None) -> nn.Module:
    return roles.LAYERS[type(layer.layer)].from_dense(
        layer.layer,
        input_qparams,
        output_qparams,
        weight_scale=layer.weight_scale(),
        weight_bits=layer.weight_quantizer.bits,
        relu=layer.relu,
    )


def _of_codes(network: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node itself, or what takes its place because its operation does not take codes."""
    if roles.kind(network, node) not in roles.MAX_POOL:
        return node
    args: tuple
    if node.op == "call_module":
        module, names = network.get_submodule(str(node.target)), inspect.signature(pooling.max_pool2d).parameters
        args, kwargs = tuple(node.all_input_nodes), {name: getattr(module, name) for name in names if name != "codes"}
    else:
        args, kwargs = node.args, dict(node.kwargs)
    with network.graph.inserting_before(node):
        pooled = network.graph.call_function(pooling.max_pool2d, args, kwargs)
    pooled.meta["role"] = "passes"
    node.replace_all_uses_with(pooled)
    network.graph.erase_node(node)
    return pooled


def _dequantized(network: fx.GraphModule, node: fx.Node, qparams: QParams) -> fx.Node:
    name = f"{DEQUANTIZERS}.{node.name}"
    network.add_submodule(name, Dequantize(qparams))
    with network.graph.inserting_after(node):
        return network.graph.call_module(name, (node,))


def _erase(node: fx.Node) -> None:
    """Take a node out of the graph; what it reads takes its place."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    node.graph.erase_node(node)


def _finished(network: fx.GraphModule) -> fx.GraphModule:
    network.delete_all_unused_submodules()
    network.recompile()
    network.graph.lint()
    return network.eval()
