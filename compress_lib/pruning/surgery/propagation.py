"""Which channels of a network can only be removed together. Chapter 03.

The network runs on symbols instead of numbers. Every layer gives each channel that it makes a symbol of its own, the
network's operations move the symbols as they would move the numbers, and each layer that reads an activation notes
whose channels arrive. Where an operation needs two channels to go together (an addition, a group of a convolution, the
halves of a split), their symbols are coupled. What cannot be followed is not guessed: the channels that enter it are
fixed, with the reason.

The idea of groups of coupled channels is from Fang et al., "DepGraph: towards any structural pruning", CVPR 2023,
arXiv 2301.12900.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from compress_lib.network import op_kinds
from compress_lib.pruning.surgery.interpreter import on_axis_1, shapes_of
from compress_lib.pruning.surgery.operations import Operations
from compress_lib.pruning.surgery.symbols import NO_SYMBOL, ChannelSymbols


class ChannelPropagation(Operations):
    """Propagates the symbols of the channels through a traced network; ``symbols`` has what was found afterwards.

    Parameters
    ----------
    graph : of the network; its weights are dropped.
    symbols : takes the findings, and may have those of an earlier run.
    shared : the layers that own a parameter together with another layer.
    """

    def __init__(self, graph: fx.GraphModule, symbols: ChannelSymbols, shared: frozenset[str] = frozenset()) -> None:
        super().__init__(graph.to("meta"), symbols)
        self.shared = shared

    def propagate(self, example_input: Tensor) -> None:
        """Run on the shape of an input, which has no symbols.

        Raises
        ------
        ValueError
            If the input does not fit the network, or the network needs to see numbers.
        """
        shapes = _Shapes(self.module)
        try:
            with torch.device("meta"):  # where tensors are made on the way, too
                shapes.run(example_input.detach().to("meta"))
        except Exception as error:
            self._node = shapes.node
            shape, reason = tuple(example_input.shape), str(error).strip().partition("\n")[0]
            given = [tuple(s) for s in shapes_of(shapes.fetch_args_kwargs_from_env(shapes.node))]
            raise ValueError(
                f"example_input of shape {shape} does not fit the model: {self._where()}, given {given}: {reason}"
            ) from error
        self.run(torch.zeros(example_input.shape, dtype=torch.long))
        for node in self.graph.nodes:
            if node.op == "get_attr":
                self._fix_owner(node.target.rpartition(".")[0])

    # What the interpreter meets

    def get_attr(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A parameter or buffer of the model itself: it has no symbols."""
        return self._without_symbols()

    def output(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What leaves the model must keep its channels."""
        self._fix(args, "the output of the model")
        return args[0]

    def call_module(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A layer reads symbols, and gives its channels symbols of their own or passes on what it is given."""
        layer = self.fetch_attr(target)
        inputs = [*args, *kwargs.values()]
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            return self._unknown()
        if reason := _opaque(layer):
            return self._unknown(f"{self._where()} {reason}")
        return self._layer(target, layer, inputs[0])

    # The layers

    def _layer(self, name: str, layer: nn.Module, x: Tensor) -> Any:
        match layer:
            case nn.Linear():
                return self._linear(name, layer, x)
            case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if x.dim() == len(layer.kernel_size) + 2:
                return self._convolution(name, layer, x)
            case nn.PReLU(num_parameters=1):
                return x
            case nn.Flatten():
                return layer(x)
            case nn.ChannelShuffle():
                return self._shuffle(x, layer.groups)
        kind: type[nn.Module] = type(layer)
        if isinstance(layer, op_kinds.PER_CHANNEL) and x.dim() != op_kinds.UNBATCHED.get(kind):
            return self._per_channel(name, x)
        if isinstance(layer, op_kinds.ELEMENTWISE):
            return x
        if op_kinds.PER_MAP.get(kind) == x.dim() or (isinstance(layer, nn.Upsample) and x.dim() > 2):
            return self._per_map(x)
        return self._unknown()

    def _linear(self, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
        self._reads(name, self._line(x, -1))
        return self._makes(name, layer.out_features).expand(*x.shape[:-1], -1)

    def _convolution(self, name: str, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
        read = self._reads(name, self._line(x, 1))
        made = self._makes(name, layer.out_channels)
        if (groups := layer.groups) > 1:
            read, written = read.view(groups, -1), made.view(groups, -1)
            # The groups must stay equally wide. Either whole groups go, inputs and outputs together (a depthwise
            # convolution is the extreme), or the same channel of every group: whichever takes smaller steps. The
            # input of the network stays, so there it is the second.
            if groups >= read.shape[1] and (read != NO_SYMBOL).all():
                self._couple(torch.cat([read, written], 1).T)
            else:
                self._couple(read)
                self._couple(written)
        return on_axis_1(made, self._node.meta["made"].shape)

    def _per_channel(self, name: str, x: Tensor) -> Tensor:
        channels = self._line(x, 1)
        self._note(self.symbols.scales, name, channels)
        return on_axis_1(channels, x.shape)

    def _reads(self, name: str, channels: Tensor) -> Tensor:
        self._note(self.symbols.inputs, name, channels)
        return channels

    def _makes(self, name: str, count: int) -> Tensor:
        channels = self.symbols.outputs.get(name)
        channels = self.symbols.fresh(count) if channels is None else channels
        self._note(self.symbols.outputs, name, channels)
        return channels

    def _note(self, side: dict[str, Tensor], name: str, channels: Tensor) -> None:
        if name in side:  # the same layer a second time
            self._couple(side[name], channels)
        side[name] = channels
        if name in self.shared:
            self._fix(channels, f"{name} shares a parameter with another layer")

    def _fix_owner(self, name: str) -> None:
        """A parameter that an operation uses by itself may not change its shape."""
        for side in (self.symbols.outputs, self.symbols.inputs, self.symbols.scales):
            if name in side:
                self._fix(side[name], f"a parameter of {name} is used outside of it")


class _Shapes(fx.Interpreter):
    """Runs a graph on the device "meta" and leaves with each node what it made."""

    def run_node(self, node: fx.Node) -> Any:
        self.node = node
        made = super().run_node(node)
        # Detached: what a later operation does to it in place does not change this shape.
        node.meta["made"] = tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, made)
        return made


def _opaque(layer: nn.Module) -> str:
    """Why a layer may do something else than its kind does; empty if it may not."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "has a forward hook: remove it first (and what computes its weight)"
    computed = hasattr(layer, "weight") and "weight" not in layer._parameters
    if computed or not type(layer).__module__.startswith("torch.nn.modules."):
        return "has no plain weight (a mask or a reparametrization: deploy it first)"
    return ""
