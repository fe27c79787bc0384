import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from compress_lib import ops
from compress_lib.ops import native, packing

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
SPECIAL = [0.0, -0.0, float("nan"), -float("nan"), float("inf"), -float("inf"), 1e-7, -1e-7, 1.0, -1.0]
several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sign(x):
    """In float64, in which the products are exact."""
    return torch.where(x >= 0, 1.0, -1.0).double()


def convolution(x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    padded = functional.pad(sign(x), (padding[1], padding[1], padding[0], padding[0]), value=1.0)
    return functional.conv2d(padded, sign(weight), None, stride, 0, dilation, groups).float()


def numbers(*shape, dtype=torch.float32):
    """Random ones, with some special ones."""
    x = torch.randn(shape)
    some = torch.rand(shape) < 0.1
    x[some] = torch.tensor(SPECIAL)[torch.randint(len(SPECIAL), (int(some.sum()),))]
    return x.to(dtype)


def test_backend_names_what_computes(backend):
    assert ops.backend() == backend


def test_the_best_backend_is_the_default(monkeypatch):
    monkeypatch.delenv("COMPRESS_LIB_BACKEND", raising=False)
    assert ops.backend() == native.available()[-1]


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_BACKEND", "sse9")
    with pytest.raises(ValueError, match="COMPRESS_LIB_BACKEND must be reference or one of .* got 'sse9'"):
        ops.pack_signs(torch.ones(3))


def test_a_backend_of_another_processor_is_refused(monkeypatch):
    other = next(name for name in native.BACKENDS if name not in native.available())
    monkeypatch.setenv("COMPRESS_LIB_BACKEND", other)
    with pytest.raises(RuntimeError, match=f"COMPRESS_LIB_BACKEND={other} cannot be had"):
        ops.pack_signs(torch.ones(3))


# --- packing ----------------------------------------------------------------------------------------------------------


@several
@given(st.integers(0, 9), st.integers(0, 400), st.sampled_from(FLOATS), st.integers(0, 1 << 30))
def test_packing_is_the_layout_of_packing(backend, rows, n, dtype, seed):
    torch.manual_seed(seed)
    x = numbers(rows, n, dtype=dtype)
    packed = ops.pack_signs(x)
    assert torch.equal(packed, packing.pack_signs(x))
    assert torch.equal(ops.unpack_signs(packed, n), sign(x).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_is_packed_by_its_sign(backend, dtype):
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    assert torch.equal(ops.unpack_signs(ops.pack_signs(x), len(x)), torch.where(x >= 0, 1.0, -1.0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_numbers_have_the_same_sign_in_every_place(backend, dtype):
    for value in SPECIAL:
        x = torch.full((200,), value, dtype=dtype)
        assert torch.equal(ops.unpack_signs(ops.pack_signs(x), 200), torch.where(x >= 0, 1.0, -1.0)), value


# --- linear -----------------------------------------------------------------------------------------------------------


@several
@given(
    st.integers(0, 20),
    st.integers(0, 70),
    st.one_of(st.integers(1, 300), st.sampled_from([64, 128, 512, 1984, 2047, 4096])),
    st.sampled_from(FLOATS),
    st.integers(0, 1 << 30),
)
def test_linear_is_the_product_of_the_signs(backend, rows, outputs, n, dtype, seed):
    torch.manual_seed(seed)
    x, weight = numbers(rows, n, dtype=dtype), numbers(outputs, n)
    found = ops.binary_linear(x, ops.pack_signs(weight), n)
    assert found.dtype == torch.float32
    assert torch.equal(found, (sign(x) @ sign(weight).T).float())


@pytest.mark.parametrize(("rows", "outputs", "n"), [(1, 1, 200_000), (3, 5, 140_001), (700, 40, 100), (40, 1100, 65)])
def test_linear_in_several_blocks(backend, rows, outputs, n):
    x, weight = torch.randn(rows, n), torch.randn(outputs, n)
    assert torch.equal(ops.binary_linear(x, ops.pack_signs(weight), n), (sign(x) @ sign(weight).T).float())


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_no_counter_overflows(backend, value):
    x, weight = torch.ones(7, 5000), torch.full((33, 5000), value)
    assert (ops.binary_linear(x, ops.pack_signs(weight), 5000) == 5000 * value).all()


def test_the_longest_sum_is_exact(backend):
    n = 1 << 24
    packed = torch.zeros(1, n // 64, dtype=torch.int64)
    packed[0, 0] = 1
    x = torch.ones(1, dtype=torch.bfloat16).expand(1, n)
    assert ops.binary_linear(x, packed, n).item() == 2 - n


def test_linear_keeps_leading_axes_and_takes_any_strides(backend):
    weight = torch.randn(5, 70)
    packed = ops.pack_signs(torch.cat((weight, weight)))[::2]
    for x in (torch.randn(70), torch.randn(2, 3, 70), torch.randn(70, 4).T, torch.randn(4, 140)[:, ::2]):
        wanted = sign(x) @ sign(torch.cat((weight, weight))[::2]).T
        assert torch.equal(ops.binary_linear(x, packed, 70), wanted.float())


@pytest.mark.parametrize(
    "scale", [0.3, 2, torch.tensor(0.3), torch.rand(5), torch.rand(5).double(), torch.rand(10)[::2]]
)
def test_linear_scales_with_one_rounding(backend, scale):
    x, weight = torch.randn(9, 70), torch.randn(5, 70)
    found = ops.binary_linear(x, ops.pack_signs(weight), 70, scale)
    factor = torch.as_tensor(scale, dtype=torch.float32)
    assert torch.equal(found, (sign(x) @ sign(weight).T).float() * factor)


def test_there_is_no_gradient(backend):
    x, weight = torch.randn(2, 70, requires_grad=True), ops.pack_signs(torch.randn(5, 70))
    assert not ops.binary_linear(x, weight, 70, torch.ones(5, requires_grad=True)).requires_grad


# --- convolution ------------------------------------------------------------------------------------------------------

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@several
@given(
    st.integers(0, 3),
    st.sampled_from([(1, 1, 1), (3, 5, 1), (64, 33, 1), (70, 6, 2), (130, 40, 1), (6, 6, 6), (4, 8, 4), (192, 4, 2)]),
    st.tuples(st.integers(7, 20), st.integers(7, 10)),
    pairs,
    pairs,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    pairs,
    st.sampled_from(FLOATS),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.integers(0, 1 << 30),
)
def test_convolution_is_that_of_the_signs(
    backend, batch, channels, size, kernel, stride, padding, dilation, dtype, memory_format, seed
):
    torch.manual_seed(seed)
    inputs, outputs, groups = channels
    x = numbers(batch, inputs, *size, dtype=dtype).to(memory_format=memory_format)
    weight, scale = numbers(outputs, inputs // groups, *kernel), torch.rand(outputs)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), inputs, kernel, **geometry, scale=scale)
    assert found.dtype == torch.float32
    assert torch.equal(found, convolution(x, weight, **geometry) * scale.view(-1, 1, 1))
    assert found.is_contiguous(memory_format=memory_format) or x.is_contiguous()


def test_convolution_takes_any_strides(backend):
    weight = torch.randn(5, 70, 3, 3)
    for x in (
        torch.randn(2, 70, 9, 18)[..., ::2],
        torch.randn(9, 9, 70, 2).permute(3, 2, 0, 1),
        torch.randn(1, 70, 1, 1).expand(2, 70, 9, 9),
    ):
        found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), 70, 3, padding=1)
        assert torch.equal(found, convolution(x, weight, padding=(1, 1)))


@pytest.mark.parametrize("scale", [None, 0.3, torch.tensor(0.3)])
def test_convolution_with_one_scale(backend, scale):
    x, weight = torch.randn(1, 8, 5, 5), torch.randn(3, 8, 2, 2)
    found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), 8, 2, scale=scale)
    assert torch.equal(found, convolution(x, weight) * (1 if scale is None else torch.tensor(0.3)))


def test_naive_zero_padding_is_something_else():
    x, weight = -torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), 1, 3, padding=1)
    assert found[0, 0, 0, 0] == 5 - 4  # five padded pixels are +1, four are −1
    assert functional.conv2d(sign(x), sign(weight), padding=1)[0, 0, 0, 0] == -4


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_threads_give_the_same_numbers(backend, threads, memory_format):
    x = torch.randn(3, 130, 20, 20).to(memory_format=memory_format)
    weight, matrix = torch.randn(70, 130, 3, 3), torch.randn(500, 4100)
    torch.set_num_threads(threads)
    try:
        found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), 130, 3, padding=1)
        product = ops.binary_linear(matrix, ops.pack_signs(matrix), 4100)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(found, convolution(x, weight, padding=(1, 1)))
    assert torch.equal(product, sign(matrix).float() @ sign(matrix).float().T)


