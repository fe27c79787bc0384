"""SqueezeNet against the arithmetic of its paper."""

import pytest
import torch
from torch import nn

from compress_lib.cost import count
from compress_lib.models.squeezenet import Fire, squeezenet1_0, squeezenet1_1, squeezenet_small


@pytest.mark.parametrize(
    ("build", "params", "millions"), [(squeezenet1_0, 1_248_424, "818.92"), (squeezenet1_1, 1_235_496, "349.15")]
)
@pytest.mark.parametrize("bypass", [False, True])
def test_parameters_and_macs(build, params, millions, bypass):
    with torch.device("meta"):
        cost = count(build(bypass=bypass), (3, 224, 224))
    assert (cost.params, f"{cost.macs / 1e6:.2f}") == (params, millions)


def test_the_fire_table():
    """Section 3.1's modules: inputs M, squeeze s, expand e₁ = e₃, and Ms + s + s e₁ + e₁ + 9 s e₃ + e₃ parameters."""
    table = [
        (96, 16, 64, 11_920), (128, 16, 64, 12_432), (128, 32, 128, 45_344), (256, 32, 128, 49_440),
        (256, 48, 192, 104_880), (384, 48, 192, 111_024), (384, 64, 256, 188_992), (512, 64, 256, 197_184),
    ]  # fmt: skip
    fires = [module for module in squeezenet1_0().features if isinstance(module, Fire)]
    for fire, (inputs, squeeze, expand, params) in zip(fires, table, strict=True):
        assert inputs * squeeze + squeeze + squeeze * expand + expand + 9 * squeeze * expand + expand == params
        assert sum(p.numel() for p in fire.parameters()) == params
        assert fire.squeeze[0].out_channels == squeeze
        assert fire.expand1x1[0].out_channels == fire.expand3x3[0].out_channels == expand


@pytest.mark.parametrize("build", [squeezenet1_0, squeezenet1_1])
def test_bypass_surrounds_every_other_fire_module(build):
    fires = [module for module in build(bypass=True).features if isinstance(module, Fire)]
    assert [i for i, fire in enumerate(fires, 2) if fire.bypass] == [3, 5, 7, 9]
    fire = fires[1].eval()
    x = torch.randn(1, 128, 4, 4)
    with torch.no_grad():
        with_bypass = fire(x)
        fire.bypass = False
        torch.testing.assert_close(with_bypass, x + fire(x))


def test_squeeze_ratio_one_leaves_the_expand_layer_in_full():
    fires = [module for module in squeezenet1_0(squeeze_ratio=1).features if isinstance(module, Fire)]
    assert [fire.squeeze[0].out_channels for fire in fires] == [128, 128, 256, 256, 384, 384, 512, 512]


def test_the_small_one_keeps_the_proportions():
    network = squeezenet_small(width=32, bypass=True)
    fires = [module for module in network.features if isinstance(module, Fire)]
    assert [fire.squeeze[0].out_channels for fire in fires] == [4, 4, 8, 8, 12]
    assert [fire.bypass for fire in fires] == [False, True, False, True, False]


@pytest.mark.parametrize("relu_scores", [True, False])
def test_a_class_whose_scores_are_nowhere_positive_is_learned_only_without_the_relu(relu_scores):
    torch.manual_seed(0)
    network = squeezenet_small(width=8, relu_scores=relu_scores)
    network.scores.bias.data[3] = -10.0
    logits = network(torch.randn(16, 1, 28, 28))
    assert (logits[:, 3] == 0).all() if relu_scores else (logits[:, 3] < -9).all()
    nn.functional.cross_entropy(logits, torch.full((16,), 3)).backward()
    assert bool(network.scores.weight.grad[3].any()) is not relu_scores


@pytest.mark.parametrize(("build", "least"), [(squeezenet1_0, 21), (squeezenet1_1, 17), (squeezenet_small, 4)])
def test_the_least_image(build, least):
    network = build(in_channels=1).eval()
    assert network(torch.zeros(1, 1, least, least + 1)).shape == (1, network.scores.out_channels)
    with pytest.raises(ValueError, match=f"images of {least}×{least - 1} pixels.*needs {least}×{least} or more"):
        network(torch.zeros(1, 1, least, least - 1))


def test_bad_arguments():
    with pytest.raises(ValueError, match="squeeze_ratio=2 must be at most 1"):
        squeezenet1_0(squeeze_ratio=2)
    with pytest.raises(ValueError, match=r"squeeze_ratio=0.001 leaves none of 128 channels; 0.00781 leaves one"):
        squeezenet1_1(squeeze_ratio=0.001)
    with pytest.raises(TypeError, match="squeeze_ratio='1/8' must be a number"):
        squeezenet1_1(squeeze_ratio="1/8")
    with pytest.raises(ValueError, match="squeeze=0 must be at least 1"):
        Fire(4, 0, 8)
    with pytest.raises(ValueError, match="channels=9 must be even"):
        squeezenet_small(width=9, squeeze_ratio=0.5)
    with pytest.raises(ValueError, match="width=0 must be at least 1"):
        squeezenet_small(width=0)
    with pytest.raises(ValueError, match="num_classes=0 must be at least 1"):
        squeezenet1_0(num_classes=0)
    with pytest.raises(TypeError, match="in_channels=1.5 must be an integer"):
        squeezenet1_0(in_channels=1.5)
    with pytest.raises(ValueError, match="bypass needs as many channels out as in, not 4 in and 8 out"):
        Fire(4, 2, 8, bypass=True)
