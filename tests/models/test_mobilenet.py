"""MobileNetV1 and V2 against the arithmetic of their papers."""

import pytest
import torch
from torch import nn

from compress_lib.cost import count
from compress_lib.models.mobilenet import (
    DepthwiseSeparable,
    InvertedResidual,
    mobilenet_v1,
    mobilenet_v1_small,
    mobilenet_v2,
    mobilenet_v2_small,
    plain_small,
)


@pytest.mark.parametrize(
    ("build", "options", "size", "params", "millions"),
    [
        (mobilenet_v1, {}, 224, 4_231_976, "568.74"),
        (mobilenet_v1, {"alpha": 0.75}, 224, 2_585_560, "325.40"),
        (mobilenet_v1, {"alpha": 0.5}, 224, 1_331_592, "149.50"),
        (mobilenet_v1, {"alpha": 0.25}, 224, 470_072, "41.03"),
        (mobilenet_v1, {}, 192, 4_231_976, "418.12"),
        (mobilenet_v1, {}, 160, 4_231_976, "290.68"),
        (mobilenet_v1, {}, 128, 4_231_976, "186.40"),
        (mobilenet_v1, {"separable": False}, 224, 29_294_088, "4867.29"),
        (mobilenet_v2, {}, 224, 3_504_872, "300.77"),
        (mobilenet_v2, {"linear_bottleneck": False}, 224, 3_504_872, "300.77"),
        (mobilenet_v2, {"alpha": 1.4}, 224, 6_108_776, "582.20"),
        (mobilenet_v2, {"alpha": 0.75}, 224, 2_636_424, "209.07"),
        (mobilenet_v2, {"alpha": 0.5}, 224, 1_968_680, "97.13"),
        (mobilenet_v2, {"alpha": 0.35}, 224, 1_677_128, "59.29"),
    ],
)
def test_parameters_and_macs(build, options, size, params, millions):
    with torch.device("meta"):
        cost = count(build(**options), (3, size, size))
    assert (cost.params, f"{cost.macs / 1e6:.2f}") == (params, millions)


def test_the_ratio_of_a_separable_to_a_full_convolution():
    """1/N + 1/9 for N output channels; the toy case has M = 2, N = 3 and 3×3 outputs."""
    separable = count(DepthwiseSeparable(2, 3, 1), (2, 3, 3)).macs
    full = count(nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 3, 3)).macs
    assert (separable, full) == (216, 486)
    assert separable / full == pytest.approx(1 / 3 + 1 / 9)


def test_a_separable_convolution_is_a_full_one_of_low_rank():
    """The kernel of output n and input m is the m-th depthwise filter times a number."""
    block = DepthwiseSeparable(4, 6, 2)
    depthwise, pointwise = block.depthwise[0].weight, block.pointwise[0].weight
    full = pointwise * depthwise.transpose(0, 1)
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(
        block.pointwise[0](block.depthwise[0](x)), nn.functional.conv2d(x, full, stride=2, padding=1)
    )


