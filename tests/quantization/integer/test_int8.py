import copy
import itertools
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib.quantization.integer import affine, fixed_point, onednn
from compress_lib.quantization.integer.int8 import QuantizedConv2d, QuantizedLinear
from compress_lib.quantization.integer.qparams import QParams, Quantize

INPUT, OUTPUT = QParams(0.05, 37), QParams(0.04, 120)


def scale_of(layer, bits=8, per_channel=True):
    extreme = layer.weight.detach().abs().flatten(1).amax(1)
    extreme = extreme if per_channel else extreme.max()
    return affine.choose_qparams(-extreme, extreme, bits, symmetric=True, narrow=True)[0]


def quantized(layer, input_qparams=INPUT, output_qparams=OUTPUT, *, bits=8, per_channel=True, relu=False):
    kind = QuantizedLinear if isinstance(layer, nn.Linear) else QuantizedConv2d
    scale = scale_of(layer, bits, per_channel)
    return kind.from_dense(layer, input_qparams, output_qparams, weight_scale=scale, weight_bits=bits, relu=relu)


def random_codes(shape, bits=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, shape, generator=generator).to(torch.uint8 if bits <= 8 else torch.int32)


def sums(layer, codes) -> np.ndarray:
    """The accumulator in int64, position by position; padded with the zero point before it is subtracted."""
    zero_point, weight = layer.input_zero_point.item(), layer.weight.numpy().astype(np.int64)
    bias = np.zeros(len(weight), np.int64) if layer.bias is None else layer.bias.numpy().astype(np.int64)
    x = codes.numpy().astype(np.int64)
    if weight.ndim == 2:
        return ((x - zero_point)[..., None, :] * weight).sum(-1) + bias
    (sh, sw), (ph, pw), (dh, dw), (kh, kw) = layer.stride, layer.padding, layer.dilation, layer.kernel_size
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=zero_point) - zero_point
    rows, columns = ((x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1)
    found = np.empty((len(x), len(weight), rows, columns), np.int64)
    members, filters = x.shape[1] // layer.groups, len(weight) // layer.groups
    for k, i, j in itertools.product(range(len(weight)), range(rows), range(columns)):
        first = k // filters * members
        window = x[:, first : first + members, i * sh :, j * sw :]
        window = window[:, :, : dh * (kh - 1) + 1 : dh, : dw * (kw - 1) + 1 : dw]
        found[:, k, i, j] = (window * weight[k]).sum((1, 2, 3)) + bias[k]
    return found


def check(layer, codes):
    """`forward` and `integer` against the definition, with M in float64."""
    product = layer.input_scale.double() * layer.weight_scale.double()
    spread = (-1, *[1] * (layer.weight.dim() - 2)) if product.dim() else ()
    real = sums(layer, codes) * product.reshape(spread).numpy()
    if layer.relu:
        real = real.clip(0)
    fast, exact = layer(codes), layer.integer(codes)
    assert fast.shape == exact.shape == real.shape
    assert fast.dtype == exact.dtype
    if layer.output_bits is None:
        assert fast.dtype == torch.float32
        for found in (fast, exact):
            np.testing.assert_allclose(found.numpy(), real, rtol=1e-5, atol=1e-6 * max(abs(real).max(initial=0), 1e-3))
        return
    assert fast.dtype == (torch.uint8 if layer.output_bits <= 8 else torch.int32)
    grid = layer.output_qparams
    wanted = (real / grid.scale + grid.zero_point).clip(0, grid.highest)
    assert (abs(fast.numpy() - wanted) <= 0.5 + 1e-4).all()
    shift = fixed_point.multiplier(product / grid.scale)[1].double()
    off = 0.5 + 2 ** (-shift - 1) + 1e-6  # as derived for the two roundings of fixed-point arithmetic
    assert (abs(exact.numpy() - wanted) <= off.clamp(min=0.5).reshape(spread).numpy() + 1e-6).all()


grids = st.builds(QParams, st.floats(1e-3, 1), st.integers(0, 255))
outputs = st.one_of(
    st.none(),
    grids,
    st.integers(1, 7).flatmap(
        lambda bits: st.builds(QParams, st.floats(1e-2, 5), st.integers(0, 2**bits - 1), st.just(bits))
    ),
)


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    leading=st.lists(st.integers(0, 4), max_size=3),
    features=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    input_qparams=grids,
    output_qparams=outputs,
    bits=st.integers(2, 8),
    flags=st.tuples(*[st.booleans()] * 3),
    seed=st.integers(0, 99),
)
def test_linear(leading, features, input_qparams, output_qparams, bits, flags, seed):
    torch.manual_seed(seed)
    bias, per_channel, relu = flags
    layer = quantized(
        nn.Linear(*features, bias=bias), input_qparams, output_qparams, bits=bits, per_channel=per_channel, relu=relu
    )
    assert layer.kernel == "int8" or onednn.support() != "exact"
    check(layer, random_codes((*leading, features[0]), seed=seed))


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(0, 3),
    groups=st.sampled_from([(1, 1, 1), (3, 1, 1), (1, 2, 3), (2, 2, 3), (4, 1, 1), (3, 1, 2), (16, 1, 1)]),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    input_qparams=grids,
    output_qparams=outputs,
    flags=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 99),
)
def test_convolution(
    batch, groups, size, kernel, stride, padding, dilation, input_qparams, output_qparams, flags, seed
):
    torch.manual_seed(seed)
    bias, per_channel, relu, channels_last = flags
    count, members, filters = groups  # of a depthwise convolution: many groups of one channel
    dense = nn.Conv2d(count * members, count * filters, kernel, stride, padding, dilation, count, bias)
    layer = quantized(dense, input_qparams, output_qparams, per_channel=per_channel, relu=relu)
    codes = random_codes((batch, count * members, *size), seed=seed)
    check(layer, codes.to(memory_format=torch.channels_last) if channels_last else codes)


