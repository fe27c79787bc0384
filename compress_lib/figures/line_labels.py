"""Names of lines at their ends, in the place of a legend."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from compress_lib.figures.ticks import in_lines

__all__ = ["label_as", "label_lines", "line_labels"]

WIDTH = 18  # letters
MARK = "line-label"  # gid of these labels


def label_lines(axis: Axes) -> None:
    """Write the name of each line at its right end, in its color; this takes the place of a legend.

    Raises
    ------
    ValueError
        If no line of the axis has a label.
    """
    lines = _named(axis)
    if not lines:
        raise ValueError("no line of this axis has a label")
    for name, line in lines.items():
        x, y = np.asarray(line.get_xydata())[-1]
        axis.annotate(
            in_lines(name, WIDTH), (x, y), (8, 0), textcoords="offset points", va="center",
            color=line.get_color(), gid=MARK, annotation_clip=False,
        )  # fmt: skip


def line_labels(axis: Axes) -> list[Annotation]:
    """Those that `label_lines` wrote."""
    return [each for each in axis.texts if isinstance(each, Annotation) and each.get_gid() == MARK]


def label_as(axis: Axes, other: Axes) -> None:
    """Name the lines if they have the names of those that carry theirs in another panel, and none here."""
    if line_labels(other) and not line_labels(axis) and _named(axis) and _named(axis).keys() <= _named(other).keys():
        label_lines(axis)


def _named(axis: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axis.lines if not str(line.get_label()).startswith("_")}
