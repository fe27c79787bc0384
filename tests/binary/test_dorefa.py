import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from compress_lib.binary import dorefa
from compress_lib.binary.dorefa import DoReFaConv2d, DoReFaLinear, QuantizedActivation


def coded(value, bits):
    """Half to even, as Python's round is."""
    return round(min(max(value, 0.0), 1.0) * (2**bits - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=30), st.integers(1, 8))
def test_codes_are_rounded_and_clipped(values, bits):
    x = torch.tensor(values, dtype=torch.float64)
    assert dorefa.codes(x, bits).tolist() == [coded(value, bits) for value in values]
    assert torch.equal(QuantizedActivation(bits)(x), dorefa.codes(x, bits) / (2**bits - 1))


def test_the_gradient_goes_through_where_nothing_was_clipped():
    x = torch.tensor([-0.1, 0.0, 0.3, 1.0, 1.1, math.nan], requires_grad=True)
    (gradient,) = torch.autograd.grad(QuantizedActivation(2)(x), x, torch.full((6,), 5.0))
    torch.testing.assert_close(gradient, torch.tensor([0.0, 5, 5, 5, 0, 0]))


def test_a_grid_is_its_own():
    x = torch.linspace(0, 1, 1000)
    for bits in range(1, 9):
        activation = QuantizedActivation(bits)
        assert torch.equal(activation(activation(x)), activation(x))
        assert len(activation(x).unique()) == 2**bits


def test_activations_are_rounded_weights_are_scaled_signs_and_padding_is_zero():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)
    x = torch.randn(2, 3, 6, 6)
    rounded = (x.clip(0, 1) * 7).round() / 7
    weight = conv.weight.abs().mean((1, 2, 3), keepdim=True) * torch.where(conv.weight >= 0, 1.0, -1.0)
    expected = functional.conv2d(rounded, weight, conv.bias, 2, 1)
    torch.testing.assert_close(DoReFaConv2d.from_dense(conv, bits=3)(x), expected)
    linear = nn.Linear(50, 4)
    x = torch.randn(7, 50)
    weight = linear.weight.abs().mean(1, keepdim=True) * torch.where(linear.weight >= 0, 1.0, -1.0)
    expected = functional.linear((x.clip(0, 1) * 3).round() / 3, weight, linear.bias)
    torch.testing.assert_close(DoReFaLinear.from_dense(linear, bits=2)(x), expected)


@settings(max_examples=50, deadline=None)
@given(
    groups=st.integers(1, 3),
    inputs=st.sampled_from([1, 3, 64, 65]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    bits=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_a_packed_convolution_is_the_same_to_the_last_bit(
    groups, inputs, kernel, stride, padding, dilation, bias, bits, seed
):
    torch.manual_seed(seed)
    conv = nn.Conv2d(groups * inputs, 2 * groups, kernel, stride, padding, dilation, groups, bias)
    trained = DoReFaConv2d.from_dense(conv, bits=bits).eval()
    packed = trained.to_packed()
    x = torch.rand(2, groups * inputs, 6, 7) * 1.2 - 0.1
    for images in (x, x.contiguous(memory_format=torch.channels_last), x[:0]):
        assert torch.equal(packed(images), trained(images))


@settings(max_examples=50, deadline=None)
@given(
    inputs=st.sampled_from([1, 63, 64, 65, 300]),
    bias=st.booleans(),
    bits=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_a_packed_linear_layer_is_the_same_to_the_last_bit(inputs, bias, bits, seed):
    torch.manual_seed(seed)
    trained = DoReFaLinear.from_dense(nn.Linear(inputs, 5, bias), bits=bits).eval()
    x = torch.rand(3, 2, inputs) * 1.2 - 0.1
    x[0, 0, 0] = math.nan
    packed = trained.to_packed()
    assert torch.equal(packed(x), trained(x)) and not packed(x).isnan().any()
    assert packed.weight.nbytes == 8 * 5 * math.ceil(inputs / 64)


@pytest.mark.parametrize("bits", [0, 9, True, 2.0])
def test_bad_bits(bits):
    for make in (
        lambda: dorefa.codes(torch.zeros(2), bits),
        lambda: QuantizedActivation(bits),
        lambda: DoReFaLinear.from_dense(nn.Linear(2, 2), bits=bits),
        lambda: DoReFaConv2d.from_dense(nn.Conv2d(2, 2, 1), bits=bits),
    ):
        with pytest.raises(ValueError, match="bits must be an integer from 1 to 8, got"):
            make()


def test_bad_layers():
    with pytest.raises(TypeError, match="layer must be a torch.nn.Linear, got Conv2d"):
        DoReFaLinear.from_dense(nn.Conv2d(1, 1, 1), bits=2)
    with pytest.raises(TypeError, match="padding must be a number or two, got 'same'"):
        DoReFaConv2d(1, 1, 3, padding="same", bits=2)
    DoReFaLinear.from_dense(nn.Linear(32_896, 1), bits=8).to_packed()
    with pytest.raises(ValueError, match="a sum of 32,897 codes of 8 bits may be beyond what float32 counts exactly"):
        DoReFaLinear.from_dense(nn.Linear(32_897, 1), bits=8).to_packed()
    with pytest.raises(ValueError, match="layer must pad with zeros, by numbers"):
        DoReFaConv2d.from_dense(nn.Conv2d(1, 1, 3, padding="same"), bits=2)
    with pytest.raises(ValueError, match="padding_mode must be 'zeros', got 'circular'"):
        DoReFaConv2d(4, 4, 3, padding=1, padding_mode="circular", bits=2)
    for dtype in (torch.float64, torch.bfloat16):
        for layer in (nn.Linear(3, 2), nn.Conv2d(3, 2, 1)):
            kind = DoReFaLinear if isinstance(layer, nn.Linear) else DoReFaConv2d
            with pytest.raises(TypeError, match=f"layer must have weights in float32 to be packed, got {dtype}"):
                kind.from_dense(layer.to(dtype), bits=2).to_packed()