def test_without_pointwise_convolutions_channels_stay_apart():
    """Channel j of a block that doubles them comes from channel j // 2; through the network, likewise."""
    network = mobilenet_v1_small(pointwise=False).eval()
    x = torch.randn(1, 32, 28, 28, requires_grad=True)
    features = network.features[1:](x).mean((2, 3)).flatten()
    assert len(features) == 128
    reached = torch.stack(
        [torch.autograd.grad(feature, x, retain_graph=True)[0].abs().sum((0, 2, 3)) for feature in features]
    )
    for feature, sources in enumerate(reached):
        assert sources.nonzero().flatten().tolist() in ([feature // 4], [])  # [] if a ReLU is silent
    assert (reached.sum(0) > 0).sum() > 16


@pytest.mark.parametrize("build", [mobilenet_v1, mobilenet_v1_small])
def test_without_pointwise_convolutions_only_nine_weights_for_a_channel_are_left(build):
    network = build(10, 1, pointwise=False)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    widths = [block.pointwise[0].out_channels for block in build(10, 1).features[1:]]
    assert [conv.out_channels for conv in convs[1:]] == widths
    assert sum(conv.weight.numel() for conv in convs[1:]) == 9 * sum(widths)
    assert [conv.groups for conv in convs] == [1, convs[0].out_channels, *widths[:-1]]


def test_impossible_networks_without_pointwise_convolutions():
    with pytest.raises(ValueError, match="pointwise=False cannot make 19 channels of 10, as many of each; 10 or 20"):
        mobilenet_v1(alpha=0.3, pointwise=False)
    with pytest.raises(ValueError, match="pointwise=False cannot make 3 channels of 4, as many of each; 4 would fit"):
        DepthwiseSeparable(4, 3, 1, pointwise=False)
    with pytest.raises(ValueError, match="pointwise=False needs separable=True"):
        mobilenet_v1(separable=False, pointwise=False)


def test_inverted_residual_with_silent_branch_is_the_identity():
    block = InvertedResidual(4, 4, 1, 6).eval()
    nn.init.zeros_(block.project[1].weight)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(block(x), x)
    assert not InvertedResidual(4, 4, 2, 6).residual
    assert not InvertedResidual(4, 5, 1, 6).residual


def test_only_a_linear_bottleneck_gives_negative_numbers():
    x = torch.randn(8, 4, 6, 6)
    assert InvertedResidual(4, 5, 1, 6)(x).min() < 0
    assert InvertedResidual(4, 5, 1, 6, linear_bottleneck=False)(x).min() == 0
    assert InvertedResidual(4, 5, 1, 6, linear_bottleneck=False)(100 * x).max() <= 6


def test_widths_of_v2_are_multiples_of_eight():
    network = mobilenet_v2(alpha=0.35)
    widths = [block.project[0].out_channels for block in network.features[1:-1]]
    # 16 · 0.35 = 5.6 → 8, and 320 · 0.35 = 112; 24 · 0.35 = 8.4 → 8, which takes less than a tenth.
    assert widths == [8, 8, 8, 16, 16, 16, 24, 24, 24, 24, 32, 32, 32, 56, 56, 56, 112]
    assert network.fc.in_features == 1280


def test_v2_rounds_up_where_down_would_take_more_than_a_tenth():
    widths = [block.project[0].out_channels for block in mobilenet_v2(alpha=0.45).features[1:-1]]
    assert widths[1] == 16  # 24 · 0.45 = 10.8; 8 would be a quarter less


def test_plain_small_is_the_small_mobilenet_without_separation():
    plain = plain_small()
    kinds = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.kernel_size for conv in kinds] == [(3, 3)] * 6
    assert {conv.groups for conv in kinds} == {1}
    separable = [block for block in mobilenet_v1_small().features if isinstance(block, DepthwiseSeparable)]
    assert [conv.stride for conv in kinds[1:]] == [block.depthwise[0].stride for block in separable]


@pytest.mark.parametrize(
    ("build", "least"),
    [(mobilenet_v1, 17), (mobilenet_v2, 17), (mobilenet_v1_small, 3), (mobilenet_v2_small, 3), (plain_small, 3)],
)
def test_the_least_image(build, least):
    network = build(7, 1).eval()
    assert network(torch.zeros(1, 1, least, least)).shape == (1, 7)
    with pytest.raises(ValueError, match=f"images of {least - 1}×{least} pixels.*needs {least}×{least} or more"):
        network(torch.zeros(1, 1, least - 1, least))


@pytest.mark.parametrize("build", [mobilenet_v1, mobilenet_v2, mobilenet_v1_small, mobilenet_v2_small, plain_small])
def test_bad_arguments(build):
    for alpha in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"alpha={alpha} must be a positive finite number"):
            build(alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha=0.001 leaves none of \d+ channels; 0.\d+ leaves one"):
        build(alpha=0.001)
    with pytest.raises(TypeError, match="alpha='1' must be a number"):
        build(alpha="1")
    with pytest.raises(ValueError, match="in_channels=-3 must be at least 1"):
        build(in_channels=-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepthwiseSeparable(8, 0, 1), "channels=0 must be at least 1"),
        (lambda: DepthwiseSeparable(8, 8, 0), "stride=0 must be at least 1"),
        (lambda: InvertedResidual(8, 8, 1, 0), "expansion=0 must be at least 1"),
    ],
)
def test_blocks_name_what_is_not_positive(make, message):
    with pytest.raises(ValueError, match=message):
        make()
