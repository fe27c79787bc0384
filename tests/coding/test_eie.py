import itertools
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.coding import eie


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 6))
    density = draw(st.sampled_from([0, 0.02, 0.1, 0.5, 1]))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    codes = random.integers(1, 16, (rows, columns)) * (random.random((rows, columns)) < density)
    return codes.astype(draw(st.sampled_from([np.uint8, np.int64])))


def entry_lists(codes, pes):
    """EIE's description, row by row: for each PE and column the list of (v, z)."""
    lists = []
    for pe in range(pes):
        columns = []
        for column in codes[pe::pes].T:
            entries, zeros = [], 0
            for value in column:
                if value == 0 and zeros < 15:
                    zeros += 1
                elif value == 0:  # the sixteenth zero may be padding; that shows when a weight follows
                    entries.append((0, 15))
                    zeros = 0
                else:
                    entries.append((int(value), zeros))
                    zeros = 0
            while entries and entries[-1][0] == 0:
                entries.pop()  # no weight followed
            columns.append(entries)
        lists.append(columns)
    return lists


def as_lists(matrix):
    return [
        [[(int(e) >> 4, int(e) & 15) for e in entries[a:b]] for a, b in itertools.pairwise(pointers)]
        for entries, pointers in zip(matrix.entries, matrix.pointers, strict=True)
    ]


def by_the_clock(work, depth):
    """Cycle by cycle with queues: the cycles, and how long each PE was idle. ``work`` is (PEs, activations)."""
    queues = [deque() for _ in work]
    waiting, cycles, idle = deque(work.T.tolist()), 0, [0] * len(work)
    while waiting or any(queues):
        for queue in queues:  # what has no entries left leaves, when its turn comes
            while queue and queue[0] == 0:
                queue.popleft()
        if not waiting and not any(queues):
            break
        if waiting and all(len(queue) < depth for queue in queues):
            for queue, entries in zip(queues, waiting.popleft(), strict=True):
                queue.append(entries)
        for pe, queue in enumerate(queues):
            while queue and queue[0] == 0:
                queue.popleft()
            if queue:
                queue[0] -= 1
            else:
                idle[pe] += 1
        cycles += 1
    return cycles, idle


# --- the format -------------------------------------------------------------------------------------------------------


def test_the_papers_example():
    column = np.array([0, 0, 1, 2, *[0] * 18, 3])[:, None]
    assert as_lists(eie.encode(column, 1)) == [[[(1, 2), (2, 0), (0, 15), (3, 2)]]]


def test_a_small_matrix_by_hand():
    codes = np.array([[5, 0, 1], [0, 0, 2], [0, 7, 0], [3, 0, 0], [0, 0, 4]])
    matrix = eie.encode(codes, 2)  # rows 0, 2, 4 and rows 1, 3
    assert as_lists(matrix) == [[[(5, 0)], [(7, 1)], [(1, 0), (4, 1)]], [[(3, 1)], [], [(2, 0)]]]
    assert matrix.pointers.tolist() == [[0, 1, 2, 4], [0, 1, 1, 2]]
    assert matrix.entries[0].tolist() == [0x50, 0x71, 0x10, 0x41]
    assert (matrix.pes, matrix.weights, matrix.padding) == (2, 6, 0)
    assert matrix.nbytes == 6 + 2 * 8


@pytest.mark.parametrize(("zeros", "padding"), [(0, 0), (15, 0), (16, 1), (31, 1), (32, 2), (47, 2), (48, 3)])
def test_runs_at_the_edges(zeros, padding):
    codes = np.zeros((zeros + 2, 2), np.uint8)
    codes[zeros] = 9
    matrix = eie.encode(codes, 1)
    assert (matrix.weights, matrix.padding) == (2, 2 * padding)
    assert np.array_equal(eie.decode(matrix), codes)


@settings(deadline=None)
@given(codes=matrices(), pes=st.integers(1, 8))
def test_entries_are_those_of_the_description_and_decode(codes, pes):
    matrix = eie.encode(codes, pes)
    assert as_lists(matrix) == entry_lists(codes, pes)
    decoded = eie.decode(matrix)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, codes)
    assert matrix.weights == np.count_nonzero(codes)
    assert matrix.nbytes == matrix.weights + matrix.padding + 2 * pes * (codes.shape[1] + 1)


def test_pointers_widen_for_long_lists():
    matrix = eie.encode(np.ones((70_000, 1), np.uint8), 1)
    assert matrix.pointers.dtype == np.uint32
    assert eie.decode(matrix).all()
    assert eie.encode(np.ones((65_535, 1), np.uint8), 1).pointers.dtype == np.uint16


@pytest.mark.parametrize(
    ("codes", "pes", "error", "message"),
    [
        (np.ones((2, 2)), 1, TypeError, "codes must be integers, got float64"),
        (np.ones(2, int), 1, ValueError, "codes must be a matrix"),
        (np.ones((0, 2), int), 1, ValueError, "not empty"),
        (np.full((2, 2), 16), 1, ValueError, "from 0 to 15, got 16 to 16"),
        (np.full((2, 2), -1), 1, ValueError, "from 0 to 15, got -1"),
        (np.ones((2, 2), int), 0, ValueError, "pes must be at least 1, got 0"),
    ],
)
def test_what_encode_refuses(codes, pes, error, message):
    with pytest.raises(error, match=message):
        eie.encode(codes, pes)


