"""How well integers alone agree with the float arithmetic of a deployed network. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877. The int8 kernels multiply sums by M in float32 and round half to even; hardware without floating point
multiplies by an int32 and shifts (`fixed_point.requantize`). Where a product is next to the middle between two codes,
the two may choose different ones. Such a code changes the sums of the next layer a little, and more codes there: what
is compared layer by layer is therefore what each makes of the *same* codes.
"""

from dataclasses import dataclass

from torch import Tensor, fx, inference_mode

from compress_lib.data import as_input
from compress_lib.quantization.integer.conversion import IntegerRun


@dataclass
class LayerAgreement:
    """Of one layer that writes codes: how many, how many differ, and by how much at most."""

    layer: str
    codes: int = 0
    differing: int = 0
    largest: int = 0


@dataclass
class Agreement:
    """Of ``images``, how many have the same largest output in both; and the layers, on the same codes."""

    images: int
    agreeing: int
    layers: list[LayerAgreement]

    @property
    def share(self) -> float:
        """Of the predictions, in [0, 1]."""
        return self.agreeing / self.images


def measure(deployed: fx.GraphModule, images: Tensor, *, rounding: str = "once", batch_size: int = 250) -> Agreement:
    """Run a deployed network both ways.

    Parameters
    ----------
    deployed : fx.GraphModule
        From `conversion.deploy`, with logits (N, classes) as its output.
    images : Tensor
        ``(N, …)``, uint8 or float, as for `training.predict`.
    rounding : {"once", "twice"}
        Of the integers; see `fixed_point.requantize`.
    batch_size : int

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If ``images`` is empty; and for what `quantized_layer.QuantizedLayer.integer` refuses.
    """
    if not len(images):
        raise ValueError("images is empty: there are no predictions to compare")
    run, agreeing = _Compared(deployed, rounding=rounding), 0
    with inference_mode():
        for batch in map(as_input, images.split(batch_size)):
            agreeing += int((run.run(batch).argmax(1) == deployed(batch).argmax(1)).sum())
    return Agreement(len(images), agreeing, list(run.layers.values()))


class _Compared(IntegerRun):
    """Integers flow from layer to layer, and each layer's ``forward`` is given the same codes as its ``integer``."""

    def __init__(self, deployed: fx.GraphModule, *, rounding: str) -> None:
        super().__init__(deployed, rounding=rounding)
        self.layers: dict[str, LayerAgreement] = {}

    def call_module(self, target, args, kwargs):
        found = super().call_module(target, args, kwargs)
        module = self.fetch_attr(target)
        if getattr(module, "output_bits", None) is not None:
            row = self.layers.setdefault(target, LayerAgreement(target))
            difference = (found.int() - module(*args, **kwargs).int()).abs()
            row.codes += difference.numel()
            row.differing += int(difference.count_nonzero())
            row.largest = max(row.largest, int(difference.max()))
        return found
