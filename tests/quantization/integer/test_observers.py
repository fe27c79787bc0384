import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from compress_lib.quantization.integer import affine, observers
from compress_lib.quantization.integer.observers import Histogram, MinMax, MovingAverage, Percentile, make_observer

OBSERVERS = [MinMax, MovingAverage, Histogram, Percentile]


def batches_of(seed, count, size=60):
    """Batches of very different spread."""
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (torch.rand(count, generator=generator) * 6 - 3)
    return [scale * torch.randn(size, generator=generator) for scale in scales]


def observed(observer, batches):
    for batch in batches:
        observer.update(batch)
    return observer


def sample(name):
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4000, generator=generator)
    match name:
        case "normal":
            return normal
        case "heavy tails":
            return normal**3
        case "after a ReLU":
            return normal.relu()
        case "lopsided":
            return torch.cat([normal[:1000] * 0.2, normal[1000:].exp()])
        case "an outlier":
            return torch.cat([normal, torch.tensor([30.0])])


SAMPLES = ["normal", "heavy tails", "after a ReLU", "lopsided", "an outlier"]


# --- least and greatest -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
def test_min_max_is_that_of_all_batches(seed, count):
    batches = batches_of(seed, count)
    low, high = observed(MinMax(), batches).range()
    assert (low, high) == (torch.cat(batches).min(), torch.cat(batches).max())
    assert low.shape == ()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_min_max_per_channel(axis):
    x = torch.randn(4, 3, 5)
    others = [d for d in range(3) if d != axis % 3]
    low, high = observed(MinMax(axis=axis), [x, x / 2]).range()
    assert torch.equal(low, x.amin(others).double())
    assert torch.equal(high, x.amax(others).double())
    low, high = observed(MinMax(axis=0), [torch.tensor([3.0, -1.0])]).range()
    assert low.tolist() == high.tolist() == [3, -1]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5), decay=st.floats(0, 0.999))
def test_moving_average_by_hand(seed, count, decay):
    batches = batches_of(seed, count)
    low, high = batches[0].min().item(), batches[0].max().item()
    for batch in batches[1:]:
        low = decay * low + (1 - decay) * batch.min().item()
        high = decay * high + (1 - decay) * batch.max().item()
    found = observed(MovingAverage(decay), batches).range()
    assert [end.item() for end in found] == pytest.approx([low, high], rel=1e-12)


def test_moving_average_per_channel():
    x = torch.randn(6, 3)
    low, high = observed(MovingAverage(0.75, axis=1), [x, -x]).range()
    torch.testing.assert_close(low, (0.75 * x.amin(0) - 0.25 * x.amax(0)).double())
    torch.testing.assert_close(high, (0.75 * x.amax(0) - 0.25 * x.amin(0)).double())


# --- histogram and percentile -----------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), bins=st.sampled_from([2, 16, 2048]))
def test_a_streamed_histogram_is_numpys_of_all_data_in_any_order(seed, count, bins):
    batches = [*batches_of(seed, count), torch.zeros(3), torch.tensor([-0.0])]
    together = Histogram(bins)
    together.update(torch.cat(batches))
    for order in (batches, batches[::-1]):
        histogram = observed(Histogram(bins), order)
        assert histogram.width == together.width
        assert torch.equal(histogram.counts, together.counts)
    x = torch.cat(batches).double().numpy()
    largest = np.abs(x).max()
    assert bins * together.width / 2 <= largest < bins * together.width
    assert math.frexp(together.width)[0] == 0.5
    edges = np.arange(bins + 1) * together.width
    assert np.array_equal(together.counts[0].numpy(), np.histogram(x[x >= 0], edges)[0])
    assert np.array_equal(together.counts[1].numpy(), np.histogram(-x[x < 0], edges)[0])


