"""A compressed network made smaller still: values near zero dropped, the others merged. Chapter 07.

What the sliders under the live network do, and ``simplify.mjs`` does the same in the page. The values that a layer's
weights share are few, so they are treated as a whole, without training: first those of the smallest magnitude become
zero, as in pruning; then neighbors are merged, each time the two whose merging costs least, until so many are left.

Merging values a and b of which there are m and n costs ``mn/(m+n) · (a − b)²`` of squared error (Ward, "Hierarchical
grouping to optimize an objective function", JASA 58, 1963); the merged value is their mean. It is rounded to float16,
in which the file stores values.
"""

import numpy as np


def simplify(weights: np.ndarray, dropped: int, values: int) -> np.ndarray:
    """A layer's weights with fewer shared values.

    Parameters
    ----------
    weights : numpy.ndarray
        float32, of any shape; zeros stay zeros.
    dropped : int
        How many of the distinct values other than 0 become 0, the smallest magnitudes first; of a value and its
        negative, the positive one.
    values : int
        How many values other than 0 may be left, at least 1.

    Returns
    -------
    numpy.ndarray
        float32, of the same shape.
    """
    found, places = np.unique(weights, return_inverse=True)
    counts = np.bincount(places.ravel()).astype(float)
    order = sorted(np.flatnonzero(found), key=lambda i: (abs(found[i]), -found[i]))
    kept = sorted(order[dropped:])
    groups = [[i] for i in kept]
    means, sizes = [float(found[i]) for i in kept], [counts[i] for i in kept]
    while len(groups) > values:
        costs = [
            sizes[i] * sizes[i + 1] / (sizes[i] + sizes[i + 1]) * (means[i + 1] - means[i]) ** 2
            for i in range(len(groups) - 1)
        ]
        i = int(np.argmin(costs))
        size = sizes[i] + sizes[i + 1]
        means[i : i + 2] = [(sizes[i] * means[i] + sizes[i + 1] * means[i + 1]) / size]
        sizes[i : i + 2] = [size]
        groups[i : i + 2] = [groups[i] + groups[i + 1]]
    table = np.zeros(len(found), np.float32)
    for group, mean in zip(groups, means, strict=True):
        table[group] = np.float16(mean)
    return table[places].reshape(weights.shape)
