"""The one rule by which the book says that a difference is there: paired differences over seeds, by Student's t.

Two methods that share a seed share the starting network, the images and their order, so what is compared is the
difference seed by seed. A table of many comparisons will show a difference somewhere by luck alone; Holm's correction
(Scandinavian Journal of Statistics 6, 1979) keeps the chance of a single false one in the whole table at 5 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from compress_lib.tables import Table

__all__ = ["LEVEL", "Difference", "Differences", "paired_differences"]

# A difference is said to be there if differences as large come by luck with a smaller chance than this.
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """How much one thing is above another, over seeds.

    Attributes
    ----------
    name : str
    seeds : int
        How many differences the mean is of.
    mean : float
        In the units of the values.
    standard_error : float
        Of the mean: standard deviation (n − 1) ÷ √n.
    low, high : float
        The 95 % interval of this mean alone, by the t distribution with n − 1 degrees of freedom.
    p : float
        The chance of a mean as far from 0 if there were no difference, corrected for all comparisons made together.
        Where the difference is the same in each seed there is no spread to tell: then it is 0, or 1 if that difference
        is 0.
    """

    name: str
    seeds: int
    mean: float
    standard_error: float
    low: float
    high: float
    p: float

    @property
    def seen(self) -> bool:
        """Whether there is a difference that we can see."""
        return self.p < LEVEL

    @property
    def verdict(self) -> str:
        """``"higher"``, ``"lower"`` or ``"no difference that we can see"``."""
        if not self.seen:
            return "no difference that we can see"
        return "higher" if self.mean > 0 else "lower"

    def __str__(self) -> str:
        if self.standard_error == 0:
            each = f"in each of {self.seeds} seeds"
            return f"{self.name}: {self.mean:+.3g} {each}" if self.mean else f"{self.name}: the same {each}"
        return (
            f"{self.name}: {self.mean:+.3g} ± {self.standard_error:.2g} (standard error, {self.seeds} seeds; "
            f"95 % interval {self.low:+.3g} to {self.high:+.3g}, p = {self.p:.2g}): {self.verdict}"
        )


@dataclass(frozen=True, repr=False)
class Differences:
    """Comparisons made together, by name and in the order given; iterates over them and renders as a table."""

    rows: tuple[Difference, ...]

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> Difference:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def table(self) -> Table:
        """Means, their standard errors and intervals, and the verdict on each."""
        together = f", corrected for {len(self)} comparisons" if len(self) > 1 else ""
        return Table(
            ["comparison", "seeds", "difference", "standard error", "from", "to", "p", "verdict"],
            [[x.name, x.seeds, x.mean, x.standard_error, x.low, x.high, x.p, x.verdict] for x in self.rows],
            title=f"Paired differences over seeds; 95 % interval of each alone; p{together}",
            formats={name: "+.3g" for name in ("difference", "from", "to")} | {"standard error": ".2g", "p": ".2g"},
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def paired_differences(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Differences:
    """Compare measurements seed by seed, all comparisons of one table or sentence at once.

    Parameters
    ----------
    pairs : mapping of str to pair of sequences
        Two lists of values for each comparison, the seeds in the same order in both, for example
        ``{"L1 − random": (accuracies_of_l1, accuracies_of_random)}``: the difference is the first − the second.
        Whatever is looked at together belongs into one call, for the correction counts the comparisons.

    Returns
    -------
    Differences

    Raises
    ------
    TypeError, ValueError
        If ``pairs`` is no mapping or empty, or a comparison is not of two equally long lists of at least two finite
        numbers.

    Examples
    --------
    >>> found = paired_differences({"a − b": ([0.91, 0.92, 0.90], [0.90, 0.90, 0.89])})["a − b"]
    >>> round(found.mean, 4), round(found.p, 3), found.verdict
    (0.0133, 0.057, 'no difference that we can see')
    >>> print(paired_differences({"a − b": ([0.90, 0.92], [0.90, 0.92])})["a − b"])
    a − b: the same in each of 2 seeds
    """
    if not isinstance(pairs, Mapping):
        raise TypeError(f"pairs must map names to two lists of values, not be a {type(pairs).__name__}")
    if not pairs:
        raise ValueError("pairs must hold at least one comparison")
    alone = [_alone(name, *_values(name, pair)) for name, pair in pairs.items()]
    corrected = _holm([row.p for row in alone])
    return Differences(tuple(replace(row, p=p) for row, p in zip(alone, corrected, strict=True)))


def _values(name: str, pair: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        first, second = (np.asarray(values, dtype=float) for values in pair)
    except (TypeError, ValueError):
        raise TypeError(f"pairs[{name!r}] must be two lists of numbers, not {pair!r}") from None
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"pairs[{name!r}] must be two lists of one length, not of shapes {first.shape} and {second.shape}"
        )
    if len(first) < 2:
        raise ValueError(f"pairs[{name!r}] has values of {len(first)} seed(s); a spread takes at least 2")
    for values in (first, second):
        if not np.isfinite(values).all():
            raise ValueError(f"pairs[{name!r}] must hold finite numbers, not {values[~np.isfinite(values)][0]}")
    return first, second


def _alone(name: str, first: np.ndarray, second: np.ndarray) -> Difference:
    """One comparison, without the correction."""
    differences, seeds = first - second, len(first)
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(seeds)
    # Differences that are one on paper, as 0.92 − 0.91 and 0.91 − 0.90 are, are not quite one in binary.
    rounding = 4 * np.finfo(float).eps * max(np.abs(first).max(), np.abs(second).max())
    if np.ptp(differences) > rounding:
        p = 2 * special.stdtr(seeds - 1, -abs(mean) / error)
    else:
        mean, error = (mean if abs(mean) > rounding else 0.0), 0.0
        p = 0.0 if mean else 1.0
    reach = special.stdtrit(seeds - 1, 1 - LEVEL / 2) * error
    return Difference(name, seeds, float(mean), float(error), float(mean - reach), float(mean + reach), float(p))


def _holm(p: Sequence[float]) -> list[float]:
    """Each of ``m`` values by as many as are not smaller, at most 1, and never below what a smaller one became."""
    values = np.asarray(p)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return corrected.tolist()
