"""AlexNet and the Inception modules against the arithmetic of their papers."""

import pytest
import torch
from torch import nn

from compress_lib.cost import count
from compress_lib.models.alexnet import alexnet, alexnet_caffe
from compress_lib.models.inception import InceptionV1, InceptionV3

MIXED_5B = (192, 64, 48, 64, 64, 96, 32)


@pytest.mark.parametrize(
    ("build", "size", "params", "all_layers", "convolutions"),
    [(alexnet, 224, 61_100_840, "714.19", "655.57"), (alexnet_caffe, 227, 60_965_224, "724.41", "665.78")],
)
def test_parameters_and_macs_of_alexnet(build, size, params, all_layers, convolutions):
    with torch.device("meta"):
        cost = count(build(), (3, size, size))
    assert (cost.params, f"{cost.macs / 1e6:.2f}") == (params, all_layers)
    assert f"{sum(layer.macs for layer in cost.layers if layer.kind == 'Conv2d') / 1e6:.2f}" == convolutions


@pytest.mark.parametrize(("build", "size"), [(alexnet, 224), (alexnet_caffe, 227)])
def test_the_sizes_of_alexnet(build, size):
    with torch.device("meta"):
        layers = count(build(), (3, size, size)).layers
    assert [layer.output_shape[-1] for layer in layers if layer.kind == "Conv2d"] == [55, 27, 13, 13, 13]
    assert next(layer.input_nbytes for layer in layers if layer.kind == "AdaptiveAvgPool2d") == 4 * 256 * 6 * 6


def test_local_response_normalisation_of_caffe():
    """Each number is divided by (1 + α/5 · the sum of squares over five channels around it)^β."""
    norm = next(module for module in alexnet_caffe().features if isinstance(module, nn.LocalResponseNorm))
    x = 50 * torch.randn(1, 9, 2, 2)
    squares = torch.stack([(x[:, max(c - 2, 0) : c + 3] ** 2).sum(1) for c in range(9)], 1)
    torch.testing.assert_close(norm(x), x / (1 + 1e-4 / 5 * squares) ** 0.75)


def test_the_least_image_of_alexnet():
    for build, least in ((alexnet, 63), (alexnet_caffe, 67)):
        with torch.device("meta"):
            network = build(7, 1).eval()
            assert network(torch.zeros(1, 1, least, least)).shape == (1, 7)
            with pytest.raises(ValueError, match=f"needs {least}×{least} or more"):
                network(torch.zeros(1, 1, least, least - 1))


# Modules 3a and 3b of GoogLeNet's table 1: widths, image size, and operations in millions.
@pytest.mark.parametrize(
    ("widths", "size", "millions"),
    [((192, 64, 96, 128, 16, 32, 32), 28, 128), ((256, 128, 128, 192, 32, 96, 64), 28, 304)],
)
def test_googlenets_modules(widths, size, millions):
    module = InceptionV1(*widths)
    cost = count(module, (widths[0], size, size))
    inputs, one, reduce3, three, reduce5, five, pool = widths
    weights = inputs * (one + reduce3 + reduce5 + pool) + 9 * reduce3 * three + 25 * reduce5 * five
    assert cost.macs == size**2 * weights
    assert cost.macs // 1_000_000 == millions
    assert cost.params == weights + sum(widths[1:])
    assert module(torch.zeros(1, widths[0], 5, 5)).shape == (1, sum(widths[i] for i in (1, 3, 5, 6)), 5, 5)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_module_of_inception_v3_by_hand(kernel_size):
    cost = count(InceptionV3(*MIXED_5B, kernel_size=kernel_size), (192, 35, 35))
    weights = 192 * (64 + 48 + 64 + 32) + 48 * 64 * kernel_size**2 + 9 * (64 * 96 + 96 * 96)
    assert cost.macs == 35 * 35 * weights
    assert cost.params == weights + 2 * (64 + 48 + 64 + 64 + 96 + 96 + 32)


def test_bad_arguments():
    with pytest.raises(ValueError, match="reduce5x5=0 must be at least 1"):
        InceptionV1(192, 64, 96, 128, 0, 32, 32)
    with pytest.raises(TypeError, match="width_pool=32.0 must be an integer"):
        InceptionV3(192, 64, 48, 64, 64, 96, 32.0)
    with pytest.raises(ValueError, match="kernel_size=4 must be odd"):
        InceptionV3(*MIXED_5B, kernel_size=4)
    for build in (alexnet, alexnet_caffe):
        with pytest.raises(ValueError, match="in_channels=0 must be at least 1"):
            build(in_channels=0)
