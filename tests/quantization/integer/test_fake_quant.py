import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.quantization.integer import affine, fake_quant, observers
from compress_lib.quantization.integer.fake_quant import ActivationQuantizer, FakeQuantizedLayer, WeightQuantizer
from compress_lib.quantization.integer.observers import make_observer


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(x, bits=8, name="min_max"):
    made = ActivationQuantizer(bits, make_observer(name, bits))
    made(x)
    made.update_qparams()
    made.state = "frozen"
    return made


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["min_max", "moving_average"])
def test_like_the_fake_quantizers_of_torch_ao(bits, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao says that it will move
        from torch.ao.quantization import FakeQuantize, MinMaxObserver, MovingAverageMinMaxObserver

        kind = {"min_max": MinMaxObserver, "moving_average": MovingAverageMinMaxObserver}[name]
        theirs = FakeQuantize(kind, quant_min=0, quant_max=2**bits - 1, dtype=torch.quint8, reduce_range=False)
    ours = ActivationQuantizer(bits, make_observer(name, bits))
    for seed in range(4):
        x = numbers(50, 7, seed=seed) * (seed + 1)
        theirs(x)
        assert torch.equal(ours(x), x)
    ours.update_qparams()
    if name == "min_max":
        torch.testing.assert_close(ours.scale, theirs.scale[0], rtol=1e-6, atol=0)
        assert ours.zero_point == theirs.zero_point
    else:  # torch's average has a decay of 0.99 as well
        torch.testing.assert_close(ours.scale, theirs.scale[0], rtol=1e-3, atol=0)
    theirs.disable_observer()
    theirs.scale.copy_(ours.scale)
    theirs.zero_point.copy_(ours.zero_point)
    ours.state = "frozen"
    x = numbers(50, 7, seed=9) * 5
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    assert torch.equal(ours(a), theirs(b))
    ours(a).square().sum().backward()
    theirs(b).square().sum().backward()
    assert torch.equal(a.grad, b.grad)


def test_the_states():
    made = quantizer(torch.tensor([0.0, 1.0]), 2, "moving_average")
    x = torch.tensor([0.0, 0.4, 3.0])
    assert made(x).tolist() == pytest.approx([0, 1 / 3, 1])
    made.state = "update"
    made.eval()
    assert made(x).tolist() == pytest.approx([0, 1 / 3, 1])
    made.train()
    made(x)
    assert made.scale.item() == pytest.approx((0.99 * 1 + 0.01 * 3) / 3)
    made.state = "frozen"
    made(10 * x)
    assert made.scale.item() == pytest.approx((0.99 * 1 + 0.01 * 3) / 3)


# --- weights ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 16), per_channel=st.booleans())
def test_the_scale_of_a_weight_is_that_of_its_largest(seed, bits, per_channel):
    weight = numbers(5, 3, 2, 2, seed=seed) * torch.tensor([1e-6, 0.1, 1, 10, 0]).view(-1, 1, 1, 1)
    made = WeightQuantizer(bits, 5 if per_channel else None, "min_max")
    made.fit(weight)
    highest = 2 ** (bits - 1) - 1
    scale = made.scale(weight)
    if per_channel:
        expected = [w.abs().max().item() / highest for w in weight[:4]] + [1.0]
    else:
        expected = weight.abs().max().item() / highest
    assert scale.tolist() == pytest.approx(expected, rel=1e-6)
    rounded = made(weight, scale)
    codes = rounded / (scale.view(-1, 1, 1, 1) if per_channel else scale)
    torch.testing.assert_close(codes, codes.round(), rtol=1e-6, atol=1e-6)
    assert codes.abs().max().round() == highest
    error = (rounded - weight).abs().amax((1, 2, 3))
    assert (error <= scale * 0.5001).all()


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_range_of_least_squared_error_follows_the_weight(per_channel):
    weight = numbers(4, 100) ** 3
    weight[3] = 0
    channels, axis = (4, 0) if per_channel else (None, None)
    plain, optimal = (WeightQuantizer(3, channels, name) for name in ("min_max", "mse"))
    optimal.fit(weight)
    _, high = observers.mse_optimal(weight, 3, symmetric=True, narrow=True, axis=axis)
    expected, _ = affine.choose_qparams(-high, high, 3, symmetric=True, narrow=True)
    torch.testing.assert_close(optimal.scale(weight), expected)
    errors = [(q(weight, q.scale(weight)) - weight).square().mean() for q in (plain, optimal)]
    assert errors[1] < 0.97 * errors[0]
    scale = optimal.scale(2 * weight)
    torch.testing.assert_close(scale[:3] if per_channel else scale, 2 * (expected[:3] if per_channel else expected))


def test_bad_bits_and_ranges():
    with pytest.raises(ValueError, match="weight_range must be one of .*, got 'kl'"):
        WeightQuantizer(8, None, "kl")
    with pytest.raises(ValueError, match="bits"):
        WeightQuantizer(1, None, "min_max")
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 16, got 17"):
        ActivationQuantizer(17, make_observer("min_max", 8))


# --- layers -----------------------------------------------------------------------------------------------------------


def layers():
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    return {"conv": (convolution, numbers(2, 4, 9, 9)), "linear": (nn.Linear(7, 6), numbers(5, 7))}


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_a_layer_by_hand(kind, per_channel, relu):
    layer, x = layers()[kind]
    reads = quantizer(x)
    made = FakeQuantizedLayer(layer, reads, WeightQuantizer(4, 6 if per_channel else None, "min_max"), relu)
    scale = made.weight_scale()
    shape = [-1] + [1] * (layer.weight.dim() - 1) if per_channel else []
    weight = (layer.weight / scale.view(shape)).round() * scale.view(shape)
    unit = reads.scale * scale
    bias = (layer.bias / unit).round() * unit
    if kind == "conv":
        expected = F.conv2d(x, weight, bias, stride=2, padding=1, dilation=2, groups=2)
    else:
        expected = x @ weight.T + bias
    torch.testing.assert_close(made(x), expected.relu() if relu else expected)


def test_the_gradients_go_straight_through():
    layer, x = layers()["linear"]
    made = FakeQuantizedLayer(layer, quantizer(x), WeightQuantizer(3, 6, "min_max"), False)
    direction = numbers(5, 6)
    (made(x) * direction).sum().backward()
    torch.testing.assert_close(layer.weight.grad, direction.T @ x)
    torch.testing.assert_close(layer.bias.grad, direction.sum(0))


def test_while_the_ranges_are_found_a_layer_computes_in_float32():
    layer, x = layers()["conv"]
    made = FakeQuantizedLayer(
        layer, ActivationQuantizer(8, make_observer("min_max", 8)), WeightQuantizer(2, 6, "mse"), False
    )
    assert torch.equal(made(x), layer(x))


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_bias_that_would_not_fit_makes_the_scale_larger(per_channel):
    layer, x = layers()["linear"]
    with torch.no_grad():
        layer.weight *= 1e-12
        layer.bias[0] = 3.0
    reads = quantizer(x)
    made = FakeQuantizedLayer(layer, reads, WeightQuantizer(8, 6 if per_channel else None, "min_max"), False)
    codes = layer.bias / (reads.scale * made.weight_scale())
    assert codes.abs().max() <= 2**30 * 1.0001
    torch.testing.assert_close(made(x), layer(x), rtol=1e-6, atol=1e-6)


def test_what_it_reads_is_no_module_of_its_own():
    layer, x = layers()["linear"]
    reads = quantizer(x)
    network = nn.Sequential(reads, FakeQuantizedLayer(layer, reads, WeightQuantizer(8, 6, "min_max"), True))
    assert not any(name.startswith("1.") and "zero_point" in name for name in network.state_dict())
    twin = copy.deepcopy(network)
    assert twin[1].input_quantizer is twin[0]


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration():
    layer, x = layers()["linear"]
    images = (100 * numbers(9, 7).abs()).clamp(max=255).to(torch.uint8).view(9, 1, 1, 7)
    reads = ActivationQuantizer(8, make_observer("min_max", 8))
    network = nn.Sequential(nn.Flatten(), reads, FakeQuantizedLayer(layer, reads, WeightQuantizer(3, 6, "mse"), True))
    network.train()[0].eval()
    fake_quant.calibrate(network, images, batch_size=4)
    assert [module.training for module in network[:2]] == [False, True] and network.training  # as they were
    assert reads.state == "frozen" and (network[2].weight_quantizer.fraction < 1).any()
    x = fake_quant.as_input(images).flatten(1)
    assert reads.scale.item() == pytest.approx((x.max() - x.min().clamp(max=0)).item() / 255)
    first = reads.scale.clone()
    fake_quant.calibrate(network, 2 * x.view(9, 1, 1, 7)[:2])
    assert reads.scale > first  # it adds to what has been seen
    with pytest.raises(ValueError, match="images is empty"):
        fake_quant.calibrate(network, images[:0])