@pytest.mark.parametrize("scale", [2.0**-149, 2.0**-126, 1.0, 2.0**127])
def test_a_histogram_of_the_smallest_and_the_largest_floats(scale):
    histogram = observed(Histogram(16), [torch.zeros(2), torch.tensor([1.0, -1.0, 0.0]) * scale])
    assert histogram.width == scale / 8
    assert histogram.counts[:, [0, 8]].tolist() == [[3, 1], [0, 1]]
    assert histogram.counts.sum() == 5


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 4),
    fraction=st.one_of(st.floats(0.5, 1, exclude_min=True), st.sampled_from([0.9, 0.99, 1.0])),
    offset=st.sampled_from([0.0, 10.0, -10.0]),
)
def test_percentile_is_the_quantile_within_a_bin(seed, count, fraction, offset):
    batches = [batch + offset for batch in batches_of(seed, count)]
    percentile = observed(Percentile(fraction, bins=256), batches)
    low, high = (end.item() for end in percentile.range())
    x = torch.cat(batches).double().sort().values
    position = math.ceil(fraction * len(x)) - 1
    quantiles = x[-1 - position].item(), x[position].item()
    width = percentile.histogram.width
    assert quantiles[0] - width <= low <= quantiles[0]
    assert quantiles[1] <= high <= quantiles[1] + width
    assert x[0] <= low
    assert high <= x[-1]


def test_the_whole_is_min_max():
    batches = batches_of(3, 4)
    assert observed(Percentile(1.0), batches).range() == observed(MinMax(), batches).range()


# --- least divergence -------------------------------------------------------------------------------------------------


def slow_divergences(counts, levels):
    """Candidate to divergence, bin by bin, as the docstring of `kl_optimal` has it."""
    c = [float(count) for count in counts]
    c[0] = c[1]
    last_used = max(k for k, count in enumerate(c) if count)
    found = {}
    for i in range(levels, last_used + 2):
        p = c[:i]
        p[-1] += sum(c[i:])
        q = [0.0] * i
        for level in range(levels):
            members = [k for k in range(i) if k * levels // i == level and c[k] > 0]
            for k in members:
                q[k] = sum(c[m] for m in members) / len(members)
        with np.errstate(invalid="ignore"):  # all the data lie beyond
            found[i] = entropy(p, q)
    return found


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bins=st.sampled_from([16, 32, 64]),
    kind=st.sampled_from([(2, True), (3, True), (4, True), (1, False), (2, False), (3, False)]),
    tail=st.sampled_from([1, 3, 5]),
    size=st.sampled_from([5, 60, 3000]),
)
def test_least_divergence_by_a_slow_loop(seed, bins, kind, tail, size):
    bits, signed = kind
    levels = 2 ** (bits - signed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator) ** tail
    x = x if signed else x.relu()
    histogram = observed(Histogram(bins), [x])
    low, high = observers.kl_optimal(histogram, bits, signed=signed)
    assert low == (-high if signed else 0)
    counts = histogram.counts.sum(0).tolist()
    largest = x.abs().max().item()
    if max(k for k, count in enumerate(counts) if count) < levels:
        assert high == largest
        return
    divergences = slow_divergences(counts, levels)
    divergences = {i: value for i, value in divergences.items() if not math.isnan(value)}
    chosen = math.ceil(high.item() / histogram.width)
    assert high == min(chosen * histogram.width, largest)
    least = min(divergences.values())
    assert divergences[chosen] == pytest.approx(least, abs=2e-12)
    assert not any(i > chosen and value < least + 1e-13 for i, value in divergences.items())


def test_a_far_outlier_is_clipped_and_a_uniform_distribution_is_not():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20000, generator=generator)
    outlier = observed(Histogram(), [x, torch.tensor([40.0])])
    assert observers.kl_optimal(outlier, 4)[1] < 8
    uniform = observed(Histogram(), [torch.rand(20000, generator=generator) * 2 - 1])
    assert observers.kl_optimal(uniform, 4)[1] > 0.95


def test_zeros_do_not_count():
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs()
    few, many = observed(Histogram(), [x]), observed(Histogram(), [x, torch.zeros(10**5)])
    assert observers.kl_optimal(few, 4, signed=False) == observers.kl_optimal(many, 4, signed=False)
    nothing = observed(Histogram(), [torch.zeros(5)])
    assert observers.kl_optimal(nothing, 8) == (0, 0)


