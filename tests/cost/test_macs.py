"""Multiply-adds against loops that compute the layer one product at a time and count the products."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib.cost import count
from compress_lib.cost.macs import macs_of


@st.composite
def conv_settings(draw):
    def pair(low, high):
        return (draw(st.integers(low, high)), draw(st.integers(low, high)))

    groups = draw(st.integers(1, 3))
    kernel, dilation = pair(1, 3), pair(1, 2)
    extra = pair(0, 3)
    return {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": kernel,
        "stride": pair(1, 2),
        "padding": pair(0, 2),
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
    }, tuple(d * (k - 1) + 1 + e for d, k, e in zip(dilation, kernel, extra, strict=True))


def convolve_by_loops(x, conv):
    """Output and number of products of a convolution of one image, products with padding included."""
    (ph, pw), (sh, sw), (dh, dw) = conv.padding, conv.stride, conv.dilation
    padded = np.pad(x, ((0, 0), (ph, ph), (pw, pw)))
    weight = conv.weight.detach().numpy()
    c_out, c_in, kh, kw = weight.shape
    height = len(range(0, padded.shape[1] - dh * (kh - 1), sh))
    width = len(range(0, padded.shape[2] - dw * (kw - 1), sw))
    y = np.zeros((c_out, height, width)) + (0 if conv.bias is None else conv.bias.detach().numpy()[:, None, None])
    products = 0
    for o, i, j, c, u, v in product(*map(range, (c_out, height, width, c_in, kh, kw))):
        channel = o // (c_out // conv.groups) * c_in + c
        y[o, i, j] += weight[o, c, u, v] * padded[channel, i * sh + u * dh, j * sw + v * dw]
        products += 1
    return y, products


def convolve_transposed_by_loops(x, conv):
    """Output and number of products of a transposed convolution, those cropped by padding included."""
    (ph, pw), (sh, sw), (dh, dw) = conv.padding, conv.stride, conv.dilation
    weight = conv.weight.detach().numpy()
    c_in, c_out_group, kh, kw = weight.shape
    _, height, width = x.shape
    full = np.zeros((conv.out_channels, (height - 1) * sh + dh * (kh - 1) + 1, (width - 1) * sw + dw * (kw - 1) + 1))
    products = 0
    for c, i, j, o, u, v in product(*map(range, (c_in, height, width, c_out_group, kh, kw))):
        channel = c // (c_in // conv.groups) * c_out_group + o
        full[channel, i * sh + u * dh, j * sw + v * dw] += weight[c, o, u, v] * x[c, i, j]
        products += 1
    y = full[:, ph : full.shape[1] - ph, pw : full.shape[2] - pw]
    return y + (0 if conv.bias is None else conv.bias.detach().numpy()[:, None, None]), products


@settings(max_examples=60, deadline=None)
@given(conv_settings())
def test_convolution_counts_every_product(case):
    options, size = case
    conv = nn.Conv2d(**options)
    x = torch.randn(options["in_channels"], *size)
    y, products = convolve_by_loops(x.numpy(), conv)
    np.testing.assert_allclose(y, conv(x[None])[0].detach().numpy(), atol=1e-4)
    cost = count(conv, tuple(x.shape))
    assert cost.macs == products
    assert cost.layers[0].output_shape == y.shape


@settings(max_examples=60, deadline=None)
@given(conv_settings())
def test_transposed_convolution_counts_every_product(case):
    options, size = case
    # Padding crops a transposed convolution; keep at least one row and column.
    options["padding"] = tuple(
        min(p, ((n - 1) * s + d * (k - 1)) // 2)
        for p, n, s, d, k in zip(
            options["padding"], size, options["stride"], options["dilation"], options["kernel_size"], strict=True
        )
    )
    conv = nn.ConvTranspose2d(**options)
    x = torch.randn(options["in_channels"], *size)
    y, products = convolve_transposed_by_loops(x.numpy(), conv)
    np.testing.assert_allclose(y, conv(x[None])[0].detach().numpy(), atol=1e-4)
    assert count(conv, tuple(x.shape)).macs == products


def bilinear_by_loops(x1, x2, weight):
    out, in1, in2 = weight.shape
    y, accumulations = np.zeros(out), 0
    for o, i, j in product(range(out), range(in1), range(in2)):
        y[o] += x1[i] * weight[o, i, j] * x2[j]
        accumulations += 1
    return y, accumulations


class OnItself(nn.Module):
    """Feeds a two-input layer the same tensor twice."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x)


