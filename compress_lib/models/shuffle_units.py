"""The units of ShuffleNets, and the shuffle: groups of channels that learn of each other. Chapter 15.

V1: Zhang, Zhou, Lin, Sun, "ShuffleNet: an extremely efficient convolutional neural network for mobile devices",
CVPR 2018, arXiv 1707.01083.
V2: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture design", ECCV 2018,
arXiv 1807.11164. It splits the channels in two instead of grouping the 1×1 convolutions.
"""

import torch
from torch import Tensor, nn

from compress_lib.models.building import check_positive, conv_bn

__all__ = ["ShuffleUnit", "SplitUnit", "channel_shuffle", "check_divides"]


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the groups of channels of ``(N, C, H, W)``: the first channel of each, then the second of each, ….

    Seen as a table of ``groups`` rows, the channels are transposed and read row by row again.

    Raises
    ------
    ValueError : groups that do not divide the channels.
    """
    try:
        table = x.unflatten(1, (groups, -1))
    except RuntimeError as error:  # a comparison beforehand would keep torch.fx from tracing the network
        fits = ", ".join(str(g) for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0)
        raise ValueError(f"groups={groups} must divide the {x.shape[1]} channels of x: {fits} would fit") from error
    return table.transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """V1's unit: grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, and a shortcut.

    At stride 1 the shortcut is added. At stride 2 it is averaged 3×3 and its channels stand before those of the branch,
    which therefore puts out ``channels − in_channels``.

    Parameters
    ----------
    in_channels, channels : int
    stride : 1 or 2
        At stride 1 there must be as many channels out as in.
    groups : int
        g, of the 1×1 convolutions and the shuffle. The bottleneck has a quarter of ``channels``.
    group_first : bool
        Whether the first 1×1 convolution is grouped; in the network's first unit, which reads few channels, it is not.
    shuffle : bool
        If false, the channels stay in order: at stride 1 the unit is g narrow units side by side.

    Raises
    ------
    TypeError, ValueError : a number that is no positive integer, another stride, or groups that do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        groups: int,
        *,
        group_first: bool = True,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        _check_unit(in_channels, channels, stride)
        check_positive(groups=groups)
        check_divides(
            f"a unit of {channels} channels, a quarter of them in the bottleneck,", channels, 4 * groups, groups
        )
        if stride == 2 and channels <= in_channels:
            raise ValueError(
                f"at stride 2 a unit puts out more channels than it reads, not {channels} of {in_channels}"
            )
        if group_first or stride == 2:
            check_divides(f"an input of {in_channels} channels", in_channels, groups, groups)
        bottleneck = channels // 4
        made = channels - in_channels if stride == 2 else channels
        self.groups = groups
        self.shuffle = shuffle
        self.reduce = conv_bn(in_channels, bottleneck, 1, groups=groups if group_first else 1)
        self.depthwise = conv_bn(bottleneck, bottleneck, 3, stride, groups=bottleneck, activation=None)
        self.expand = conv_bn(bottleneck, made, 1, groups=groups, activation=None)
        self.pool = nn.AvgPool2d(3, 2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        y = self.reduce(x)
        if self.shuffle:
            y = channel_shuffle(y, self.groups)
        y = self.expand(self.depthwise(y))
        y = x + y if self.pool is None else torch.cat([self.pool(x), y], dim=1)
        return y.relu()


class SplitUnit(nn.Module):
    """V2's unit: one half of the channels passes, the other goes through 1×1, depthwise 3×3 and 1×1; then a shuffle.

    At stride 2 nothing is split: both branches read all channels, and the first has a depthwise and a 1×1 convolution.

    Parameters
    ----------
    in_channels, channels : int
        ``channels`` must be even, and at stride 1 as many as ``in_channels``.
    stride : 1 or 2

    Raises
    ------
    TypeError, ValueError : anything else.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        _check_unit(in_channels, channels, stride)
        check_divides(f"a unit of {channels} channels", channels, 2, 2)
        half = channels // 2
        read = in_channels if stride == 2 else half
        self.shortcut = None
        if stride == 2:
            depthwise = conv_bn(in_channels, in_channels, 3, 2, groups=in_channels, activation=None)
            self.shortcut = nn.Sequential(depthwise, conv_bn(in_channels, half, 1))
        self.branch = nn.Sequential(
            conv_bn(read, half, 1),
            conv_bn(half, half, 3, stride, groups=half, activation=None),
            conv_bn(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → ``(N, channels, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        if self.shortcut is None:
            kept, changed = x.chunk(2, dim=1)
        else:
            kept, changed = self.shortcut(x), x
        return channel_shuffle(torch.cat([kept, self.branch(changed)], dim=1), 2)


def _check_unit(in_channels: int, channels: int, stride: int) -> None:
    check_positive(in_channels=in_channels, channels=channels)
    if stride not in (1, 2):
        raise ValueError(f"stride={stride!r} must be 1 or 2")
    if stride == 1 and channels != in_channels:
        raise ValueError(f"at stride 1 a unit puts out as many channels as it reads, not {channels} of {in_channels}")


def check_divides(what: str, width: int, factor: int, groups: int) -> None:
    """Raise ValueError unless ``factor`` divides ``width``; it says what is ``what``, and which widths would fit."""
    if width < 1 or width % factor:
        below, above = width // factor * factor, (width // factor + 1) * factor
        fits = f"{below} or {above}" if below > 0 else f"{above}"
        raise ValueError(f"{what} does not divide into {groups} groups; {fits} channels would")