# --- bad input --------------------------------------------------------------------------------------------------------

X, WEIGHT = torch.ones(2, 70), packing.pack_signs(torch.ones(5, 70))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X.long(), WEIGHT, 70), TypeError, "x must be float32, .* got torch.int64"),
        (([1.0], WEIGHT, 70), TypeError, "x must be a tensor, got list"),
        ((torch.tensor(1.0), WEIGHT, 70), ValueError, "x must have some axes"),
        ((X, WEIGHT, 69), ValueError, r"x must have the shape \(…, in_features=69\), got \(2, 70\)"),
        ((X, WEIGHT.int(), 70), TypeError, "packed_weight must be packed in int64, got torch.int32"),
        ((X, WEIGHT.numpy(), 70), TypeError, "packed_weight must be a tensor, got ndarray"),
        ((X, WEIGHT[:, :1], 70), ValueError, r"packed_weight must have the shape \(any, 2\), got \(5, 1\)"),
        ((X, WEIGHT[0], 70), ValueError, r"packed_weight must have the shape \(any, 2\), got \(2,\)"),
        ((X, WEIGHT.to("meta"), 70), ValueError, "packed_weight must be on cpu"),
        ((X[:, :65], WEIGHT, 65), ValueError, "packed_weight must have zeros after the last element"),
        ((X, WEIGHT, 70.0), TypeError, "in_features must be an integer, got 70.0"),
        ((X[:, :0], WEIGHT[:, :0], 0), ValueError, "in_features must be from 1 to 16,777,216, got 0"),
        ((X, WEIGHT, (1 << 24) + 1), ValueError, "in_features must be from 1 to 16,777,216, got 16777217"),
        ((X, WEIGHT, 70, torch.ones(4)), ValueError, r"scale must have the shape \(\) or \(5,\), got \(4,\)"),
        ((X, WEIGHT, 70, torch.ones(5).int()), TypeError, "scale must be float32"),
        ((X, WEIGHT, 70, "1"), TypeError, "scale must be a number or a tensor, got str"),
        ((X, WEIGHT, 70, 10**400), ValueError, "scale must be a number that float32 can hold, up to 3.4e38"),
        ((X, WEIGHT, 70, -1e39), ValueError, "scale must be a number that float32 can hold, up to 3.4e38"),
        ((X, WEIGHT, 70, torch.ones(5).to_sparse()), TypeError, "scale must be a dense tensor, .* torch.sparse_coo"),
        ((X.to_sparse(), WEIGHT, 70), TypeError, "x must be a dense tensor, got the layout torch.sparse_coo"),
        ((X.to_mkldnn(), WEIGHT, 70), TypeError, "x must be a dense tensor, got the layout torch._mkldnn"),
        ((X, WEIGHT.to_sparse(), 70), TypeError, "packed_weight must be a dense tensor, .* torch.sparse_coo"),
    ],
)
def test_linear_refuses(backend, arguments, error, message):
    with pytest.raises(error, match=message):
        ops.binary_linear(*arguments)


