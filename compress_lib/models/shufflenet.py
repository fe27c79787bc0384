"""ShuffleNets: 1×1 convolutions in groups, and a shuffle so that groups learn of each other. Chapter 15.

V1: Zhang, Zhou, Lin, Sun, CVPR 2018, arXiv 1707.01083. V2: Ma, Zhang, Zheng, Sun, ECCV 2018, arXiv 1807.11164.
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
from compress_lib.models.shuffle_units import ShuffleUnit, SplitUnit, check_divides

__all__ = [
    "ShuffleNetV1",
    "ShuffleNetV2",
    "shufflenet_v1",
    "shufflenet_v1_small",
    "shufflenet_v2",
    "shufflenet_v2_small",
]

# Channels of the stages, which the paper chose so that all numbers of groups cost about the same; likewise for 28×28.
V1_WIDTHS = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960), 4: (272, 544, 1088), 8: (384, 768, 1536)}
V1_SMALL_WIDTHS = {1: (76, 160), 2: (104, 216), 3: (120, 264), 4: (144, 288), 8: (192, 384)}
# And of the last convolution.
V2_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class ShuffleNetV1(nn.Module):
    """A 3×3 convolution, stages of shuffle units that begin with stride 2, global average pooling, one linear layer.

    Parameters
    ----------
    stem : (width, stride)
        Of the first convolution. With stride 2 a max-pool of stride 2 follows.
    stages : sequence of (width, units)
    groups : int
    num_classes, in_channels : int
    shuffle : bool
        See `ShuffleUnit`.

    Raises
    ------
    TypeError, ValueError
        If a number is no positive integer, or ``groups`` does not divide the channels of a stage's bottleneck or of the
        stem; the message says which widths would fit. Images that are too small for the strides are refused when the
        network runs.
    """

    def __init__(
        self,
        stem: tuple[int, int],
        stages: Sequence[tuple[int, int]],
        groups: int,
        num_classes: int,
        in_channels: int,
        *,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        check_positive(groups=groups, num_classes=num_classes, in_channels=in_channels, stem=stem[0])
        check_divides(f"a stem of {stem[0]} channels", stem[0], groups, groups)
        layers, steps = _stem(in_channels, *stem)
        channels = stem[0]
        for stage, (width, units) in enumerate(stages):
            check_divides(
                f"a stage of {width} channels, a quarter of them in the bottleneck,", width, 4 * groups, groups
            )
            if width <= channels:
                raise ValueError(f"a stage of {width} channels must have more than the {channels} that it reads")
            for stride in (2, *[1] * (units - 1)):
                first = stage == 0 and stride == 2
                layers.append(ShuffleUnit(channels, width, stride, groups, group_first=not first, shuffle=shuffle))
                channels = width
            steps.append((3, 2, 2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        initialize_(self)
        require_images(self, smallest_input(*steps))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.fc(self.features(x).mean((2, 3)))


class ShuffleNetV2(nn.Module):
    """A 3×3 convolution, stages of split units that begin with stride 2, a 1×1 convolution, pooling, one linear layer.

    Parameters
    ----------
    stem : (width, stride)
        Of the first convolution. With stride 2 a max-pool of stride 2 follows.
    stages : sequence of (width, units)
    last : int
        Width of the last convolution.
    num_classes, in_channels : int

    Raises
    ------
    TypeError, ValueError
        If a number is no positive integer, or the width of a stage is odd. Images that are too small for the strides
        are refused when the network runs.
    """

    def __init__(
        self,
        stem: tuple[int, int],
        stages: Sequence[tuple[int, int]],
        last: int,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels, stem=stem[0], last=last)
        layers, steps = _stem(in_channels, *stem)
        channels = stem[0]
        for width, units in stages:
            check_divides(f"a stage of {width} channels", width, 2, 2)
            for stride in (2, *[1] * (units - 1)):
                layers.append(SplitUnit(channels, width, stride))
                channels = width
            steps.append((3, 2, 2))
        self.features = nn.Sequential(*layers, conv_bn(channels, last, 1))
        self.fc = nn.Linear(last, num_classes)
        initialize_(self)
        require_images(self, smallest_input(*steps))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.fc(self.features(x).mean((2, 3)))


def _stem(in_channels: int, width: int, stride: int) -> tuple[list[nn.Module], list[tuple[int, int, int]]]:
    """The first layers, and their (kernel size, stride, padding)."""
    layers: list[nn.Module] = [conv_bn(in_channels, width, 3, stride)]
    if stride == 2:
        layers.append(nn.MaxPool2d(3, 2, padding=1))
    return layers, [(3, stride, 2)] * len(layers)


def shufflenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    groups: int = 3,
    scale: float = 1.0,
    stem: int = 24,
    shuffle: bool = True,
) -> ShuffleNetV1:
    """ShuffleNetV1: with 3 groups 1,865,728 parameters and 137.5 M multiply-adds at 224×224, the linear layer included.

    Parameters
    ----------
    groups : 1, 2, 3, 4 or 8
    scale : float
        Of the widths of all stages.
    stem : int
        Channels of the first convolution. The authors' networks of 3 groups have 12, 24, 24 and 48 at scale 0.5, 1, 1.5
        and 2.
    shuffle : bool
        See `ShuffleUnit`.
    """
    if groups not in V1_WIDTHS:
        raise ValueError(f"groups={groups!r} must be one of {tuple(V1_WIDTHS)}, for which the paper gives widths")
    widths = [scale_width(width, scale, "scale") for width in V1_WIDTHS[groups]]
    stages = tuple(zip(widths, (4, 8, 4), strict=True))
    return ShuffleNetV1((stem, 2), stages, groups, num_classes, in_channels, shuffle=shuffle)


def shufflenet_v1_small(
    num_classes: int = 10, in_channels: int = 1, *, groups: int = 3, scale: float = 1.0, shuffle: bool = True
) -> ShuffleNetV1:
    """A ShuffleNetV1 for 28×28 images: three units at 14×14, three at 7×7, as wide as groups allow at equal cost."""
    if groups not in V1_SMALL_WIDTHS:
        raise ValueError(f"groups={groups!r} must be one of {tuple(V1_SMALL_WIDTHS)}")
    stages = tuple((scale_width(width, scale, "scale"), 3) for width in V1_SMALL_WIDTHS[groups])
    return ShuffleNetV1((24, 1), stages, groups, num_classes, in_channels, shuffle=shuffle)


def shufflenet_v2(num_classes: int = 1000, in_channels: int = 3, *, scale: float = 1.0) -> ShuffleNetV2:
    """ShuffleNetV2 at scale 0.5, 1, 1.5 or 2; at 1 2,278,604 parameters and 144.91 M multiply-adds at 224×224."""
    if scale not in V2_WIDTHS:
        raise ValueError(f"scale={scale!r} must be one of {tuple(V2_WIDTHS)}, for which the paper gives widths")
    *widths, last = V2_WIDTHS[scale]
    return ShuffleNetV2((24, 2), tuple(zip(widths, (4, 8, 4), strict=True)), last, num_classes, in_channels)


def shufflenet_v2_small(num_classes: int = 10, in_channels: int = 1, *, scale: float = 1.0) -> ShuffleNetV2:
    """A ShuffleNetV2 for 28×28 images: three units at 14×14, four at 7×7 of twice the width."""
    first, second, last = (scale_width(width, scale, "scale") for width in (48, 96, 224))
    return ShuffleNetV2((24, 1), ((first, 3), (second, 4)), last, num_classes, in_channels)