def test_more_levels_than_bins_clip_nothing():
    x = torch.randn(100)
    histogram = observed(Histogram(64), [x])
    assert observers.kl_optimal(histogram, 8)[1] == x.abs().max()


# --- least squares ----------------------------------------------------------------------------------------------------


def error(x, low, high, bits, signed=True, symmetric=False, narrow=False):
    scale, zero_point = affine.choose_qparams(low, high, bits, signed=signed, symmetric=symmetric, narrow=narrow)
    rounded = affine.fake_quantize(x, scale, zero_point, bits, signed=signed, narrow=narrow)
    return (rounded - x).double().square().mean().item()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("name", SAMPLES)
def test_symmetric_ranges_by_a_dense_grid(name, bits):
    x, options = sample(name), {"symmetric": True, "narrow": True}
    low, high = observers.mse_optimal(x, bits, **options)
    largest = x.abs().max().item()
    brute = min(error(x, -largest * f, largest * f, bits, **options) for f in np.linspace(0, 1, 1001)[1:])
    assert low == -high
    assert high <= largest
    assert error(x, low, high, bits, **options) <= 1.005 * brute


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("name", SAMPLES)
def test_ranges_by_a_dense_grid_of_both_ends(name, bits):
    x = sample(name)[::4]
    low, high = observers.mse_optimal(x, bits, signed=False)
    fractions = np.linspace(0, 1, 33)
    least, greatest = min(x.min().item(), 0), max(x.max().item(), 0)
    lows = {least * f for f in fractions}
    brute = min(error(x, a, b, bits, False) for a in lows for b in greatest * fractions)
    assert least <= low <= 0 <= high <= greatest
    assert error(x, low, high, bits, signed=False) <= 1.02 * brute
    assert error(x, low, high, bits, signed=False) <= error(x, least, greatest, bits, signed=False)


def test_the_known_optimum_of_the_normal_distribution():
    """Uniform mid-tread grids with 3 and 7 levels; the step by numerical integration of the density."""
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    t = np.linspace(0, 8, 400_001)
    density = np.exp(-(t**2) / 2)
    for bits, levels in ((2, 1), (3, 3)):
        steps = np.linspace(0.3, 2, 341)
        errors = [(density * (t - s * np.clip(np.rint(t / s), 0, levels)) ** 2).sum() for s in steps]
        _, high = observers.mse_optimal(x, bits, symmetric=True, narrow=True)
        assert high.item() / levels == pytest.approx(steps[int(np.argmin(errors))], rel=0.02)


def test_channels_have_ranges_of_their_own():
    x = torch.stack([sample(name)[:1000] for name in SAMPLES[:4]])
    for options in ({"symmetric": True}, {}):
        low, high = observers.mse_optimal(x.T.contiguous(), 3, axis=1, **options)
        for c in range(4):
            alone = observers.mse_optimal(x[c], 3, **options)
            assert (low[c].item(), high[c].item()) == pytest.approx((alone[0].item(), alone[1].item()), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_of_the_data_does_not_matter(scale):
    x = sample("heavy tails").double()
    low, high = observers.mse_optimal(x, 4)
    scaled = observers.mse_optimal((x * scale), 4)
    assert [end.item() / scale for end in scaled] == pytest.approx([low.item(), high.item()], rel=1e-3)


def test_constants():
    assert observers.mse_optimal(torch.zeros(5), 4) == (0, 0)
    for value in (3.0, -3.0):
        low, high = observers.mse_optimal(torch.full((5,), value), 4)
        assert error(torch.full((5,), value), low, high, 4) < 1e-12
    low, high = observers.mse_optimal(torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 4, axis=0)
    assert (low[0], high[0]) == (0, 0)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "observe", [*(lambda x, o=o: o().update(x) for o in OBSERVERS), lambda x: observers.mse_optimal(x, 8)]
)
def test_bad_data(observe):
    with pytest.raises(ValueError, match=r"x must not be empty, got shape \(0, 3\)"):
        observe(torch.empty(0, 3))
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="x must be finite, got 1 NaN or infinite"):
            observe(torch.tensor([1.0, bad]))
    with pytest.raises(TypeError, match="x must be a float tensor, got torch.int64"):
        observe(torch.ones(3, dtype=torch.long))
    with pytest.raises(TypeError, match="x must be a float tensor, got list"):
        observe([1.0])


