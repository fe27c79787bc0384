"""ShuffleNetV1 and V2 against the arithmetic of their papers, and V1 against a computation from its equations."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib.cost import count
from compress_lib.models import shuffle_units
from compress_lib.models.shuffle_units import ShuffleUnit, SplitUnit, channel_shuffle
from compress_lib.models.shufflenet import (
    ShuffleNetV1,
    ShuffleNetV2,
    shufflenet_v1,
    shufflenet_v1_small,
    shufflenet_v2,
    shufflenet_v2_small,
)

GROUPS = (1, 2, 3, 4, 8)


# The paper's table 1 counts without the linear layer.
@pytest.mark.parametrize(
    ("groups", "params", "convolutions", "all_layers"),
    [
        (1, 1_531_936, "142.5", "143.1"),
        (2, 1_733_848, "140.0", "140.8"),
        (3, 1_865_728, "136.5", "137.5"),
        (4, 1_968_344, "133.3", "134.3"),
        (8, 2_434_768, "136.8", "138.4"),
    ],
)
def test_parameters_and_macs_of_v1(groups, params, convolutions, all_layers):
    with torch.device("meta"):
        cost = count(shufflenet_v1(groups=groups), (3, 224, 224))
    assert cost.params == params
    assert f"{cost.macs / 1e6:.1f}" == all_layers
    assert f"{sum(layer.macs for layer in cost.layers if layer.kind == 'Conv2d') / 1e6:.1f}" == convolutions


@pytest.mark.parametrize(("scale", "stem", "millions"), [(2.0, 48, "524.0"), (1.5, 24, "292.4"), (0.5, 12, "37.6")])
def test_other_scales_of_v1_with_the_stems_of_the_authors(scale, stem, millions):
    with torch.device("meta"):
        assert f"{count(shufflenet_v1(scale=scale, stem=stem), (3, 224, 224)).macs / 1e6:.1f}" == millions


@pytest.mark.parametrize(
    ("scale", "params", "millions"),
    [(0.5, 1_366_792, "40.48"), (1, 2_278_604, "144.91"), (1.5, 3_503_624, "295.76"), (2, 7_393_996, "583.25")],
)
def test_parameters_and_macs_of_v2(scale, params, millions):
    with torch.device("meta"):
        cost = count(shufflenet_v2(scale=scale), (3, 224, 224))
    assert (cost.params, f"{cost.macs / 1e6:.2f}") == (params, millions)


def test_the_shuffle_interleaves_the_groups():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(channel_shuffle(channel_shuffle(x, 3), 4), x)  # with g and C/g it undoes itself
    assert torch.equal(channel_shuffle(x, 1), x)
    y = torch.randn(2, 12, 3, 5, requires_grad=True)
    for groups in (2, 3, 4, 6):
        assert torch.equal(channel_shuffle(y, groups), F.channel_shuffle(y.detach(), groups))
    torch.autograd.gradcheck(lambda y: channel_shuffle(y, 4), y.double())


@pytest.mark.parametrize(("groups", "seen"), [(2, 48), (3, 48), (4, 48), (6, 48), (8, 36)])
def test_one_shuffle_mixes_all_groups_only_if_a_group_has_as_many_channels_as_there_are_groups(groups, seen):
    """Which of 48 inputs reach an output of two grouped 1×1 convolutions, without a shuffle between and with it."""
    first, second = (nn.Conv2d(48, 48, 1, groups=groups, bias=False) for _ in range(2))
    for conv in (first, second):
        nn.init.ones_(conv.weight)
    x = torch.zeros(1, 48, 1, 1, requires_grad=True)
    for shuffles, expected in ((False, 48 // groups), (True, seen)):
        y = channel_shuffle(first(x), groups) if shuffles else first(x)
        reached = [torch.autograd.grad(out, x, retain_graph=True)[0].count_nonzero() for out in second(y).flatten()]
        assert set(map(int, reached)) == {expected}


def normalized(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    shape = (1, -1, 1, 1)
    y = (y - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return y * norm.weight.view(shape) + norm.bias.view(shape)


def grouped(y: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Each group of outputs is a matrix times its group of inputs."""
    parts = zip(y.chunk(groups, 1), weight.flatten(1).chunk(groups), strict=True)
    return torch.cat([torch.einsum("nchw,oc->nohw", part, matrix) for part, matrix in parts], 1)


