import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from compress_lib import ops
from compress_lib.binary.dorefa import DoReFaConv2d, DoReFaLinear
from compress_lib.binary.packed_xnor import PackedXnorConv2d, PackedXnorLinear
from compress_lib.binary.xnor import XnorConv2d, XnorLinear


def sign(value):
    return 1 if value >= 0 else -1


def convolved(x, weight, stride, padding, dilation, groups):
    """Signs multiplied one by one, padded with +1; and the means of ``|x|``, padded with 0. In Python."""
    count, _, height, width = x.shape
    out, inputs, rows, columns = weight.shape
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip((height, width), padding, dilation, (rows, columns), stride, strict=True)
    ]
    sums, means = torch.zeros(count, out, *size), torch.zeros(count, out, *size, dtype=torch.float64)
    x_list, w_list = x.tolist(), weight.tolist()
    for n, o, i, j in itertools.product(range(count), range(out), *map(range, size)):
        first = o // (out // groups) * inputs
        total, magnitude = 0, 0.0
        for c, a, b in itertools.product(range(inputs), range(rows), range(columns)):
            y, z = i * stride[0] - padding[0] + a * dilation[0], j * stride[1] - padding[1] + b * dilation[1]
            inside = 0 <= y < height and 0 <= z < width
            value = x_list[n][first + c][y][z] if inside else 0.0
            total += sign(value) * sign(w_list[o][c][a][b])
            magnitude += abs(value)
        sums[n, o, i, j], means[n, o, i, j] = total, magnitude / (inputs * rows * columns)
    return sums, means


geometries = st.fixed_dictionaries(
    {
        "groups": st.integers(1, 3),
        "inputs": st.integers(1, 4),
        "outputs": st.integers(1, 2),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 2), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "bias": st.booleans(),
    }
)


def convolution(groups, inputs, outputs, kernel, stride, padding, dilation, bias):
    return nn.Conv2d(groups * inputs, groups * outputs, kernel, stride, padding, dilation, groups, bias)


def rounded(*size):
    """Numbers of which a few are 0."""
    return torch.randn(*size).mul(2).round().div(2)


# --- what is computed -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(geometry=geometries, seed=st.integers(0, 999))
def test_a_convolution_by_brute_force(geometry, seed):
    torch.manual_seed(seed)
    conv = convolution(**geometry)
    places = conv.stride, conv.padding, conv.dilation, conv.groups
    x = rounded(1, conv.in_channels, 6, 5)
    sums, means = convolved(x, conv.weight, *places)
    bias = 0 if conv.bias is None else conv.bias.detach().view(-1, 1, 1)
    alpha = conv.weight.detach().abs().mean((1, 2, 3)).view(-1, 1, 1)
    bnn = XnorConv2d.from_dense(conv, scale=False)(x)
    assert torch.equal(bnn, sums + bias)
    torch.testing.assert_close(XnorConv2d.from_dense(conv)(x), alpha * sums + bias)
    full = XnorConv2d.from_dense(conv, input_scale=True)(x)
    torch.testing.assert_close(full, (alpha * means * sums).float() + bias)


def test_a_linear_layer_by_hand():
    linear = nn.Linear(3, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.5, -1.0, 0.0]]))
        linear.bias.fill_(10.0)
    x = torch.tensor([[-2.0, 0.0, 4.0]])  # signs −1, 1, 1 by 1, −1, 1: −1
    for options, expected in (({"scale": False}, -1), ({}, -0.5), ({"input_scale": True}, -0.5 * 2)):
        assert XnorLinear.from_dense(linear, **options)(x).item() == 10 + expected


def test_the_papers_approximation_is_nearer_than_signs_alone():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 8, 3, bias=False), torch.randn(1, 64, 12, 12)
    exact = conv(x)
    errors = [
        (exact - XnorConv2d.from_dense(conv, scale=scale, input_scale=k)(x)).norm() / exact.norm()
        for scale, k in ((False, False), (True, False), (True, True))
    ]
    assert errors[0] > 10 and errors[2] < errors[1] < 1


