import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.coding import sparse_index


def by_hand(mask, bits):
    """Walk over the array, one position at a time: the gaps and the fillers of the documented rule."""
    gaps, fillers, zeros = [], [], 0
    for weight in mask:
        if weight or zeros == 2**bits - 1:
            gaps.append(zeros)
            fillers.append(not weight)
            zeros = 0
        else:
            zeros += 1
    return gaps, fillers


@st.composite
def masks(draw):
    size, density = draw(st.integers(0, 900)), draw(st.sampled_from([0, 0.002, 0.05, 0.3, 1]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).random(size) < density


def test_the_papers_figure_with_the_gap_that_the_bits_can_say():
    # Figure 2: weights at 1, 4 and 15; with 3 bits a filler is due after eight zeros, and 15 is 3 behind it.
    gaps, fillers = sparse_index.encode(np.array([1, 4, 15]), 16, 3)
    assert gaps.tolist() == [1, 2, 7, 2]
    assert fillers.tolist() == [False, False, True, False]
    assert gaps.dtype == np.uint8
    assert sparse_index.decode(gaps, 16, 3).tolist() == [1, 4, 12, 15]
    # EIE's column [0, 0, 1, 2, 0 × 18, 3] in 4 bits: z = [2, 0, 15, 2]
    assert sparse_index.encode(np.array([2, 3, 22]), 23, 4)[0].tolist() == [2, 0, 15, 2]


@settings(max_examples=150, deadline=None)
@given(masks(), st.integers(1, 8))
def test_encode_follows_the_rule_and_decode_is_the_inverse(mask, bits):
    positions = np.flatnonzero(mask)
    gaps, fillers = sparse_index.encode(positions, len(mask), bits)
    assert (gaps.tolist(), fillers.tolist()) == by_hand(mask, bits)
    decoded = sparse_index.decode(gaps, len(mask), bits)
    assert decoded[~fillers].tolist() == positions.tolist()
    assert not mask[decoded[fillers]].any()
    histogram = sparse_index.histograms(positions, len(mask))[bits]
    assert histogram.tolist() == np.bincount(gaps, minlength=2**bits).tolist()


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("bits", [1, 3, 5])
def test_fillers_per_weight_are_those_of_random_masks(density, bits):
    mask = np.random.default_rng(bits).random(400_000) < density
    fillers = sparse_index.encode(np.flatnonzero(mask), len(mask), bits)[1]
    expected = sparse_index.fillers_per_weight(density, bits)
    assert fillers.sum() / mask.sum() == pytest.approx(expected, rel=0.05, abs=1e-4)


def test_fillers_per_weight_by_hand():
    assert sparse_index.fillers_per_weight(1, 5) == 0
    assert sparse_index.fillers_per_weight(0.5, 1) == pytest.approx(1 / 3)
    # The rates of the paper's tables: weights of LeNet-300-100's first layer, in bits of a dense one.
    entries = 0.08 * (1 + sparse_index.fillers_per_weight(0.08, 5))
    assert entries * (6 + 5) / 32 + 64 / 235200 == pytest.approx(0.0298, abs=1e-4)


def test_bad_arguments():
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"bits must be from 1 to 8, got {bits}"):
            sparse_index.fillers_per_weight(0.5, bits)
        for function in (sparse_index.encode, sparse_index.decode):
            with pytest.raises(ValueError, match=f"bits must be from 1 to 8, got {bits}"):
                function(np.array([1]), 2, bits)
    for density in (0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match="density must be above 0 and at most 1, got"):
            sparse_index.fillers_per_weight(density, 4)
    for positions in ([3, 2], [1, 1], [-1, 2], [0, 5]):
        with pytest.raises(ValueError, match="positions must be ascending and from 0 to 4"):
            sparse_index.encode(np.array(positions), 5, 4)
    with pytest.raises(ValueError, match="gaps must be below 4 for 2 bits, got 4"):
        sparse_index.decode(np.array([4]), 5, 2)
    for gaps, size in (([3, 3], 7), ([3, 3], 12), ([], 4), ([0], 2**60)):
        with pytest.raises(ValueError, match="gaps must reach the size"):
            sparse_index.decode(np.array(gaps, np.uint8), size, 2)
