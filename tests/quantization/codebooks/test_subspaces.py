import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from compress_lib.quantization.codebooks import subspaces


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_pieces_of_a_linear_weight():
    weight = torch.arange(24).view(4, 6)
    pieces = subspaces.split(weight, 2)
    assert pieces.shape == (3, 4, 2)
    for space in range(3):
        assert torch.equal(pieces[space], weight[:, 2 * space : 2 * space + 2])


def test_pieces_of_a_convolution_are_channels_at_one_kernel_position():
    weight = torch.arange(2 * 6 * 3 * 5).view(2, 6, 3, 5)
    pieces = subspaces.split(weight, 3)
    assert pieces.shape == (2, 2 * 15, 3)
    for space, out, row, column in np.ndindex(2, 2, 3, 5):
        expected = weight[out, 3 * space : 3 * space + 3, row, column]
        assert torch.equal(pieces[space, 15 * out + 5 * row + column], expected)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(1, 3), max_size=3))
def test_joined_pieces_are_the_weight(outputs, s, d, kernel):
    weight = torch.randn(outputs, s * d, *kernel)
    assert torch.equal(subspaces.join(subspaces.split(weight, d), weight.shape), weight)


@pytest.mark.parametrize("k", [2, 5, 16])
def test_lloyd_ends_where_scikit_learn_does(k):
    pieces = normal(3, 60, 4, dtype=torch.float64)
    start = subspaces.plus_plus(pieces, k, torch.Generator().manual_seed(1))
    codebooks, codes = subspaces.lloyd(pieces, start, max_iterations=300)
    for space in range(3):
        theirs = KMeans(k, init=start[space].numpy(), n_init=1, tol=0, algorithm="lloyd").fit(pieces[space].numpy())
        np.testing.assert_allclose(codebooks[space].numpy(), theirs.cluster_centers_, atol=1e-12)
        np.testing.assert_array_equal(codes[space].numpy(), theirs.labels_)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_the_end_is_a_fixed_point_by_brute_force(data, seed):
    s, m, d = (data.draw(st.integers(1, n)) for n in (3, 12, 3))
    k = data.draw(st.integers(1, m))
    generator = torch.Generator().manual_seed(seed)
    pieces = torch.randint(-3, 4, (s, m, d), generator=generator).double()  # many equal ones
    codebooks, codes = subspaces.cluster(pieces, k, seed=seed)
    assert codebooks.shape == (s, k, d)
    assert codes.shape == (m, s)
    assert codes.dtype == torch.uint8
    for space in range(s):
        distances = (pieces[space][:, None] - codebooks[space]).square().sum(2)
        mine = distances.gather(1, codes[:, space].long()[:, None])[:, 0]
        torch.testing.assert_close(mine, distances.min(1).values, rtol=0, atol=1e-9)
        for code in range(k):
            members = pieces[space][codes[:, space] == code]
            if len(members):
                torch.testing.assert_close(codebooks[space, code], members.mean(0))
        if len(pieces[space].unique(dim=0)) <= k:
            assert mine.max() < 1e-20
        else:  # no codeword is left unused while there is an error to lower
            assert len(codes[:, space].unique()) == k


def test_an_unused_codeword_moves_to_the_largest_error():
    pieces = torch.tensor([[[0.0], [1.0], [10.0], [11.0], [30.0]]], dtype=torch.float64)
    start = torch.tensor([[[0.5], [20.0], [1000.0]]], dtype=torch.float64)  # no piece is nearest to the third
    codebooks, codes = subspaces.lloyd(pieces, start, max_iterations=50)
    assert sorted(codebooks.flatten().tolist()) == [0.5, 10.5, 30]
    assert len(codes.unique()) == 3


def test_more_iterations_never_raise_the_error():
    pieces = normal(4, 200, 3, dtype=torch.float64)
    errors = []
    for count in range(1, 25):
        codebooks, codes = subspaces.cluster(pieces, 12, max_iterations=count)
        errors.append((subspaces.reconstruct(codebooks, codes) - pieces).square().sum().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_the_start_prefers_far_pieces():
    # of two points apart and a thousand equal ones, uniform draws would rarely find both
    pieces = torch.zeros(1, 1000, 2, dtype=torch.float64)
    pieces[0, 3], pieces[0, 500] = torch.tensor([5.0, 0]), torch.tensor([0, 5.0])
    for seed in range(20):
        start = subspaces.plus_plus(pieces, 3, torch.Generator().manual_seed(seed))[0]
        assert sorted(map(tuple, start.tolist())) == [(0, 0), (0, 5), (5, 0)]


def test_sub_spaces_in_parts_keep_their_places(monkeypatch):
    pieces = normal(5, 50, 2) + 100 * torch.arange(5)[:, None, None]
    monkeypatch.setattr(subspaces, "_DISTANCES", 2 * 50 * 8)  # two sub-spaces at a time
    codebooks, codes = subspaces.cluster(pieces, 8)
    distances = (pieces[:, :, None] - codebooks[:, None]).square().sum(3)
    assert torch.equal(codes.T.long(), distances.argmin(2))


@pytest.mark.parametrize(
    ("pieces", "k", "error", "message"),
    [
        (torch.ones(2, 5, 3), 6, ValueError, "k must be from 1 to 5 for 5 pieces, got 6"),
        (torch.ones(2, 300, 3), 257, ValueError, "k must be from 1 to 256"),
        (torch.ones(2, 5, 3), 0, ValueError, "k must be from 1"),
        (torch.ones(2, 5, 3), 2.0, TypeError, "k must be an integer, got float"),
        (torch.ones(5, 3), 2, ValueError, r"shape \(s, m, d\)"),
        (torch.full((1, 5, 3), math.nan), 2, ValueError, "pieces must be finite"),
        (torch.ones(2, 5, 3, dtype=torch.int64), 2, TypeError, "floating-point"),
    ],
)
def test_what_kmeans_refuses(pieces, k, error, message):
    with pytest.raises(error, match=message):
        subspaces.cluster(pieces, k)


@pytest.mark.parametrize(
    ("shape", "d", "error", "message"),
    [
        ((4, 6), 4, ValueError, "d must be a divisor of the 6 input features, got 4"),
        ((4, 6), 0, ValueError, "got 0"),
        ((4, 6), 2.0, TypeError, "d must be an integer"),
        ((4,), 2, ValueError, "at least two axes"),
    ],
)
def test_what_split_refuses(shape, d, error, message):
    with pytest.raises(error, match=message):
        subspaces.split(torch.ones(shape), d)
