"""What a method did to each layer, and what it left alone and why."""

from collections import defaultdict
from dataclasses import dataclass, field, fields
from html import escape

from compress_lib.tables import Table

_FORMATS = {"sparsity": ".2%", "threshold": ".4g"}
_NAMES_SHOWN = 3


@dataclass
class LayerRow:
    """One layer of a report: its name, its kind, how many weights it had, and how many are kept (not zero).

    A method derives its own row from this one and adds what it found out, a column each.
    """

    layer: str
    kind: str
    weights: int
    kept: int


@dataclass
class Report:
    """One row per layer that was treated; prints as a table and renders as one in a notebook.

    Attributes
    ----------
    rows : list
        Of `LayerRow`, or of one dataclass derived from it.
    skipped : dict of str to str
        What was left alone: name to reason.
    warnings : list of str
        What the reader should know before using the result.
    title : str
        The table's caption.
    """

    rows: list
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    title: str = ""

    @property
    def weights(self) -> int:
        """The number of weights in the treated layers."""
        return sum(row.weights for row in self.rows)

    @property
    def kept(self) -> int:
        """How many of them are kept."""
        return sum(row.kept for row in self.rows)

    @property
    def sparsity(self) -> float:
        """The fraction of them that is removed; 0 where no layer was treated."""
        return 1 - self.kept / self.weights if self.rows else 0.0

    def table(self) -> Table:
        """The rows and their totals."""
        if not self.rows:
            return Table(["layer"], [], self.title)
        columns = [f.name for f in fields(self.rows[0])]
        cells = [[getattr(row, column) for column in columns] for row in self.rows]
        total = {
            column: sum(values)
            for column, values in zip(columns, zip(*cells, strict=True), strict=True)
            if isinstance(values[0], int)
        }
        total |= {columns[0]: "total", "sparsity": self.sparsity}
        headers = [column.replace("_", " ") for column in columns]
        formats = {column: spec for column, spec in _FORMATS.items() if column in headers}
        return Table(headers, cells, self.title, [total.get(column, "") for column in columns], formats)

    def notes(self) -> list[str]:
        """The warnings, then the skipped names grouped by reason, as short lines."""
        groups = defaultdict(list)
        for name, reason in self.skipped.items():
            groups[reason].append(name)
        lines = [f"Warning: {warning}" for warning in self.warnings]
        for reason, names in groups.items():
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            lines.append(f"Skipped ({reason}): {', '.join(names[:_NAMES_SHOWN])}{more}")
        return lines

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(line)}</li>" for line in self.notes())
        return self.table()._repr_html_() + (f"<ul>{notes}</ul>" if notes else "")
