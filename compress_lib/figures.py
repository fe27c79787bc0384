"""One look for every figure of the book: readable in gray, on a phone, and by color-blind readers."""

from cycler import cycler

__all__ = ["use_book_style"]

# Okabe & Ito's palette, each color with its own line style and marker, so that no meaning hangs on color alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")


def use_book_style() -> None:
    """Set matplotlib's defaults for the rest of the session."""
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINES) + cycler(marker=MARKERS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.figsize": (7.2, 3.2),
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "savefig.facecolor": "white",
        }
    )
