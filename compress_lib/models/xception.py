"""Xception: the Inception module with as many towers as channels, which is a separable convolution. Chapter 16.

Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017, arXiv 1610.02357.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from compress_lib.models.building import check_positive, initialize_, require_images, scale_width, smallest_input

__all__ = ["SeparableConv2d", "Xception", "XceptionBlock", "xception", "xception_small"]

BETWEEN = {"none": nn.Identity, "relu": nn.ReLU, "elu": nn.ELU}


class SeparableConv2d(nn.Module):
    """A 3×3 filter for each channel and a 1×1 convolution, without biases, in either order.

    Parameters
    ----------
    in_channels, channels : int
    between : {"none", "relu", "elu"}
        What stands between the two: nothing in Xception. The paper tries the others.
    pointwise_first : bool
        The order of the "extreme" Inception module of the paper's figure 4; the 3×3 filters then read the 1×1
        convolution's outputs, and there are ``channels`` of them instead of ``in_channels``.
    """

    def __init__(
        self, in_channels: int, channels: int, *, between: str = "none", pointwise_first: bool = False
    ) -> None:
        super().__init__()
        if between not in BETWEEN:
            raise ValueError(f"between={between!r} must be one of {tuple(BETWEEN)}")
        check_positive(in_channels=in_channels, channels=channels)
        filtered = channels if pointwise_first else in_channels
        depthwise = nn.Conv2d(filtered, filtered, 3, padding=1, groups=filtered, bias=False)
        pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)
        # The order of a module's parts is the order in which they run.
        parts = {"depthwise": depthwise, "between": BETWEEN[between](), "pointwise": pointwise}
        for name in reversed(parts) if pointwise_first else parts:
            self.add_module(name, parts[name])

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, H, W)``."""
        for part in self.children():
            x = part(x)
        return x


class XceptionBlock(nn.Module):
    """Separable convolutions, each with a ReLU before it and a normalization behind it, and a shortcut.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Channels that the separable convolutions put out.
    stride : int
        Above 1, a 3×3 max-pool with it ends the block.
    first_relu : bool
        Whether there is a ReLU before the first convolution; not where one has just been.
    between, pointwise_first
        See `SeparableConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        stride: int,
        *,
        first_relu: bool = True,
        between: str = "none",
        pointwise_first: bool = False,
    ) -> None:
        super().__init__()
        check_positive(stride=stride)
        if not widths:
            raise ValueError("widths must name at least one separable convolution")
        layers: list[nn.Module] = []
        channels = in_channels
        for i, width in enumerate(widths):
            if i or first_relu:
                layers.append(nn.ReLU())
            separable = SeparableConv2d(channels, width, between=between, pointwise_first=pointwise_first)
            layers += [separable, nn.BatchNorm2d(width)]
            channels = width
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.branch = nn.Sequential(*layers)
        if stride == 1 and channels == in_channels:
            self.shortcut: nn.Module = nn.Identity()
        else:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, widths[-1], ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return self.branch(x) + self.shortcut(x)


class Xception(nn.Module):
    """Convolutions, residual blocks of separable convolutions, a tail of these, global average pooling, a linear layer.

    Parameters
    ----------
    stem : sequence of (width, stride, padding)
        The first 3×3 convolutions.
    blocks : sequence of (widths, stride)
        See `XceptionBlock`.
    tail : sequence of int
        Widths of the separable convolutions after the last block.
    num_classes, in_channels : int
    width : float
        Multiplier of all widths.
    between, pointwise_first
        See `SeparableConv2d`.
    dropout : float
        Probability, before the linear layer.

    Raises
    ------
    TypeError, ValueError
        If a number of channels or classes is no positive integer, ``width`` leaves a layer without channels, or
        ``between`` is unknown. Images that are too small for the strides are refused when the network runs.
    """

    def __init__(
        self,
        stem: Sequence[tuple[int, int, int]],
        blocks: Sequence[tuple[Sequence[int], int]],
        tail: Sequence[int],
        num_classes: int,
        in_channels: int,
        *,
        width: float = 1.0,
        between: str = "none",
        pointwise_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        options: dict[str, Any] = {"between": between, "pointwise_first": pointwise_first}
        layers: list[nn.Module] = []
        channels = in_channels
        for wide, stride, padding in stem:
            wide = scale_width(wide, width, "width")
            layers += [nn.Conv2d(channels, wide, 3, stride, padding, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        for i, (widths, stride) in enumerate(blocks):
            widths = [scale_width(wide, width, "width") for wide in widths]
            layers.append(XceptionBlock(channels, widths, stride, first_relu=i > 0, **options))
            channels = widths[-1]
        for wide in tail:
            wide = scale_width(wide, width, "width")
            layers += [SeparableConv2d(channels, wide, **options), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)
        steps = [(3, stride, 2 * padding) for _, stride, padding in stem] + [(3, stride, 2) for _, stride in blocks]
        require_images(self, smallest_input(*steps))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.fc(self.dropout(self.features(x).mean((2, 3))))


def xception(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: float = 1.0,
    between: str = "none",
    pointwise_first: bool = False,
) -> Xception:
    """Xception: 22,855,952 parameters, 8,357.4 M multiply-adds at 299×299, 36 convolutions, separable ones as one."""
    entry = (((128, 128), 2), ((256, 256), 2), ((728, 728), 2))
    middle = (((728, 728, 728), 1),) * 8
    leave = (((728, 1024), 2),)
    return Xception(
        ((32, 2, 0), (64, 1, 0)),
        entry + middle + leave,
        (1536, 2048),
        num_classes,
        in_channels,
        width=width,
        between=between,
        pointwise_first=pointwise_first,
        dropout=0.5,
    )


def xception_small(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    width: float = 1.0,
    between: str = "none",
    pointwise_first: bool = False,
) -> Xception:
    """An Xception for 28×28 images: one block of the entry, two of the middle at 14×14, one of the exit."""
    return Xception(
        ((16, 1, 1),),
        (((32,), 2), ((32, 32, 32), 1), ((32, 32, 32), 1), ((32, 64), 2)),
        (96, 128),
        num_classes,
        in_channels,
        width=width,
        between=between,
        pointwise_first=pointwise_first,
    )
