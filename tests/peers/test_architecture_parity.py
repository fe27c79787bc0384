"""The same weights in our architectures and in torchvision's or timm's give the same outputs.

A key map turns our names into the peer's. Weights are random, normalizations included, and of a size that keeps the
signal alive. Both networks are made without memory for weights, and then share the same tensors.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.googlenet import Inception
from torchvision.models.inception import InceptionA

from compress_lib.models import alexnet, inception, mobilenet, shufflenet, squeezenet, xception


def random_state(network: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in network.state_dict().items():
        uniform = torch.rand(tensor.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif tensor.dim() > 1:
            state[name] = torch.randn(tensor.shape, generator=generator) * math.sqrt(2 / tensor[0].numel())
        else:  # a bias or a shift if it is centered, a scale or a variance if not
            state[name] = uniform + 0.5 if name.endswith(("weight", "running_var")) else 0.4 * uniform - 0.2
    return state


def rename(names: Iterable[str], rules: dict[str, str | Callable[[re.Match], str]]) -> dict[str, str]:
    """Each name, with what the first rule that fits it from the start makes of it."""
    found = {}
    for name in names:
        rule = next(rule for rule in rules if re.match(rule, name))
        found[name] = re.sub(rule, rules[rule], name, count=1)
    return found


def check_same(
    build_ours: Callable[[], nn.Module],
    build_theirs: Callable[[], nn.Module],
    rules: dict[str, str | Callable[[re.Match], str]],
    shape: tuple[int, ...],
) -> None:
    with torch.device("meta"):
        ours, theirs = build_ours().eval(), build_theirs().eval()
    state = random_state(theirs)
    keys = rename(ours.state_dict(), rules)
    assert sorted(keys.values()) == sorted(state)
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict({name: state[other] for name, other in keys.items()}, assign=True)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(x)
        found = ours(x)
    spread = expected.std(0).mean()
    assert spread > 0.01 * expected.abs().mean() > 0  # outputs depend on the image
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_squeezenet(name):
    rules = {
        r"features\.0\.0": "features.0",
        # Theirs counts the stem's ReLU as a layer.
        r"features\.(\d+)\.(\w+)\.0": lambda match: f"features.{int(match[1]) + 1}.{match[2]}",
        r"scores": "classifier.1",
    }
    check_same(getattr(squeezenet, name), lambda: get_model(name), rules, (3, 64, 64))


def test_mobilenet_v1():
    places = [None, *(f"{stage}.{i}" for stage, depth in enumerate((1, 2, 2, 6, 2)) for i in range(depth))]
    # timm has the ReLU6 of the authors' later code unless told otherwise; the paper has a ReLU.
    rules = {
        r"features\.0\.0": "conv_stem",
        r"features\.0\.1": "bn1",
        r"features\.(\d+)\.(depth|point)wise\.0": lambda match: f"blocks.{places[int(match[1])]}.conv_{match[2][0]}w",
        r"features\.(\d+)\.(depth|point)wise\.1": lambda match: (
            f"blocks.{places[int(match[1])]}.bn{1 + (match[2] == 'point')}"
        ),
        r"fc": "classifier",
    }
    peer = functools.partial(timm.create_model, "mobilenetv1_100", act_layer="relu")
    check_same(mobilenet.mobilenet_v1, peer, rules, (3, 64, 64))


@pytest.mark.parametrize("alpha", [1.0, 1.4, 0.35])
def test_mobilenet_v2(alpha):
    rules = {
        r"features\.(0|18)\.": r"features.\1.",
        r"features\.1\.depthwise\.": r"features.1.conv.0.",
        r"features\.1\.project\.(\d)": lambda match: f"features.1.conv.{1 + int(match[1])}",
        r"features\.(\d+)\.expand": r"features.\1.conv.0",
        r"features\.(\d+)\.depthwise": r"features.\1.conv.1",
        r"features\.(\d+)\.project\.(\d)": lambda match: f"features.{match[1]}.conv.{2 + int(match[2])}",
        r"fc": "classifier.1",
    }
    peer = functools.partial(get_model, "mobilenet_v2", width_mult=alpha)
    check_same(functools.partial(mobilenet.mobilenet_v2, alpha=alpha), peer, rules, (3, 64, 64))


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
def test_shufflenet_v2(scale):
    places = [None, None, *(f"stage{stage}.{i}" for stage, depth in ((2, 4), (3, 8), (4, 4)) for i in range(depth))]

    def split_unit(match: re.Match) -> str:
        # Theirs lists convolutions, normalizations and ReLUs one after the other; there is none after the depthwise
        # one.
        number, branch, step, layer = int(match[1]), match[2], int(match[3]), int(match[4])
        starts = (0, 2) if branch == "shortcut" else (0, 3, 5)
        return f"{places[number]}.branch{1 + (branch == 'branch')}.{starts[step] + layer}"

    rules = {
        r"features\.0\.": "conv1.",
        r"features\.18\.": "conv5.",
        r"features\.(\d+)\.(shortcut|branch)\.(\d)\.(\d)": split_unit,
        r"fc": "fc",
    }
    build = functools.partial(shufflenet.shufflenet_v2, scale=scale)
    name = f"shufflenet_v2_x{scale:.1f}".replace(".", "_")
    check_same(build, lambda: get_model(name), rules, (3, 64, 64))


def test_xception():
    def block(match: re.Match) -> str:
        return f"block{int(match[1]) - 5}."

    rules = {
        r"features\.0\.": "conv1.",
        r"features\.1\.": "bn1.",
        r"features\.3\.": "conv2.",
        r"features\.4\.": "bn2.",
        r"features\.18\.depthwise": "conv3.conv1",
        r"features\.18\.": "conv3.",
        r"features\.19\.": "bn3.",
        r"features\.21\.depthwise": "conv4.conv1",
        r"features\.21\.": "conv4.",
        r"features\.22\.": "bn4.",
        r"features\.(\d+)\.shortcut\.0": lambda match: f"{block(match)}skip",
        r"features\.(\d+)\.shortcut\.1": lambda match: f"{block(match)}skipbn",
        r"features\.(\d+)\.branch\.(\d+)\.depthwise": lambda match: f"{block(match)}rep.{match[2]}.conv1",
        r"features\.(\d+)\.branch": lambda match: f"{block(match)}rep",
        r"fc": "fc",
    }
    check_same(xception.xception, lambda: timm.create_model("legacy_xception"), rules, (3, 71, 71))


def test_alexnet():
    rules = {r"features": "features"}
    # A dropout stands behind each hidden layer's ReLU in ours, before the layer in theirs; and ours begins with a
    # Flatten.
    rules |= {f"classifier.{ours}": f"classifier.{theirs}" for ours, theirs in ((1, 1), (4, 4), (7, 6))}
    check_same(alexnet.alexnet, lambda: get_model("alexnet"), rules, (3, 70, 64))


def test_inception_v1():
    """torchvision's module has 3×3 filters in the third branch, normalizations, no biases: all told to change."""

    def conv(in_channels: int, channels: int, kernel_size: int, padding: int = 0) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(in_channels, channels, kernel_size, padding=padding), nn.ReLU())

    def peer() -> nn.Module:
        module = Inception(192, 64, 96, 128, 16, 32, 32, conv_block=conv)
        module.branch3[1] = conv(16, 32, 5, padding=2)
        return module

    rules = {"branch1x1": "branch1", "branch3x3": "branch2", "branch5x5": "branch3", "branch_pool": "branch4"}
    check_same(lambda: inception.InceptionV1(192, 64, 96, 128, 16, 32, 32), peer, rules, (192, 9, 7))


def test_inception_v3():
    def conv(in_channels: int, channels: int, **options: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, bias=False, **options), nn.BatchNorm2d(channels), nn.ReLU()
        )

    rules = {
        r"branch_pool\.1": "branch_pool",
        r"branch_single\.(\d)": lambda match: f"branch5x5_{int(match[1]) + 1}",
        r"branch_double\.(\d)": lambda match: f"branch3x3dbl_{int(match[1]) + 1}",
        r"branch1x1": "branch1x1",
    }
    ours = functools.partial(inception.InceptionV3, 192, 64, 48, 64, 64, 96, 32, kernel_size=5)
    check_same(ours, lambda: InceptionA(192, 32, conv_block=conv), rules, (192, 9, 7))