@pytest.mark.parametrize(
    ("groups", "members", "filters", "kernel", "padding", "stride", "dilation", "size"),
    [
        (16, 1, 1, (1, 1), (1, 0), (1, 1), (1, 1), (5, 5)),  # the first window lies in the padding alone
        (8, 1, 16, (1, 1), (0, 1), (1, 3), (2, 3), (8, 2)),  # here the kernel crashes
        (1, 3, 1, (4, 4), (3, 2), (2, 1), (2, 1), (1, 9)),  # it reaches over the whole image and beyond
        (16, 1, 3, (4, 2), (1, 0), (1, 2), (1, 1), (4, 3)),  # the output is one column wide, the stride above one
        (17, 1, 16, (4, 4), (2, 0), (1, 3), (1, 2), (6, 7)),
    ],
)
def test_shapes_that_the_kernel_gets_wrong(groups, members, filters, kernel, padding, stride, dilation, size):
    torch.manual_seed(0)
    dense = nn.Conv2d(groups * members, groups * filters, kernel, stride, padding, dilation, groups)
    for per_channel, images, output_qparams in itertools.product((True, False), (1, 3), (OUTPUT, None)):
        layer = quantized(dense, INPUT, output_qparams, per_channel=per_channel)
        assert layer.kernel == "int8" or onednn.support() != "exact"
        check(layer, random_codes((images, groups * members, *size)))


@pytest.mark.parametrize("bits", [(9, 8, 8), (8, 10, 8), (8, 8, 12), (12, 12, None)])
def test_more_than_8_bits_are_computed_in_float32(bits):
    torch.manual_seed(0)
    weight_bits, input_bits, output_bits = bits
    input_qparams = QParams(1 / 2**input_bits, 2 ** (input_bits - 1), input_bits)
    output_qparams = output_bits and QParams(2 / 2**output_bits, 2 ** (output_bits - 1), output_bits)
    for dense, shape in ((nn.Linear(20, 5), (3, 20)), (nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 5, 6))):
        layer = quantized(dense, input_qparams, output_qparams, bits=weight_bits)
        assert layer.kernel == "float32"
        assert layer.weight.dtype == (torch.int8 if weight_bits <= 8 else torch.int16)
        check(layer, random_codes(shape, input_bits))


