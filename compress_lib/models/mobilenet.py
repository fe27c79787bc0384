"""MobileNets: a convolution in space and one across channels, one after the other. Chapter 14.

V1: Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications", arXiv
1704.04861.
V2: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018,
arXiv 1801.04381.

Both have a width multiplier α, an argument below. The resolution multiplier ρ of V1 is none: a network that ends in
global average pooling takes images of any size, with the same weights, and ρ is only the size that it is given, 224ρ.
Multiply-adds go with α² (nearly) and ρ², parameters with α² (nearly) and not with ρ.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from compress_lib.models.building import (
    check_positive,
    conv_bn,
    initialize_,
    require_images,
    scale_width,
    smallest_input,
)

__all__ = [
    "DepthwiseSeparable",
    "InvertedResidual",
    "MobileNetV1",
    "MobileNetV2",
    "mobilenet_v1",
    "mobilenet_v1_small",
    "mobilenet_v2",
    "mobilenet_v2_small",
    "plain_small",
]


class DepthwiseSeparable(nn.Module):
    """A 3×3 filter for each channel, then a 1×1 convolution that mixes channels; normalization and ReLU after each.

    Parameters
    ----------
    in_channels, channels, stride : int
    pointwise : bool
        If false, there is no 1×1 convolution, and each channel has ``channels / in_channels`` filters instead.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, pointwise: bool = True) -> None:
        super().__init__()
        if not pointwise and channels % in_channels:
            below = channels // in_channels * in_channels
            fits = f"{below} or {below + in_channels}" if below else f"{in_channels}"
            raise ValueError(
                f"pointwise=False cannot make {channels} channels of {in_channels}, as many of each; {fits} would fit"
            )
        filtered = in_channels if pointwise else channels
        self.depthwise = conv_bn(in_channels, filtered, 3, stride, groups=in_channels)
        self.pointwise = conv_bn(in_channels, channels, 1) if pointwise else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """A 3×3 convolution, depthwise separable convolutions, global average pooling, one linear layer.

    Parameters
    ----------
    stem : (width, stride)
        Of the first convolution.
    blocks : sequence of (width, stride)
    num_classes, in_channels : int
    alpha : float
        Width multiplier of every layer but the last.
    separable : bool
        If false, each block is one full 3×3 convolution with normalization and ReLU: the network that the paper
        compares with.
    pointwise : bool
        If false, the blocks have no 1×1 convolution. Channels of the stem then meet in the linear layer only.

    Raises
    ------
    TypeError, ValueError
        If a number of channels or classes is no positive integer, or alpha leaves a layer without channels; if
        ``pointwise`` is false and a width no multiple of the one before it, or the network not separable. Images that
        are too small for the strides are refused when the network runs.
    """

    def __init__(
        self,
        stem: tuple[int, int],
        blocks: Sequence[tuple[int, int]],
        num_classes: int,
        in_channels: int,
        *,
        alpha: float = 1.0,
        separable: bool = True,
        pointwise: bool = True,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        if not (separable or pointwise):
            raise ValueError("pointwise=False needs separable=True: full convolutions have no pointwise part")
        channels = scale_width(stem[0], alpha, "alpha")
        layers: list[nn.Module] = [conv_bn(in_channels, channels, 3, stem[1])]
        for width, stride in blocks:
            wide = scale_width(width, alpha, "alpha")
            if separable:
                layers.append(DepthwiseSeparable(channels, wide, stride, pointwise=pointwise))
            else:
                layers.append(conv_bn(channels, wide, 3, stride))
            channels = wide
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)
        require_images(self, smallest_input(*[(3, stride, 2) for _, stride in (stem, *blocks)]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.fc(self.features(x).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Widen by 1×1 filters, filter in space, narrow by 1×1 filters: the shortcut joins the narrow ends.

    Parameters
    ----------
    in_channels, channels, stride : int
    expansion : int
        t; the depthwise convolution has ``t · in_channels`` channels. With 1 there is no widening layer.
    linear_bottleneck : bool
        Whether the narrow end is without an activation. If false it has a ReLU6, which the paper warns of.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, expansion: int, *, linear_bottleneck: bool = True
    ) -> None:
        super().__init__()
        check_positive(expansion=expansion)
        hidden = expansion * in_channels
        activation = None if linear_bottleneck else nn.ReLU6
        self.expand = nn.Identity() if expansion == 1 else conv_bn(in_channels, hidden, 1, activation=nn.ReLU6)
        self.depthwise = conv_bn(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6)
        self.project = conv_bn(hidden, channels, 1, activation=activation)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A 3×3 convolution, inverted residuals, a 1×1 convolution, global average pooling, one linear layer.

    Parameters
    ----------
    stem : (width, stride)
        Of the first convolution.
    stages : sequence of (expansion, width, blocks, stride)
        The paper's table 2, its t, c, n, s; the stride is that of the first block of a stage.
    last : int
        Width of the last convolution.
    num_classes, in_channels : int
    alpha : float
        Width multiplier, of the last convolution only if above 1. Widths are rounded to multiples of 8, up if down
        would take more than a tenth.
    linear_bottleneck : bool
        See `InvertedResidual`.
    dropout : float
        Probability, before the linear layer.

    Raises
    ------
    TypeError, ValueError
        If a number of channels or classes is no positive integer, or alpha no positive number. Images that are too
        small for the strides are refused when the network runs.
    """

    def __init__(
        self,
        stem: tuple[int, int],
        stages: Sequence[tuple[int, int, int, int]],
        last: int,
        num_classes: int,
        in_channels: int,
        *,
        alpha: float = 1.0,
        linear_bottleneck: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        channels = _multiple_of_8(stem[0], alpha)
        layers: list[nn.Module] = [conv_bn(in_channels, channels, 3, stem[1], activation=nn.ReLU6)]
        strides = [stem[1]]
        for expansion, width, blocks, first_stride in stages:
            for stride in (first_stride, *[1] * (blocks - 1)):
                wide = _multiple_of_8(width, alpha)
                layers.append(InvertedResidual(channels, wide, stride, expansion, linear_bottleneck=linear_bottleneck))
                strides.append(stride)
                channels = wide
        last = _multiple_of_8(last, max(alpha, 1.0))
        layers.append(conv_bn(channels, last, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(last, num_classes)
        initialize_(self)
        require_images(self, smallest_input(*[(3, stride, 2) for stride in strides]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.fc(self.dropout(self.features(x).mean((2, 3))))


def _multiple_of_8(width: int, alpha: float) -> int:
    scale_width(width, alpha, "alpha")
    rounded = max(8, int(alpha * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * alpha * width else rounded + 8


def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    alpha: float = 1.0,
    separable: bool = True,
    pointwise: bool = True,
) -> MobileNetV1:
    """MobileNetV1 for 224×224 images: 4,231,976 parameters and 568.74 M multiply-adds.

    Not separable, 29,294,088 and 4,867.3 M.
    """
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    return MobileNetV1((32, 2), blocks, num_classes, in_channels, alpha=alpha, separable=separable, pointwise=pointwise)


def mobilenet_v1_small(
    num_classes: int = 10, in_channels: int = 1, *, alpha: float = 1.0, pointwise: bool = True
) -> MobileNetV1:
    """A MobileNetV1 for 28×28 images: two blocks at 14×14, then three at 7×7 of twice the width.

    Without pointwise convolutions the stem has 32 channels instead of 40, since these do not make 64.
    """
    blocks = ((64, 2), (64, 1), (128, 2), (128, 1), (128, 1))
    return MobileNetV1((40 if pointwise else 32, 1), blocks, num_classes, in_channels, alpha=alpha, pointwise=pointwise)


def plain_small(num_classes: int = 10, in_channels: int = 1, *, alpha: float = 1.0) -> MobileNetV1:
    """`mobilenet_v1_small` with full 3×3 convolutions, narrower so that it has as many multiply-adds: the baseline."""
    blocks = ((24, 2), (24, 1), (48, 2), (48, 1), (48, 1))
    return MobileNetV1((8, 1), blocks, num_classes, in_channels, alpha=alpha, separable=False)


def mobilenet_v2(
    num_classes: int = 1000, in_channels: int = 3, *, alpha: float = 1.0, linear_bottleneck: bool = True
) -> MobileNetV2:
    """MobileNetV2: 3,504,872 parameters and 300.77 M multiply-adds at 224×224."""
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    return MobileNetV2(
        (32, 2),
        stages,
        1280,
        num_classes,
        in_channels,
        alpha=alpha,
        linear_bottleneck=linear_bottleneck,
        dropout=0.2,
    )


def mobilenet_v2_small(
    num_classes: int = 10, in_channels: int = 1, *, alpha: float = 1.0, linear_bottleneck: bool = True
) -> MobileNetV2:
    """A MobileNetV2 for 28×28 images: two blocks of expansion 6 at 14×14, three at 7×7."""
    stages = ((1, 16, 1, 2), (6, 16, 2, 1), (6, 32, 3, 2))
    return MobileNetV2((32, 1), stages, 128, num_classes, in_channels, alpha=alpha, linear_bottleneck=linear_bottleneck)
