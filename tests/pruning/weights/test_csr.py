import copy
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib.network import masks
from compress_lib.pruning.weights import csr, magnitude
from compress_lib.pruning.weights.csr import CSRLinear


def sparse_linear(rows, columns, sparsity, seed=0, bias=True) -> nn.Linear:
    torch.manual_seed(seed)
    linear = nn.Linear(columns, rows, bias=bias)
    with torch.no_grad():
        linear.weight *= torch.rand(rows, columns) >= sparsity
    return linear


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


# --- bytes ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(shape=shapes, sparsity=st.floats(0, 1), seed=st.integers(0, 999))
def test_nbytes_equals_scipy(shape, sparsity, seed):
    weight = sparse_linear(*shape, sparsity, seed).weight.detach()
    peer = scipy.sparse.csr_matrix(weight.numpy())
    assert (peer.indices.itemsize, peer.data.itemsize) == (4, 4)
    assert csr.nbytes(weight) == peer.data.nbytes + peer.indices.nbytes + peer.indptr.nbytes


def test_nbytes_of_a_convolution_is_that_of_its_matrix():
    weight = torch.randn(6, 4, 3, 3) * (torch.rand(6, 4, 3, 3) < 0.2)
    peer = scipy.sparse.csr_matrix(weight.reshape(6, 36).double().numpy())
    assert csr.nbytes(weight, value_bytes=8) == peer.data.nbytes + peer.indices.nbytes + peer.indptr.nbytes


def test_nbytes_by_hand():
    weight = torch.tensor([[0.0, 2, 0], [1, 0, 3]])
    assert csr.nbytes(weight) == 3 * 8 + 3 * 4
    assert csr.nbytes(weight, index_bytes=2, value_bytes=1) == 3 * 3 + 3 * 2


@settings(max_examples=60, deadline=None)
@given(shape=shapes, index_bytes=st.sampled_from([1, 2, 4, 8]), value_bytes=st.sampled_from([1, 2, 4, 8]))
def test_break_even_parts_the_smaller_from_the_larger(shape, index_bytes, value_bytes):
    cells = shape[0] * shape[1]
    break_even = csr.break_even_sparsity(shape, index_bytes=index_bytes, value_bytes=value_bytes)
    for nonzeros in range(cells + 1):
        weight = torch.zeros(cells)
        weight[:nonzeros] = 1
        size = csr.nbytes(weight.view(shape), index_bytes=index_bytes, value_bytes=value_bytes)
        sparsity = 1 - nonzeros / cells
        if abs(sparsity - break_even) > 1e-12:
            assert (size < cells * value_bytes) == (sparsity > break_even)
        else:
            assert size == cells * value_bytes


def test_break_even_of_a_large_matrix_is_just_above_one_half():
    assert csr.break_even_sparsity((300, 784)) == pytest.approx(0.5 + 301 / (2 * 300 * 784))
    assert csr.break_even_sparsity((50, 20, 5, 5)) == csr.break_even_sparsity((50, 500))
    assert csr.break_even_sparsity((5, 1)) > 1


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"at least two axes, got shape \(5,\)"):
        csr.nbytes(torch.ones(5))
    for shape in ((5,), (5, 0)):
        with pytest.raises(ValueError, match="at least two axes, none of them empty"):
            csr.break_even_sparsity(shape)


# --- the layer --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes,
    sparsity=st.floats(0, 1),
    seed=st.integers(0, 999),
    leading=st.lists(st.integers(0, 4), max_size=3),
    bias=st.booleans(),
)
def test_product_equals_scipy_and_dense(shape, sparsity, seed, leading, bias):
    linear = sparse_linear(*shape, sparsity, seed, bias)
    layer = CSRLinear.from_dense(linear)
    x = torch.randn(*leading, shape[1])
    y = layer(x)
    assert y.shape == (*leading, shape[0])
    torch.testing.assert_close(y, linear(x).detach())
    peer = scipy.sparse.csr_matrix(linear.weight.detach().numpy())
    product = (peer @ x.reshape(-1, shape[1]).numpy().T).T + (linear.bias.detach().numpy() if bias else 0)
    np.testing.assert_allclose(y.reshape(-1, shape[0]).numpy(), product, rtol=1e-4, atol=1e-5)


