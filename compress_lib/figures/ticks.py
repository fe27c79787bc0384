"""The numbers and names on axes, as a newspaper would write them."""

import itertools
import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogFormatterSciNotation, ScalarFormatter

__all__ = ["in_lines", "readable_numbers", "thinned"]


class Numbers(ScalarFormatter):
    """matplotlib's numbers, with a comma between thousands, and never a factor in the corner."""

    def __init__(self):
        super().__init__(useOffset=False)
        self.set_scientific(False)

    def __call__(self, x, pos=None):
        whole, point, rest = super().__call__(x, pos).partition(".")
        sign, digits = ("−", whole[1:]) if whole[:1] in ("-", "−") else ("", whole)
        return sign + (f"{int(digits):,}" if digits.isdigit() else digits) + point + rest


class Powers(LogFormatterSciNotation):
    """The ticks that matplotlib would name on a logarithmic axis, named without formulas: 1,000 or 10⁻⁵."""

    SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

    def __call__(self, x, pos=None):
        if self.axis is None or not super().__call__(x, pos):
            return ""
        low, high = sorted(self.axis.get_view_interval())
        if low >= 0.99e-3 and high < 1.01e6:
            return f"{x:,.10g}"
        exponent = math.floor(math.log10(x) + 1e-9)
        power = "10" + str(exponent).translate(self.SUPERSCRIPTS)
        factor = round(x / 10**exponent, 6)
        return power if factor == 1 else f"{factor:g}×{power}"


def readable_numbers(axes: Axes) -> None:
    """Take the place of matplotlib's own formatters, and of no other."""
    for axis in (axes.xaxis, axes.yaxis):
        if type(axis.get_major_formatter()) is ScalarFormatter:
            axis.set_major_formatter(Numbers())
        elif type(axis.get_major_formatter()) is LogFormatterSciNotation:
            axis.set_major_formatter(Powers(labelOnlyBase=True))
            axis.set_minor_formatter(Powers(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def thinned(axes: Axes) -> None:
    """Where ticks were set by hand and their names touch, every second one stays."""
    while isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        labels = [label for label in axes.get_xticklabels() if label.get_text() and not label.get_rotation()]
        boxes = sorted((label.get_window_extent().intervalx for label in labels), key=tuple)
        if all(left[1] + 2 < right[0] for left, right in itertools.pairwise(boxes)):
            return
        places = axes.get_xticks()
        axes.set_xticks(places[::2], [label.get_text() for label in axes.get_xticklabels()][::2])


def in_lines(name: str, letters: int) -> str:
    """A name in lines of at most so many letters; its own hyphens hold together."""
    return textwrap.fill(name, letters, break_on_hyphens=False)
