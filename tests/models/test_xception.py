"""Xception against the arithmetic of its paper."""

import pytest
import torch
from torch import nn

from compress_lib.cost import count
from compress_lib.models.xception import SeparableConv2d, XceptionBlock, xception, xception_small


def test_parameters_and_macs():
    with torch.device("meta"):
        network = xception()
        cost = count(network, (3, 299, 299))
    assert (cost.params, f"{cost.macs / 1e6:.1f}") == (22_855_952, "8357.4")
    separable = [module for module in network.modules() if isinstance(module, SeparableConv2d)]
    assert len(separable) + 2 == 36  # the shortcuts' convolutions are not counted, as in the paper
    assert len([module for module in network.modules() if isinstance(module, XceptionBlock)]) == 12  # of 14 modules


@pytest.mark.parametrize("between", ["none", "relu", "elu"])
@pytest.mark.parametrize("pointwise_first", [False, True])
def test_a_separable_convolution(between, pointwise_first):
    layer = SeparableConv2d(3, 5, between=between, pointwise_first=pointwise_first)
    x = torch.randn(2, 3, 6, 6)
    functions = {"none": lambda y: y, "relu": nn.functional.relu, "elu": nn.functional.elu}
    spatial, across = layer.depthwise.weight, layer.pointwise.weight
    if pointwise_first:
        expected = functions[between](nn.functional.conv2d(x, across))
        expected = nn.functional.conv2d(expected, spatial, padding=1, groups=5)
    else:
        expected = functions[between](nn.functional.conv2d(x, spatial, padding=1, groups=3))
        expected = nn.functional.conv2d(expected, across)
    assert torch.equal(layer(x), expected)
    assert count(layer, (3, 6, 6)).macs == 36 * (15 + 9 * (5 if pointwise_first else 3))


@pytest.mark.parametrize("pointwise_first", [False, True])
def test_without_a_nonlinearity_it_is_one_full_convolution(pointwise_first):
    layer = SeparableConv2d(3, 5, pointwise_first=pointwise_first)
    spatial, across = layer.depthwise.weight, layer.pointwise.weight
    full = across * (spatial if pointwise_first else spatial.transpose(0, 1))
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, full, padding=1))


def test_a_block_with_silent_branch_is_its_shortcut():
    for block, shape in ((XceptionBlock(4, (4, 4), 1), (4, 7, 7)), (XceptionBlock(4, (4, 6), 2), (6, 4, 4))):
        block.eval()
        for module in block.branch:
            if isinstance(module, nn.BatchNorm2d):
                nn.init.zeros_(module.weight)
        x = torch.randn(1, 4, 7, 7)
        assert torch.equal(block(x), block.shortcut(x))
        assert block(x).shape[1:] == shape


def test_only_the_first_block_begins_without_a_relu():
    blocks = [module for module in xception_small().features if isinstance(module, XceptionBlock)]
    assert [isinstance(block.branch[0], nn.ReLU) for block in blocks] == [False, True, True, True]


def test_the_small_one_widens_its_tail_as_the_large_one_does():
    separable = [module for module in xception_small(width=1.5).modules() if isinstance(module, SeparableConv2d)]
    assert [layer.pointwise.out_channels for layer in separable] == [48] * 8 + [96, 144, 192]


@pytest.mark.parametrize(("build", "least"), [(xception, 23), (xception_small, 3)])
def test_the_least_image(build, least):
    network = build(7, 1).eval()
    assert network(torch.zeros(1, 1, least, least)).shape == (1, 7)
    with pytest.raises(ValueError, match=f"images of {least - 1}×{least} pixels.*needs {least}×{least} or more"):
        network(torch.zeros(1, 1, least - 1, least))


def test_bad_arguments():
    with pytest.raises(ValueError, match="channels=0 must be at least 1"):
        SeparableConv2d(8, 0)
    with pytest.raises(ValueError, match="widths must name at least one separable convolution"):
        XceptionBlock(8, (), 1)
    with pytest.raises(ValueError, match=r"between='gelu' must be one of \('none', 'relu', 'elu'\)"):
        xception_small(between="gelu")
    with pytest.raises(ValueError, match="width=-1 must be a positive finite number"):
        xception_small(width=-1)
    with pytest.raises(ValueError, match="width=0.01 leaves none of 16 channels; 0.0625 leaves one"):
        xception_small(width=0.01)
    with pytest.raises(ValueError, match="num_classes=0 must be at least 1"):
        xception_small(0)
