"""Symbols for channels, which can be coupled and fixed: the bookkeeping of `propagation`. Chapter 03."""

from typing import Self

from torch import Tensor, arange, cat

# A symbol is a positive integer. Where there is none (the input, a constant) nothing can be removed.
NO_SYMBOL = 0


class ChannelSymbols:
    """The symbols that stand for the channels of a network's layers.

    Attributes
    ----------
    outputs, inputs, scales : dict of str to Tensor
        Layer to the symbols of the channels that it makes, reads, or gives a parameter each.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}
        self._parents = [NO_SYMBOL]  # a forest: each symbol points to one that it is coupled to
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        """How many symbols there are, `NO_SYMBOL` included."""
        return len(self._parents)

    def fresh(self, count: int) -> Tensor:
        """``count`` symbols that are not in use."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return arange(first, first + count)

    def root(self, symbol: int) -> int:
        """The one symbol that stands for all that are coupled to ``symbol``."""
        while self._parents[symbol] != symbol:
            self._parents[symbol] = self._parents[self._parents[symbol]]
            symbol = self._parents[symbol]
        return symbol

    def roots(self, symbols: Tensor) -> set[int]:
        """The symbols that stand for those of a tensor."""
        return {self.root(symbol) for symbol in compact(symbols).unique().tolist()}

    def couple(self, *rows: Tensor, where: str) -> None:
        """Couple the channels in each column of ``rows`` (each ``(n,)`` or ``(k, n)``): they go together or stay.

        What is coupled to something without a symbol is fixed.
        """
        table = cat([row.reshape(-1, row.shape[-1]) for row in rows]).unique(dim=1)
        for column in table.T.tolist():
            if NO_SYMBOL in column:
                self._fix(column, f"tied to a fixed tensor in {where}")
                continue
            first = self.root(column[0])
            for symbol in column[1:]:
                self._parents[self.root(symbol)] = first

    def fix(self, symbols: Tensor, reason: str) -> None:
        """Forbid the removal of the channels that these symbols stand for."""
        self._fix(compact(symbols).unique().tolist(), reason)

    def _fix(self, symbols: list[int], reason: str) -> None:
        for symbol in symbols:
            if symbol != NO_SYMBOL:
                self._reasons.setdefault(symbol, reason)

    def reasons(self) -> dict[int, str]:
        """Root to the first reason why it is fixed, for all that are."""
        return {self.root(symbol): reason for symbol, reason in reversed(self._reasons.items())}


class SymbolicSize(int):
    """A number computed from how many channels there are: it may change when one of ``symbols`` is removed."""

    symbols: Tensor

    def __new__(cls, value: int, symbols: Tensor) -> Self:
        size = super().__new__(cls, value)
        size.symbols = symbols
        return size


def varying(symbols: Tensor) -> list[int]:
    """The axes along which a tensor of symbols is not constant."""
    symbols = compact(symbols)
    return [dim for dim in range(symbols.dim()) if (symbols != symbols.narrow(dim, 0, 1)).any()]


def compact(symbols: Tensor, keep: int | None = None) -> Tensor:
    """One entry of each axis, but for the axis ``keep``, along which the tensor was expanded."""
    return symbols[
        tuple(slice(None) if stride or dim == keep else slice(0, 1) for dim, stride in enumerate(symbols.stride()))
    ]