IMAGE, KERNEL = torch.ones(1, 6, 5, 5), packing.pack_conv_weight(torch.ones(4, 6, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((IMAGE[0], KERNEL, 6, 3), {}, ValueError, r"x must have 4 axes, got shape \(6, 5, 5\)"),
        ((IMAGE, KERNEL, 5, 3), {}, ValueError, r"x must have the shape \(B, in_channels=5, H, W\)"),
        ((IMAGE, KERNEL, 6, 2), {}, ValueError, r"packed_weight must have the shape \(any, 2, 2, 1\)"),
        ((IMAGE, KERNEL, 6, 0), {}, ValueError, "kernel_size must be from 1 to"),
        ((IMAGE, KERNEL, 6, (3, 3, 3)), {}, TypeError, "kernel_size must be an integer or two"),
        ((IMAGE, KERNEL, 6, 3), {"stride": 0}, ValueError, "stride must be from 1 to"),
        ((IMAGE, KERNEL, 6, 3), {"padding": -1}, ValueError, "padding must be from 0 to"),
        ((IMAGE, KERNEL, 6, 3), {"padding": "same"}, TypeError, "padding must be an integer or two, got 'same'"),
        ((IMAGE, KERNEL, 6, 3), {"dilation": 3}, ValueError, "is smaller, .* than kernel_size=3"),
        ((IMAGE, KERNEL, 6, 3), {"groups": 4}, ValueError, "groups must divide in_channels=6, got 4"),
        ((IMAGE, KERNEL, 6, 3), {"groups": 3}, ValueError, "groups must divide the 4 outputs"),
        ((IMAGE, KERNEL, 6, 3), {"groups": 2}, ValueError, "packed_weight must have zeros after"),
        ((IMAGE, KERNEL, 6, 3), {"scale": torch.ones(3)}, ValueError, r"scale must have the shape \(\) or \(4,\)"),
        ((IMAGE, KERNEL, 6, 1 << 13), {}, ValueError, "sums of more than 2\\^24 terms"),
        ((IMAGE, KERNEL, 6, 3), {"padding": 1 << 30}, ValueError, r"padding=\[.*\] must leave fewer than 2\^31 rows"),
        ((IMAGE, KERNEL, 6, 3), {"padding": 2**31 - 1, "stride": 2**31 - 1}, ValueError, "fewer than 2\\^31 rows"),
        ((IMAGE, KERNEL, 6, 3), {"padding": 1 << 20}, ValueError, "at most 2\\^40 elements, padding=.* included, got"),
        ((IMAGE[:0], KERNEL, 6, 3), {"padding": 1 << 20}, ValueError, "at most 2\\^40 elements"),
        ((IMAGE, KERNEL, 6, 3), {"padding": 1 << 20, "stride": 1 << 20}, ValueError, "at most 2\\^40 elements"),
    ],
)
def test_convolution_refuses(backend, arguments, options, error, message):
    with pytest.raises(error, match=message):
        ops.binary_conv2d(*arguments, **options)


