import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib.quantization.integer import affine, conversion, dsq, fake_quant
from compress_lib.quantization.integer.dsq import soft_quantize


def number(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def inside(seed, low, high, count=50):
    """Numbers in the range and outside."""
    generator = torch.Generator().manual_seed(seed)
    return low - 0.3 + (high - low + 0.6) * torch.rand(count, generator=generator, dtype=torch.float64)


# --- the function -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    low=st.floats(-3, 1),
    width=st.floats(0.1, 5),
    bits=st.integers(1, 5),
    alpha=st.floats(0.01, 0.9),
)
def test_the_formula_of_the_paper(seed, low, width, bits, alpha):
    """With s and k, and the step found by comparing with all of them."""
    low, high = torch.tensor([low, low + width], dtype=torch.float64)
    x = inside(seed, low, high)
    steps = 2**bits - 1
    delta = (high - low) / steps
    k = torch.tensor(2 / alpha - 1, dtype=torch.float64).log() / delta
    s = 1 / torch.tanh(0.5 * k * delta)
    assert s.item() == pytest.approx(1 / (1 - alpha))
    expected = torch.where(x < low, low, high).double()
    for i in range(steps):
        here = (x >= low + i * delta) & (x <= low + (i + 1) * delta)
        phi = s * torch.tanh(k * (x - (low + (i + 0.5) * delta)))
        expected = torch.where(here, low + delta * (i + (phi + 1) / 2), expected)
    torch.testing.assert_close(soft_quantize(x, low, high, bits, alpha), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_a_small_alpha_is_the_hard_quantizer(bits):
    low, high = -1.0, 2.0
    x = inside(0, low, high, 1000)
    place = (x.clamp(low, high) - low) / (high - low) * (2**bits - 1)
    clear = (place - place.floor() - 0.5).abs() > 0.01  # not in the middle, where it jumps
    hard = soft_quantize(x, low, high, bits, 0.3, hard=True)
    torch.testing.assert_close(hard, low + place.round() * (high - low) / (2**bits - 1))
    distances = []
    for alpha in (0.5, 1e-2, 1e-6, 1e-12, 1e-100, 1e-300):
        distances.append((soft_quantize(x, low, high, bits, alpha) - hard)[clear].abs().max().item())
    assert distances == sorted(distances, reverse=True) and distances[-1] < 1e-5
    line = soft_quantize(x, low, high, bits, 1 - 1e-6)
    torch.testing.assert_close(line, x.clamp(low, high), rtol=0, atol=1e-5)


def test_the_hard_form_is_fake_quantize():
    """Where the range is that of a grid with an exact 0."""
    x = inside(1, -1, 3, 500).float()
    scale, zero_point = affine.choose_qparams(-0.9, 2.7, 4, signed=False)
    low, high = (scale * (q - zero_point) for q in (0, 15))
    expected = affine.fake_quantize(x, scale, zero_point, 4, signed=False)
    torch.testing.assert_close(soft_quantize(x, low, high, 4, 0.2, hard=True), expected)
    weight_scale, _ = affine.choose_qparams(-1.4, 1.4, 3, symmetric=True, narrow=True)
    expected = affine.fake_quantize(x, weight_scale, 0, 3, narrow=True)
    found = soft_quantize(x, -3 * weight_scale, 3 * weight_scale, 3, 0.2, narrow=True, hard=True)
    torch.testing.assert_close(found, expected)


def test_it_is_continuous_and_rises():
    x = torch.linspace(-1.2, 1.2, 20001, dtype=torch.float64)
    y = soft_quantize(x, -1.0, 1.0, 2, 0.2)
    assert y.diff().min() >= 0 and y.diff().max() < 1e-3


@pytest.mark.parametrize(("bits", "narrow"), [(1, False), (2, False), (2, True), (4, False)])
@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.7])
def test_gradients_against_finite_differences(bits, narrow, alpha):
    x = inside(2, -1.1, 1.3).requires_grad_()

    def function(x, low, high, alpha):
        return soft_quantize(x, low, high, bits, alpha, narrow=narrow)

    torch.autograd.gradcheck(function, (x, number(-1.1), number(1.3), number(alpha)), eps=1e-7, atol=1e-5)


