"""matplotlib set up for the book, and figures that a notebook stores as SVG."""

import sys
from typing import Any

from cycler import cycler

from compress_lib.figures.palette import COLORS, GROUND, INK, LINES, MARKERS, RULE, SOFT, TINT
from compress_lib.figures.svg import draw

__all__ = ["use_book_style"]

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": SOFT,
    "axes.labelpad": 5,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=LINES) + cycler(marker=MARKERS),
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": GROUND,
    "figure.figsize": (7.2, 3.4),
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",  # comes with matplotlib: every machine measures, and so lays out, the same
    "font.size": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "image.cmap": TINT.name,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "patch.edgecolor": GROUND,
    "savefig.facecolor": GROUND,
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelsize": 9.5,
    "xtick.minor.size": 0,
    "ytick.color": SOFT,
    "ytick.labelsize": 9.5,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


def use_book_style() -> None:
    """Set matplotlib's defaults for the rest of the session; in a notebook, figures are shown as SVG from now on.

    The file holds text as text and each figure in two widths, for a page and for a phone. The site takes the one that
    fits and lends it its fonts and colors; everywhere else the wide one is shown, in light colors.
    """
    import matplotlib
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    if TINT.name not in matplotlib.colormaps:
        matplotlib.colormaps.register(TINT)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        plt.switch_backend(matplotlib.get_backend())  # now: when it is loaded, it asks for PNG
        for formatter in shell.display_formatter.formatters.values():
            formatter.pop(Figure, None)
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, draw)
    plt.rcParams.update(STYLE)