def test_gradients_are_those_of_the_surrogate():
    """Around a point, sign z behaves as sign z₀ + clip z − clip z₀."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    conv.weight.data.mul_(4)
    layer = XnorConv2d.from_dense(conv, input_scale=True)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    found = torch.autograd.grad(layer(x), [x, *layer.parameters()], upstream)

    def like_signs(z):
        return torch.where(z >= 0, 1.0, -1.0).double().detach() + z.clip(-1, 1) - z.clip(-1, 1).detach()

    y = functional.conv2d(functional.pad(like_signs(x), (1, 1, 1, 1), value=1.0), like_signs(layer.weight))
    k = functional.avg_pool2d(x.abs().mean(1, keepdim=True), 3, 1, 1)
    y = y * layer.weight.abs().mean((1, 2, 3)).view(-1, 1, 1) * k + layer.bias.view(-1, 1, 1)
    expected = torch.autograd.grad(y, [x, *layer.parameters()], upstream)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


# --- the deploy form --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    geometry=geometries,
    many=st.sampled_from([1, 33, 64, 65]),
    scale=st.booleans(),
    input_scale=st.booleans(),
    layout=st.sampled_from(["contiguous", "channels last", "strided", "no image"]),
    seed=st.integers(0, 999),
)
def test_a_packed_convolution_is_the_same_to_the_last_bit(geometry, many, scale, input_scale, layout, seed):
    torch.manual_seed(seed)
    conv = convolution(**geometry | {"inputs": geometry["inputs"] if geometry["groups"] > 1 else many})
    trained = XnorConv2d.from_dense(conv, scale=scale, input_scale=input_scale).eval()
    x = rounded(0 if layout == "no image" else 2, conv.in_channels, 7, 12)
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    x = x[..., ::2] if layout == "strided" else x
    packed = trained.to_packed()
    for mode in (torch.no_grad(), torch.enable_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(packed(x), trained(x))


@settings(max_examples=60, deadline=None)
@given(
    inputs=st.sampled_from([1, 2, 63, 64, 65, 200]),
    outputs=st.integers(1, 9),
    bias=st.booleans(),
    scale=st.booleans(),
    input_scale=st.booleans(),
    shape=st.sampled_from([(), (3,), (2, 3), (0,)]),
    seed=st.integers(0, 999),
)
def test_a_packed_linear_layer_is_the_same_to_the_last_bit(inputs, outputs, bias, scale, input_scale, shape, seed):
    torch.manual_seed(seed)
    trained = XnorLinear.from_dense(nn.Linear(inputs, outputs, bias), scale=scale, input_scale=input_scale).eval()
    x = rounded(*shape, inputs)
    assert torch.equal(trained.to_packed()(x), trained(x))


@pytest.mark.parametrize("layer", [nn.Linear(128, 10), nn.Conv2d(64, 10, 3)])
def test_a_weight_takes_a_bit(layer):
    kind = XnorLinear if isinstance(layer, nn.Linear) else XnorConv2d
    packed = kind.from_dense(layer, input_scale=True).eval().to_packed()
    assert packed.weight.nbytes * 32 == layer.weight.nbytes
    assert {name: tuple(tensor.shape) for name, tensor in packed.state_dict().items()} == {
        "weight": tuple(packed.weight.shape), "scale": (10,), "bias": (10,)
    }  # fmt: skip
    assert "scale=True, input_scale=True" in repr(packed)


def test_packed_forms_are_made_of_tensors_and_move_with_them():
    conv = XnorConv2d.from_dense(nn.Conv2d(3, 4, 3, padding=1), input_scale=True).eval()
    x = torch.randn(2, 3, 5, 5)
    packed = conv.to_packed()
    other = PackedXnorConv2d(
        ops.pack_conv_weight(torch.randn(4, 3, 3, 3)), 3, padding=(1, 1), scale=torch.ones(4), bias=torch.zeros(4),
        input_scale=True,
    )  # fmt: skip
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other(x), conv(x)) and torch.equal(copy.deepcopy(packed)(x), conv(x))
    linear = XnorLinear.from_dense(nn.Linear(70, 4)).eval()
    made = PackedXnorLinear(ops.pack_signs(linear.weight.detach()), 70, scale=torch.ones(4), bias=torch.ones(4))
    made.load_state_dict(linear.to_packed().state_dict())
    x = torch.randn(5, 70)
    assert torch.equal(made(x), linear(x))


def test_nan_is_minus_one():
    conv = XnorConv2d.from_dense(nn.Conv2d(2, 3, 3), scale=False).eval()
    x = torch.randn(1, 2, 5, 5)
    x[0, 0, 2, 2] = math.nan
    negative = x.nan_to_num(-1.0)
    assert torch.equal(conv(x), conv(negative)) and torch.equal(conv.to_packed()(x), conv(negative))


EXACT = {
    "linear": (lambda: XnorLinear(1001, 7, input_scale=True), (5, 1001)),
    "linear, signs": (lambda: XnorLinear(1001, 7, scale=False), (5, 1001)),
    "convolution": (lambda: XnorConv2d(202, 8, 3, padding=1, groups=2, input_scale=True), (2, 202, 5, 5)),
    "codes": (lambda: DoReFaLinear(1001, 7, bits=8), (5, 1001)),
    "convolution of codes": (lambda: DoReFaConv2d(202, 8, 3, padding=1, bits=4), (2, 202, 5, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_autocast_changes_neither_form(name, dtype):
    """Where the layer before it rounds to bfloat16, that is the input; all else is as without autocast."""
    torch.manual_seed(0)
    layer, x = EXACT[name][0](), torch.randn(EXACT[name][1]).to(dtype).requires_grad_()
    wanted = layer(x.float())
    inputs = [x, *layer.parameters()]
    upstream = torch.randn(wanted.shape)
    gradients = torch.autograd.grad(wanted, inputs, upstream)
    with torch.autocast("cpu"):
        found, packed = layer(x), layer.to_packed()(x)
    assert found.dtype == packed.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(packed, wanted)
    for one, other in zip(torch.autograd.grad(found, inputs, upstream), gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", EXACT)
def test_layers_compile_without_a_break_under_autocast_too(name):
    torch._dynamo.reset()  # it counts how often the layers of all tests were compiled
    layer, x = EXACT[name][0]().eval(), torch.randn(EXACT[name][1])
    for form in (layer, layer.to_packed()):
        compiled = torch.compile(form, fullgraph=True, backend="aot_eager")
        with torch.no_grad(), torch.autocast("cpu"):
            assert torch.equal(compiled(x), layer(x))


@pytest.mark.parametrize("name", EXACT)
def test_shapes_are_known_without_numbers(name):
    layer, x = EXACT[name][0](), torch.randn(EXACT[name][1])
    assert layer.to("meta")(x.to("meta")).shape == EXACT[name][0]()(x).shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layer", [XnorLinear(3, 2), XnorConv2d(3, 2, 1)], ids=["linear", "convolution"])
def test_what_would_round_otherwise_is_not_packed(layer, dtype):
    message = f"layer must have weights in float32 to be packed, got {dtype}: .* convert the train form with .float()"
    other = copy.deepcopy(layer).to(dtype)
    with pytest.raises(TypeError, match=message):
        other.to_packed()
    assert torch.equal(other.float().to_packed().weight, layer.to_packed().weight)


# --- from dense layers ------------------------------------------------------------------------------------------------


def test_from_dense_copies_numbers_type_and_mode():
    for dense, kind in ((nn.Linear(5, 3, bias=False).double(), XnorLinear), (nn.Conv2d(4, 6, 3, groups=2), XnorConv2d)):
        dense.eval()
        weight = dense.weight.detach().clone()
        made = kind.from_dense(dense, scale=False, input_scale=True)
        assert not made.training and made.weight.dtype == weight.dtype
        assert (made.scale, made.input_scale) == (False, True)
        with torch.no_grad():
            made.weight.zero_()
        assert torch.equal(dense.weight, weight)


def test_bad_input():
    with pytest.raises(TypeError, match="layer must be a torch.nn.Linear, got Conv2d"):
        XnorLinear.from_dense(nn.Conv2d(1, 1, 1))
    with pytest.raises(TypeError, match="layer must be a torch.nn.Conv2d, got XnorConv2d"):
        XnorConv2d.from_dense(XnorConv2d(1, 1, 1))
    with pytest.raises(TypeError, match="padding must be a number or two, got 'same'"):
        XnorConv2d(1, 1, 3, padding="same")
    for conv in (nn.Conv2d(1, 1, 3, padding="same"), nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")):
        with pytest.raises(ValueError, match="layer must pad with zeros, by numbers, got padding_mode="):
            XnorConv2d.from_dense(conv)
