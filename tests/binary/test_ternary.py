import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch import nn

from compress_lib import ops
from compress_lib.binary import packed_weight, ternary

MAGNITUDES = {"uniform": stats.uniform, "gaussian": stats.halfnorm, "laplace": stats.expon}


@pytest.mark.parametrize("distribution", ternary.DISTRIBUTIONS)
def test_the_best_ratio_by_integration_and_search(distribution):
    """The largest M(Δ)² / P(Δ), with nothing of the derivation."""
    density = MAGNITUDES[distribution]
    end = density.ppf(1 - 1e-15)

    def explained(threshold):
        moment, _ = integrate.quad(lambda x: x * density.pdf(x), threshold, end)
        return moment**2 / density.sf(threshold)

    grid = [i / 200 * density.mean() for i in range(100, 240)]
    best = max(grid, key=explained)
    ratio = ternary.optimal_ratio(distribution)
    assert ratio == pytest.approx(best / density.mean(), abs=0.005)
    beyond = integrate.quad(lambda x: x * density.pdf(x), ratio * density.mean(), end)[0]
    assert beyond / density.sf(ratio * density.mean()) == pytest.approx(2 * ratio * density.mean(), rel=1e-6)


def test_the_papers_constants():
    assert round(ternary.optimal_ratio("gaussian"), 3) == 0.767
    assert ternary.optimal_ratio("uniform") == 2 / 3 < ternary.RATIO < ternary.optimal_ratio("gaussian")
    t = optimize.brentq(lambda t: stats.norm.pdf(t) / stats.norm.sf(t) - 2 * t, 0.1, 2)
    assert ternary.optimal_ratio("gaussian") == pytest.approx(t / math.sqrt(2 / math.pi), rel=1e-12)
    assert round(t, 3) == 0.612


def test_large_samples_have_the_ratio_of_their_distribution():
    torch.manual_seed(0)
    n = 400_000
    samples = {"uniform": torch.rand(n) * 2 - 1, "gaussian": torch.randn(n)}
    samples["laplace"] = torch.distributions.Laplace(0, 1).sample((n,))
    for distribution, weight in samples.items():
        ratio = ternary.optimal_threshold(weight) / weight.abs().mean().item()
        assert ratio == pytest.approx(ternary.optimal_ratio(distribution), abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4).map(lambda v: v / 2) | st.floats(-2, 2, width=32), min_size=1, max_size=7))
def test_no_ternary_weights_are_nearer(values):
    """All 3^n choices, each with its own best scale."""
    weight = torch.tensor([values], dtype=torch.float64)
    threshold = ternary.optimal_threshold(weight)

    def error(signs):
        kept = sum(map(abs, signs))
        inner = sum(s * v for s, v in zip(signs, values, strict=True))
        return sum(v * v for v in values) - (inner * inner / kept if kept else 0)

    best = min(map(error, itertools.product((-1, 0, 1), repeat=len(values))))
    chosen = [math.copysign(1, v) if abs(v) > threshold else 0 for v in values]
    assert error(chosen) == pytest.approx(best, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 4), count=st.integers(1, 9), per_filter=st.booleans(), seed=st.integers(0, 999))
def test_threshold_and_scale_by_hand(rows, count, per_filter, seed):
    weight = torch.randn(rows, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept, alpha = ternary.approximate(weight, per_filter=per_filter)
    assert alpha.shape == ((rows,) if per_filter else ())
    groups = weight.tolist() if per_filter else [weight.flatten().tolist()]
    expected, scales = [], []
    for group in groups:
        delta = 0.7 * sum(map(abs, group)) / len(group)
        beyond = [abs(value) for value in group if abs(value) > delta]
        scales.append(sum(beyond) / len(beyond))
        expected += [math.copysign(scales[-1], value) if abs(value) > delta else 0 for value in group]
    torch.testing.assert_close(alpha.reshape(-1), torch.tensor(scales, dtype=torch.float64))
    used = ternary.Ternary(per_filter)(weight)
    torch.testing.assert_close(used.flatten(), torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(kept, used != 0)


def test_no_weights_are_kept_where_all_are_zero():
    kept, alpha = ternary.approximate(torch.zeros(3, 4), per_filter=True)
    assert not kept.any() and alpha.tolist() == [0, 0, 0]
    assert ternary.Ternary()(torch.zeros(3, 4)).tolist() == torch.zeros(3, 4).tolist()


def test_the_gradient_goes_straight_through():
    model = ternary.convert(nn.Sequential(nn.Linear(6, 5)), ["0"])
    x, upstream = torch.randn(4, 6), torch.randn(4, 5)
    model(x).backward(upstream)
    torch.testing.assert_close(model[0].parametrizations.weight.original.grad, upstream.T @ x)


def test_packed_planes_are_those_of_the_operators():
    torch.manual_seed(0)
    trained = ternary.convert(nn.Linear(70, 5, bias=False), [""]).eval()
    packed = packed_weight.pack(trained)
    assert torch.equal(torch.stack((packed.kept, packed.signs)), ops.pack_ternary(trained.weight.detach()))
    x = torch.randn(3, 70).sign()
    product = ops.ternary_linear(x, torch.stack((packed.kept, packed.signs)), 70, packed.scale)
    torch.testing.assert_close(product, packed(x))


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"distribution must be one of \('uniform', 'gaussian', 'laplace'\), got 'cauchy'"
    ):
        ternary.optimal_ratio("cauchy")
    for weight in (torch.zeros(0), torch.tensor([1.0, math.nan]), torch.tensor([math.inf])):
        with pytest.raises(ValueError, match="weight must have finite elements, one at least"):
            ternary.optimal_threshold(weight)
