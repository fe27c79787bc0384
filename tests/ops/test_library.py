import pytest
import torch

from compress_lib import ops
from compress_lib.ops import library

operators = torch.ops.compress_lib
IMAGE, KERNEL = torch.randn(2, 70, 7, 6), ops.pack_conv_weight(torch.randn(4, 35, 3, 2))
GEOMETRY = [2, 1], [1, 0], [1, 2], 2
SAMPLES = {
    "pack_signs": [(torch.randn(3, 70),), (torch.randn(70, 3, dtype=torch.float16).T,), (torch.randn(0, 5),)],
    "unpack_signs": [(ops.pack_signs(torch.randn(3, 70)), 70)],
    "pack_codes": [(torch.randint(8, (3, 70), dtype=torch.uint8), 3)],
    "binary_linear": [
        (torch.randn(2, 3, 70), ops.pack_signs(torch.randn(5, 70)), 70, None),
        (torch.randn(70), ops.pack_signs(torch.randn(5, 70)), 70, torch.rand(5)),
    ],
    "binary_conv2d": [
        (IMAGE, KERNEL, *GEOMETRY, None),
        (IMAGE.to(memory_format=torch.channels_last), KERNEL, *GEOMETRY, torch.rand(4)),
        (IMAGE[..., ::2], KERNEL, *GEOMETRY, None),
        (IMAGE[:0], KERNEL, *GEOMETRY, None),
    ],
    "plane_product": [
        (ops.pack_ternary(torch.randn(3, 70)), [-1, 2], ops.pack_ternary(torch.randn(5, 70)), [-1, 2], 70),
    ],
}


@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, samples in SAMPLES.items() for each in samples])
def test_opcheck(backend, name, arguments):
    torch.library.opcheck(getattr(operators, name).default, arguments)


def test_planes_on_a_gpu_are_exact_under_autocast():
    """Its rule is plain PyTorch, and runs here as well."""
    x, weight = torch.randint(4, (9, 1001), dtype=torch.uint8), torch.randint(4, (5, 1001), dtype=torch.uint8)
    planes = ops.pack_codes(x, 2), [1, 2], ops.pack_codes(weight, 2), [1, 2], 1001
    with torch.autocast("cpu"):
        assert torch.equal(library.cuda_plane_product(*planes), (x.double() @ weight.double().T).int())


def network(x, weight, matrix, codes, planes, ternary):
    image = ops.binary_conv2d(x, weight, 70, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, scale=0.5)
    rows = image.flatten(1)[:, :70]
    signs = ops.unpack_signs(ops.pack_signs(rows), 70)
    return (
        ops.binary_linear(rows, matrix, 70, torch.ones(5)) + signs[:, :5],
        ops.multibit_linear(codes, planes, 70, 3),
        ops.ternary_linear(rows, ternary, 70),
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiled_without_a_break(memory_format):
    arguments = (
        IMAGE.to(memory_format=memory_format),
        KERNEL,
        ops.pack_signs(torch.randn(5, 70)),
        torch.randint(8, (2, 70), dtype=torch.uint8),
        ops.pack_codes(torch.randint(4, (5, 70), dtype=torch.uint8), 2),
        ops.pack_ternary(torch.randn(5, 70)),
    )
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(compiled(*arguments), network(*arguments), strict=True):
        assert torch.equal(found, wanted)


def test_compiled_for_any_batch():
    weight = ops.pack_signs(torch.randn(5, 70))
    calls = torch.compile(
        lambda x: ops.binary_linear(x, weight, 70, 2.0), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for batch in (3, 4, 7):
        x = torch.randn(batch, 70)
        assert torch.equal(calls(x), ops.binary_linear(x, weight, 70, 2.0))


def test_compiled_by_inductor():
    weight = ops.pack_signs(torch.randn(5, 70))
    x = torch.randn(3, 70)
    compiled = torch.compile(lambda x: ops.binary_linear(x, weight, 70), fullgraph=True)
    assert torch.equal(compiled(x), ops.binary_linear(x, weight, 70))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, samples in SAMPLES.items() for each in samples])
def test_a_gpu_gives_the_same_numbers(name, arguments):
    operator = getattr(operators, name)
    moved = [each.cuda() if isinstance(each, torch.Tensor) else each for each in arguments]
    found, wanted = operator(*moved), operator(*arguments)
    assert torch.equal(found.cpu(), wanted)
    assert found.stride() == wanted.stride()
    torch.library.opcheck(operator.default, tuple(moved))
