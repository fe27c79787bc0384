import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from compress_lib import ops
from compress_lib.binary import binarization, binaryconnect, xnor


def filters(rows, count, seed, dtype=torch.float64):
    return torch.randn(rows, count, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- sign and its gradient --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_zero_is_positive_and_nan_is_not(dtype):
    tiny = torch.finfo(dtype).tiny
    x = torch.tensor([0.0, -0.0, tiny, -tiny, 3, -3, math.inf, -math.inf, math.nan], dtype=dtype)
    signs = binarization.sign(x)
    assert signs.tolist() == [1, 1, 1, -1, 1, -1, 1, -1, -1] and signs.dtype == dtype


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.integers(0, 99))
def test_the_gradient_is_that_of_a_clip(values, seed):
    """By finite differences of ``clip(x, −1, 1)``; at its corners, where it has none, it is 1 by definition."""
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(len(values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = binarization.straight_through_sign(x)
    assert torch.equal(y, torch.tensor([1.0 if value >= 0 else -1.0 for value in values], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y, x, upstream)
    h = 1e-6
    for value, g, found in zip(values, upstream.tolist(), gradient.tolist(), strict=True):
        slope = (np.clip(value + h, -1, 1) - np.clip(value - h, -1, 1)) / (2 * h)
        if abs(abs(value) - 1) > 2 * h:
            assert found == pytest.approx(g * slope, abs=1e-9)
    corners = torch.tensor([1.0, -1.0, math.nextafter(1, 2), math.nextafter(-1, -2), math.nan], requires_grad=True)
    binarization.straight_through_sign(corners.double()).sum().backward()
    assert corners.grad.tolist() == [1, 1, 1, 1, 0]  # nextafter is 1 again in float32


def test_what_is_clipped_passes_no_infinite_gradient():
    x = torch.tensor([2.0, 0.5], requires_grad=True)
    binarization.straight_through_sign(x).backward(torch.tensor([math.inf, 1.0]))
    assert x.grad.tolist() == [0, 1]


def test_random_signs_have_the_clipped_number_as_their_mean():
    x = torch.linspace(-1.5, 1.5, 13)
    draws = binarization.stochastic_sign(x.expand(20_000, -1), torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {-1, 1}
    mean = x.clip(-1, 1)
    deviation = ((1 - mean.square()) / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() <= 4.5 * deviation).all()  # exactly, where it is ±1
    torch.testing.assert_close(binarization.probability(x), (1 + mean) / 2)


def test_random_signs_follow_their_generator_and_pass_gradients():
    x = filters(5, 50, 0).requires_grad_()
    one, same, other = (binarization.stochastic_sign(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    (gradient,) = torch.autograd.grad(one.sum(), x)
    assert torch.equal(gradient, (x.abs() <= 1).double())
    torch.manual_seed(1)
    assert torch.equal(binarization.stochastic_sign(x), one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_subnormal_numbers_keep_their_signs_where_the_processor_flushes_them(dtype):
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    x = torch.tensor([1, torch.iinfo(bits).min + 1, torch.iinfo(bits).min], dtype=bits).view(dtype)  # tiny, −tiny, −0
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        signs = binarization.sign(x), binarization.straight_through_sign(x), ops.unpack_signs(ops.pack_signs(x), 3)
    finally:
        torch.set_flush_denormal(False)
    assert [found.tolist() for found in signs] == [[1, -1, 1]] * 3


# --- the scale --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_no_other_signs_and_no_other_scale_are_nearer(count, seed):
    """All 2^n signs, each with its scales on a grid."""
    weight = filters(1, count, seed)
    nearest = (weight - binarization.scaled_sign(weight)).square().sum()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=count)), dtype=torch.float64)
    grid = torch.linspace(0, 4, 401, dtype=torch.float64)
    errors = (weight - grid[:, None, None] * signs).square().sum(-1)
    assert nearest <= errors.min() + 1e-12
    assert errors.min() - nearest <= count * (grid[1] / 2).square() + 1e-12  # which half a step of the grid explains


def test_each_filter_has_its_scale():
    weight = torch.stack([torch.full((2, 3, 3), -0.5), torch.linspace(0, 1, 18).reshape(2, 3, 3)])
    torch.testing.assert_close(binarization.scale(weight), torch.tensor([0.5, 0.5]))
    assert binarization.scaled_sign(weight)[0].unique().tolist() == [-0.5]


# --- gradients of the scaled sign -------------------------------------------------------------------------------------


def by_hand(weight, upstream):
    """``sign(W_i) ⟨G, sign W⟩ / n + α G_i 1[|W_i| ≤ 1]``"""
    rows = []
    for w, g in zip(weight.tolist(), upstream.tolist(), strict=True):
        signs = [1 if value >= 0 else -1 for value in w]
        alpha = sum(map(abs, w)) / len(w)
        inner = sum(a * b for a, b in zip(g, signs, strict=True))
        rows.append([s * inner / len(w) + alpha * b * (abs(a) <= 1) for a, b, s in zip(w, g, signs, strict=True)])
    return torch.tensor(rows, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 3), count=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_the_exact_gradient_is_that_of_the_surrogate(rows, count, seed):
    """Finite differences of α(W) (sign W₀ + clip W − clip W₀), which at W₀ has the slopes of α sign W by definition."""
    weight, upstream = filters(rows, count, seed), filters(rows, count, seed + 1)
    at = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(binarization.scaled_sign(at), at, upstream)
    torch.testing.assert_close(gradient, by_hand(weight, upstream))

    def surrogate(w):
        signs = binarization.sign(weight) + w.clip(-1, 1) - weight.clip(-1, 1)
        return (upstream * w.abs().mean(1, keepdim=True) * signs).sum()

    h = 1e-6
    for i, j in itertools.product(range(rows), range(count)):
        if weight[i, j].abs() < 1e-5 or (weight[i, j].abs() - 1).abs() < 1e-5:
            continue
        step = torch.zeros_like(weight)
        step[i, j] = h
        slope = (surrogate(weight + step) - surrogate(weight - step)) / (2 * h)
        assert gradient[i, j].item() == pytest.approx(slope.item(), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 3), count=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_the_papers_gradient_leaves_out_the_other_weights_of_the_sum(rows, count, seed):
    weight, upstream = filters(rows, count, seed).requires_grad_(), filters(rows, count, seed + 1)
    exact, paper = (
        torch.autograd.grad(binarization.scaled_sign(weight, kind), weight, upstream)[0]
        for kind in binarization.GRADIENTS
    )
    alpha, inside = weight.abs().mean(1, keepdim=True), (weight.abs() <= 1).double()
    torch.testing.assert_close(paper, upstream * (1 / count + alpha * inside))
    signs = binarization.sign(weight.detach())
    others = (upstream * signs).sum(1, keepdim=True) - upstream * signs
    torch.testing.assert_close(exact - paper, signs * others / count)
    values = [binarization.scaled_sign(weight, kind) for kind in binarization.GRADIENTS]
    assert torch.equal(*values)


def test_a_batch_normalisation_behind_makes_the_scale_vanish():
    """⟨G, sign W⟩ is 0, and the gradient that of signs without a scale."""
    x, target = filters(40, 12, 0), filters(40, 5, 1)
    gradients = []
    for forward in (binarization.scaled_sign, binarization.straight_through_sign):
        weight = (0.3 * filters(5, 12, 2)).requires_grad_()
        used = forward(weight)
        used.retain_grad()
        y = functional.linear(x, used)
        y = (y - y.mean(0)) / y.std(0)
        (y - target).square().mean().backward()
        assert ((used.grad * binarization.sign(weight.detach())).sum(1).abs() < 1e-12).all()
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_latent_weights_are_those_behind_signs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), xnor.XnorLinear(4, 4), nn.Linear(4, 2))
    model = binaryconnect.convert(model, ["1"])
    expected = [model[1].parametrizations.weight.original, model[2].weight]
    assert [id(weight) for weight in binarization.latent_weights(model)] == [id(weight) for weight in expected]


def test_bad_input():
    for shape in ((3,), (0, 3), (3, 0), ()):
        with pytest.raises(ValueError, match=r"weight must have the shape \(out, …\) and no empty axis"):
            binarization.scale(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"gradient must be one of \('exact', 'paper'\), got 'adam'"):
        binarization.scaled_sign(torch.zeros(2, 2), "adam")
