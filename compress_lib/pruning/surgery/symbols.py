"""Names for channels, which can be joined and fixed: the bookkeeping of `channels`. Chapter 03."""

from typing import Self

from torch import Tensor, arange, cat

# A name is a positive integer. Where there is no name (the input, a constant) nothing can be removed.
NAMELESS = 0


class Names:
    """The names that the layers of a network give to their channels.

    Attributes
    ----------
    outputs, inputs, scales : dict of str to Tensor
        Layer to the names of the channels that it makes, reads, or gives a parameter each.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}
        self._joined = [NAMELESS]  # a forest: each name points to one that it was joined with
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        """How many names there are, `NAMELESS` included."""
        return len(self._joined)

    def fresh(self, count: int) -> Tensor:
        """``count`` names that nobody has."""
        first = len(self._joined)
        self._joined += range(first, first + count)
        return arange(first, first + count)

    def root(self, name: int) -> int:
        """The one name that stands for all that were joined with ``name``."""
        while self._joined[name] != name:
            self._joined[name] = self._joined[self._joined[name]]
            name = self._joined[name]
        return name

    def roots(self, names: Tensor) -> set[int]:
        """The names that stand for those of a tensor."""
        return {self.root(name) for name in compact(names).unique().tolist()}

    def join(self, *rows: Tensor, where: str) -> None:
        """Give the names in each column of ``rows`` (each ``(n,)`` or ``(k, n)``) one fate.

        What is joined with nothing is fixed.
        """
        table = cat([row.reshape(-1, row.shape[-1]) for row in rows]).unique(dim=1)
        for column in table.T.tolist():
            if NAMELESS in column:
                self._fix(column, f"tied to a fixed tensor in {where}")
                continue
            first = self.root(column[0])
            for name in column[1:]:
                self._joined[self.root(name)] = first

    def fix(self, names: Tensor, reason: str) -> None:
        """Forbid that a channel of one of these names is removed."""
        self._fix(compact(names).unique().tolist(), reason)

    def _fix(self, names: list[int], reason: str) -> None:
        for name in names:
            if name != NAMELESS:
                self._reasons.setdefault(name, reason)

    def reasons(self) -> dict[int, str]:
        """Root to the first reason why it is fixed, for all that are."""
        return {self.root(name): reason for name, reason in reversed(self._reasons.items())}


class Width(int):
    """A number that was computed from how many channels there are: it may change when one of ``names`` is removed."""

    def __new__(cls, value: int, names: Tensor) -> Self:
        width = super().__new__(cls, value)
        width.names = names
        return width


def varying(names: Tensor) -> list[int]:
    """The axes along which a tensor of names is not constant."""
    names = compact(names)
    return [dim for dim in range(names.dim()) if (names != names.narrow(dim, 0, 1)).any()]


def compact(names: Tensor, keep: int | None = None) -> Tensor:
    """One entry of each axis, but for the axis ``keep``, along which the tensor was expanded."""
    return names[
        tuple(slice(None) if stride or dim == keep else slice(0, 1) for dim, stride in enumerate(names.stride()))
    ]
