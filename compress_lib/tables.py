"""Small tables that read well in a terminal, in a notebook and on a page.

A report keeps its numbers as numbers; a table is only how they look.
"""

from collections.abc import Sequence
from html import escape
from numbers import Integral, Real


class Table:
    """Rows and columns, as aligned text and as accessible HTML.

    Parameters
    ----------
    columns : sequence of str
        The header, one title per column. The first column names its row.
    rows : sequence of sequences
        One cell per column. Numbers are right-aligned; ``None`` is shown as an en dash.
    title : str
        The caption.
    footer : sequence, optional
        One last row, set apart (totals, as a rule).
    formats : dict of str to str, optional
        Column title to format specification, for example ``{"sparsity": ".1%"}``. Without one, integers get thousands
        separators and other numbers four significant digits.

    Raises
    ------
    ValueError
        If a row or the footer has not one cell per column, or ``formats`` names a column that does not exist.

    Examples
    --------
    >>> print(Table(["layer", "weights"], [["fc1", 235200], ["fc2", 30000]], footer=["total", 265200]))
    layer  weights
    -----  -------
    fc1    235,200
    fc2     30,000
    -----  -------
    total  265,200
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence],
        title: str = "",
        footer: Sequence | None = None,
        formats: dict[str, str] | None = None,
    ):
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.title = title
        self.footer = None if footer is None else list(footer)
        self.formats = dict(formats or {})
        for row in self._all_rows():
            if len(row) != len(self.columns):
                raise ValueError(f"row {row!r} has {len(row)} cells; the table has {len(self.columns)} columns")
        if unknown := sorted(self.formats.keys() - set(self.columns)):
            raise ValueError(f"formats names {unknown}, which are not among the columns {self.columns}")

    def __str__(self) -> str:
        lines = [self.columns, *([self._text(i, cell) for i, cell in enumerate(row)] for row in self._all_rows())]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        right = [self._is_numeric(i) for i in range(len(self.columns))]

        def join(cells):
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
            return "  ".join(padded).rstrip()

        rule = "  ".join("-" * width for width in widths)
        text = [join(line) for line in lines]
        text.insert(1, rule)
        if self.footer is not None:
            text.insert(-1, rule)
        return "\n".join([self.title, "", *text] if self.title else text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(self._html_cell("th", i, title, ' scope="col"') for i, title in enumerate(self.columns))
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        body = "".join(self._html_row(row) for row in self.rows)
        foot = f"<tfoot>{self._html_row(self.footer)}</tfoot>" if self.footer is not None else ""
        # The wrapper lets a wide table scroll on a narrow screen, and the keyboard reach what is out of sight.
        label = escape(self.title or "table", quote=True)
        return (
            f'<div style="overflow-x: auto" tabindex="0" role="group" aria-label="{label}">'
            f'<table class="dataframe" style="font-variant-numeric: tabular-nums">{caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table></div>"
        )

    def _html_row(self, row: Sequence) -> str:
        first, *rest = (self._text(i, cell) for i, cell in enumerate(row))
        cells = [self._html_cell("th", 0, first, ' scope="row"')]
        cells += [self._html_cell("td", i, text) for i, text in enumerate(rest, start=1)]
        return f"<tr>{''.join(cells)}</tr>"

    def _html_cell(self, tag: str, column: int, text: str, attributes: str = "") -> str:
        side = "right" if self._is_numeric(column) else "left"
        return f'<{tag}{attributes} style="text-align: {side}">{escape(text)}</{tag}>'

    def _text(self, column: int, cell: object) -> str:
        if cell is None:
            return "–"
        if isinstance(cell, bool) or not isinstance(cell, Real):
            return str(cell)
        default = "," if isinstance(cell, Integral) else ",.4g"
        return format(cell, self.formats.get(self.columns[column], default))

    def _is_numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, Real) and not isinstance(cell, bool) for cell in cells)

    def _all_rows(self) -> list[list]:
        return self.rows if self.footer is None else [*self.rows, self.footer]