def test_the_hard_form_has_the_gradients_of_the_soft_one():
    gradients = []
    for hard in (False, True):
        x, low, high, alpha = inside(3, -1, 1).requires_grad_(), number(-1.0), number(1.0), number(0.2)
        y = soft_quantize(x, low, high, 3, alpha, hard=hard)
        (y * torch.arange(len(y))).sum().backward()
        gradients.append([t.grad for t in (x, low, high, alpha)])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


def test_gradients_outside_the_range():
    x, low, high = torch.tensor([-2.0, 5.0, 7.0], requires_grad=True), number(-1.0), number(2.0)
    soft_quantize(x, low, high, 2, 0.2).sum().backward()
    assert (x.grad == 0).all() and low.grad == 1 and high.grad == 2


def test_bad_input():
    x = torch.ones(3)
    for alpha in (0.0, 1.0, -0.1, torch.nan):
        with pytest.raises(ValueError, match="alpha must be between 0 and 1, got"):
            soft_quantize(x, 0.0, 1.0, 2, alpha)
    for high in (0.0, -1.0, torch.nan):
        with pytest.raises(ValueError, match="low must be below high, got 0.0 and"):
            soft_quantize(x, 0.0, high, 2, 0.2)
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 16, got 0"):
        soft_quantize(x, 0.0, 1.0, 0, 0.2)


# --- in a network -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["per channel", "per tensor"])
def prepared(request):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    images = torch.randn(20, 1, 8, 8)
    network = conversion.convert(
        model, images, weight_bits=3, activation_bits=3, per_channel=request.param, weight_range="mse", range="mse"
    )
    fake_quant.calibrate(network, images)
    return network


def learned(network):
    return [p for name, p in network.named_parameters() if name.rpartition(".")[2] in ("low", "high", "alpha_logit")]


def test_soft_quantizers_change_no_output(prepared):
    images = torch.randn(9, 1, 8, 8)
    before = prepared(images)
    soft = copy.deepcopy(prepared)
    dsq.replace_quantizers_(soft)
    torch.testing.assert_close(soft(images), before, rtol=0, atol=1e-5)
    assert len(learned(soft)) == 2 * 3 + 2 * 2
    assert not learned(prepared)


def test_all_is_learned_and_what_is_deployed_is_what_was_trained(prepared):
    dsq.replace_quantizers_(prepared)
    first = [p.detach().clone() for p in learned(prepared)]
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05, 0.9)
    generator = torch.Generator().manual_seed(1)
    prepared.train()
    for _ in range(20):
        images = torch.randn(50, 1, 8, 8, generator=generator)
        loss = nn.functional.cross_entropy(prepared(images), (images.mean((1, 2, 3)) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all((p != old).any() for p, old in zip(learned(prepared), first, strict=True))
    images = torch.randn(200, 1, 8, 8, generator=generator)
    prepared.eval()
    with torch.no_grad():
        trained = prepared(images)
    deployed = conversion.deploy(prepared)
    assert not [name for name, _ in deployed.named_parameters()]
    close = (deployed(images) - trained).abs() < 1e-4
    assert close.all(1).double().mean() > 0.97  # the others have a number on the edge between two codes


def test_the_forward_pass_is_on_the_grid_while_it_is_learned(prepared):
    dsq.replace_quantizers_(prepared)
    quantizer = prepared.grids.input_1
    with torch.no_grad():
        quantizer.low += 0.3
        quantizer.high -= 0.2
    x = torch.randn(1000)
    y = quantizer(x)
    grid = quantizer.qparams()
    assert torch.equal(y, grid.dequantize(grid.quantize(x)))
    assert y.unique().numel() == 8 and (y == 0).any()
    with torch.no_grad():
        assert torch.equal(quantizer(x), y)


def test_a_range_that_was_turned_around_is_still_a_grid(prepared):
    dsq.replace_quantizers_(prepared)
    quantizer = prepared.grids.input_1
    with torch.no_grad():
        quantizer.low.fill_(2)
        quantizer.high.fill_(-1)
    quantizer(torch.randn(9)).sum().backward()
    assert quantizer.qparams().scale == 1