def test_the_arrays_equal_scipy():
    linear = sparse_linear(30, 40, 0.8)
    layer, peer = CSRLinear.from_dense(linear), scipy.sparse.csr_matrix(linear.weight.detach().numpy())
    assert np.array_equal(layer.values.numpy(), peer.data)
    assert np.array_equal(layer.columns.numpy(), peer.indices)
    assert np.array_equal(layer.offsets.numpy(), peer.indptr)


def test_from_dense_takes_the_masked_weight_and_leaves_the_layer_alone(unchanged):
    pruned, _ = magnitude.prune(unchanged, 0.9)
    x = torch.randn(3, 144)
    layer = CSRLinear.from_dense(pruned[4])
    torch.testing.assert_close(layer(x), pruned[4](x).detach())
    assert len(layer.values) == masks.masks(pruned)["4"].sum()
    bias = pruned[4].bias.detach().clone()
    layer.values.zero_()
    layer.bias.zero_()
    assert torch.equal(pruned[4].bias, bias)
    assert pruned[4].weight.count_nonzero() > 0


def test_double_precision():
    linear = sparse_linear(5, 7, 0.5).double()
    x = torch.randn(2, 7, dtype=torch.float64)
    torch.testing.assert_close(CSRLinear.from_dense(linear)(x), linear(x).detach())


def test_gradient_reaches_the_input():
    linear = sparse_linear(5, 7, 0.5)
    gradients = []
    for layer in (linear, CSRLinear.from_dense(linear)):
        x = torch.ones(3, 7, requires_grad=True)
        layer(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_torch_does_not_say_that_csr_is_in_beta():
    """In a fresh interpreter, because torch says so only once."""
    code = (
        "import torch; from compress_lib.pruning.weights.csr import CSRLinear;"
        "CSRLinear.from_dense(torch.nn.Linear(7, 5))(torch.ones(1, 7))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("columns", "nonzeros_per_row", "column_type", "offset_type"),
    [
        (256, 1, torch.uint8, torch.uint8),
        (257, 100, torch.int16, torch.int16),
        (32768, 1, torch.int16, torch.uint8),
        (32769, 20000, torch.int32, torch.int32),
    ],
)
def test_indices_are_stored_in_the_narrowest_type(columns, nonzeros_per_row, column_type, offset_type):
    linear = nn.Linear(columns, 3, bias=False)
    with torch.no_grad():
        linear.weight[:, :-nonzeros_per_row] = 0
    layer = CSRLinear.from_dense(linear)
    assert layer.columns.dtype == layer.offsets.dtype == torch.int32
    state = layer.state_dict()
    assert (state["columns"].dtype, state["offsets"].dtype) == (column_type, offset_type)
    assert torch.equal(state["columns"].long(), layer.columns.long())
    assert torch.equal(state["offsets"].long(), layer.offsets.long())
    stored = 3 * nonzeros_per_row * (4 + column_type.itemsize) + 4 * offset_type.itemsize
    assert layer.nbytes == stored
    same = copy.deepcopy(layer)
    same.load_state_dict(state)
    assert same.columns.dtype == torch.int32


def test_bad_arguments():
    with pytest.raises(TypeError, match="linear must be a torch.nn.Linear, got Conv2d"):
        CSRLinear.from_dense(nn.Conv2d(1, 1, 1))
    values, columns, offsets = torch.ones(2), torch.tensor([0, 5]), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="do not make a CSR matrix"):
        CSRLinear(5, values, columns, offsets)
    with pytest.raises(ValueError, match=r"bias must have shape \(2,\), got \(3,\)"):
        CSRLinear(6, values, columns, offsets, torch.ones(3))
    with pytest.raises(ValueError, match=r"x must have 6 features on its last axis, got shape \(2, 3\)"):
        CSRLinear(6, values, columns, offsets)(torch.ones(2, 3))


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 1.0])
def test_save_and_load(tmp_path, sparsity, bias):
    layer = CSRLinear.from_dense(sparse_linear(10, 300, sparsity, bias=bias))
    path = tmp_path / "layer.safetensors"
    layer.save(path)
    layer.save(path)  # over an existing file
    assert [p.name for p in tmp_path.iterdir()] == ["layer.safetensors"]
    loaded = CSRLinear.load(path)
    x = torch.randn(4, 300)
    assert torch.equal(loaded(x), layer(x))
    assert (loaded.in_features, loaded.out_features) == (300, 10)
    assert (loaded.bias is None) == (not bias)
    assert layer.nbytes <= path.stat().st_size < layer.nbytes + 600


