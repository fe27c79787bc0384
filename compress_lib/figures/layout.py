"""What every figure gets before it is written: quiet axes, readable numbers, and a form for each of two widths."""

import copy
import itertools
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from compress_lib.figures.line_labels import line_labels
from compress_lib.figures.phone import has_numbers, rearranged
from compress_lib.figures.ticks import in_lines, readable_numbers, thinned

__all__ = ["PAGE", "PHONE", "laid_out"]

# Inches of 96 CSS pixels: a column of text, and what a phone of 390 pixels has for it.
PAGE = 7.2
PHONE = 3.65
MANY = 500  # points: so many are stored as a picture
GAP = 6  # points between an axis and the text above it


def laid_out(figure: Figure, width: float) -> Figure:
    """A copy of a figure in the book's style, at most ``width`` inches wide; the figure itself stays as it is."""
    from matplotlib import pyplot as plt

    figure = copy.deepcopy(figure)
    plt.close(figure)  # pyplot would show the copy too
    figure.dpi = 72  # one pixel is one point, as in the SVG
    figure.patch.set_gid("ground")
    for axis in figure.axes:
        _quiet(axis)
        readable_numbers(axis)
    if width == PHONE:
        rearranged(figure, width)
    figure.set_figwidth(min(width, figure.get_figwidth()))
    names = {axis: _named_above(axis) for axis in figure.axes if _has_vertical_name(axis)}
    pad = 2 * GAP + next(iter(names.values())).get_window_extent().height if names else GAP
    titles = {axis: axis.set_title(axis.get_title("left"), loc="left", pad=pad) for axis in figure.axes}
    headline = figure.suptitle(figure.get_suptitle(), x=0.01, ha="left") if figure.get_suptitle() else None
    figure.draw_without_rendering()
    figure.set_figheight(figure.get_figheight() * max(map(_crowding, figure.axes), default=1))
    figure.draw_without_rendering()

    for axis, name in names.items():
        _flush_left(axis, titles[axis], name)
    for axis in figure.axes:
        thinned(axis)
        _break_names(axis, [text for text in (titles[axis], names.get(axis)) if text is not None])
    if headline is not None:
        _break(headline, 72 * figure.get_figwidth())
    figure.draw_without_rendering()

    for axis in figure.axes:
        _spread(axis)
    figure.set_layout_engine("none")  # the layout stays: what follows was measured in it
    for text in figure.findobj(Text):
        _anchor(text)
    return figure


def _quiet(axis: Axes) -> None:
    """Rules across the direction in which values are read, and none over a picture."""
    if axis.images or any(isinstance(each, QuadMesh) for each in axis.collections):
        axis.grid(False)
        if not has_numbers(axis):
            axis.spines[:].set_visible(False)
    elif isinstance(axis.yaxis.get_major_locator(), StrCategoryLocator):
        axis.grid(False, axis="y")
        axis.grid(True, axis="x")
        axis.spines.bottom.set_visible(False)
        axis.tick_params(axis="x", length=0)
    for label in axis.get_xticklabels():
        if label.get_rotation():
            label.set(ha="right", rotation_mode="anchor")
    for scatter in axis.collections:
        if isinstance(scatter, PathCollection) and np.shape(scatter.get_offsets())[0] > MANY:
            scatter.set_rasterized(True)
    for line in axis.lines:
        if line.get_marker() not in ("", "None", None) and np.shape(line.get_xdata())[0] > MANY:
            line.set_rasterized(True)


def _has_vertical_name(axis: Axes) -> bool:
    return bool(axis.get_ylabel() and len(axis.get_yticks())) and axis.yaxis.get_label_position() == "left"


def _named_above(axis: Axes) -> Annotation:
    """The name of a vertical axis of numbers stands above it, where it is read without turning the head."""
    old = axis.yaxis.label
    name = axis.annotate(
        old.get_text(), (0, 1), (0, GAP), xycoords="axes fraction", textcoords="offset points", va="bottom",
        color=old.get_color(), fontsize=old.get_fontsize(), annotation_clip=False,
    )  # fmt: skip
    axis.set_ylabel("")
    return name


