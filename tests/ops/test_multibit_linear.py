import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress_lib import ops

several = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def codes(*shape, bits):
    return torch.randint(1 << bits, shape, dtype=torch.uint8)


@several
@given(st.integers(0, 5), st.integers(1, 300), st.integers(1, 8), st.integers(0, 1 << 30))
def test_planes_have_the_bits_of_the_codes(backend, rows, n, bits, seed):
    torch.manual_seed(seed)
    x = codes(rows, n, bits=bits)
    packed = ops.pack_codes(x, bits)
    assert packed.shape == (bits, rows, -(-n // 64))
    planes = (ops.unpack_signs(packed, n) + 1) / 2
    assert torch.equal((planes * 2.0 ** torch.arange(bits).view(-1, 1, 1)).sum(0), x.float())


@several
@given(
    st.integers(0, 15),
    st.integers(0, 40),
    st.integers(1, 300),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 1 << 30),
)
def test_linear_is_the_product_of_the_codes(backend, rows, outputs, n, bits, weight_bits, seed):
    torch.manual_seed(seed)
    x, weight = codes(rows, n, bits=bits), codes(outputs, n, bits=weight_bits)
    found = ops.multibit_linear(x, ops.pack_codes(weight, weight_bits), n, bits)
    assert found.dtype == torch.int32
    assert torch.equal(found, (x.double() @ weight.double().T).int())


def test_the_largest_sums_fit(backend):
    n = (2**31 - 1) // 255**2
    x = torch.full((1, n), 255, dtype=torch.uint8)
    packed = ops.pack_codes(x, 8)
    assert ops.multibit_linear(x, packed, n, 8).item() == n * 255**2
    with pytest.raises(ValueError, match=f"in_features={n + 1}: sums of up to .* do not fit int32"):
        ops.multibit_linear(torch.zeros(1, n + 1, dtype=torch.uint8), packed, n + 1, 8)


def test_leading_axes_and_strides(backend):
    weight = codes(5, 70, bits=2)
    for x in (codes(70, bits=3), codes(2, 3, 70, bits=3), codes(70, 4, bits=3).T, codes(4, 140, bits=3)[:, ::2]):
        found = ops.multibit_linear(x, ops.pack_codes(weight, 2), 70, 3)
        assert torch.equal(found, (x.double() @ weight.double().T).int())


def test_the_identities_of_the_affine_grid_and_of_signs(backend):
    x, weight = codes(9, 70, bits=4), codes(5, 70, bits=3)
    product = ops.multibit_linear(x, ops.pack_codes(weight, 3), 70, 4)
    a, b, z, y = x.long(), weight.long(), 7, 3
    wanted = (a - z) @ (b - y).T
    assert torch.equal(product - y * a.sum(1, keepdim=True) - z * b.sum(1) + 70 * z * y, wanted)
    signs = torch.randn(5, 70)
    product = ops.multibit_linear(x, ops.pack_codes((signs >= 0).byte(), 1), 70, 4)
    assert torch.equal(2 * product - a.sum(1, keepdim=True), (x.float() @ torch.where(signs >= 0, 1.0, -1.0).T).long())


X, WEIGHT = torch.ones(2, 70, dtype=torch.uint8), torch.ones(3, 5, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X.int(), WEIGHT, 70, 2), TypeError, "codes must be a tensor of uint8, got torch.int32"),
        ((X.to_sparse(), WEIGHT, 70, 2), TypeError, "codes must be a dense tensor, got the layout torch.sparse_coo"),
        ((X, WEIGHT, 70, 0), ValueError, "bits must be from 1 to 8, got 0"),
        ((X, WEIGHT, 70, 9), ValueError, "bits must be from 1 to 8, got 9"),
        ((X * 4, WEIGHT, 70, 2), ValueError, r"codes must be below 2\^bits"),
        ((X, WEIGHT, 71, 2), ValueError, r"codes must have the shape \(…, in_features=71\), got \(2, 70\)"),
        ((X, WEIGHT[0], 70, 2), ValueError, r"packed_weight must have the shape \(any, any, 2\), got \(5, 2\)"),
        ((X, WEIGHT[:0], 70, 2), ValueError, "the planes of packed_weight must be from 1 to 8, got 0"),
        ((X, -WEIGHT, 70, 2), ValueError, "packed_weight must have zeros after the last element"),
    ],
)
def test_refused(backend, arguments, error, message):
    with pytest.raises(error, match=message):
        ops.multibit_linear(*arguments)
