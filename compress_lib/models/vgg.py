"""A small VGG: 3×3 convolutions with batch normalization, 146,586 parameters at 28×28.

After Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
arXiv 1409.1556, with the batch normalization that everybody adds. Chapter 01.
"""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["VGG", "vgg_small"]


class VGG(nn.Module):
    """Blocks of 3×3 convolutions, each block ended by a 2×2 max-pool, then one hidden linear layer.

    Parameters
    ----------
    blocks : widths of the convolutions, one sequence per block.
    hidden : width of the hidden linear layer.
    num_classes, in_channels, image_size : the task; ``image_size`` must survive one halving per block.
    """

    def __init__(
        self, blocks: Sequence[Sequence[int]], hidden: int, num_classes: int, in_channels: int, image_size: int
    ) -> None:
        super().__init__()
        final_size = image_size >> len(blocks)
        if final_size < 1:
            raise ValueError(
                f"image_size={image_size} is too small: {len(blocks)} pools need at least {2 ** len(blocks)}"
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for widths in blocks:
            for width in widths:
                # No bias: the normalization that follows subtracts it again.
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * final_size**2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, image_size, image_size)``."""
        return self.classifier(self.features(x))


def vgg_small(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> VGG:
    """Seven convolutions (16-16, 32-32, 64-64-64) and a 64-unit hidden layer."""
    return VGG(((16, 16), (32, 32), (64, 64, 64)), 64, num_classes, in_channels, image_size)