def test_sizes_that_overflow_are_an_error_of_memory(backend):
    """Behind the checks, too."""
    many = [2**31 - 1] * 2
    with pytest.raises((MemoryError, RuntimeError)):
        torch.ops.compress_lib.binary_conv2d(
            torch.randn(1, 64, 2, 2), ops.pack_conv_weight(torch.randn(3, 64, 1, 1)), many, many, [1, 1], 1, None
        )


def test_an_infinite_scale_is_a_scale(backend):
    assert ops.binary_linear(X, WEIGHT, 70, float("-inf")).tolist() == [[-float("inf")] * 5] * 2


def test_packing_refuses():
    with pytest.raises(TypeError, match="x must be float32"):
        ops.pack_signs(torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeError, match="packed must be packed in int64"):
        ops.unpack_signs(torch.ones(3), 3)
    with pytest.raises(ValueError, match=r"packed must have the shape \(2, 2\), got \(2, 1\)"):
        ops.unpack_signs(torch.ones(2, 1, dtype=torch.int64), 70)
    with pytest.raises(ValueError, match="n must be from 0"):
        ops.unpack_signs(torch.ones(2, 1, dtype=torch.int64), -1)
    with pytest.raises(ValueError, match="weight must have 4 axes"):
        ops.pack_conv_weight(torch.ones(3, 3))