@pytest.mark.parametrize("dense", [nn.Linear(512, 256), nn.Conv2d(32, 48, 3, padding=1)], ids=["linear", "conv"])
def test_the_layer_is_the_dense_one_up_to_its_grids(dense):
    torch.manual_seed(0)
    x = torch.randn(128, 512) if isinstance(dense, nn.Linear) else torch.randn(4, 32, 14, 14)
    y = dense(x).detach()
    input_qparams, output_qparams = (
        QParams(*(t.item() for t in affine.choose_qparams(t.min(), t.max(), 8, signed=False))) for t in (x, y)
    )
    layer = quantized(dense, input_qparams, output_qparams)
    codes = input_qparams.quantize(x)
    fast, exact = layer(codes), layer.integer(codes)
    assert (output_qparams.dequantize(fast) - y).abs().max() < 8 * output_qparams.scale
    different = (fast.int() - exact.int()).abs()
    assert different.max() <= 1
    assert different.float().mean() < 0.005


def test_padding_is_the_zero_point():
    torch.manual_seed(0)
    dense = nn.Conv2d(3, 4, 3, padding=2)
    layer = quantized(dense)
    codes = torch.full((1, 3, 5, 5), INPUT.zero_point, dtype=torch.uint8)  # all of it stands for 0
    bias = OUTPUT.quantize(dense.bias.detach()).view(1, 4, 1, 1).expand(1, 4, 7, 7)
    assert torch.equal(layer(codes), bias)
    assert torch.equal(layer.integer(codes), bias)


def test_extreme_codes_do_not_saturate():
    dense = nn.Linear(4096, 3, bias=False)
    nn.init.ones_(dense.weight)
    layer = quantized(dense, QParams(1.0, 0), None)
    codes = torch.full((2, 4096), 255, dtype=torch.uint8)
    assert (layer(codes) - 4096 * 255).abs().max() < 1
    assert (layer.integer(codes) - 4096 * 255).abs().max() < 1


def test_inputs_of_any_strides():
    codes = random_codes((4, 6, 9, 10))
    linear, conv = quantized(nn.Linear(5, 4)), quantized(nn.Conv2d(3, 4, 3))
    for layer, view in (
        (linear, codes[..., ::2]),
        (linear, codes[:, :5].transpose(1, 3)),
        (conv, codes[:, ::2]),
        (conv, codes[:, :3].transpose(2, 3)[:, :, 1::2]),
    ):
        before = view.clone()
        assert torch.equal(layer(view), layer(view.contiguous()))
        assert torch.equal(view, before)


def test_a_sum_beyond_int32_is_refused():
    layer = quantized(nn.Linear(8, 2, bias=False), QParams(1.0, 0, 16), QParams(1.0, 0, 16), bits=16)
    layer.weight.fill_(2**15 - 1)
    with pytest.raises(ValueError, match="does not fit int32"):
        layer.integer(torch.full((1, 8), 2**16 - 1, dtype=torch.int32))


# --- what is stored, copied and moved ---------------------------------------------------------------------------------


def layers():
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, dilation=2, groups=2)
    return [
        (quantized(nn.Linear(7, 5), relu=True), random_codes((3, 7))),
        (
            quantized(nn.Linear(7, 5, bias=False), QParams(0.1, 3, 4), None, bits=4, per_channel=False),
            random_codes((3, 7), 4),
        ),
        (quantized(conv), random_codes((2, 4, 9, 9))),
        (
            quantized(nn.Conv2d(4, 6, 3), QParams(0.1, 3, 9), QParams(0.1, 500, 10), bits=10),
            random_codes((2, 4, 9, 9), 9),
        ),
    ]


