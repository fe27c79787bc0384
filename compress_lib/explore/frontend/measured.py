"""Measured accuracies that chapters hand to explorers: checks of them, and their part of a static figure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = ("o-", "s--", "^:", "D-.")


def accuracies(values: Iterable[float], count: int, where: str) -> list[float]:
    """``values`` as a list, called ``where`` in errors.

    Raises
    ------
    ValueError
        If there are not ``count`` of them, or one is not in [0, 1].
    """
    found = [float(value) for value in values]
    if len(found) != count:
        raise ValueError(f"{where} must hold {count} values, got {len(found)}")
    if not all(0 <= value <= 1 for value in found):
        raise ValueError(f"{where} must lie in [0, 1], got {found}")
    return found


def table(
    given: Mapping[str, Sequence[float]], names: Collection[str], count: int, where: str
) -> dict[str, list[float]]:
    """``count`` accuracies for each of ``names``, in their order; a ValueError also if other names are given."""
    if set(given) != set(names):
        raise ValueError(f"{where} must have the keys {list(names)}, got {list(given)}")
    return {name: accuracies(given[name], count, f"{where}[{name!r}]") for name in names}


def draw(axis: "Axes", x: Sequence[float], curves: Mapping[str, Sequence[float]], xlabel: str) -> None:
    """Accuracy against ``x`` on a matplotlib axis; the curves differ by dash and marker."""
    for (name, values), style in zip(curves.items(), STYLES, strict=False):
        axis.plot(x, values, style, markersize=4, label=name)
    axis.set(xlabel=xlabel, ylabel="accuracy", ylim=(0, 1))
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
