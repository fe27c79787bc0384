"""Running a network on symbols instead of numbers: what the rules for operations and for layers have in common.

A symbol stands where the number of its channel would stand. Three things can happen to it: an operation moves it, as it
would move the number; an operation couples it to another symbol, because the two channels can only go together; or its
channel is fixed, with a reason. Whatever no rule covers fixes all channels that enter it. Chapter 03.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from compress_lib.pruning.surgery.symbols import ChannelSymbols, SymbolicSize, compact


class SymbolInterpreter(fx.Interpreter):
    """Runs a graph on symbols.

    Parameters
    ----------
    graph : each node's ``meta["made"]`` has what it makes, on the device "meta".
    symbols : takes the findings.
    """

    def __init__(self, graph: fx.GraphModule, symbols: ChannelSymbols) -> None:
        super().__init__(graph)
        self.symbols = symbols

    def run_node(self, node: fx.Node) -> Any:
        """Remember the node, for messages."""
        self._node = node
        try:
            value = super().run_node(node)
            covered = shapes_of(value) == shapes_of(node.meta["made"])
        except (RuntimeError, TypeError, ValueError, IndexError):
            covered = False
        return value if covered else self._unknown()  # a form of the operation that the rule for it does not know

    def _unknown(self, reason: str = "") -> Any:
        """Nothing that enters may lose channels; what leaves has no symbols."""
        inputs = self.fetch_args_kwargs_from_env(self._node)
        self._fix(inputs, reason or f"{self._where()} mixes channels or is not known")
        self._fix_sizes(inputs)
        return self._without_symbols()

    def _without_symbols(self) -> Any:
        nothing = torch.zeros((), dtype=torch.long)
        return tree_map(lambda t: nothing.expand(t.shape) if isinstance(t, Tensor) else t, self._node.meta["made"])

    def _line(self, x: Tensor, dim: int) -> Tensor:
        """The symbols along one axis; those that share a place on it are coupled."""
        x = compact(x, keep=dim % x.dim()).movedim(dim, 0).flatten(1)
        if (x != x[:, :1]).any():
            self._couple(x.T)
        return x[:, 0]

    def _couple(self, *rows: Tensor) -> None:
        self.symbols.couple(*rows, where=self._where())

    def _fix(self, tree: Any, reason: str) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                self.symbols.fix(leaf, reason)

    def _fix_sizes(self, tree: Any) -> None:
        for leaf in tree_leaves(tree):
            for number in (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,):
                if isinstance(number, SymbolicSize):
                    self.symbols.fix(number.symbols, f"the number of channels enters {self._where()}")

    def _where(self) -> str:
        """The layer, or the operation and the module whose ``forward`` it belongs to."""
        node = self._node
        if node.op == "call_module":
            return str(node.target)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
        modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        return f"{name} of {modules[-1]}" if modules else name


def on_axis_1(symbols: Tensor, shape: Sequence[int]) -> Tensor:
    """Symbols of channels, (channels,), in the shape of an activation (N, channels, …)."""
    return symbols.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def shapes_of(tree: Any) -> list[torch.Size]:
    """The shapes of the tensors in a tree."""
    return [leaf.shape for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
