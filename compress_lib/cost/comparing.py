"""Several models side by side, with ratios to the first (chapter 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compress_lib.cost.counting import count
from compress_lib.cost.disk import nbytes_on_disk
from compress_lib.tables import Table


@dataclass(frozen=True)
class ModelCost:
    """One model's totals: counts, and bytes in memory, on disk and of activations at their peak.

    With operations in ``uncounted``, as of `compress_lib.cost.Cost`, ``macs`` is a lower bound.
    """

    params: int
    macs: int
    nbytes: int
    nbytes_on_disk: int
    peak_activation_nbytes: int
    uncounted: tuple[str, ...] = ()


_TITLES = {
    "params": "parameters",
    "macs": "MACs",
    "nbytes": "bytes in memory",
    "nbytes_on_disk": "bytes on disk",
    "peak_activation_nbytes": "peak activation bytes",
}


@dataclass(frozen=True, repr=False)
class Comparison:
    """Costs by model name, the reference first; renders as a table.

    Attributes
    ----------
    costs : dict of str to ModelCost
    """

    costs: dict[str, ModelCost]

    def ratio(self, name: str, quantity: str) -> float:
        """How many times smaller a model is than the first: first ÷ this, so above 1 is smaller.

        Parameters
        ----------
        name : str
            A key of ``costs``.
        quantity : str
            A field of `ModelCost` that is a number.

        Returns
        -------
        float
            ``inf`` where this model has none of a quantity that the first has, ``nan`` where neither has any.
        """
        if name not in self.costs:
            raise ValueError(f"name={name!r} must be one of {list(self.costs)}")
        if quantity not in _TITLES:
            raise ValueError(f"quantity={quantity!r} must be one of {list(_TITLES)}")
        first = getattr(next(iter(self.costs.values())), quantity)
        this = getattr(self.costs[name], quantity)
        if this == 0:
            return float("nan") if first == 0 else float("inf")
        return first / this

    def table(self) -> Table:
        """One row for each model, each quantity followed by its ratio to the first."""
        columns = ["model"]
        for title in _TITLES.values():
            columns += [title, "ratio"]
        rows = []
        for name, cost in self.costs.items():
            row: list = [name]
            for quantity in _TITLES:
                row += [getattr(cost, quantity), self.ratio(name, quantity)]
            rows.append(row)
        title = "Ratios are to the first model: above 1 is smaller"
        for name, cost in self.costs.items():
            if cost.uncounted:
                title += f"; MACs unknown and left out of {name}: {', '.join(cost.uncounted)}"
        return Table(columns, rows, title=title, formats={"ratio": ".2f"})

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def compare(models: Mapping[str, nn.Module], input_shape: Sequence[int]) -> Comparison:
    """Measure what several models cost on one input, the first being the reference.

    Parameters
    ----------
    models : mapping of str to nn.Module
        At least one.
    input_shape : sequence of int
        Without the batch axis; the same for all.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If ``models`` is no mapping or empty; otherwise as `compress_lib.cost.count`.
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"models must map names to modules, not be a {type(models).__name__}")
    if not models:
        raise ValueError("models must hold at least one model")
    costs = {}
    for name, model in models.items():
        cost = count(model, input_shape)
        on_disk = nbytes_on_disk(model)
        costs[name] = ModelCost(
            cost.params, cost.macs, cost.nbytes, on_disk, cost.peak_activation_nbytes, cost.uncounted
        )
    return Comparison(costs)