def _flush_left(axis: Axes, title: Text, name: Annotation) -> None:
    """Title and name begin where the numbers of the axis begin."""
    box = axis.get_window_extent()
    left = min((label.get_window_extent().x0 for label in axis.get_yticklabels() if label.get_text()), default=box.x0)
    name.xyann = (left - box.x0, GAP)
    title.set_x((left - box.x0) / box.width)


def _crowding(axis: Axes) -> float:
    """How many times as far apart the names of the rows must be, so that none lies over the next."""
    boxes = [label.get_window_extent() for label in axis.get_yticklabels() if label.get_visible() and label.get_text()]
    boxes.sort(key=lambda box: box.y0 + box.y1)
    return max([1, *((a.height + b.height) / (b.y0 + b.y1 - a.y0 - a.y1) for a, b in itertools.pairwise(boxes))])


def _right_edge(axis: Axes) -> float:
    """Where the next panel begins, or the figure ends."""
    box = axis.get_window_extent()
    others = (other.get_window_extent() for other in axis.figure.axes)
    beside = (each.x0 - GAP for each in others if each.x0 > box.x0 + 1 and each.y0 < box.y1 and each.y1 > box.y0)
    return min(beside, default=axis.figure.bbox.x1)


def _break_names(axis: Axes, above: Sequence[Text]) -> None:
    """Those above an axis go on to the right, the one below it to both sides."""
    right = _right_edge(axis)
    for text in above:
        _break(text, right - text.get_window_extent().x0)
    middle = float(np.mean(axis.get_window_extent().intervalx))
    _break(axis.xaxis.label, 2 * min(middle, right - middle))


def _break(text: Text, room: float) -> None:
    """Into lines that fit."""
    width = text.get_window_extent().width
    if width > room:
        text.set_text(in_lines(text.get_text(), int(len(text.get_text()) * room / width)))


def _spread(axis: Axes) -> None:
    """Move the labels of lines apart where they would lie over each other, as little as possible in all."""
    labels = line_labels(axis)
    boxes = {label: label.get_window_extent() for label in labels}
    labels.sort(key=lambda label: boxes[label].y0 + boxes[label].y1)
    middles = [(boxes[label].y0 + boxes[label].y1) / 2 for label in labels]
    heights = [boxes[label].height + 1 for label in labels]
    whole = axis.get_window_extent()
    for label, old, new in zip(labels, middles, apart(middles, heights, whole.y0, whole.y1), strict=True):
        across, up = label.xyann
        label.xyann = (across, up + new - old)


def apart(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Centers, in order, of intervals between ``low`` and ``high`` that do not overlap: the least sum of squared moves.

    With each interval's distance from the first taken off, the order alone is left to keep, and that is isotonic
    regression: neighbors in the wrong order are pooled in their mean.
    """
    offsets = list(itertools.accumulate(((a + b) / 2 for a, b in itertools.pairwise(heights)), initial=0.0))
    pools: list[list[float]] = []
    for place, offset in zip(wanted, offsets, strict=False):
        pools.append([place - offset])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    least, most = (low + heights[0] / 2, high - heights[-1] / 2 - offsets[-1]) if pools else (low, high)
    return [
        max(least, min(most, fmean(pool))) + offset
        for pool, offset in zip((pool for pool in pools for _ in pool), offsets, strict=False)
    ]


def _anchor(text: Text) -> None:
    """Tell the SVG where a text of several lines is anchored; matplotlib tells it of single lines only."""
    if "\n" in text.get_text() and text.get_rotation() == 0:
        box, side = text.get_window_extent(), text.get_horizontalalignment()
        x = {"left": box.x0, "center": (box.x0 + box.x1) / 2, "right": box.x1}[side]
        text.set_gid(f"anchor {x:.2f} { {'left': 'start', 'center': 'middle', 'right': 'end'}[side] }")
        text.set_multialignment(side)
