"""Sorted float32 numbers in about two bytes each, nothing lost: a tensor for an explorer to which order is no matter.

Read as integers, floats of one sign ascend as their magnitudes do. So sorted floats become ascending integers, and the
gaps between neighbors are small: each is written as groups of seven bits, the lowest first, a byte per group, with
the eighth bit set where another group follows. ``explorer.mjs`` has the reader.
"""

import base64

import numpy as np


def pack_sorted(values: np.ndarray) -> dict:
    """The gaps between numbers in ascending order, as part of what `packing.pack` takes.

    Parameters
    ----------
    values : array
        Finite, of any shape, at least one; rounded to float32. A −0 becomes 0.

    Returns
    -------
    dict
        ``{"dtype": "sorted float32", "shape": [count], "base64"}``; a browser has a Float32Array of it.
    """
    bits = np.sort(np.asarray(values, dtype=np.float32).ravel() + np.float32(0)).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.int64)
    gaps = np.diff(keys, prepend=0)
    groups = gaps[:, None] >> (7 * np.arange(5))  # 35 bits are enough for any gap
    used = groups > 0
    used[:, 0] = True  # a gap of 0 takes a byte too
    follows = np.pad(used[:, 1:], ((0, 0), (0, 1)))
    raw = (groups & 127 | follows << 7)[used].astype(np.uint8).tobytes()
    return {"dtype": "sorted float32", "shape": [len(bits)], "base64": base64.b64encode(raw).decode("ascii")}
