"""The train form of a quantized network: float32 numbers that lie on the grids of the integers to come. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, section 3. Weights and activations are rounded in the forward pass, and the gradient goes straight
through the rounding (`affine.fake_quantize`). The bias lies on the grid ``S_input · S_weight``, as it will for integers.

Activations have unsigned codes and one grid per tensor. Weights have symmetric, narrow codes (−127 … 127 of 8 bits),
zero point 0, and a scale per output channel or one for all, which follows the weights as they are trained.
"""

import torch
from torch import Tensor, nn

from compress_lib.data import as_input
from compress_lib.quantization.integer import affine, int8, observers

RANGES = ("min_max", "moving_average", "percentile", "mse", "kl")
WEIGHT_RANGES = ("min_max", "mse")
_SAMPLE = 2**16


class Divergence:
    """`observers.kl_optimal` of all batches, and not beyond the least and the greatest number."""

    def __init__(self, bits: int) -> None:
        self.bits, self.histogram = bits, observers.Histogram()

    def update(self, x: Tensor) -> None:
        """Take in a batch; TypeError and ValueError as for `observers.MinMax`."""
        self.histogram.update(x)

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far."""
        low, high = self.histogram.low, self.histogram.high
        threshold_low, threshold_high = observers.kl_optimal(self.histogram, self.bits, signed=bool(low < 0))
        return torch.maximum(low, threshold_low), torch.minimum(high, threshold_high)


class SquaredError:
    """`observers.mse_optimal` of 65,536 numbers drawn from all batches, each number equally likely."""

    def __init__(self, bits: int) -> None:
        self.bits, self.generator = bits, torch.Generator().manual_seed(0)
        self.numbers, self.lots = torch.empty(0), torch.empty(0, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Take in a batch: of all numbers seen so far, those that drew the highest lots are kept."""
        lots = torch.rand(x.numel(), generator=self.generator, dtype=torch.float64)
        numbers = torch.cat([self.numbers, x.detach().flatten().cpu()])
        lots = torch.cat([self.lots, lots])
        self.lots, kept = lots.topk(min(_SAMPLE, len(lots)))
        self.numbers = numbers[kept]

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far."""
        return observers.mse_optimal(self.numbers, self.bits, signed=False)


def observer(name: str, bits: int):
    """What finds the range of an activation: an object with ``update(batch)`` and ``range() -> (low, high)``.

    Parameters
    ----------
    name : {"min_max", "moving_average", "percentile", "mse", "kl"}
        The percentile leaves out at most a share of 0.001 at either end.
    bits : int
        Of the grid that it is for.

    Raises
    ------
    ValueError
        If there is no such range.
    """
    makers = (
        observers.MinMax,
        observers.MovingAverage,
        observers.Percentile,
        lambda: SquaredError(bits),
        lambda: Divergence(bits),
    )
    if name not in RANGES:
        raise ValueError(f"range must be one of {RANGES}, got {name!r}")
    return dict(zip(RANGES, makers))[name]()


class ActivationQuantizer(nn.Module):
    """Rounds an activation to a grid.

    Parameters
    ----------
    bits : int
        Of the unsigned codes, from 1 to 16.
    observer : object
        See `observer`.

    Attributes
    ----------
    state : {"observe", "quantize", "follow"}
        Observe: numbers pass as they are, and the observer sees them. Quantize: they are rounded to the grid. Follow:
        they are rounded, and in training mode the observer sees each batch before and moves the grid.
    scale : Tensor
        () float32; 1 until `adopt`.
    zero_point : Tensor
        () int32
    """

    def __init__(self, bits: int, observer) -> None:
        super().__init__()
        affine.quant_range(bits, signed=False)
        self.bits, self.observer, self.state = bits, observer, "observe"
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        if self.state == "observe":
            self.observer.update(x)
            return x
        if self.state == "follow" and self.training:
            self.observer.update(x)
            self.adopt()
        return affine.fake_quantize(x, self.scale, self.zero_point, self.bits, signed=False)

    def adopt(self) -> None:
        """Take the grid of the range that was observed."""
        scale, zero_point = affine.choose_qparams(*self.observer.range(), self.bits, signed=False)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def grid(self) -> int8.QParams:
        """The grid as it is now."""
        return int8.QParams(self.scale.item(), self.zero_point.item(), self.bits)

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


class SimulatedLayer(nn.Module):
    """A convolution or linear layer with a rounded weight and bias, and the ReLU after it, if there is one.

    While the grid of its input is not known (state "observe") it computes in float32.

    Parameters
    ----------
    layer : nn.Module
        Its float weights are the ones that are trained.
    input : ActivationQuantizer
        What rounds the input; it has been called when this layer is.
    weights : WeightQuantizer
    relu : bool
    """

    def __init__(self, layer: nn.Module, input: ActivationQuantizer, weights: WeightQuantizer, relu: bool) -> None:
        super().__init__()
        self.layer, self.weights, self.relu = layer, weights, relu
        self.reads(input)

    @property
    def input(self) -> ActivationQuantizer:
        """What rounds the input: a module of the network, and none of this layer."""
        return self._input[0]

    def reads(self, input: ActivationQuantizer) -> None:
        """Let another one round the input."""
        self._input = (input,)  # in a tuple, so that it is not registered

    def forward(self, x: Tensor) -> Tensor:
        if self.input.state == "observe":
            y = self.layer(x)
        else:
            scale = self.weight_scale()
            rounded = {"weight": self.weights(self.layer.weight, scale)}
            if self.layer.bias is not None:
                rounded["bias"] = self._bias(scale)
            y = torch.func.functional_call(self.layer, rounded, (x,))
        return y.relu() if self.relu else y

    def weight_scale(self) -> Tensor:
        """The scale of the weight, large enough for the bias to fit int32 on the grid ``S_input · S_weight``.

        That matters for channels whose weights are almost 0, as a batch normalisation with a γ of almost 0 leaves them.
        """
        scale = self.weights.scale(self.layer.weight)
        if self.layer.bias is None:
            return scale
        bias = self.layer.bias.detach().abs()
        return torch.maximum(scale, (bias if scale.dim() else bias.amax()) / (self.input.scale * 2.0**30))

    def _bias(self, scale: Tensor) -> Tensor:
        unit = self.input.scale.double() * scale.double()
        bias = self.layer.bias
        rounded = ((bias.detach().double() / unit).round() * unit).to(bias.dtype)
        return rounded + (bias - bias.detach())  # the difference is 0, with the gradient 1


def calibrate(network: nn.Module, images: Tensor, *, batch_size: int = 250) -> None:
    """Find all ranges, in place: those of the activations from a run over images, those of the weights by `fit`.

    What the activations are is seen in float32, before anything is rounded. A second call adds to what has been seen.

    Parameters
    ----------
    network : nn.Module
        The train form; its quantizers are in the state "quantize" afterwards.
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
        quantizer.state = "observe"
    training = network.training
    network.eval()
    with torch.no_grad():
        for batch in images.split(batch_size):
            network(as_input(batch))
        for quantizer in quantizers:
            quantizer.adopt()
            quantizer.state = "quantize"
        for module in network.modules():
            if isinstance(module, SimulatedLayer):
                module.weights.fit(module.layer.weight)
    network.train(training)
