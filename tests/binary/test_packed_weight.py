import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib.binary import binaryconnect, bwn, packed_weight, ternary

METHODS = {
    "connect": binaryconnect.convert,
    "bwn": bwn.convert,
    "twn": ternary.convert,
    "twn, per filter": lambda model, layers: ternary.convert(model, layers, per_filter=True),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, (2, 1), "valid", "same"]),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_convolution_is_the_same(method, groups, inputs, outputs, kernel, stride, padding, dilation, bias, seed):
    torch.manual_seed(seed)
    stride = 1 if padding == "same" else stride
    conv = nn.Conv2d(groups * inputs, groups * outputs, kernel, stride, padding, dilation, groups, bias)
    trained = METHODS[method](nn.Sequential(conv), ["0"]).eval()
    packed = packed_weight.pack(trained)
    x = torch.randn(2, groups * inputs, 7, 8)
    assert torch.equal(packed[0].weight, trained[0].weight)
    assert torch.equal(packed(x), trained(x))
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(packed(channels_last), trained(channels_last))


@settings(max_examples=40, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 9),
    bias=st.booleans(),
    zero=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_linear_layer_is_the_same(method, inputs, outputs, bias, zero, seed):
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias=bias)
    if zero:
        nn.init.zeros_(linear.weight)
    trained = METHODS[method](linear, [""]).eval()
    packed = packed_weight.pack(trained)
    x = torch.randn(3, 2, inputs)
    assert torch.equal(packed.weight, trained.weight)
    assert torch.equal(packed(x), trained(x))


@pytest.mark.parametrize(("method", "bits"), [("connect", 1), ("bwn", 1), ("twn", 2)])
def test_a_weight_takes_its_bits(method, bits):
    conv = nn.Conv2d(64, 32, 3, bias=False)
    packed = packed_weight.pack(METHODS[method](nn.Sequential(conv), ["0"]))
    state = packed.state_dict()
    planes = [tensor for tensor in state.values() if tensor.dtype == torch.int64]
    assert sum(plane.nbytes for plane in planes) * 32 == conv.weight.nbytes * bits
    assert sum(tensor.nbytes for tensor in state.values()) == conv.weight.numel() * bits // 8 + (
        4 * 32 if method == "bwn" else 4
    )
    assert f"bits={bits}" in repr(packed)


def test_the_train_form_is_left_alone_and_loading_fills_another():
    torch.manual_seed(0)
    trained = bwn.convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3)), ["2"])
    before = copy.deepcopy(trained.state_dict())
    packed = packed_weight.pack(trained)
    assert trained.training and not any(module.training for module in packed.modules())
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in before.items())
    other = packed_weight.pack(bwn.convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3)), ["2"]))
    other.load_state_dict(packed.state_dict())
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(other(x), packed(x)) and torch.equal(packed(x), trained.eval()(x))


@pytest.mark.parametrize("method", METHODS)
def test_under_autocast_both_forms_round_alike(method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 5))
    trained = METHODS[method](model, ["0", "3"]).eval()
    x = torch.randn(2, 3, 7, 7)
    with torch.autocast("cpu"):
        found = packed_weight.pack(trained)(x)
        assert found.dtype == torch.bfloat16 and torch.equal(found, trained(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_of_another_type_is_the_same(method, dtype):
    trained = METHODS[method](nn.Linear(200, 5).to(dtype), [""]).eval()
    x = torch.randn(3, 200).to(dtype)
    assert torch.equal(packed_weight.pack(trained)(x), trained(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_used_twice_is_packed_once_and_in_both_places(method):
    torch.manual_seed(0)
    shared = nn.Linear(9, 9)
    model = nn.Sequential(nn.Linear(9, 9), shared, nn.Sequential(nn.ReLU(), shared), nn.Linear(9, 5))
    trained = METHODS[method](model, ["1"]).eval()
    packed = packed_weight.pack(trained)
    assert packed[1] is packed[2][1] and isinstance(packed[1], packed_weight.PackedLinear)
    x = torch.randn(4, 9)
    assert torch.equal(packed(x), trained(x))


def test_only_zeros_are_padded():
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")
    with pytest.raises(ValueError, match="padding_mode='zeros', got 'circular'"):
        packed_weight.pack(bwn.convert(nn.Sequential(conv), ["0"]))


def test_a_second_parametrization_is_not_lost_in_silence():
    trained = bwn.convert(nn.Linear(3, 2), [""])
    nn.utils.parametrize.register_parametrization(trained, "weight", nn.Identity())
    with pytest.raises(ValueError, match="model must have one parametrization on the weight of '', not 2"):
        packed_weight.pack(trained)
