"""What every figure gets before it is written: quiet axes, readable numbers, and a form for each of two widths."""

import copy
import itertools
import math
import textwrap
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogFormatterSciNotation, ScalarFormatter
from matplotlib.transforms import ScaledTranslation

__all__ = ["LINE_LABEL", "PAGE", "PHONE", "laid_out"]

PAGE, PHONE = 7.2, 3.65  # inches of 96 CSS pixels: a column of text, and what a phone of 390 pixels has for it
TALLEST_PANEL = 2.4  # inches, of a panel among others below each other on a phone
MANY = 500  # points: so many are stored as a picture
GAP = 6  # points between an axis and the text above it
LINE_LABEL = "line-label"  # gid of the labels that `label_lines` makes


def laid_out(figure: Figure, width: float) -> Figure:
    """A copy of a figure in the book's style, at most ``width`` inches wide; the figure itself stays as it is."""
    from matplotlib import pyplot as plt

    figure = copy.deepcopy(figure)
    plt.close(figure)  # pyplot would show the copy too
    figure.dpi = 72  # one pixel is one point, as in the SVG
    if width == PHONE:
        _stack(figure)
    figure.set_figwidth(min(width, figure.get_figwidth()))
    for axis in figure.axes:
        _quiet(axis)
        _readable_numbers(axis)
    named = [axis for axis in figure.axes if _named_above(axis)]
    if named:
        for axis in figure.axes:
            axis.set_title(axis.get_title("left"), loc="left", pad=2 * GAP + axis.yaxis.label.get_fontsize())
    figure.draw_without_rendering()
    for axis in named:
        _flush_left(axis)
    _wrap(figure)
    figure.draw_without_rendering()
    for axis in figure.axes:
        _spread(axis)
    figure.set_layout_engine("none")  # the layout stays: what follows was measured in it
    for text in figure.findobj(Text):
        _anchor(text)
    return figure


def _stack(figure: Figure) -> None:
    """Panels that stand side by side go below each other; pictures without numbers on their axes may stay small."""
    for legend in list(figure.legends):
        _narrow(legend)
    panels = [axis for axis in figure.axes if axis.get_subplotspec() is not None]
    grids = {id(axis.get_gridspec()): axis.get_gridspec() for axis in panels}
    if len(grids) != 1 or len(panels) != len(figure.axes):
        return
    (grid,) = grids.values()
    if grid.ncols == 1 or not any(_has_numbers(axis) for axis in panels):
        return
    height = min(figure.get_figheight() / grid.nrows, TALLEST_PANEL)
    below = figure.add_gridspec(len(panels), 1)
    for axis, place in zip(panels, below, strict=True):
        axis.set_subplotspec(place)
        axis.tick_params(labelleft=True, labelbottom=True)
        for mine, shared in ((axis.xaxis, axis.get_shared_x_axes()), (axis.yaxis, axis.get_shared_y_axes())):
            if not mine.get_label_text():
                siblings = (getattr(other, f"{mine.axis_name}axis") for other in shared.get_siblings(axis))
                mine.set_label_text(next(filter(None, (each.get_label_text() for each in siblings)), ""))
    figure.set_figheight(height * len(panels))
    figure.get_layout_engine().set(h_pad=0.09)


def _narrow(legend: Legend) -> None:
    """The legend of a whole figure in two columns, in the same place."""
    figure, place = legend.get_figure(), legend._outside_loc
    assert isinstance(figure, Figure), "it is one of the figure's own"
    names = [text.get_text() for text in legend.get_texts()]
    figure.legends.remove(legend)  # in a copy, legend.remove() would look in the original
    figure.legend(legend.legend_handles, names, loc=f"outside {place} center" if place else "lower center", ncols=2)


def _has_numbers(axis: Axes) -> bool:
    return bool(len(axis.get_xticks()) or len(axis.get_yticks())) and axis.axison


def _quiet(axis: Axes) -> None:
    """Rules across the direction in which values are read, and none over a picture."""
    if axis.images or any(isinstance(each, QuadMesh) for each in axis.collections):
        axis.grid(False)
        if not _has_numbers(axis):
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
        if isinstance(scatter, PathCollection) and len(scatter.get_offsets()) > MANY:
            scatter.set_rasterized(True)
    for line in axis.lines:
        if line.get_marker() not in ("", "None", None) and len(line.get_xdata()) > MANY:
            line.set_rasterized(True)