def test_any_altered_byte_and_any_truncation_is_refused(tmp_path):
    path = tmp_path / "layer.safetensors"
    CSRLinear.from_dense(sparse_linear(3, 5, 0.5)).save(path)
    good = path.read_bytes()
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        with pytest.raises(ValueError, match=r"layer\.safetensors"):
            CSRLinear.load(path)
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match=r"layer\.safetensors is not a whole safetensors file"):
            CSRLinear.load(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(ValueError, match=r"layer\.safetensors"):
        CSRLinear.load(path)


def test_columns_beyond_the_matrix_are_refused_even_with_a_matching_checksum(tmp_path):
    path = tmp_path / "layer.safetensors"
    layer = CSRLinear.from_dense(sparse_linear(3, 5, 0.5))
    layer.columns[-1] = 200  # a sparse kernel would read beyond the input
    layer.save(path)
    with pytest.raises(ValueError, match=r"layer\.safetensors does not hold a CSR linear layer"):
        CSRLinear.load(path)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="other.safetensors does not hold a CSR linear layer 2: its format is None"):
        CSRLinear.load(path)
    with pytest.raises(FileNotFoundError):
        CSRLinear.load(tmp_path / "none")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "layer.safetensors"
    layer = CSRLinear.from_dense(sparse_linear(3, 5, 0.5))
    layer.save(path)
    before = path.read_bytes()

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        layer.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# --- whole models -----------------------------------------------------------------------------------------------------


def test_convert_keeps_the_function_and_says_what_it_left(unchanged):
    pruned, _ = magnitude.prune(unchanged, {"0": 0.9, "4": 0.9, "6": 0.1}, scope="layer")
    pruned.eval()
    converted, report = csr.deploy(pruned)
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(converted(images), pruned(images))
    assert [type(converted[i]) for i in (0, 4, 6)] == [nn.Conv2d, CSRLinear, nn.Linear]
    assert list(masks.masks(pruned)) == ["0", "4", "6"]
    (row,) = report.rows
    assert (row.layer, row.weights, row.kept, row.sparsity) == ("4", 2880, 288, pytest.approx(0.9))
    assert row.dense_nbytes == 4 * (2880 + 20)
    assert row.csr_nbytes == 288 * (4 + 1) + 21 * 2 + 20 * 4  # 144 columns fit one byte, 288 offsets two
    assert report.skipped == {
        "0": "Conv2d has no sparse kernel here",
        "1": "BatchNorm2d has no sparse kernel here",
        "6": "911 bytes in CSR against 800 dense",
    }
    assert "Skipped (Conv2d has no sparse kernel here): 0" in str(report)


def test_convert_above_a_sparsity(network):
    pruned, _ = magnitude.prune(network, {"4": 0.9, "6": 0.5}, scope="layer")
    assert [row.layer for row in csr.deploy(pruned, min_sparsity=0.5)[1].rows] == ["4", "6"]
    converted, report = csr.deploy(pruned, min_sparsity=0.95)
    assert report.rows == []
    assert report.skipped["4"] == "sparsity 90.00% is below 95.00%"
    assert type(converted[4]) is nn.Linear
    assert "Skipped" in str(report)
    with pytest.raises(ValueError, match=r"min_sparsity must be in \[0, 1\], got 1.5"):
        csr.deploy(pruned, min_sparsity=1.5)


def test_convert_a_model_that_is_one_layer_and_one_that_uses_a_layer_twice():
    linear = sparse_linear(8, 8, 0.9)
    alone, _ = csr.deploy(linear)
    assert type(alone) is CSRLinear
    twice = nn.Sequential(linear, nn.ReLU(), linear)
    converted, report = csr.deploy(twice)
    assert converted[0] is converted[2]
    assert type(converted[0]) is CSRLinear
    assert len(report.rows) == 1
    x = torch.randn(3, 8)
    torch.testing.assert_close(converted(x), twice(x).detach())


def test_a_subclass_of_linear_is_left_alone():
    attention = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        attention.out_proj.weight.zero_()
    converted, report = csr.deploy(attention, min_sparsity=0)
    assert report.rows == []
    assert "out_proj" in report.skipped
    x = torch.randn(3, 1, 4)
    torch.testing.assert_close(converted(x, x, x)[0], attention(x, x, x)[0])
