"""Sensitivity scan: prune one layer at a time and watch the score. Chapter 02.

Han et al. 2015, arXiv 1506.02626, choose each layer's threshold from such a scan.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from compress_lib.network import masks, targets
from compress_lib.progress import progress_bar
from compress_lib.pruning.weights import magnitude
from compress_lib.tables import Table


@dataclass
class ScanRow:
    """The score of the model with one layer pruned to ``sparsity`` and all others whole."""

    layer: str
    sparsity: float
    score: float


@dataclass
class Scan:
    """The result of a sensitivity scan; prints as a table, one line per layer.

    Attributes
    ----------
    rows : list of ScanRow
        One per layer and tested sparsity.
    baseline : float
        The score of the model as it was given.
    """

    rows: list[ScanRow]
    baseline: float

    def sparsities(self, max_drop: float) -> dict[str, float]:
        """The largest tested sparsity of each layer that costs at most ``max_drop`` of the score, else 0.

        The result is what ``magnitude.prune(model, …, scope="layer")`` takes. Losses add up: pruning all layers at
        once usually costs more than ``max_drop``.

        Parameters
        ----------
        max_drop : float
            In the unit of the score.

        Returns
        -------
        dict of str to float
        """
        chosen = {row.layer: 0.0 for row in self.rows}
        for row in self.rows:
            if self.baseline - row.score <= max_drop:
                chosen[row.layer] = max(chosen[row.layer], row.sparsity)
        return chosen

    def table(self) -> Table:
        """Layers down, sparsities across, scores in the cells."""
        layers = list(dict.fromkeys(row.layer for row in self.rows))
        tested = sorted({row.sparsity for row in self.rows})
        score = {(row.layer, row.sparsity): row.score for row in self.rows}
        cells = [[layer, *(score[layer, s] for s in tested)] for layer in layers]
        title = f"Score with one layer pruned, by sparsity (unpruned: {self.baseline:.4g})"
        return Table(["layer", *(f"{s:g}" for s in tested)], cells, title)

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def scan(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float],
    *,
    sparsities: Iterable[float] = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
    layers: Iterable[str] | None = None,
    progress: bool = True,
) -> Scan:
    """Score the model with each layer pruned by magnitude, alone, to each sparsity.

    Parameters
    ----------
    model : nn.Module
        Left as it is: ``evaluate`` gets copies, dense ones with the zeros in place.
    evaluate : callable
        From a model to its score, a finite number of which more is better, such as accuracy in [0, 1].
    sparsities : iterable of float
        Each in [0, 1).
    layers : iterable of str, optional
        The layers to scan; all prunable ones unless given.
    progress : bool
        Show a bar.

    Returns
    -------
    Scan

    Raises
    ------
    TypeError, ValueError
        For an unknown layer, a sparsity outside [0, 1), non-finite weights or a non-finite score.
    """
    names = list(targets.prunable(model)) if layers is None else list(layers)
    tested = sorted(set(sparsities))
    if not tested:
        raise ValueError("sparsities is empty")
    # All masks come first, so that a bad argument is refused before any evaluation.
    keep = {}
    for sparsity in tested:
        pruned, _ = magnitude.prune(model, dict.fromkeys(names, sparsity), scope="layer")
        keep[sparsity] = masks.masks(pruned)
    baseline = _score(evaluate, model, "the model as given")
    rows = []
    with progress_bar(progress, total=len(names) * len(tested), desc="sensitivity scan") as bar:
        for name in names:
            for sparsity in tested:
                pruned = masks.apply(model, {name: keep[sparsity][name]})
                rows.append(ScanRow(name, sparsity, _score(evaluate, pruned, f"{name!r} at sparsity {sparsity}")))
                bar.update()
    return Scan(rows, baseline)


def _score(evaluate: Callable[[nn.Module], float], model: nn.Module, what: str) -> float:
    score = float(evaluate(masks.deploy(model)))
    if not math.isfinite(score):
        raise ValueError(f"evaluate returned {score} for {what}; a score must be finite")
    return score
