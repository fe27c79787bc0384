"""Criteria: how much a channel is worth keeping. Chapter 04.

Each is a function ``(layer, data=None) -> scores``, one score per output channel, high for what to keep. ``data`` is
an `Observation`; a criterion says what it needs of it. `ALL` holds them by name.
"""

from compress_lib.pruning.criteria.apoz import apoz
from compress_lib.pruning.criteria.batch_norm_scale import batch_norm_scale
from compress_lib.pruning.criteria.entropy import entropy
from compress_lib.pruning.criteria.geometric_median import geometric_median
from compress_lib.pruning.criteria.hrank import hrank
from compress_lib.pruning.criteria.l1_norm import l1_norm
from compress_lib.pruning.criteria.l2_norm import l2_norm
from compress_lib.pruning.criteria.random import random
from compress_lib.pruning.criteria.taylor import taylor

ALL = {
    function.__name__: function
    for function in (l1_norm, l2_norm, geometric_median, batch_norm_scale, apoz, entropy, hrank, taylor, random)
}

__all__ = [
    "ALL",
    "apoz",
    "batch_norm_scale",
    "entropy",
    "geometric_median",
    "hrank",
    "l1_norm",
    "l2_norm",
    "random",
    "taylor",
]
