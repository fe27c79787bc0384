import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.quantization.codebooks import kmeans
from compress_lib.quantization.codebooks.optimal import codebook

tiny = st.lists(st.one_of(st.integers(-4, 4).map(float), st.floats(-1e3, 1e3, width=32)), min_size=1, max_size=7).map(
    torch.tensor
)


def error_of(weights, labels):
    members = [[w for w, label in zip(weights, labels, strict=True) if label == code] for code in set(labels)]
    return sum(sum((w - np.mean(m)) ** 2 for w in m) for m in members)


def by_table(weights, k):
    """The textbook recursion over the sorted weights, O(k n²), with errors computed run by run."""
    w = np.sort(weights.double().numpy())
    n = len(w)
    run = [[((w[j:i] - w[j:i].mean()) ** 2).sum() if i > j else np.inf for i in range(n + 1)] for j in range(n + 1)]
    least = [0.0] + [np.inf] * n
    for _ in range(k):
        least = [min((least[j] + run[j][i] for j in range(i)), default=np.inf) for i in range(n + 1)]
    return least[n]


@settings(max_examples=60, deadline=None)
@given(weights=tiny, k=st.integers(1, 3))
def test_no_assignment_at_all_is_better(weights, k):
    k = min(k, len(weights.unique()))
    numbers = weights.double().tolist()
    best = min(error_of(numbers, labels) for labels in itertools.product(range(k), repeat=len(numbers)))
    found = kmeans.sse(weights.double(), *codebook(weights.double(), k))
    assert found == pytest.approx(best, rel=1e-9, abs=1e-15 * weights.double().square().sum().item())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("k", [1, 2, 3, 7, 16, 50])
def test_equal_to_the_textbook_recursion(seed, k):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(64 + seed, generator=generator, dtype=torch.float64) ** (1 + 2 * (seed % 2))
    if seed > 3:
        weights = torch.cat([weights, weights[:20]])  # repeated weights
    assert kmeans.sse(weights, *codebook(weights, k)) == pytest.approx(by_table(weights, k), rel=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 300),
    k=st.integers(1, 20),
    init=st.sampled_from(["linear", "density", "random"]),
)
def test_lloyd_is_never_better(seed, n, k, init):
    weights = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    k = min(k, n)
    least = kmeans.sse(weights, *codebook(weights, k))
    assert kmeans.sse(weights, *kmeans.cluster(weights, k, init=init, seed=seed)) >= least * (1 - 1e-9) - 1e-12


@pytest.mark.parametrize("init", ["linear", "density"])
def test_lloyd_is_as_good_on_clusters_far_apart(init):
    generator = torch.Generator().manual_seed(0)
    weights = (torch.arange(8.0).repeat(500) + 0.05 * torch.randn(4000, generator=generator))[
        torch.randperm(4000, generator=generator)
    ].view(40, 100)
    for ours, least in zip(kmeans.cluster(weights, 8, init=init), codebook(weights, 8), strict=True):
        assert torch.equal(ours, least)


def test_lloyd_from_the_optimum_stays():
    weights = torch.randn(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centroids, codes = codebook(weights, 12)
    assert torch.equal(codes, kmeans.nearest(weights, centroids))
    for code, centroid in enumerate(centroids):
        assert centroid.item() == pytest.approx(weights[codes == code].mean().item(), abs=1e-12)


def test_as_many_clusters_as_weights_and_one():
    weights = torch.tensor([[3.0, 1, 3], [2, 1, -5]])
    centroids, codes = codebook(weights, 4)
    assert centroids.tolist() == [-5, 1, 2, 3]
    assert codes.dtype == torch.uint8
    assert torch.equal(kmeans.reconstruct(centroids, codes), weights)
    assert codebook(weights, 1)[0].item() == pytest.approx(5 / 6)
    assert codebook(torch.full((5,), 0.3), 1)[0].item() == torch.tensor(0.3).item()


def test_bad_weights_and_k_are_refused():
    with pytest.raises(ValueError, match="weights must not be empty"):
        codebook(torch.empty(0), 1)
    with pytest.raises(ValueError, match="weights must be finite"):
        codebook(torch.tensor([1.0, float("nan")]), 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k must be from 1 to 2, the number of distinct weights, got {k}"):
            codebook(torch.tensor([1.0, 2, 2]), k)
