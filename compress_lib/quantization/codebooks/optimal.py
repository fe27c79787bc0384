"""The optimal codebook: k-means on a line by dynamic programming, to measure Lloyd's algorithm against. Chapter 06.

Wu, "Optimal quantization by matrix searching", Journal of Algorithms 12, 1991; Wang, Song, "Ckmeans.1d.dp: optimal
k-means clustering in one dimension by dynamic programming", The R Journal 3, 2011.

Optimal clusters are runs of the sorted weights. With e(j, i) the squared error of the run from j to i, the least error
of the first i weights in q clusters is

    D_q(i) = min_j D_{q−1}(j) + e(j, i),

and the best j never falls as i grows. So, once it is known for every other i, the i between need to look only from the
best j on their left to the one on their right: O(n) for all of them together, and O(k n log n) for the whole table.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from compress_lib.quantization.codebooks.kmeans import nearest
from compress_lib.quantization.codebooks.sorted_weights import SortedWeights


def codebook(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k centroids with the least sum of squared errors.

    Parameters
    ----------
    weights : Tensor
        Of any shape and floating-point type, finite.
    k : int
        From 1 to the number of distinct weights.

    Returns
    -------
    (Tensor, Tensor)
        Centroids (k,), ascending, and the index of the nearest one for each weight; types as in `kmeans.cluster`.

    Raises
    ------
    TypeError, ValueError
        For what `sorted_weights.SortedWeights` refuses.
    """
    line = SortedWeights(weights, k)
    starts = np.append(np.flatnonzero(line.first), len(line.values))  # equal weights stay together: n distinct ones
    sums, squares = line.sums[starts], line.squares[starts]
    n = len(starts) - 1

    def errors(j: np.ndarray, i: np.ndarray) -> np.ndarray:
        return squares[i] - squares[j] - (sums[i] - sums[j]) ** 2 / (starts[i] - starts[j])

    least = np.full(n + 1, np.inf)  # D_0: no weight is in no cluster, at no error
    least[0] = 0
    best = []
    for _ in range(k - 1):
        least, split = _next(least, errors)
        best.append(split)
    cuts = [n]
    before_last = np.arange(n)
    cuts.insert(0, int((least[:n] + errors(before_last, np.full(n, n))).argmin()))
    for split in reversed(best):
        cuts.insert(0, int(split[cuts[0]]))
    centroids = torch.from_numpy(line.means(starts[cuts]).astype(line.dtype)).to(weights.device)
    return centroids, nearest(weights, centroids)


def _next(least: np.ndarray, errors: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """D_q and its best j, from D_{q−1}; both (n + 1,)."""
    n = len(least) - 1
    found, split = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=np.int64)
    stride = 1 << (n.bit_length() - 1)
    while stride:
        rows = np.arange(stride, n + 1, 2 * stride)  # odd multiples of the stride; the even ones are known
        low = split[rows - stride]
        right = rows + stride
        high = np.where(right <= n, np.minimum(split[np.minimum(right, n)], rows - 1), rows - 1)
        counts = high - low + 1
        offsets = np.cumsum(counts) - counts
        i = np.repeat(rows, counts)
        j = np.arange(len(i)) + np.repeat(low - offsets, counts)
        totals = least[j] + errors(j, i)
        found[rows] = np.minimum.reduceat(totals, offsets)
        ties = np.flatnonzero(totals == np.repeat(found[rows], counts))
        split[rows] = j[ties[np.searchsorted(ties, offsets)]]  # the lowest of equals
        stride //= 2
    return found, split
