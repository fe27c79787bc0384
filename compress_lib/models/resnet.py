"""Residual networks for small images: ResNet-20, 32, 56, 110 with widths 16-32-64, or narrower ones.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, arXiv 1512.03385, §4.2. Chapter 01.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BasicBlock", "PadShortcut", "ResNet", "resnet_20", "resnet_32", "resnet_56", "resnet_110"]


class PadShortcut(nn.Module):
    """Option A of the paper: subsample by two and append zero channels; no parameters."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` → ``(N, C + extra_channels, ⌈H/2⌉, ⌈W/2⌉)``."""
        before = self.extra_channels // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra_channels - before))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; the shortcut is the identity unless the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Literal["A", "B"]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if stride == 1 and in_channels == channels:
            self.shortcut: nn.Module = nn.Identity()
        elif shortcut == "A":
            self.shortcut = PadShortcut(channels - in_channels)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y))
        return (y + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """A stem, three stages of basic blocks at full, half and quarter resolution, global average pooling.

    Parameters
    ----------
    depth : 6n + 2 layers, n blocks a stage (20, 32, 56, 110, …).
    num_classes, in_channels : the task.
    shortcut : "A" pads with zeros and has no parameters, "B" projects with a 1×1 convolution.
    width : channels of the stem and of the first stage; the next stages have twice and four times as many.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Literal["A", "B"] = "B",
        *,
        width: int = 16,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth={depth} is not 6n + 2 with n ≥ 1 (8, 14, 20, 26, 32, …)")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut={shortcut!r} is neither 'A' (zero padding) nor 'B' (projection)")
        if width < 1:
            raise ValueError(f"width={width} is not a positive number of channels")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stage1 = self._stage(width, width, blocks, 1, shortcut)
        self.stage2 = self._stage(width, 2 * width, blocks, 2, shortcut)
        self.stage3 = self._stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: Literal["A", "B"]) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride, shortcut)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        x = self.bn1(self.conv1(x)).relu()
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.fc(x.mean((2, 3)))


def resnet_20(num_classes: int = 10, in_channels: int = 3, shortcut: Literal["A", "B"] = "B") -> ResNet:
    """ResNet-20: 272,474 parameters for CIFAR-10 with option B, 269,722 with option A."""
    return ResNet(20, num_classes, in_channels, shortcut)


def resnet_32(num_classes: int = 10, in_channels: int = 3, shortcut: Literal["A", "B"] = "B") -> ResNet:
    """ResNet-32."""
    return ResNet(32, num_classes, in_channels, shortcut)


def resnet_56(num_classes: int = 10, in_channels: int = 3, shortcut: Literal["A", "B"] = "B") -> ResNet:
    """ResNet-56."""
    return ResNet(56, num_classes, in_channels, shortcut)


def resnet_110(num_classes: int = 10, in_channels: int = 3, shortcut: Literal["A", "B"] = "B") -> ResNet:
    """ResNet-110."""
    return ResNet(110, num_classes, in_channels, shortcut)
