"""What the compact networks share: convolution with normalization, initial weights, checks. Chapters 13 to 16."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from torch import Tensor, nn

__all__ = ["check_positive", "conv_bn", "initialize_", "require_images", "scale_width", "smallest_input"]


def conv_bn(
    in_channels: int,
    channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution padded to keep the size at stride 1, without bias, then batch normalization and an activation."""
    check_positive(in_channels=in_channels, channels=channels, kernel_size=kernel_size, stride=stride, groups=groups)
    layers = [
        # No bias: the normalization that follows subtracts it again.
        nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation())


def initialize_(network: nn.Module) -> None:
    """Draw the weights of all convolutions so that a ReLU network keeps the variance, and set their biases to zero.

    He et al., arXiv 1502.01852, in the form that counts what an output sums over. The other form, which counts the
    outputs that an input reaches, is far off for PyTorch's depthwise weights ``(C, 1, 3, 3)``: it takes the groups for
    one.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_positive(**values: int) -> None:
    """Raise TypeError or ValueError, with the argument's name, for what is no integer or below 1."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} must be an integer")
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")


def scale_width(width: int, factor: float, name: str) -> int:
    """``width`` times a multiplier called ``name``, to the nearest integer; a ValueError if that leaves no channel."""
    if not isinstance(factor, Real) or isinstance(factor, bool):
        raise TypeError(f"{name}={factor!r} must be a number")
    if not math.isfinite(factor) or factor <= 0:
        raise ValueError(f"{name}={factor} must be a positive finite number")
    scaled = round(width * factor)
    if scaled < 1:
        raise ValueError(f"{name}={factor} leaves none of {width} channels; {1 / width:.3g} leaves one")
    return scaled


def smallest_input(*layers: tuple[int, int, int]) -> int:
    """The least size of an image, in pixels along one side, on which every layer has something to do.

    That is a kernel's worth of pixels, and two or more where the stride is: a single pixel cannot be thinned out.

    Parameters
    ----------
    layers : (kernel size, stride, padding)
        In order. The padding is that of both sides together; a pooling in ceil mode has ``stride − 1``.
    """
    size = 1
    for kernel, stride, padding in reversed(layers):
        size = max((size - 1) * stride + kernel - padding, 2 if stride > 1 else 1)
    return size


@dataclass(frozen=True)
class _LeastImage:
    """A forward pre-hook, since a comparison inside ``forward`` would keep ``torch.fx`` from tracing the network."""

    size: int

    def __call__(self, network: nn.Module, args: tuple[Tensor, ...]) -> None:
        height, width = args[0].shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(
                f"images of {height}×{width} pixels are too small for the strides of {type(network).__name__}: "
                f"it needs {self.size}×{self.size} or more"
            )


def require_images(network: nn.Module, size: int) -> None:
    """Let ``network`` refuse images of less than ``size`` pixels in either direction with a ValueError."""
    network.register_forward_pre_hook(_LeastImage(size))
