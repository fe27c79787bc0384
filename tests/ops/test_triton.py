"""The kernels run on a GPU, or, with ``TRITON_INTERPRET=1``, in Triton's interpreter.

Triton reads the variable when it is imported, which other tests may have done. So a process of its own runs this file's
kernels in the interpreter, on every machine; where there is no GPU, the others are skipped here.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

triton = pytest.importorskip("triton", reason="PyTorch comes with Triton on Linux only")

from compress_lib.ops import triton_kernels as kernels

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
runs_kernels = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason="no CUDA GPU; test_in_the_interpreter runs it on the CPU"
)
compiles = pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0).double()


def pack(x):
    """The layout, by NumPy."""
    bits = np.packbits((x >= 0).cpu().numpy(), axis=-1, bitorder="little")
    filled = np.zeros((*x.shape[:-1], -(-x.shape[-1] // 64) * 8), np.uint8)
    filled[..., : bits.shape[-1]] = bits
    return torch.from_numpy(filled.view("<i8"))


def random(*shape, seed=0, dtype=torch.float32):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype)


def same(found, expected):
    return found.dtype == expected.dtype and found.shape == expected.shape and torch.equal(found.cpu(), expected)


# --- packing ----------------------------------------------------------------------------------------------------------


@runs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (64,), (3, 65), (1, 200), (70, 63), (2, 3, 129), (0, 5), (4, 0)])
def test_pack_signs(shape, dtype):
    x = random(*shape, dtype=dtype)
    assert same(kernels.pack_signs(x.to(DEVICE)), pack(x))


@runs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_at_and_near_zero(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    x = torch.tensor([0.0, -0.0, tiny, -tiny, torch.nan, torch.inf, -torch.inf, 1.0], dtype=dtype)
    assert kernels.pack_signs(x.to(DEVICE)).tolist() == [0b10100111]


@runs_kernels
@pytest.mark.parametrize(
    "view",
    [lambda x: x.T, lambda x: x[::2, 1:], lambda x: x[:, ::3], lambda x: x[0].expand(5, -1), lambda x: x[:, None, 3:]],
)
def test_pack_signs_of_a_view(view):
    x = view(random(9, 140))
    packed = kernels.pack_signs(view(random(9, 140).to(DEVICE)))
    assert same(packed, pack(x)) and packed.is_contiguous()


@runs_kernels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "shape, groups", [((2, 6, 3, 5), 1), ((1, 130, 2, 2), 2), ((3, 4, 1, 9), 4), ((0, 2, 3, 3), 1)]
)
def test_pack_image(shape, groups, memory_format):
    x = random(*shape).to(memory_format=memory_format)
    by_group = x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1))
    assert same(kernels.pack_image(x.to(DEVICE), groups), pack(by_group).flatten(-2))


# --- products ---------------------------------------------------------------------------------------------------------


@runs_kernels
@pytest.mark.parametrize(
    "rows, cols, n",
    [
        *[(1, 1, 1), (1, 33, 64), (1, 70, 65), (1, 17, 64 * 70), (1, 1025, 40)],
        *[(2, 33, 100), (5, 1, 63), (7, 16, 64 * 65 + 1), (33, 33, 129), (40, 70, 300), (65, 31, 64 * 4)],
        *[(0, 33, 100), (3, 0, 100), (3, 4, 0), (1, 4, 0)],
    ],
)
def test_linear(rows, cols, n):
    x, w = random(rows, n), random(cols, n, seed=1)
    found = kernels.binary_linear(pack(x).to(DEVICE), pack(w).to(DEVICE), n)
    assert same(found, (signs(x) @ signs(w).T).int())


@runs_kernels
def test_linear_of_leading_axes_and_views():
    x, w = random(2, 3, 100), random(5, 100, seed=1)
    found = kernels.binary_linear(pack(x).transpose(0, 1).to(DEVICE), pack(w).flip(0).to(DEVICE), 100)
    assert same(found, (signs(x).transpose(0, 1) @ signs(w).flip(0).T).int())


CONVOLUTIONS = {
    "ragged channels and outputs": ((2, 70, 7, 6), (33, 70, 3, 3), {"padding": (1, 1)}),
    "stride, padding and dilation differ by axis": (
        (1, 20, 9, 8),
        (3, 20, 3, 2),
        {"stride": (2, 3), "padding": (3, 1), "dilation": (1, 2)},
    ),
    "two groups": ((2, 130, 5, 5), (8, 65, 3, 3), {"padding": (1, 1), "groups": 2}),
    "depthwise": ((1, 3, 6, 5), (6, 1, 3, 3), {"padding": (1, 1), "groups": 3}),
    "1×1": ((3, 64, 3, 5), (40, 64, 1, 1), {}),
    "full words": ((1, 128, 4, 4), (5, 128, 3, 3), {"padding": (1, 1)}),
    "63 channels": ((1, 63, 4, 3), (2, 63, 2, 2), {"padding": (1, 1)}),
    "padding alone under a window": ((1, 5, 1, 1), (2, 5, 1, 1), {"padding": (2, 0)}),
    "one pixel": ((1, 66, 3, 3), (33, 66, 3, 3), {}),
    "wide dilation": ((1, 2, 9, 9), (2, 2, 3, 3), {"dilation": (4, 3)}),
    "no images": ((0, 3, 5, 5), (2, 3, 3, 3), {}),
}


@runs_kernels
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name, memory_format):
    shape, weight_shape, options = CONVOLUTIONS[name]
    x, w = random(*shape), random(*weight_shape, seed=1)
    groups, n = options.get("groups", 1), weight_shape[1]
    x_packed = pack(x.permute(0, 2, 3, 1).unflatten(-1, (groups, n))).flatten(-2).to(DEVICE)
    w_packed = pack(w.permute(0, 2, 3, 1)).to(DEVICE)
    found = kernels.binary_conv2d(x_packed, w_packed, n, **options, memory_format=memory_format)
    vertical, horizontal = options.get("padding", (0, 0))
    padded = F.pad(signs(x), (horizontal, horizontal, vertical, vertical), value=1.0)
    expected = F.conv2d(padded, signs(w), **{key: value for key, value in options.items() if key != "padding"})
    assert same(found, expected.round().int())
    assert found.is_contiguous(memory_format=memory_format)


def test_too_many_pixels():
    x = torch.zeros(1, 1, 1, 1, dtype=torch.int64).expand(1, 1 << 15, (1 << 15) + 1, 1)
    with pytest.raises(ValueError, match=r"at most 2\^30 pixels, got 1073774592"):
        kernels.binary_conv2d(x, torch.zeros(1, 1, 1, 1, dtype=torch.int64), 1)


# --- compilation, which needs no GPU ----------------------------------------------------------------------------------

BLOCKS = {"ROWS": 16, "COLS": 32, "LANES": 8, "PIXELS": 32, "CHANNELS": 100, "KERNEL_H": 3, "KERNEL_W": 3}
POINTERS = {"x": "*i64", "w": "*i64", "y": "*i32", "packed": "*i64"}


@compiles
@pytest.mark.parametrize("capability, sizes", [(75, "any"), (75, "1"), (90, "any")])
@pytest.mark.parametrize(
    "name, x_dtype",
    [*[("_pack_kernel", f"*{dtype}") for dtype in ("fp16", "bf16", "fp32", "fp64")]]
    + [(name, "*i64") for name in ("_vector_kernel", "_matrix_kernel", "_conv_kernel")],
)
def test_compiles_for_old_and_new_gpus(name, x_dtype, capability, sizes, tmp_path, monkeypatch):
    """To PTX that counts bits and leaves tensor cores alone. Triton makes a size of 1 a constant: that too compiles."""
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(kernels, name)
    constants = {argument: BLOCKS[argument] for argument in kernel.arg_names if argument in BLOCKS}
    types = POINTERS | {"x": x_dtype}
    if sizes == "1":
        constants |= {argument: 1 for argument in kernel.arg_names if argument not in types and argument not in BLOCKS}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    ptx = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
    assert ("popc.b64" in ptx) == (name != "_pack_kernel")
    assert not re.search(r"\b(w?mma|wgmma|dp4a)\b", ptx)


# --- processes --------------------------------------------------------------------------------------------------------


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@compiles
def test_in_the_interpreter():
    arguments = "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__
    run = process(*arguments, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 80, run.stdout


def test_ops_do_not_import_triton():
    run = process("-c", "import sys, compress_lib.ops; assert 'triton' not in sys.modules")
    assert run.returncode == 0, run.stderr
