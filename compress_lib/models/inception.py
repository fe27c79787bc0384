"""Inception modules: several kernel sizes side by side. What Xception starts from. Chapter 16.

V1: Szegedy et al., "Going deeper with convolutions" (GoogLeNet), CVPR 2015, arXiv 1409.4842.
V3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception architecture for computer vision", CVPR 2016,
arXiv 1512.00567.
"""

import torch
from torch import Tensor, nn

from compress_lib.models.building import check_positive, conv_bn, initialize_

__all__ = ["InceptionV1", "InceptionV3"]


def _conv(in_channels: int, channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2), nn.ReLU())


class InceptionV1(nn.Module):
    """GoogLeNet's module: 1×1, 1×1 to 3×3, 1×1 to 5×5, and max-pool to 1×1, with biases and without normalization.

    The widths are those of a row of the paper's table 1, for example 64, 96, 128, 16, 32, 32 for "3a".

    Parameters
    ----------
    in_channels : int
    width1x1 : int
    reduce3x3, width3x3 : int
    reduce5x5, width5x5 : int
        torchvision's module has 3×3 filters here, a known mistake; the paper has 5×5.
    width_pool : int

    Raises
    ------
    TypeError, ValueError
        If one of these is no positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        width1x1: int,
        reduce3x3: int,
        width3x3: int,
        reduce5x5: int,
        width5x5: int,
        width_pool: int,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            width1x1=width1x1,
            reduce3x3=reduce3x3,
            width3x3=width3x3,
            reduce5x5=reduce5x5,
            width5x5=width5x5,
            width_pool=width_pool,
        )
        self.branch1x1 = _conv(in_channels, width1x1, 1)
        self.branch3x3 = nn.Sequential(_conv(in_channels, reduce3x3, 1), _conv(reduce3x3, width3x3, 3))
        self.branch5x5 = nn.Sequential(_conv(in_channels, reduce5x5, 1), _conv(reduce5x5, width5x5, 5))
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _conv(in_channels, width_pool, 1))
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → the branches' channels one after the other, at the same size."""
        return torch.cat([self.branch1x1(x), self.branch3x3(x), self.branch5x5(x), self.branch_pool(x)], dim=1)


class InceptionV3(nn.Module):
    """Inception-v3's first kind of module: as V1, with two 3×3 for the 5×5, an average pool, and normalizations.

    Parameters
    ----------
    in_channels : int
    width1x1 : int
    reduce_single, width_single : int
        Of the branch 1×1, k×k.
    reduce_double, width_double : int
        Of the branch 1×1, 3×3, 3×3.
    width_pool : int
    kernel_size : int
        k: 3 in the papers' figures, 5 in the network that the authors published (there the module "mixed_5b" has
        192, 64, 48, 64, 64, 96, 32).

    Raises
    ------
    TypeError, ValueError
        If one of these is no positive integer, or ``kernel_size`` is even.
    """

    def __init__(
        self,
        in_channels: int,
        width1x1: int,
        reduce_single: int,
        width_single: int,
        reduce_double: int,
        width_double: int,
        width_pool: int,
        *,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            width1x1=width1x1,
            reduce_single=reduce_single,
            width_single=width_single,
            reduce_double=reduce_double,
            width_double=width_double,
            width_pool=width_pool,
            kernel_size=kernel_size,
        )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd, so that the branches' outputs have one size")
        self.branch1x1 = conv_bn(in_channels, width1x1, 1)
        self.branch_single = nn.Sequential(
            conv_bn(in_channels, reduce_single, 1), conv_bn(reduce_single, width_single, kernel_size)
        )
        self.branch_double = nn.Sequential(
            conv_bn(in_channels, reduce_double, 1),
            conv_bn(reduce_double, width_double, 3),
            conv_bn(width_double, width_double, 3),
        )
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, 1, padding=1), conv_bn(in_channels, width_pool, 1))
        initialize_(self)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` → the branches' channels one after the other, at the same size."""
        branches = [self.branch1x1(x), self.branch_single(x), self.branch_double(x), self.branch_pool(x)]
        return torch.cat(branches, dim=1)
