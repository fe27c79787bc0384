"""A figure rearranged for a phone: panels below each other, legends below them all."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compress_lib.figures.line_labels import label_as
from compress_lib.figures.ticks import in_lines

__all__ = ["has_numbers", "rearranged"]

TALLEST = 2.4  # inches, of a panel that has others below it
LONG = 18  # letters; longer names are broken, and a legend of them has one column
ROW = 0.2  # inches, of a legend


def rearranged(figure: Figure, width: float) -> None:
    """Make a figure ``width`` inches wide, in place; panels that are not one plain grid keep their order."""
    grids = [spec.get_gridspec() for axis in figure.axes if (spec := axis.get_subplotspec()) is not None]
    rows, columns = (grids[0].nrows, grids[0].ncols) if grids else (0, 0)
    plain = len(grids) == len(figure.axes) == rows * columns and all(grid is grids[0] for grid in grids)
    if any(map(has_numbers, figure.axes)):
        if plain and columns > 1:
            _regrid(figure, rows, 1)
    elif plain and rows == 1 and columns > 2:
        _regrid(figure, rows, 2)
    elif any(axis.images for axis in figure.axes):  # they shrink; what is drawn and written keeps its room
        figure.set_figheight(figure.get_figheight() * width / figure.get_figwidth())
    figure.set_figwidth(width)
    for axis in figure.axes:
        _short_names(axis)
    _legends_below(figure)


def has_numbers(axis: Axes) -> bool:
    """Whether anything is written along an axis."""
    return axis.axison and bool(len(axis.get_xticks()) or len(axis.get_yticks()))


def _regrid(figure: Figure, rows: int, columns: int) -> None:
    height = min(figure.get_figheight() / rows, TALLEST)
    grid = figure.add_gridspec(-(-len(figure.axes) // columns), columns)
    for number, axis in enumerate(figure.axes):
        axis.set_subplotspec(grid[number])
        if columns == 1:
            _say_what_was_shared(axis)
    figure.set_figheight(height * grid.nrows)
    figure.set_layout_engine("constrained", h_pad=0.09)


def _say_what_was_shared(axis: Axes) -> None:
    """Numbers and names that a panel took from the ones beside it."""
    axis.tick_params(labelleft=True, labelbottom=True)
    beside_x, beside_y = axis.get_shared_x_axes().get_siblings(axis), axis.get_shared_y_axes().get_siblings(axis)
    axis.set_xlabel(axis.get_xlabel() or max(other.get_xlabel() for other in beside_x))
    axis.set_ylabel(axis.get_ylabel() or max(other.get_ylabel() for other in beside_y))
    for other in beside_y:
        label_as(axis, other)


def _short_names(axis: Axes) -> None:
    """Names of rows in lines that leave the data most of the width."""
    names = [label.get_text() for label in axis.get_yticklabels()]
    if any(len(name) > LONG for name in names):
        axis.set_yticks(axis.get_yticks(), [in_lines(name, LONG) for name in names])


def _legends_below(figure: Figure) -> None:
    """One legend for the whole figure: inside a narrow panel there is no room that the data leave free."""
    legends = [*figure.legends, *(legend for axis in figure.axes if (legend := axis.get_legend()) is not None)]
    names = list(dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts()))
    if not names:
        return
    entries: dict[str, Any] = {}
    for legend in legends:
        entries |= dict(zip((text.get_text() for text in legend.get_texts()), legend.legend_handles, strict=True))
    for axis in figure.axes:  # rather than what a legend made of them
        handles, labels = axis.get_legend_handles_labels()
        entries |= {label: handle for label, handle in zip(labels, handles, strict=True) if label in entries}
        if (legend := axis.get_legend()) is not None:
            legend.remove()
    figure.legends.clear()
    columns = 1 if max(map(len, names)) > LONG else 2
    place: Any = "outside lower left"  # matplotlib's types do not know it
    figure.legend([entries[name] for name in names], names, loc=place, ncols=columns)
    figure.set_figheight(figure.get_figheight() + ROW * -(-len(names) // columns))
