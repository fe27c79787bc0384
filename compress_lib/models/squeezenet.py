"""SqueezeNet: few inputs to the 3×3 filters, few 3×3 filters, late pooling. Chapter 13.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", arXiv 1602.07360. Version 1.1 is the authors' later one, with 2.35 times fewer multiply-adds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compress_lib.models.building import check_positive, initialize_, require_images, scale_width, smallest_input

__all__ = ["Fire", "SqueezeNet", "squeezenet1_0", "squeezenet1_1", "squeezenet_small"]


def _conv(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, padding: int = 0, *, batch_norm: bool
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, kernel_size, stride, padding, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(channels))
    return nn.Sequential(*layers, nn.ReLU())


class Fire(nn.Module):
    """A squeeze layer of 1×1 filters, read by an expand layer that is half 1×1 and half 3×3 filters.

    Parameters
    ----------
    in_channels : int
    squeeze : int
        Filters of the squeeze layer, s.
    channels : int
        Filters of the expand layer, e₁ + e₃ with e₁ = e₃.
    bypass : bool
        Add the input to the output; only if both have as many channels.
    batch_norm : bool
        After each convolution; the paper has none, and biases.
    """

    def __init__(
        self, in_channels: int, squeeze: int, channels: int, *, bypass: bool = False, batch_norm: bool = False
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, squeeze=squeeze, channels=channels)
        if channels % 2:
            raise ValueError(f"channels={channels} must be even: half of a fire module's filters are 1×1, half 3×3")
        if bypass and in_channels != channels:
            raise ValueError(f"bypass needs as many channels out as in, not {in_channels} in and {channels} out")
        self.bypass = bypass
        self.squeeze = _conv(in_channels, squeeze, 1, batch_norm=batch_norm)
        self.expand1x1 = _conv(squeeze, channels // 2, 1, batch_norm=batch_norm)
        self.expand3x3 = _conv(squeeze, channels // 2, 3, padding=1, batch_norm=batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, H, W)``."""
        y = self.squeeze(x)
        y = torch.cat([self.expand1x1(y), self.expand3x3(y)], dim=1)
        return x + y if self.bypass else y


class SqueezeNet(nn.Module):
    """A convolution, stages of fire modules with a max-pool before each, and a convolution that gives class scores.

    Parameters
    ----------
    stem : (width, kernel size, stride, padding)
        Of the first convolution.
    stages : sequence of sequences of int
        The channels that each fire module of a stage puts out.
    num_classes, in_channels : int
    squeeze_ratio : float
        Filters of a squeeze layer in proportion to those of its expand layer, in (0, 1].
    bypass : bool
        The paper's simple bypass: around each fire module that keeps the number of channels.
    batch_norm : bool
        After each convolution but the last.
    relu_scores : bool
        A ReLU on the class scores of each place, as in the paper. A class whose scores are nowhere positive can then no
        longer be learned.
    dropout : float
        Probability, before the last convolution.

    Raises
    ------
    TypeError, ValueError
        If a number of channels or classes is no positive integer, or a squeeze layer would have no filter. Images that
        are too small for the poolings are refused when the network runs.
    """

    def __init__(
        self,
        stem: tuple[int, int, int, int],
        stages: Sequence[Sequence[int]],
        num_classes: int,
        in_channels: int,
        *,
        squeeze_ratio: float = 1 / 8,
        bypass: bool = False,
        batch_norm: bool = False,
        relu_scores: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        channels, kernel_size, stride, padding = stem
        layers: list[nn.Module] = [_conv(in_channels, channels, kernel_size, stride, padding, batch_norm=batch_norm)]
        for widths in stages:
            # In ceil mode, as Caffe counts: the last window may hang over the edge.
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for width in widths:
                squeeze = scale_width(width, squeeze_ratio, "squeeze_ratio")
                if squeeze > width:
                    raise ValueError(f"squeeze_ratio={squeeze_ratio} must be at most 1: more would not squeeze")
                around = bypass and width == channels
                layers.append(Fire(channels, squeeze, width, bypass=around, batch_norm=batch_norm))
                channels = width
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Conv2d(channels, num_classes, 1)
        self.activation = nn.ReLU() if relu_scores else nn.Identity()
        initialize_(self)
        nn.init.normal_(self.scores.weight, std=0.01)
        require_images(self, smallest_input((kernel_size, stride, 2 * padding), *[(3, 2, 1)] * len(stages)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        x = self.scores(self.dropout(self.features(x)))
        return self.activation(x).mean((2, 3))


def squeezenet1_0(
    num_classes: int = 1000, in_channels: int = 3, *, squeeze_ratio: float = 1 / 8, bypass: bool = False
) -> SqueezeNet:
    """SqueezeNet 1.0: 1,248,424 parameters and 818.92 M multiply-adds at 224×224, with or without bypass."""
    stages = ((128, 128, 256), (256, 384, 384, 512), (512,))
    return SqueezeNet((96, 7, 2, 0), stages, num_classes, in_channels, squeeze_ratio=squeeze_ratio, bypass=bypass)


def squeezenet1_1(
    num_classes: int = 1000, in_channels: int = 3, *, squeeze_ratio: float = 1 / 8, bypass: bool = False
) -> SqueezeNet:
    """SqueezeNet 1.1: 1,235,496 parameters and 349.15 M multiply-adds at 224×224; pools earlier than 1.0."""
    stages = ((128, 128), (256, 256), (384, 384, 512, 512))
    return SqueezeNet((64, 3, 2, 0), stages, num_classes, in_channels, squeeze_ratio=squeeze_ratio, bypass=bypass)


def squeezenet_small(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    width: int = 64,
    squeeze_ratio: float = 1 / 8,
    bypass: bool = False,
    batch_norm: bool = True,
    relu_scores: bool = False,
) -> SqueezeNet:
    """A SqueezeNet for 28×28 images that trains like the other small networks.

    For that it has batch normalization, and no ReLU on the class scores: with it, whole classes were lost in training.
    ``width`` is the channels of the first two fire modules; the later ones have two and three times as many.
    """
    check_positive(width=width)
    stages = ((width, width), (2 * width, 2 * width, 3 * width))
    return SqueezeNet(
        (max(width // 2, 1), 3, 1, 1),
        stages,
        num_classes,
        in_channels,
        squeeze_ratio=squeeze_ratio,
        bypass=bypass,
        batch_norm=batch_norm,
        relu_scores=relu_scores,
        dropout=0.0,
    )
