"""The train form of a quantized network: float32 numbers that lie on the grids of the integers to come. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, section 3. Weights and activations are rounded in the forward pass, and the gradient goes straight
through the rounding (`affine.fake_quantize`). The bias lies on the grid ``S_input · S_weight``, as it will for
integers.

Activations have unsigned codes and one grid per tensor. Weights have symmetric, narrow codes (−127 … 127 of 8 bits),
zero point 0, and a scale per output channel or one for all, which follows the weights as they are trained.
"""

import torch
from torch import Tensor, nn

from compress_lib.data import as_input
from compress_lib.network.modes import evaluating
from compress_lib.quantization.integer import affine, observers
from compress_lib.quantization.integer.observers import Observer
from compress_lib.quantization.integer.qparams import QParams

WEIGHT_RANGES = ("min_max", "mse")


class ActivationQuantizer(nn.Module):
    """Rounds an activation to a grid.

    Parameters
    ----------
    bits : int
        Of the unsigned codes, from 1 to 16.
    observer : Observer
        See `observers.make_observer`.

    Attributes
    ----------
    state : {"calibrate", "frozen", "update"}
        Calibrate: numbers pass as they are, and the observer sees them. Frozen: they are rounded to the grid. Update:
        they are rounded, and in training mode the observer sees each batch first and moves the grid.
    scale : Tensor
        () float32; 1 until `update_qparams`.
    zero_point : Tensor
        () int32
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, observer: Observer) -> None:
        super().__init__()
        affine.quant_range(bits, signed=False)
        self.bits, self.observer, self.state = bits, observer, "calibrate"
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        if self.state == "calibrate":
            self.observer.update(x)
            return x
        if self.state == "update" and self.training:
            self.observer.update(x)
            self.update_qparams()
        return affine.fake_quantize(x, self.scale, self.zero_point, self.bits, signed=False)

    def update_qparams(self) -> None:
        """Take the grid of the range that was observed."""
        low, high = self.observer.range()
        scale, zero_point = affine.choose_qparams(low, high, self.bits, signed=False)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def qparams(self) -> QParams:
        """The grid as it is now."""
        return QParams(self.scale.item(), int(self.zero_point), self.bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, state={self.state!r}"


class WeightQuantizer(nn.Module):
    """Rounds a weight to a symmetric, narrow grid.

    The grid ends at a fraction of the greatest magnitude of the weight, so it moves with the weight in training. The
    fraction is 1, or what gave the least squared error when `fit` was called.

    Parameters
    ----------
    bits : int
        From 2 to 16.
    channels : int, optional
        C, for a scale for each index of the first axis.
    range : {"min_max", "mse"}

    Attributes
    ----------
    fraction : Tensor
        () or (C,), float32.
    """

    fraction: Tensor

    def __init__(self, bits: int, channels: int | None, range: str) -> None:
        super().__init__()
        affine.quant_range(bits, signed=True, narrow=True)
        if range not in WEIGHT_RANGES:
            raise ValueError(f"weight_range must be one of {WEIGHT_RANGES}, got {range!r}")
        self.bits, self.axis, self.range = bits, None if channels is None else 0, range
        self.register_buffer("fraction", torch.ones(() if channels is None else (channels,)))

    def fit(self, weight: Tensor) -> None:
        """Find the fraction."""
        if self.range == "mse":
            _, high = observers.mse_optimal(weight, self.bits, symmetric=True, narrow=True, axis=self.axis)
            largest = self._largest(weight)
            self.fraction.copy_(torch.where(largest > 0, high / largest, 1))

    def scale(self, weight: Tensor) -> Tensor:
        """The scale for this weight, () or (C,), float32."""
        high = self._largest(weight) * self.fraction
        return affine.choose_qparams(-high, high, self.bits, symmetric=True, narrow=True)[0]

    def forward(self, weight: Tensor, scale: Tensor) -> Tensor:
        return affine.fake_quantize(weight, scale, 0, self.bits, narrow=True, axis=self.axis)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, per_channel={self.axis == 0}, range={self.range!r}"

    def _largest(self, weight: Tensor) -> Tensor:
        magnitude = weight.detach().abs()
        return magnitude.amax() if self.axis is None else magnitude.flatten(1).amax(1)


class FakeQuantizedLayer(nn.Module):
    """A convolution or linear layer with a rounded weight and bias, and the ReLU after it, if there is one.

    While the grid of its input is not known (state "calibrate") it computes in float32.

    Parameters
    ----------
    layer : nn.Module
        Its float weights are the ones that are trained.
    input_quantizer : ActivationQuantizer
        What rounds the input; it has been called when this layer is.
    weight_quantizer : WeightQuantizer
    relu : bool
    """

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        input_quantizer: ActivationQuantizer,
        weight_quantizer: WeightQuantizer,
        relu: bool,
    ) -> None:
        super().__init__()
        self.layer, self.weight_quantizer, self.relu = layer, weight_quantizer, relu
        self.set_input_quantizer(input_quantizer)

    @property
    def input_quantizer(self) -> ActivationQuantizer:
        """What rounds the input: a module of the network, and none of this layer."""
        return self._input_quantizer[0]

    def set_input_quantizer(self, quantizer: ActivationQuantizer) -> None:
        """Let another one round the input."""
        self._input_quantizer = (quantizer,)  # in a tuple, so that it is not registered

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quantizer.state == "calibrate":
            y = self.layer(x)
        else:
            scale = self.weight_scale()
            rounded = {"weight": self.weight_quantizer(self.layer.weight, scale)}
            if self.layer.bias is not None:
                rounded["bias"] = self._rounded_bias(self.layer.bias, scale)
            y = torch.func.functional_call(self.layer, rounded, (x,))
        return y.relu() if self.relu else y

    def weight_scale(self) -> Tensor:
        """The scale of the weight, large enough for the bias to fit int32 on the grid ``S_input · S_weight``.

        That matters for channels whose weights are almost 0, as a batch normalization with a γ of almost 0 leaves them.
        """
        scale = self.weight_quantizer.scale(self.layer.weight)
        if self.layer.bias is None:
            return scale
        bias = self.layer.bias.detach().abs()
        return torch.maximum(scale, (bias if scale.dim() else bias.amax()) / (self.input_quantizer.scale * 2.0**30))

    def _rounded_bias(self, bias: Tensor, scale: Tensor) -> Tensor:
        unit = self.input_quantizer.scale.double() * scale.double()
        rounded = ((bias.detach().double() / unit).round() * unit).to(bias.dtype)
        return rounded + (bias - bias.detach())  # the difference is 0, with the gradient 1


def calibrate(network: nn.Module, images: Tensor, *, batch_size: int = 250) -> None:
    """Find all ranges, in place: those of the activations from a run over images, those of the weights by
    `WeightQuantizer.fit`.

    What the activations are is seen in float32, before anything is rounded. A second call adds to what has been seen.

    Parameters
    ----------
    network : nn.Module
        The train form; its quantizers are in the state "frozen" afterwards.
    images : Tensor
        ``(N, …)``, uint8 or float, as for `training.predict`.
    batch_size : int

    Raises
    ------
    ValueError
        If ``images`` is empty.
    """
    if not len(images):
        raise ValueError("images is empty: ranges need something to be observed on")
    quantizers = [module for module in network.modules() if isinstance(module, ActivationQuantizer)]
    for quantizer in quantizers:
        quantizer.state = "calibrate"
    with evaluating(network), torch.no_grad():
        for batch in images.split(batch_size):
            network(as_input(batch))
        for quantizer in quantizers:
            quantizer.update_qparams()
            quantizer.state = "frozen"
        for module in network.modules():
            if isinstance(module, FakeQuantizedLayer):
                module.weight_quantizer.fit(module.layer.weight)
