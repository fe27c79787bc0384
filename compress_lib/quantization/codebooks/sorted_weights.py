"""Weights on a line, in ascending order, with prefix sums. Used by `kmeans` and `optimal`. Chapter 06."""

import functools
from numbers import Integral

import numpy as np
import torch
from torch import Tensor


class SortedWeights:
    """Weights in ascending order, and from prefix sums the means and errors of runs of them.

    The sums are of distances to the median and run outwards from it: what rounding costs a run does not depend on
    outliers beyond it. ``cuts`` (k + 1,) says where k runs start and end, from 0 to n. A TypeError or ValueError
    refuses weights that are not floating-point, finite or there at all, and k outside [1, number of distinct weights].
    """

    dtype: np.dtype
    values: np.ndarray
    first: np.ndarray
    median: np.floating
    sums: np.ndarray

    def __init__(self, weights: Tensor, k: int) -> None:
        if not weights.is_floating_point():
            raise TypeError(f"weights must be a floating-point tensor, got {weights.dtype}")
        if not isinstance(k, Integral):
            raise TypeError(f"k must be an integer, got {type(k).__name__}")
        if not weights.numel():
            raise ValueError(f"weights must not be empty, got shape {tuple(weights.shape)}")
        narrow = np.sort(to_numpy(weights), axis=None)  # before it is widened: single precision sorts in half the time
        self.dtype, self.values = narrow.dtype, narrow.astype(np.float64)
        if not np.isfinite(self.values[[0, -1]]).all():  # NaN sorts last
            raise ValueError("weights must be finite, got NaN or infinite ones")
        self.first = np.concatenate([[True], self.values[1:] != self.values[:-1]])  # of equal weights, the first
        distinct = np.count_nonzero(self.first)
        if not 1 <= k <= distinct:
            raise ValueError(f"k must be from 1 to {distinct}, the number of distinct weights, got {k}")
        self.median = self.values[len(self.values) // 2]
        self.sums = self._outwards(self.values - self.median)

    @functools.cached_property
    def squares(self) -> np.ndarray:
        """Prefix sums of the squared distances to the median, (n + 1,)."""
        return self._outwards((self.values - self.median) ** 2)

    def cuts(self, centroids: np.ndarray) -> np.ndarray:
        """The runs of weights nearest to each of the ascending centroids; a tie goes to the lower one."""
        inner = np.searchsorted(self.values, (centroids[:-1] + centroids[1:]) / 2, side="right")
        return np.concatenate([[0], inner, [len(self.values)]])

    def means(self, cuts: np.ndarray) -> np.ndarray:
        """The means of runs, none of them empty, rounded to the precision of the weights."""
        start, end = cuts[:-1], cuts[1:]
        means = self.median + (self.sums[end] - self.sums[start]) / (end - start)
        inside = np.clip(means, self.values[start], self.values[end - 1])  # exact for a run of equal weights
        return inside.astype(self.dtype).astype(np.float64)

    def errors(self, cuts: np.ndarray) -> np.ndarray:
        """The sums of squared distances to the means of runs, none of them empty."""
        start, end = cuts[:-1], cuts[1:]
        sums = self.sums[end] - self.sums[start]
        return self.squares[end] - self.squares[start] - sums**2 / (end - start)

    def without_empty(self, cuts: np.ndarray) -> np.ndarray:
        """As many runs, none of them empty: for each that was, one of the largest error is cut at its mean."""
        k, cuts = len(cuts) - 1, np.unique(cuts)
        while missing := k + 1 - len(cuts):
            lowest, highest = self.values[cuts[:-1]], self.values[cuts[1:] - 1]
            errors = np.where(lowest < highest, self.errors(cuts), -np.inf)
            worst = np.argsort(-errors, kind="stable")[: min(missing, np.count_nonzero(lowest < highest))]
            after_lowest = np.searchsorted(self.values, lowest[worst], side="right")
            at = np.maximum(np.searchsorted(self.values, self.means(cuts)[worst]), after_lowest)
            cuts = np.sort(np.concatenate([cuts, at]))
        return cuts

    def _outwards(self, terms: np.ndarray) -> np.ndarray:
        middle = len(terms) // 2
        return np.concatenate([-np.cumsum(terms[:middle][::-1])[::-1], [0.0], np.cumsum(terms[middle:])])


def to_numpy(weights: Tensor) -> np.ndarray:
    """As float64 if it is that, as float32 if not: NumPy has no bfloat16."""
    dtype = torch.float64 if weights.dtype == torch.float64 else torch.float32
    return weights.detach().to("cpu", dtype).numpy()
