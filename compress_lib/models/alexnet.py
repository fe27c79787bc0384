"""AlexNet, the ancestor that SqueezeNet is measured against, in its two usual forms. Chapter 13.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012: its layers
are split in two groups for two GPUs. Caffe's form of it is what Han et al. (arXiv 1510.00149) compress. One tower:
Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from compress_lib.models.building import check_positive, require_images, smallest_input

__all__ = ["AlexNet", "alexnet", "alexnet_caffe"]


class AlexNet(nn.Module):
    """Five convolutions with three max-pools, and three linear layers that hold nearly all of the weights.

    Parameters
    ----------
    widths, groups : five integers each
        Of the convolutions.
    padding : int
        Of the first one, in pixels.
    normalize : bool
        Local response normalization after the first and the second convolution, with Caffe's constants.
    num_classes, in_channels : int

    Raises
    ------
    TypeError, ValueError
        If a number of channels or classes is no positive integer. Images that are too small for the strides are refused
        when the network runs.
    """

    def __init__(
        self,
        widths: Sequence[int],
        groups: Sequence[int],
        padding: int,
        normalize: bool,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_channels=in_channels)
        shapes = ((11, 4, padding), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # kernel size, stride, padding
        layers: list[nn.Module] = []
        channels = in_channels
        for i, (width, group, shape) in enumerate(zip(widths, groups, shapes, strict=True)):
            layers += [nn.Conv2d(channels, width, *shape, groups=group), nn.ReLU()]
            if normalize and i < 2:
                layers.append(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0))
            if i in (0, 1, 4):
                layers.append(nn.MaxPool2d(3, 2))
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(6)  # leaves the 6×6 of the usual image as they are
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, num_classes),
        )
        require_images(self, smallest_input((11, 4, 2 * padding), *[(3, 2, 0)] * 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, H, W)``."""
        return self.classifier(self.pool(self.features(x)))


def alexnet(num_classes: int = 1000, in_channels: int = 3) -> AlexNet:
    """One tower: 61,100,840 parameters and 714.19 M multiply-adds at 224×224."""
    return AlexNet((64, 192, 384, 256, 256), (1,) * 5, 2, False, num_classes, in_channels)


def alexnet_caffe(num_classes: int = 1000, in_channels: int = 3) -> AlexNet:
    """Caffe's, in two groups: 60,965,224 parameters (243.86 MB) and 724.41 M multiply-adds at 227×227."""
    return AlexNet((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), 0, True, num_classes, in_channels)
