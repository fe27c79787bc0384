"""Post-training quantization: a trained network to integers, with a few images and no labels. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, is the arithmetic; the ranges come from a run over the images. Jacob trains with the rounding in place
(see `qat`); without that, 8 bits are enough as a rule, and fewer than 4 are not.
"""

from dataclasses import dataclass, fields

from torch import Tensor, fx, nn

from compress_lib.data import as_input
from compress_lib.quantization.integer import conversion, fake_quant
from compress_lib.quantization.integer.conversion import Bits
from compress_lib.quantization.integer.quantized_layer import QuantizedLayer
from compress_lib.report import LayerRow, Report
from compress_lib.tables import Table


@dataclass
class IntegerLayer(LayerRow):
    """A layer of the deployed network. ``kept`` counts the weights whose code is not 0; no output bits: float32."""

    weight_bits: int
    input_bits: int
    output_bits: int | None
    kernel: str


class QuantizationReport(Report):
    """A report whose columns of bits have no total."""

    def table(self) -> Table:
        """The rows, and the totals of the weights."""
        columns = [field.name for field in fields(IntegerLayer)]
        cells = [[getattr(row, column) for column in columns] for row in self.rows]
        total = {"layer": "total", "weights": self.weights, "kept": self.kept}
        headers = [column.replace("_", " ") for column in columns]
        return Table(headers, cells, self.title, [total.get(column, "") for column in columns])


def quantize(
    model: nn.Module,
    calibration_images: Tensor,
    *,
    weight_bits: Bits = 8,
    activation_bits: Bits = 8,
    per_channel: bool = True,
    range: str = "min_max",
    weight_range: str = "min_max",
    batch_size: int = 250,
) -> tuple[fx.GraphModule, QuantizationReport]:
    """Quantize weights and activations.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    calibration_images : Tensor
        ``(N, …)``, uint8 or float, as for `training.predict`; some hundreds of the training set.
    weight_bits, activation_bits, per_channel, range, weight_range : as for `conversion.convert`.
        ``weight_range="mse"`` clips the weights as well, which matters below 6 bits.
    batch_size : int
        Of the run over the images.

    Returns
    -------
    (fx.GraphModule, QuantizationReport)
        The network of integers (see `conversion.deploy`), float images in and float32 out, and one
        `IntegerLayer` for each of its layers; ``skipped`` says what runs in float32, and why.

    Raises
    ------
    TypeError, ValueError
        As for `conversion.convert`, `fake_quant.calibrate` and `conversion.deploy`.
    """
    train_form = conversion.convert(
        model,
        example(calibration_images),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        per_channel=per_channel,
        range=range,
        weight_range=weight_range,
    )
    fake_quant.calibrate(train_form, calibration_images, batch_size=batch_size)
    deployed = conversion.deploy(train_form)
    return deployed, report_layers(deployed, "Post-training quantization")


def example(images: Tensor) -> Tensor:
    """A batch of two, as the network takes it; TypeError if ``images`` is no tensor, ValueError if it is empty."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor, got {type(images).__name__}")
    if not len(images):
        raise ValueError("images is empty: ranges need something to be observed on")
    return as_input(images[:2])


def report_layers(deployed: fx.GraphModule, title: str) -> QuantizationReport:
    """One `IntegerLayer` for each layer of a deployed network; ``skipped`` says what runs in float32, and why."""
    rows = []
    for node in deployed.graph.nodes:
        layer = deployed.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(layer, QuantizedLayer):
            kind = type(layer).__name__.removeprefix("Quantized")
            weights, kept = layer.weight.numel(), int(layer.weight.count_nonzero())
            bits = layer.weight_bits, layer.input_bits
            rows.append(IntegerLayer(node.target, kind, weights, kept, *bits, layer.output_bits, layer.kernel))
    return QuantizationReport(rows, dict(deployed.meta["skipped"]), title=title)