def _named_above(axis: Axes) -> bool:
    """Put the name of a vertical axis of numbers above it, where it is read without turning the head."""
    label = axis.yaxis.label
    if not label.get_text() or not len(axis.get_yticks()) or axis.yaxis.get_label_position() != "left":
        return False
    label.set(rotation=0, ha="left", va="bottom")
    _name_at(axis, 0)
    return True


def _name_at(axis: Axes, across: float) -> None:
    shift = ScaledTranslation(across / 72, GAP / 72, axis.get_figure().dpi_scale_trans)
    axis.yaxis.set_label_coords(0, 1, transform=axis.transAxes + shift)


def _flush_left(axis: Axes) -> None:
    """Title and name begin where the numbers of the axis begin."""
    box = axis.get_window_extent()
    left = min((label.get_window_extent().x0 for label in axis.get_yticklabels() if label.get_text()), default=box.x0)
    _name_at(axis, left - box.x0)
    axis._left_title.set_x((left - box.x0) / box.width)


class _Numbers(ScalarFormatter):
    """matplotlib's numbers, with a comma between thousands, and never a factor in the corner."""

    def __init__(self):
        super().__init__(useOffset=False)
        self.set_scientific(False)

    def __call__(self, x, pos=None):
        whole, point, rest = super().__call__(x, pos).partition(".")
        sign, digits = ("−", whole[1:]) if whole[:1] in ("-", "−") else ("", whole)
        return sign + (f"{int(digits):,}" if digits.isdigit() else digits) + point + rest


class _Powers(LogFormatterSciNotation):
    """The ticks that matplotlib would name on a logarithmic axis, named without formulas: 1,000 or 10⁻⁵."""

    SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

    def __call__(self, x, pos=None):
        if not super().__call__(x, pos):
            return ""
        low, high = sorted(self.axis.get_view_interval())
        if low >= 0.99e-3 and high < 1.01e6:
            return f"{x:,.10g}"
        exponent = math.floor(math.log10(x) + 1e-9)
        power = "10" + str(exponent).translate(self.SUPERSCRIPTS)
        factor = round(x / 10**exponent, 6)
        return power if factor == 1 else f"{factor:g}×{power}"


def _readable_numbers(axis: Axes) -> None:
    for each in (axis.xaxis, axis.yaxis):
        if type(each.get_major_formatter()) is ScalarFormatter:
            each.set_major_formatter(_Numbers())
        elif type(each.get_major_formatter()) is LogFormatterSciNotation:
            each.set_major_formatter(_Powers(labelOnlyBase=True))
            each.set_minor_formatter(_Powers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def _wrap(figure: Figure) -> None:
    """Break titles and names of axes that are wider than there is room for them."""
    width = figure.get_figwidth() * 72
    for axis in figure.axes:
        box = axis.get_window_extent()
        others = [other.get_window_extent() for other in figure.axes]
        beside = [
            other.x0 - GAP for other in others if other.x0 > box.x0 + 1 and other.y0 < box.y1 and other.y1 > box.y0
        ]
        title, name = axis._left_title, axis.yaxis.label
        _break(title, min([width, *beside]) - title.get_window_extent().x0)
        if name.get_rotation() == 0:
            _break(name, min([width, *beside]) - name.get_window_extent().x0)
        _break(axis.xaxis.label, min(width, 1.2 * box.width) if beside else width)
    if figure._suptitle is not None:
        _break(figure._suptitle, width)


def _break(text: Text, room: float) -> None:
    width = text.get_window_extent().width
    if width > room:
        text.set_text(textwrap.fill(text.get_text(), int(len(text.get_text()) * room / width)))


def _spread(axis: Axes) -> None:
    """Move the labels of lines apart where they would lie over each other, as little as possible in all."""
    labels = [each for each in axis.texts if isinstance(each, Annotation) and each.get_gid() == LINE_LABEL]
    boxes = {each: each.get_window_extent() for each in labels}
    labels.sort(key=lambda each: boxes[each].y0 + boxes[each].y1)
    middles = [(boxes[each].y0 + boxes[each].y1) / 2 for each in labels]
    whole = axis.get_window_extent()
    for label, old, new in zip(
        labels, middles, _apart(middles, [boxes[each].height + 1 for each in labels], whole.y0, whole.y1), strict=True
    ):
        across, up = label.xyann
        label.xyann = across, up + new - old


def _apart(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
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
        box, side = text.get_window_extent(), text.get_ha()
        x = {"left": box.x0, "center": (box.x0 + box.x1) / 2, "right": box.x1}[side]
        text.set_gid(f"anchor {x:.2f} { {'left': 'start', 'center': 'middle', 'right': 'end'}[side] }")
        text.set_multialignment(side)
