"""Where the bytes of a file went: a row for each layer, as in the tables of Deep Compression. Chapter 07."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from compress_lib.coding import tensors
from compress_lib.tables import Table


@dataclass
class LayerBytes:
    """One layer of a file. All but the first three are bytes.

    Attributes
    ----------
    layer : str
        Its name.
    weights, entries : int
        The values of its tensors of two axes or more, and those of them that are stored, fillers included.
    codes, indices, codebook, tables : int
        What these tensors take, as in `tensors.Parts`.
    biases : int
        What its other tensors take: biases, scales, running statistics.
    header : int
        Shapes, types and lengths.
    """

    layer: str
    weights: int = 0
    entries: int = 0
    codes: int = 0
    indices: int = 0
    codebook: int = 0
    tables: int = 0
    biases: int = 0
    header: int = 0

    @classmethod
    def of(cls, layer: str, records: Mapping[str, bytes]) -> "LayerBytes":
        """The row of a layer with these records; a ValueError refuses what is none."""
        row = cls(layer)
        for record in records.values():
            parts = tensors.parts(record)
            row.header += parts.header
            if len(tensors.describe(record)[1]) < 2:
                row.biases += parts.codes + parts.indices + parts.codebook + parts.tables
                continue
            row.weights += parts.size
            row.entries += parts.entries
            row.codes += parts.codes
            row.indices += parts.indices
            row.codebook += parts.codebook
            row.tables += parts.tables
        return row

    @property
    def nbytes(self) -> int:
        """All bytes of the layer."""
        return self.codes + self.indices + self.codebook + self.tables + self.biases + self.header


@dataclass
class Budget:
    """The bytes of a file; prints as a table and renders as one in a notebook.

    Attributes
    ----------
    rows : list of LayerBytes
        The layers, then what the file has before them.
    """

    rows: list[LayerBytes]

    @property
    def nbytes(self) -> int:
        """The size of the file."""
        return sum(row.nbytes for row in self.rows)

    def table(self) -> Table:
        """The rows and their totals."""
        names = [field.name for field in fields(LayerBytes)] + ["nbytes"]
        cells = [[getattr(row, name) for name in names] for row in self.rows]
        footer = ["total", *(sum(column) for column in list(zip(*cells, strict=True))[1:])] if cells else None
        return Table([*names[:-1], "bytes"], cells, "Bytes of the file", footer)

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()
