"""Parameters against the arithmetic of the papers (shared table of exact counts)."""

import itertools

import pytest
import torch
from torch import nn

from compress_lib.models import resnet
from compress_lib.models.lenet import lenet_5, lenet_300_100
from compress_lib.models.vgg import VGG, vgg_small
from compress_lib.models.zoo import NAMES, build


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lenet_300_100(), 266_610),
        (lenet_5(), 431_080),
        (resnet.resnet_20(shortcut="A"), 269_722),
        (resnet.resnet_32(shortcut="A"), 464_154),
        (resnet.resnet_56(shortcut="A"), 853_018),
        (resnet.resnet_110(shortcut="A"), 1_727_962),
        (resnet.resnet_56(100, shortcut="A"), 858_868),
        (resnet.resnet_20(), 272_474),
        (resnet.resnet_32(), 466_906),
        (resnet.resnet_56(), 855_770),
        (resnet.resnet_110(), 1_730_714),
        (resnet.resnet_20(in_channels=1), 272_474 - 2 * 9 * 16),
    ],
)
def test_parameters(model, expected):
    assert parameters(model) == expected


def test_vgg_small_by_hand():
    widths = [1, 16, 16, 32, 32, 64, 64, 64]
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
    normalization = 2 * sum(widths[1:])
    classifier = (64 * 3 * 3 + 1) * 64 + 65 * 10
    assert parameters(vgg_small()) == convolutions + normalization + classifier == 146_586


def test_narrow_resnet_8_by_hand():
    width = 8
    stem = 9 * width + 2 * width
    first = 2 * (9 * width**2 + 2 * width)
    # A widening block has two convolutions and a projection, each with its normalization.
    second, third = (9 * c * (c // 2) + 9 * c * c + c * (c // 2) + 3 * 2 * c for c in (2 * width, 4 * width))
    classifier = (4 * width + 1) * 10
    counted = parameters(resnet.ResNet(8, in_channels=1, width=width))
    assert counted == stem + first + second + third + classifier == 19_810
    assert resnet.ResNet(8, width=3)(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", NAMES)
def test_every_baseline_maps_images_to_ten_logits(name):
    assert build(name).eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_pad_shortcut_is_subsampling_and_zeros():
    x = torch.randn(2, 3, 5, 5)
    y = resnet.PadShortcut(4)(x)
    assert y.shape == (2, 7, 3, 3)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert y[:, :2].count_nonzero() == y[:, 5:].count_nonzero() == 0


def test_residual_block_with_silent_branch_is_its_shortcut():
    block = resnet.BasicBlock(4, 4, 1, "B").eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(block(x), x.relu())


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="depth=21"):
        resnet.ResNet(21)
    with pytest.raises(ValueError, match="shortcut='C'"):
        resnet.resnet_20(shortcut="C")
    with pytest.raises(ValueError, match="width=0"):
        resnet.ResNet(8, width=0)
    with pytest.raises(ValueError, match="image_size=4"):
        VGG(((8,),) * 3, 8, 10, 1, 4)
    with pytest.raises(ValueError, match="name='lenet' is not in the zoo.*lenet-5"):
        build("lenet")