def test_a_layer_of_a_million_weights_is_125_kilobytes(tmp_path):
    np.save(tmp_path / "packed.npy", ops.pack_signs(torch.randn(1000, 1024)).numpy())
    assert (tmp_path / "packed.npy").stat().st_size == 1000 * 1024 // 8 + 128  # the header of the file


def test_more_than_two_to_the_31_bits():
    weight = torch.zeros((1 << 15) + 1, 1 << 10, dtype=torch.int64)  # 256 MB of −1
    weight[-1] = -1  # 64 times +1
    x = torch.ones(1, dtype=torch.bfloat16).expand(9, 1 << 16)
    for rows in (1, 9):  # the row alone, and in tiles
        found = ops.binary_linear(x[:rows], weight, 1 << 16)
        assert (found[:, :-1] == -(1 << 16)).all()
        assert (found[:, -1] == 1 << 16).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_does_not_matter(backend, dtype):
    x, weight, image, filters = numbers(20, 300), numbers(7, 300), numbers(2, 70, 5, 5), numbers(3, 70, 3, 3)
    packed = ops.pack_signs(weight), ops.pack_conv_weight(filters)
    torch.set_default_dtype(dtype)
    try:
        linear = ops.binary_linear(x, packed[0], 300, 0.3)
        conv = ops.binary_conv2d(image, packed[1], 70, 3, scale=0.3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(linear, (sign(x) @ sign(weight).T).float() * 0.3)
    assert torch.equal(conv, convolution(image, filters) * 0.3)


def test_autocast_does_not_matter(backend):
    """The sums are odd, or larger than bfloat16 has whole numbers for."""
    x, weight, image, filters = numbers(9, 1001), numbers(7, 1001), numbers(2, 701, 5, 5), numbers(3, 701, 3, 3)
    codes = torch.randint(4, (9, 1001), dtype=torch.uint8)

    def products():
        yield ops.binary_linear(x, ops.pack_signs(weight), 1001, 0.3)
        yield ops.binary_linear(x[:1], ops.pack_signs(weight), 1001)
        yield ops.binary_conv2d(image, ops.pack_conv_weight(filters), 701, 3, padding=1, scale=0.3)
        yield ops.ternary_linear(x, ops.pack_ternary(weight), 1001, 0.3)
        yield ops.multibit_linear(codes, ops.pack_codes(codes, 2), 1001, 2)

    wanted = list(products())
    with torch.autocast("cpu"):
        found = list(products())
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert torch.equal(wanted[1], (sign(x[:1]) @ sign(weight).T).float())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_subnormal_numbers_keep_their_signs_where_the_processor_flushes_them(backend, dtype):
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    negative = torch.rand(2, 70, 9, 9) < 0.5
    x = torch.where(negative, torch.iinfo(bits).min + 1, 1).to(bits).view(dtype)  # the ones nearest to 0
    x[0, 0, 0, :2] = torch.tensor([0.0, -0.0], dtype=dtype)
    negative[0, 0, 0, :2] = False
    signs = torch.where(negative, -1.0, 1.0)
    weight = torch.randn(3, 70, 3, 3)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        packed = ops.pack_signs(x)
        found = ops.binary_conv2d(x, ops.pack_conv_weight(weight), 70, 3)
        last = ops.binary_conv2d(x.to(memory_format=torch.channels_last), ops.pack_conv_weight(weight), 70, 3)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(ops.unpack_signs(packed, 9), signs)
    assert torch.equal(found, convolution(signs, weight))
    assert torch.equal(last, convolution(signs, weight))