def depthwise(y: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The sum of nine shifted images, each channel times its own nine numbers."""
    height, width = y.shape[-2:]
    padded = F.pad(y, (1, 1, 1, 1))
    total = sum(
        padded[:, :, i : i + height, j : j + width] * weight[:, 0, i, j].view(1, -1, 1, 1)
        for i in range(3)
        for j in range(3)
    )
    return total[:, :, ::stride, ::stride]


def by_hand(network: ShuffleNetV1, x: Tensor, units: list[int], groups: int) -> Tensor:
    conv, norm = network.features[0][0], network.features[0][1]
    x = normalized(F.conv2d(x, conv.weight, stride=2, padding=1), norm).clamp(min=0)
    x = F.max_pool2d(x, 3, 2, padding=1)
    found = [module for module in network.features if isinstance(module, ShuffleUnit)]
    positions = [i for stage in units for i in range(stage)]
    for number, (unit, position) in enumerate(zip(found, positions, strict=True)):
        stride = 1 if position else 2
        y = grouped(x, unit.reduce[0].weight, groups if number else 1)
        y = normalized(y, unit.reduce[1]).clamp(min=0)
        n = y.shape[1] // groups  # output j g + i is input i n + j
        y = torch.stack([y[:, i * n + j] for j in range(n) for i in range(groups)], 1)
        y = normalized(depthwise(y, unit.depthwise[0].weight, stride), unit.depthwise[1])
        y = normalized(grouped(y, unit.expand[0].weight, groups), unit.expand[1])
        if stride == 1:
            x = (x + y).clamp(min=0)
        else:
            ninth = torch.full((x.shape[1], 1, 3, 3), 1 / 9)
            x = torch.cat([depthwise(x, ninth, 2), y.clamp(min=0)], 1)
    return x.flatten(2).mean(2) @ network.fc.weight.T + network.fc.bias


@pytest.mark.parametrize("groups", GROUPS)
def test_v1_computes_what_its_equations_say(groups):
    network = shufflenet_v1(11, groups=groups).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)
    x = torch.randn(2, 3, 40, 33)
    with torch.no_grad():
        expected = by_hand(network, x, [4, 8, 4], groups)
        assert expected.std() > 0.01
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_only_the_first_unit_of_v1_is_not_grouped():
    units = [module for module in shufflenet_v1(groups=4).features if isinstance(module, ShuffleUnit)]
    assert [unit.reduce[0].groups for unit in units] == [1, *[4] * 15]
    assert [unit.expand[0].groups for unit in units] == [4] * 16
    assert [unit.reduce[0].out_channels * 4 for unit in units] == [272] * 4 + [544] * 8 + [1088] * 4


@pytest.mark.parametrize("groups", [2, 3])
def test_a_unit_without_shuffle_is_narrow_units_side_by_side(groups):
    unit = ShuffleUnit(24, 24, 1, groups, shuffle=False).eval()
    x = torch.randn(2, 24, 5, 5)
    outputs = []
    for i, part in enumerate(x.chunk(groups, 1)):
        narrow = ShuffleUnit(24 // groups, 24 // groups, 1, 1)
        own = {key: value.chunk(groups)[i] if value.dim() else value for key, value in unit.state_dict().items()}
        narrow.load_state_dict(own)
        outputs.append(narrow.eval()(part))
    torch.testing.assert_close(unit(x), torch.cat(outputs, 1))
    shuffled = ShuffleUnit(24, 24, 1, groups).eval()
    shuffled.load_state_dict(unit.state_dict())
    assert not torch.allclose(shuffled(x), unit(x))


@pytest.mark.parametrize(("build", "size"), [(shufflenet_v1, 33), (shufflenet_v1_small, 28)])
def test_v1_without_shuffle_has_the_same_weights_and_no_unit_shuffles(build, size, monkeypatch):
    network, still = (build(10, 1, groups=2, shuffle=shuffle).eval() for shuffle in (True, False))
    still.load_state_dict(network.state_dict())
    x = torch.randn(1, 1, size, size)
    with_shuffle, without = network(x), still(x)
    monkeypatch.setattr(shuffle_units, "channel_shuffle", lambda x, groups: x)
    assert torch.equal(without, network(x)) and not torch.allclose(without, with_shuffle)


def test_v2_passes_half_of_the_channels():
    unit = SplitUnit(8, 8, 1).eval()
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(unit(x)[:, ::2], x[:, :4])


@pytest.mark.parametrize(
    ("build", "least"), [(shufflenet_v1, 17), (shufflenet_v2, 17), (shufflenet_v1_small, 3), (shufflenet_v2_small, 3)]
)
def test_the_least_image(build, least):
    network = build(7, 1).eval()
    assert network(torch.zeros(1, 1, least, least)).shape == (1, 7)
    with pytest.raises(ValueError, match=f"images of {least}×{least - 1} pixels.*needs {least}×{least} or more"):
        network(torch.zeros(1, 1, least, least - 1))


def test_bad_arguments():
    for build in (shufflenet_v1, shufflenet_v1_small):
        with pytest.raises(ValueError, match=r"groups=5 must be one of \(1, 2, 3, 4, 8\)"):
            build(groups=5)
        with pytest.raises(ValueError, match="scale=0 must be a positive finite number"):
            build(scale=0)
    with pytest.raises(ValueError, match=r"scale=3 must be one of \(0.5, 1.0, 1.5, 2.0\)"):
        shufflenet_v2(scale=3)
    with pytest.raises(ValueError, match="a stage of 68 channels.* into 4 groups; 64 or 80 channels would"):
        shufflenet_v1(groups=4, scale=0.25)
    with pytest.raises(ValueError, match="a stem of 12 channels does not divide into 8 groups; 8 or 16 channels would"):
        shufflenet_v1(groups=8, scale=0.5, stem=12)
    with pytest.raises(ValueError, match="a stage of 4 channels.* into 3 groups; 12 channels would"):
        ShuffleNetV1((3, 1), ((4, 2),), 3, 10, 1)
    with pytest.raises(ValueError, match="a stage of 24 channels must have more than the 24 that it reads"):
        ShuffleNetV1((24, 1), ((24, 2),), 3, 10, 1)
    with pytest.raises(ValueError, match="a stage of 9 channels does not divide into 2 groups; 8 or 10 channels would"):
        ShuffleNetV2((4, 1), ((9, 2),), 16, 10, 1)
    with pytest.raises(TypeError, match="groups=2.0 must be an integer"):
        ShuffleNetV1((4, 1), ((16, 2),), 2.0, 10, 1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: channel_shuffle(torch.zeros(1, 10, 2, 2), 3), ValueError,
         "groups=3 must divide the 10 channels of x: 1, 2, 5, 10 would fit"),
        (lambda: ShuffleUnit(96, 98, 2, 3), ValueError, "98 channels, a quarter.*3 groups; 96 or 108 channels would"),
        (lambda: ShuffleUnit(97, 120, 2, 3), ValueError, "an input of 97 channels.*3 groups; 96 or 99 channels would"),
        (lambda: ShuffleUnit(96, 96, 3, 3), ValueError, "stride=3 must be 1 or 2"),
        (lambda: ShuffleUnit(96, 120, 1, 3), ValueError, "at stride 1.*not 120 of 96"),
        (lambda: ShuffleUnit(96, 96, 2, 3), ValueError, "at stride 2.*not 96 of 96"),
        (lambda: ShuffleUnit(96, 96, 1, 0), ValueError, "groups=0 must be at least 1"),
        (lambda: SplitUnit(97, 97, 1), ValueError,
         "97 channels does not divide into 2 groups; 96 or 98 channels would"),
        (lambda: SplitUnit(96, 98, 1), ValueError, "at stride 1.*not 98 of 96"),
        (lambda: SplitUnit(96.0, 98, 2), TypeError, "in_channels=96.0 must be an integer"),
    ],
)  # fmt: skip
def test_units_say_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()
