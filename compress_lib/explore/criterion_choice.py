"""One layer, many criteria. Chapter 04; the computation is in ``criterion_choice.mjs``.

Huang et al. 2021, arXiv 2004.11627, ask how alike the criteria are. Here each is beside the L1 norm and beside chance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

L1 = "L1 norm"
RANDOM = "random"


def explorer(
    scores: Mapping[str, Sequence[float]],
    accuracy: Mapping[str, Mapping[str, Sequence[float]]],
    fractions: Sequence[float],
    *,
    layer: str,
    deviation: Mapping[str, Sequence[float]] | None = None,
    criterion: str = L1,
    fraction: float | None = None,
    followed: int | None = None,
) -> Explorer:
    """The explorer of the criteria for one layer of n filters.

    Parameters
    ----------
    scores : mapping of str to sequence of float
        Criterion to one score per filter, high for what to keep. ``"L1 norm"`` is among them.
    accuracy : mapping of str to mapping of str to sequence of float
        Criterion to recovery to the measured accuracies in [0, 1], one per fraction. The criteria are those of
        ``scores`` and ``"random"``, whose accuracies are means over draws; all have the same one to three recoveries.
    fractions : sequence of float
        Ascending, in [0, 1), at least two. ``⌊fraction · n⌋`` filters are removed, never all.
    layer : str
        Its name.
    deviation : mapping of str to sequence of float, optional
        Recovery to the standard deviation of the accuracies of ``"random"``, one per fraction.
    criterion : str
        Chosen at the start.
    fraction : float, optional
        At the start; the middle one unless given.
    followed : int, optional
        The filter that is followed at the start; unless given, one whose ranks under L1 and ``criterion`` differ most.

    Returns
    -------
    Explorer
        With ``results`` removed, overlap (how many of them L1 removes too), spearman (rank correlation with L1, mean
        ranks for ties, None where a criterion ranks nothing), accuracy, random, and difference = accuracy − random.

    Raises
    ------
    ValueError
        If the L1 norm is missing, criteria, recoveries or lengths do not fit together, a score is not finite, an
        accuracy leaves [0, 1], the fractions do not ascend in [0, 1), or there is no such criterion or filter.
    """
    if L1 not in scores or RANDOM in scores:
        raise ValueError(f"scores must have {L1!r} and not {RANDOM!r}, got {list(scores)}")
    ranked = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    n = ranked[L1].size
    for name, values in ranked.items():
        if values.shape != (n,) or n < 2 or not np.isfinite(values).all():
            raise ValueError(f"scores[{name!r}] must be {max(n, 2)} finite numbers, got shape {values.shape}")
    if not all(0 <= value < 1 for value in fractions):
        raise ValueError(f"fractions must lie in [0, 1), got {list(fractions)}")
    if set(accuracy) != {*scores, RANDOM}:
        raise ValueError(f"accuracy must have the keys {[*scores, RANDOM]}, got {list(accuracy)}")
    recoveries = list(accuracy[RANDOM])
    if not 1 <= len(recoveries) <= 3:
        raise ValueError(f"recoveries must be one to three, got {recoveries}")
    fraction = fractions[len(fractions) // 2] if fraction is None else fraction
    percent = slider("percent", "filters removed", [100 * value for value in fractions], 100 * fraction, "%")
    count = len(fractions)
    criteria = choice("criterion", "criterion", list(scores), criterion)
    if followed is None:
        followed = int(np.abs(_places(ranked[criterion]) - _places(ranked[L1])).argmax())
    data = {
        "layer": layer,
        "scores": ranked,
        "fractions": [float(value) for value in fractions],
        "percents": percent["values"],
        "accuracy": {
            name: measured.table(accuracy[name], recoveries, count, f"accuracy[{name!r}]") for name in [*scores, RANDOM]
        },
    }
    if deviation:
        data["deviation"] = measured.table(deviation, recoveries, count, "deviation")
    return Explorer(
        "criterion_choice",
        controls=[
            criteria,
            percent,
            choice("recovery", "recovery", recoveries, recoveries[0]),
            slider("filter", "filter followed", range(n), followed),
        ],
        title="Does the criterion matter?",
        data=data,
        fallback=lambda: _figure(data, criterion, math.floor(fraction * n + 1e-9), recoveries[0]),
        alt=(
            f"Left, the scores of the {n} filters of {layer} under {criterion}, sorted, the lowest marked as "
            "removed. Right, "
            f"measured accuracy against the fraction of filters removed, by recovery, beside that of random filters."
        ),
    )


def _places(scores: np.ndarray) -> np.ndarray:
    """The place of each filter in the order of its scores; equal ones in the order of the filters."""
    return np.argsort(np.argsort(scores, kind="stable"), kind="stable")


def _figure(data: Mapping, criterion: str, removed: int, recovery: str) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    values = np.sort(data["scores"][criterion])
    ranks = np.arange(1, len(values) + 1)
    left.bar(ranks[removed:], values[removed:], label="kept")
    left.bar(ranks[:removed], values[:removed], color="0.8", hatch="///", edgecolor="0.45", label="removed")
    left.set(xlabel="rank of the filter", ylabel=criterion)
    left.locator_params(axis="x", integer=True)
    left.legend(frameon=False, fontsize=8)
    left.spines[["top", "right"]].set_visible(False)
    random = data["accuracy"][RANDOM][recovery]
    if "deviation" in data:
        deviation = np.asarray(data["deviation"][recovery])
        right.fill_between(data["fractions"], random - deviation, random + deviation, color="0.85")
    curves = {f"{criterion}, {name}": values for name, values in data["accuracy"][criterion].items()}
    curves |= {f"{RANDOM}, {recovery}": random}
    measured.draw(right, data["fractions"], curves, "fraction of filters removed")
    return figure