@pytest.mark.parametrize("density", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("rows", [50, 400, 20_000])
def test_padding_of_random_matrices(density, rows):
    random = np.random.default_rng(0)
    codes = (random.random((rows, 2_000_000 // rows)) < density).astype(np.uint8)
    matrix = eie.encode(codes, 1)
    share = matrix.padding / matrix.weights
    assert share == pytest.approx(eie.expected_padding(density, rows), rel=0.05)
    q = (1 - density) ** 16
    assert eie.expected_padding(density) == pytest.approx(q / (1 - q))
    assert eie.expected_padding(density, 10**7) == pytest.approx(q / (1 - q), rel=1e-4)
    if rows == 20_000:
        assert share == pytest.approx(q / (1 - q), rel=0.1)


def test_expected_padding_at_the_ends():
    assert eie.expected_padding(1) == eie.expected_padding(1, 100) == 0
    assert eie.expected_padding(0.01, 16) == 0
    assert eie.expected_padding(0.01, 17) > 0
    with pytest.raises(ValueError, match="density must be in"):
        eie.expected_padding(0)


# --- products ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(codes=matrices(), pes=st.integers(1, 8), seed=st.integers(0, 100))
def test_integer_products_are_exact(codes, pes, seed):
    random = np.random.default_rng(seed)
    codebook = np.append(0, random.integers(-(2**20), 2**20, 15))
    x = random.integers(-(2**20), 2**20, codes.shape[1]) * (random.random(codes.shape[1]) < 0.6)
    y = eie.multiply(eie.encode(codes, pes), codebook, x)
    assert y.dtype == np.int64
    assert np.array_equal(y, codebook[codes] @ x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_products(dtype):
    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (100, 60)) * (random.random((100, 60)) < 0.2)
    codebook = np.append(0, random.normal(size=15)).astype(dtype)
    x = np.maximum(random.normal(size=60), 0).astype(dtype)
    y = eie.multiply(eie.encode(codes, 7), codebook, x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, codebook[codes] @ x, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-5)


@pytest.mark.parametrize(
    ("codebook", "x", "message"),
    [
        ([1, 2, 3], [1, 1], "codebook must start with 0"),
        ([0, 2], [1, 1], "at least 3 weights"),
        ([], [1, 1], "at least 3 weights"),
        ([0, 1, 2], [1], r"x must have shape \(2,\), got \(1,\)"),
    ],
)
def test_what_multiply_refuses(codebook, x, message):
    matrix = eie.encode(np.array([[1, 2], [0, 1]]), 1)
    with pytest.raises(ValueError, match=message):
        eie.multiply(matrix, np.array(codebook), np.array(x))


# --- cycles -----------------------------------------------------------------------------------------------------------


def counts(codes, x, pes):
    """How many entries each PE has in each active column: (PEs, activations)."""
    lists = entry_lists(codes, pes)
    return np.array([[len(columns[j]) for j in np.flatnonzero(x)] for columns in lists])


def test_cycles_by_hand():
    # work of PE 0: 3, 1, 0; of PE 1: 1, 2, 1
    codes = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    matrix, x = eie.encode(codes, 2), np.ones(3)
    lockstep, queued = (eie.simulate(matrix, x, depth) for depth in (1, 2))
    assert lockstep.work.tolist() == [4, 4]
    # 3 cycles for the first activation, 2 for the second, 1 for the third
    assert (lockstep.cycles, lockstep.idle.tolist()) == (6, [2, 2])
    # 1 starts the second in cycle 1 and is done after 2; the third must wait until 0 has let go of the first,
    # in cycle 3
    assert (queued.cycles, queued.idle.tolist()) == (4, [0, 0])
    assert queued.balance == queued.efficiency == 1
    assert eie.simulate(matrix, np.array([0, 0, 2.0]), 1).cycles == 1


@settings(deadline=None, max_examples=200)
@given(codes=matrices(), pes=st.integers(1, 8), depth=st.integers(1, 5), seed=st.integers(0, 100))
def test_cycles_are_those_of_the_clock(codes, pes, depth, seed):
    x = np.random.default_rng(seed).integers(0, 3, codes.shape[1])
    x[0] = 1
    found = eie.simulate(eie.encode(codes, pes), x, depth)
    work = counts(codes, x, pes)
    cycles, idle = by_the_clock(work, depth)
    assert found.cycles == cycles
    assert found.idle.tolist() == idle
    assert found.work.tolist() == work.sum(1).tolist()
    assert found.weights == np.count_nonzero(codes[:, x != 0])
    assert found.balance == pytest.approx(1 - sum(idle) / (pes * cycles))
    assert found.efficiency <= found.balance <= 1


@settings(deadline=None)
@given(codes=matrices(), pes=st.integers(1, 8))
def test_lockstep_no_limit_and_all_between(codes, pes):
    x = np.ones(codes.shape[1])
    work = counts(codes, x, pes)
    cycles = [eie.simulate(eie.encode(codes, pes), x, depth).cycles for depth in (1, 2, 3, 4, 8, 100)]
    assert cycles[0] == np.maximum(work.max(0), 1).sum()
    # without limit, activation j comes in cycle j, and from some j on the slowest PE has no gap
    left = work[:, ::-1].cumsum(1)[:, ::-1]
    assert cycles[-1] == max((left + np.arange(work.shape[1])).max(), work.shape[1])
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[-1] >= work.sum(1).max()


@pytest.mark.parametrize(
    ("x", "depth", "message"),
    [
        ([0, 0], 4, "not be all zero"),
        ([1, 1, 1], 4, r"x must have shape \(2,\)"),
        ([1, 1], 0, "depth must be at least 1, got 0"),
    ],
)
def test_what_simulate_refuses(x, depth, message):
    with pytest.raises(ValueError, match=message):
        eie.simulate(eie.encode(np.array([[1, 2], [0, 1]]), 1), np.array(x), depth)
