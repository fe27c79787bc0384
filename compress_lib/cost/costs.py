"""What a count reports: the cost of each layer and of the network."""

from dataclasses import dataclass

from compress_lib.tables import Table


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer for one input.

    Attributes
    ----------
    name : str
        As in ``model.named_modules()``; ``""`` is the model itself. A module used in several places appears once, under
        its first name, with the work of all its calls.
    kind : str
        The class, for example ``"Conv2d"``.
    output_shape : tuple of int or None
        Without the leading batch axis of 1. ``None`` if the layer was never called.
    params : int
        Parameters that belong to this very module (not to its children).
    macs : int
        Multiply-adds.
    nbytes : int
        Bytes of its parameters and buffers in memory.
    input_nbytes, activation_nbytes : int
        Bytes of the tensors it was given and of those it returned.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    params: int
    macs: int
    nbytes: int
    input_nbytes: int
    activation_nbytes: int


@dataclass(frozen=True, repr=False)
class Cost:
    """Cost of a network for one input; renders as a table.

    Attributes
    ----------
    input_shape : tuple of int
        Without the batch axis.
    params : int
        Parameters; one that is shared by several layers counts once.
    macs : int
        Multiply-adds of convolutions, linear layers and other matrix products; no bias, normalization or pooling.
    nbytes : int
        Bytes of parameters and buffers in memory.
    peak_activation_nbytes : int
        The most bytes of activations alive at one time during inference on one input, the input included.
    layers : tuple of LayerCost
        In the order of execution, then those that were never called.
    uncounted : tuple of str
        Operations that ran, may do multiply-adds, and have no formula: ``macs`` is a lower bound if there are any.
    """

    input_shape: tuple[int, ...]
    params: int
    macs: int
    nbytes: int
    peak_activation_nbytes: int
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()

    def table(self) -> Table:
        """The layers and their total."""
        title = f"One input of {_shape(self.input_shape)}; at most {self.peak_activation_nbytes:,} bytes of activations"
        if sum(layer.params for layer in self.layers) != self.params:
            title += "; parameters that layers share count once in the total"
        if self.uncounted:
            title += f"; MACs unknown and left out: {', '.join(self.uncounted)}"
        rows = [
            [x.name or "(model)", x.kind, _shape(x.output_shape), x.params, x.macs, x.nbytes, x.activation_nbytes]
            for x in self.layers
        ]
        return Table(
            ["layer", "kind", "output", "parameters", "MACs", "bytes", "output bytes"],
            rows,
            title=title,
            footer=["total", None, None, self.params, self.macs, self.nbytes, None],
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _shape(shape: tuple[int, ...] | None) -> str | None:
    return None if shape is None else "×".join(map(str, shape)) or "scalar"