@pytest.mark.parametrize("batch", [1, 6])
def test_bilinear_accumulates_once_for_each_weight_and_sample(batch):
    layer = nn.Bilinear(5, 5, 3, bias=False)
    x = torch.randn(5)
    y, accumulations = bilinear_by_loops(x.numpy(), x.numpy(), layer.weight.detach().numpy())
    np.testing.assert_allclose(y, layer(x, x).detach().numpy(), atol=1e-5)
    # The axis before the features is a batch inside the one input.
    assert count(OnItself(layer), (batch, 5)).macs == batch * accumulations


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def attention(x):
    return nn.functional.scaled_dot_product_attention(x, x, x)


def under_inference_mode(x):
    with torch.inference_mode():
        return nn.functional.linear(x, torch.ones(7, 4))


@pytest.mark.parametrize(
    ("function", "shape", "macs"),
    [
        (lambda x: x[0] @ torch.ones(4, 7), (3, 4), 3 * 4 * 7),
        (lambda x: x @ x.mT, (5, 3, 4), 5 * 3 * 4 * 3),
        (lambda x: x[0] @ x[0, 0], (3, 4), 3 * 4),
        (lambda x: x[0, 0].dot(x[0, 1]), (3, 4), 4),
        (lambda x: torch.einsum("nij,nkj->nik", x, x), (3, 4), 3 * 3 * 4),
        (lambda x: torch.addbmm(torch.zeros(3, 3), x[0], x[0].mT), (5, 3, 4), 5 * 3 * 4 * 3),
        (lambda x: torch.baddbmm(torch.zeros(1), x[0], x[0].mT), (5, 3, 4), 5 * 3 * 4 * 3),
        (attention, (2, 6, 8), 2 * (6 * 8 * 6 + 6 * 6 * 8)),
        (under_inference_mode, (3, 4), 3 * 4 * 7),
        (lambda x: torch.relu(x) + x * x, (3, 4), 0),
    ],
)
def test_products_outside_layers(function, shape, macs):
    assert count(Function(function), shape).macs == macs


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(12, 7), (12,), 12 * 7),
        (nn.Linear(12, 7), (5, 12), 5 * 12 * 7),
        (nn.Conv1d(4, 6, 3), (4, 10), 6 * 4 * 3 * 8),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 3 * 2 * 8 * 27),
        (nn.Conv2d(6, 12, 3, padding="same", groups=6), (6, 5, 5), 12 * 9 * 25),  # depthwise
        (nn.LSTM(4, 5, batch_first=True), (7, 4), 7 * 4 * 5 * (4 + 5)),
        (nn.GRU(4, 5, batch_first=True, bidirectional=True), (7, 4), 2 * 7 * 3 * 5 * (4 + 5)),
        # projections of q, k, v and the output, then scores and their products with v
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), 5 * (4 * 8 * 8 + 2 * 5 * 8 + 2 * 8 * 16)),
        (nn.BatchNorm2d(3), (3, 4, 4), 0),
        (nn.AvgPool2d(2), (3, 4, 4), 0),
    ],
)
def test_layers(layer, shape, macs):
    assert count(layer, shape).macs == macs


def test_a_recurrent_layer_on_a_gpu_multiplies_by_its_matrices_and_not_by_its_biases():
    x = torch.zeros(7, 2, 4)  # steps, batch, features
    weights = [torch.zeros(20, 4), torch.zeros(20, 5), torch.zeros(20), torch.zeros(20)]
    assert macs_of(torch.ops.aten._cudnn_rnn, (x, weights, 4, None), {}, None) == 7 * 2 * 20 * (4 + 5)


def test_products_without_a_formula_are_named():
    cost = count(nn.Sequential(nn.Linear(8, 8), Function(torch.fft.rfft)), (8,))
    assert cost.macs == 64
    assert cost.uncounted == ("aten._fft_r2c",)
    assert "MACs unknown and left out: aten._fft_r2c" in str(cost)


def test_a_custom_operator_is_named_until_it_has_a_formula():
    @torch.library.custom_op("compress_lib_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    twice.register_fake(torch.empty_like)
    model = Function(lambda x: twice(x))
    assert count(model, (4,)).uncounted == ("compress_lib_tests.twice",)

    @torch.utils.flop_counter.register_flop_formula(torch.ops.compress_lib_tests.twice)
    def flops(x_shape, out_shape=None):
        return 2 * x_shape.numel()

    cost = count(model, (4,))
    assert (cost.macs, cost.uncounted) == (4, ())
