import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress_lib import ops

several = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ternary(*shape):
    return torch.randint(-1, 2, shape).float() * torch.rand(shape)


@several
@given(st.integers(0, 15), st.integers(0, 40), st.integers(1, 300), st.integers(0, 1 << 30))
def test_linear_is_the_product_of_the_signs_with_zeros(backend, rows, outputs, n, seed):
    torch.manual_seed(seed)
    x, weight, scale = ternary(rows, n), ternary(outputs, n), torch.rand(outputs)
    found = ops.ternary_linear(x, ops.pack_ternary(weight), n, scale)
    assert found.dtype == torch.float32
    assert torch.equal(found, (x.sign().double() @ weight.sign().double().T).float() * scale)


def test_planes_are_the_mask_and_the_sign(backend):
    x = torch.tensor([0.0, -0.0, 3.0, -3.0, float("nan"), float("inf"), -float("inf")])
    nonzero, positive = ops.pack_ternary(x)
    assert nonzero.item() == 0b1101100
    assert positive.item() == 0b0100100


def test_leading_axes(backend):
    weight = ternary(5, 70)
    for x in (ternary(70), ternary(2, 3, 70)):
        assert torch.equal(ops.ternary_linear(x, ops.pack_ternary(weight), 70), x.sign() @ weight.sign().T)


def test_signs_without_zeros_make_the_binary_product(backend):
    x, weight = torch.randn(9, 130), torch.randn(5, 130)
    assert torch.equal(
        ops.ternary_linear(x, ops.pack_ternary(weight), 130, 0.5),
        ops.binary_linear(x, ops.pack_signs(weight), 130, 0.5),
    )


def test_refused(backend):
    x, weight = torch.ones(2, 70), torch.ones(2, 5, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"packed_weight must have the shape \(2, any, 2\), got \(1, 5, 2\)"):
        ops.ternary_linear(x, weight[:1], 70)
    with pytest.raises(ValueError, match="packed_weight must have zeros after the last element"):
        ops.ternary_linear(x, -weight, 70)
    with pytest.raises(TypeError, match="x must be float32"):
        ops.ternary_linear(x.long(), weight, 70)