@pytest.mark.parametrize("observer", [MinMax, MovingAverage, Percentile])
def test_a_range_before_any_data(observer):
    with pytest.raises(ValueError, match="there is no range yet: update was not called"):
        observer().range()


def test_a_refused_batch_changes_nothing():
    histogram = observed(Histogram(), [torch.ones(3)])
    with pytest.raises(ValueError, match="finite"):
        histogram.update(torch.tensor([5.0, math.nan]))
    assert (histogram.counts.sum(), histogram.high) == (3, 1)


def test_bad_arguments():
    for decay in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
            MovingAverage(decay)
    for fraction in (0.5, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"fraction must be in \(0.5, 1\], got"):
            Percentile(fraction)
    for bins in (0, 1, 100):
        with pytest.raises(ValueError, match="bins must be a power of two from 2 on, got"):
            Histogram(bins)
    with pytest.raises(ValueError, match="axis must be one of the 2 axes"):
        MinMax(axis=2).update(torch.ones(2, 3))
    with pytest.raises(ValueError, match="x must have 3 channels as before, got 2"):
        observed(MinMax(axis=1), [torch.ones(2, 3), torch.ones(3, 2)])
    histogram = observed(Histogram(), [torch.tensor([-1.0, 2.0])])
    with pytest.raises(ValueError, match="signed=False needs numbers that are not negative, got -1.0"):
        observers.kl_optimal(histogram, 8, signed=False)
    with pytest.raises(ValueError, match="there is no range yet"):
        observers.kl_optimal(Histogram(), 8)
    for bits in (0, 17):
        with pytest.raises(ValueError, match="bits must be an integer from 1 to 16"):
            observers.kl_optimal(histogram, bits)
        with pytest.raises(ValueError, match="bits must be an integer from 1 to 16"):
            observers.mse_optimal(torch.ones(2), bits)
    with pytest.raises(ValueError, match="symmetric=True needs signed=True"):
        observers.mse_optimal(torch.ones(2), 8, signed=False, symmetric=True)


# --- the observers of activations -------------------------------------------------------------------------------------


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_observers():
    x = normal(3000) ** 3
    for name in observers.NAMES:
        found = make_observer(name, 4)
        with pytest.raises(ValueError, match="there is no range yet|x must not be empty"):
            found.range()
        for batch in x.split(1000):
            found.update(batch)
        low, high = found.range()
        assert x.min() <= low < 0 < high <= x.max()
        if name == "min_max":
            assert (low, high) == (x.min(), x.max())
        else:
            assert high < x.max()
    with pytest.raises(ValueError, match="range must be one of .*, got 'mean'"):
        make_observer("mean", 4)


def test_the_squared_error_is_of_all_numbers_while_they_are_few():
    x = normal(2, 500)
    found = observers.MSE(3)
    for batch in x:
        found.update(batch)
    assert sorted(found.sample.tolist()) == sorted(x.flatten().tolist())
    # Sums in another order: the search may take another of several equal minima.

    def error(low, high):
        qparams = affine.choose_qparams(low, high, 3, signed=False)
        return (affine.fake_quantize(x, *qparams, 3, signed=False) - x).square().mean().item()

    expected = error(*observers.mse_optimal(x, 3, signed=False))
    assert error(*found.range()) == pytest.approx(expected, rel=0.02)


def test_the_squared_error_draws_from_all_batches_alike():
    found = observers.MSE(3)
    for value, count in enumerate((100_000, 300_000, 100_000)):
        found.update(torch.full((count,), float(value)))
    assert len(found.sample) == 2**16
    shares = found.sample.long().bincount() / 2**16
    assert shares.tolist() == pytest.approx([0.2, 0.6, 0.2], abs=0.01)


def test_the_divergence_does_not_go_beyond_the_numbers():
    found = observers.KL(8)
    x = torch.cat([normal(5000).clamp(min=-0.1), torch.tensor([8.0])])
    found.update(x)
    low, high = found.range()
    assert low == x.min() and 1 < high < 8