def fresh(layer):
    numbers = {
        "bias": layer.bias is not None,
        "per_channel": layer.weight_scale.dim() == 1,
        **{name: getattr(layer, name) for name in ("weight_bits", "input_bits", "output_bits", "relu")},
    }
    if isinstance(layer, QuantizedLinear):
        return QuantizedLinear(layer.in_features, layer.out_features, **numbers)
    names = ("stride", "padding", "dilation", "groups")
    geometry = {name: getattr(layer, name) for name in names}
    return QuantizedConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, **geometry, **numbers)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("assign", [False, True])
def test_state_dict(index, assign):
    layer, codes = layers()[index]
    wanted = layer(codes)
    state = layer.state_dict()
    grids = {"input_scale", "input_zero_point", *(layer.output_bits and ["output_scale", "output_zero_point"] or [])}
    assert set(state) == {"weight", "weight_scale", *(["bias"] if layer.bias is not None else []), *grids}
    again = fresh(layer)
    assert repr(again) == repr(layer)
    before = again(codes)  # packs weights that the next line replaces
    again.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=assign)
    assert not torch.equal(before, wanted)
    assert torch.equal(again(codes), wanted)
    assert torch.equal(again.integer(codes), layer.integer(codes))
    assert again.input_qparams == layer.input_qparams
    assert again.output_qparams == layer.output_qparams


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("way", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_is_its_own(index, way):
    layer, codes = layers()[index]
    wanted = layer(codes)
    again = way(layer)
    assert torch.equal(again(codes), wanted)
    again.load_state_dict({name: torch.ones_like(t) for name, t in layer.state_dict().items()}, assign=True)
    assert not torch.equal(again(codes), wanted)
    assert torch.equal(layer(codes), wanted)


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.double, lambda m: m.to("cpu", torch.bfloat16)])
def test_conversions_leave_the_numbers(convert):
    for layer, codes in layers():
        wanted = layer(codes)
        before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
        layer = convert(nn.Sequential(layer, nn.Linear(2, 2)))[0]
        for name, tensor in layer.state_dict().items():
            assert tensor.dtype == before[name].dtype
            assert torch.equal(tensor, before[name])
        assert torch.equal(layer(codes), wanted)


def test_moving_invalidates_what_was_packed():
    layer, codes = layers()[0]
    layer(codes)
    assert layer.to("meta").weight.is_meta
    layer.to_empty(device="cpu").load_state_dict(layers()[0][0].state_dict())
    assert torch.equal(layer(codes), layers()[0][0](codes))


