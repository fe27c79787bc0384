"""A small network of blocks in either of two orders. Chapter 08.

Rastegari et al., "XNOR-Net", ECCV 2016, arXiv 1603.05279, section 3.2, put the pooling (P) of a block of a convolution
(C), a batch normalization (B) and an activation (A) right after the convolution: as blocks then begin with B, they call
this order B-A-C-P, and the usual one C-B-A-P. Written from the first convolution to the last layer the networks are

    B-A-C-P   C P · B A C P · B A C P · B A L · B A L
    C-B-A-P   C B A P · C B A P · C B A P · L B A · L

with linear layers L: all that differs is the place of the pooling.
"""

from collections import OrderedDict

from torch import nn

__all__ = ["ORDERS", "block_cnn"]

ORDERS = ("bacp", "cbap")


def block_cnn(
    num_classes: int = 10, in_channels: int = 1, *, order: str = "bacp", width: int = 64, kernel_size: int = 3
) -> nn.Sequential:
    """Three convolutions and two linear layers, for 28×28 images, with fresh weights.

    Parameters
    ----------
    num_classes, in_channels : the task.
    order : {"bacp", "cbap"}
        Of the blocks.
    width : int
        w channels after the first two convolutions, 2w after the third, 4w units after the first linear layer.
    kernel_size : int
        Of the second and the third convolution, odd; the first one's is 3.

    Returns
    -------
    nn.Sequential
        Logits ``(N, num_classes)`` of images ``(N, in_channels, 28, 28)``.

    Raises
    ------
    ValueError
        If the order is unknown, or the width or kernel size impossible.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
    if width < 1 or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"width must be positive and kernel_size odd, got {width} and {kernel_size}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for i, (wide, size) in enumerate(((width, 3), (width, kernel_size), (2 * width, kernel_size)), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, wide, size, padding=size // 2, bias=False)
        if order == "bacp":
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        layers[f"norm{i}"] = nn.BatchNorm2d(wide)
        layers[f"relu{i}"] = nn.ReLU()
        if order == "cbap":
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        channels = wide
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels * 3 * 3, 4 * width, bias=False)  # 28 → 14 → 7 → 3
    layers["norm4"] = nn.BatchNorm1d(4 * width)
    layers["relu4"] = nn.ReLU()
    layers["fc2"] = nn.Linear(4 * width, num_classes)
    return nn.Sequential(layers)
