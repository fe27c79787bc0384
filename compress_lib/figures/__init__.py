"""One look for every figure of the book: SVG in the site's fonts and colors, readable in gray and on a phone."""

from compress_lib.figures.line_labels import label_lines
from compress_lib.figures.palette import (
    BLUE,
    COLORS,
    GREEN,
    GROUND,
    INK,
    LINES,
    MARKERS,
    OFF,
    ORANGE,
    PURPLE,
    RULE,
    SOFT,
    TINT,
)
from compress_lib.figures.plots import dot_plot, matrix
from compress_lib.figures.style import use_book_style

__all__ = [
    "BLUE",
    "COLORS",
    "GREEN",
    "GROUND",
    "INK",
    "LINES",
    "MARKERS",
    "OFF",
    "ORANGE",
    "PURPLE",
    "RULE",
    "SOFT",
    "TINT",
    "dot_plot",
    "label_lines",
    "matrix",
    "use_book_style",
]