def test_the_dense_layer_is_left_alone():
    dense = nn.Linear(7, 5)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    layer = quantized(dense)
    layer(random_codes((3, 7)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())
    assert torch.equal(layer.weight, affine.quantize(dense.weight, scale_of(dense), 0, 8, narrow=True, axis=0))


# --- processors without the kernels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("support", ["missing", "saturating"])
def test_without_exact_kernels_the_layer_computes_in_float32_and_warns_once(monkeypatch, support):
    monkeypatch.setattr(onednn, "support", lambda: support)
    onednn.warn_once.cache_clear()
    torch.manual_seed(0)
    linear, conv = quantized(nn.Linear(20, 5), relu=True), quantized(nn.Conv2d(4, 6, 3, padding=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(linear, random_codes((3, 20)))
        check(conv, random_codes((2, 4, 5, 6)))
    assert linear.kernel == conv.kernel == "float32"
    assert [f"{support} here" in str(warning.message) for warning in caught] == [True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernels = [quantized(nn.Linear(4, 2), QParams(0.1, 3, i), bits=w).kernel for w, i in ((7, 8), (8, 7), (8, 8))]
    assert kernels == (["int8", "int8", "float32"] if support == "saturating" else ["float32"] * 3)


SATURATING = """
import torch, warnings
from torch import nn
from compress_lib.quantization.integer import int8, onednn, qparams
warnings.simplefilter("ignore")
print(onednn.support())
for weight_bits, input_bits in ((8, 8), (7, 8), (8, 7)):
    codes, grid = torch.full((5, 64, 6, 6), 2**input_bits - 1, dtype=torch.uint8), qparams.QParams(1.0, 0, input_bits)
    dense = nn.Conv2d(64, 32, 3, bias=False)
    nn.init.ones_(dense.weight)
    scale = torch.tensor(1 / (2 ** (weight_bits - 1) - 1))
    layer = int8.QuantizedConv2d.from_dense(dense, grid, None, weight_scale=scale, weight_bits=weight_bits)
    linear = nn.Linear(64, 32, bias=False)
    nn.init.ones_(linear.weight)
    flat = int8.QuantizedLinear.from_dense(linear, grid, None, weight_scale=scale, weight_bits=weight_bits)
    for found, count in ((layer(codes), 576), (flat(codes[:, :, 0, 0]), 64)):
        assert (found / (count * (2**input_bits - 1)) - 1).abs().max() < 1e-5
    print(layer.kernel)
"""


def test_a_processor_without_vnni_gives_the_same_numbers():
    """oneDNN can be told to use AVX2 alone; elsewhere than on x86 it does not listen, and all is as above."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    output = subprocess.check_output([sys.executable, "-c", SATURATING], text=True, env=environment)
    support, *kernels = output.split()
    if support == "saturating":
        assert kernels == ["float32", "int8", "int8"]


# --- a network ------------------------------------------------------------------------------------------------------


def test_a_network_of_codes_is_the_fake_quantized_one():
    """Layer by layer on codes, and in float64 on the numbers that they stand for: the same but for a few roundings."""
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 36, 10)
    x, middle, out = QParams(0.03, 128), QParams(0.01, 0), None
    first, second = quantized(conv, x, middle, relu=True), quantized(linear, middle, out)
    deployed = nn.Sequential(Quantize(x), first, nn.Flatten(), second)
    images = torch.randn(16, 3, 6, 6)

    def numbers(layer):
        axis = 0 if layer.weight_scale.dim() else None
        return affine.dequantize(layer.weight, layer.weight_scale, 0, axis=axis).double(), (
            layer.bias * layer.input_scale * layer.weight_scale
        ).double()

    weight, bias = numbers(first)
    h = nn.functional.conv2d(x.dequantize(x.quantize(images)).double(), weight, bias, padding=1).relu()
    h = middle.dequantize(middle.quantize(h)).double()
    wanted = nn.functional.linear(h.flatten(1), *numbers(second))
    torch.testing.assert_close(deployed(images).double(), wanted, rtol=0, atol=2e-3)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (torch.zeros(2, 7), TypeError, "codes must be torch.uint8, got torch.float32"),
        (torch.zeros(2, 7, dtype=torch.int8), TypeError, "codes must be torch.uint8, got torch.int8"),
        (torch.zeros(2, 6, dtype=torch.uint8), ValueError, r"shape \(…, 7\), got \(2, 6\)"),
        (torch.zeros((), dtype=torch.uint8), ValueError, r"shape \(…, 7\), got \(\)"),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "integer"])
def test_codes_that_a_linear_layer_refuses(codes, error, message, method):
    with pytest.raises(error, match=message):
        getattr(quantized(nn.Linear(7, 5)), method)(codes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 5, 5), r"\(N, 3, H, W\), got \(2, 4, 5, 5\)"),
        ((3, 5, 5), r"\(N, 3, H, W\), got \(3, 5, 5\)"),
        ((2, 3, 5, 2), r"\(2, 3, 5, 2\) are smaller"),
    ],
)
@pytest.mark.parametrize("method", ["__call__", "integer"])
def test_codes_that_a_convolution_refuses(shape, message, method):
    with pytest.raises(ValueError, match=message):
        getattr(quantized(nn.Conv2d(3, 5, 3)), method)(torch.zeros(shape, dtype=torch.uint8))


def broken(parameter, value):
    dense = nn.Linear(7, 5)
    with torch.no_grad():
        getattr(dense, parameter)[0] = value
    return dense


@pytest.mark.parametrize(
    ("dense", "changes", "error", "message"),
    [
        (broken("weight", float("nan")), {}, ValueError, "weight must be finite"),
        (broken("bias", float("inf")), {}, ValueError, "bias must be finite"),
        (broken("bias", 1e9), {}, ValueError, r"bias\[0\]=1000000000.0 does not fit int32"),
        (nn.Bilinear(7, 7, 5), {}, TypeError, "layer must be an nn.Linear, got Bilinear"),
        (nn.modules.linear.NonDynamicallyQuantizableLinear(7, 5), {}, TypeError, "layer must be an nn.Linear"),
        (nn.Linear(7, 5), {"input_qparams": None}, TypeError, "input_qparams must be QParams"),
        (nn.Linear(7, 5), {"output_qparams": 0.1}, TypeError, "output_qparams must be QParams or None"),
        (nn.Linear(7, 5), {"weight_scale": 0.1}, TypeError, "weight_scale must be a float tensor"),
        (nn.Linear(7, 5), {"weight_scale": torch.ones(4)}, ValueError, r"\(\) or \(5,\), got \(4,\)"),
        (nn.Linear(7, 5), {"weight_scale": torch.tensor(torch.nan)}, ValueError, "weight_scale must be positive"),
        (nn.Linear(7, 5), {"weight_scale": torch.zeros(5)}, ValueError, "weight_scale must be positive"),
        (nn.Linear(7, 5), {"weight_bits": 1}, ValueError, "bits=1"),
        (nn.Linear(7, 5), {"weight_bits": 17}, ValueError, "bits must be an integer from 1 to 16"),
    ],
)
def test_dense_linear_layers_that_are_refused(dense, changes, error, message):
    arguments = {"input_qparams": INPUT, "output_qparams": OUTPUT, "weight_scale": torch.tensor(0.01)} | changes
    with pytest.raises(error, match=message):
        QuantizedLinear.from_dense(dense, **arguments)


@pytest.mark.parametrize(
    ("dense", "error", "message"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), ValueError, "padding_mode='zeros', got 'circular'"),
        (nn.Conv2d(3, 4, 2, padding="same"), ValueError, "padding='same'"),
        (nn.Conv1d(3, 4, 3), TypeError, "nn.Conv2d, got Conv1d"),
        (nn.ConvTranspose2d(3, 4, 3), TypeError, "nn.Conv2d, got ConvTranspose2d"),
        (nn.LazyConv2d(4, 3), TypeError, "nn.Conv2d, got LazyConv2d"),
    ],
)
def test_dense_convolutions_that_are_refused(dense, error, message):
    with pytest.raises(error, match=message):
        QuantizedConv2d.from_dense(dense, INPUT, OUTPUT, weight_scale=torch.tensor(0.01))


@pytest.mark.parametrize(("padding", "numbers"), [("same", (2, 1)), ("valid", (0, 0))])
def test_padding_by_name(padding, numbers):
    dense = nn.Conv2d(3, 4, (3, 3), padding=padding, dilation=(2, 1))
    layer = quantized(dense, INPUT, None)
    assert layer.padding == numbers
    codes = random_codes((2, 3, 6, 7))
    assert layer(codes).shape == dense(codes.float()).shape
    check(layer, codes)


def test_a_loaded_scale_that_is_not_a_number_is_refused():
    for name in ("input_scale", "output_scale", "weight_scale"):
        layer, codes = layers()[0]
        state = layer.state_dict()
        state[name] = state[name] * float("nan")
        layer.load_state_dict(state)
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            layer(codes)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="groups=2 must divide"):
        QuantizedConv2d(3, 4, 3, groups=2)
