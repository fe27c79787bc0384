"""The compiled kernels in ``csrc``: which there are on this machine, and calls with tensors. Chapter 08.

The first operator that runs on the CPU builds or loads them; importing does nothing. Where they are not to be had, for
whatever reason, the reference computes, and one warning says why. The instructions are chosen at run time, the best
that the processor has; the environment variable ``COMPRESS_LIB_BACKEND`` forces a choice.
"""

import ctypes
import os
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress_lib.ops import build, packing

BACKENDS = ("portable", "avx2", "avx512", "neon")  # in the order of their numbers in binary.cpp; the better is later
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}
_SOURCES = Path(__file__).parent / "csrc"
_lock = threading.Lock()
_loaded: list[tuple[ctypes.CDLL | None, tuple[str, ...], str]] = []


class _Convolution(ctypes.Structure):
    """As in convolution.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "channels", "height", "width", "channels_last", "outputs")),
        *(
            (f"{name}_{axis}", ctypes.c_int64)
            for name in ("kernel", "stride", "padding", "dilation")
            for axis in ("height", "width")
        ),
        *((name, ctypes.c_int64) for name in ("groups", "output_height", "output_width")),
    ]


def backend() -> str:
    """What computes on the CPU: the environment's choice, or the best there is.

    Returns
    -------
    str
        One of `BACKENDS`, or "reference".

    Raises
    ------
    ValueError
        If ``COMPRESS_LIB_BACKEND`` is none of these.
    RuntimeError
        If it is one that this machine does not have.
    """
    forced = os.environ.get("COMPRESS_LIB_BACKEND")
    if forced == "reference":
        return forced
    if forced and forced not in BACKENDS:
        raise ValueError(f"COMPRESS_LIB_BACKEND must be reference or one of {', '.join(BACKENDS)}, got {forced!r}")
    _, found, problem = _library()
    if forced and forced not in found:
        raise RuntimeError(f"COMPRESS_LIB_BACKEND={forced} cannot be had: {problem or f'there is {found}'}")
    return forced or (found[-1] if found else "reference")


def available() -> tuple[str, ...]:
    """The backends that this machine has, the best one last."""
    return ("reference", *_library()[1])


def pack_signs(x: Tensor, backend: str) -> Tensor:
    """`packing.pack_signs`, of floats on the CPU."""
    x = x.contiguous()
    n = x.shape[-1]
    packed = torch.empty(*x.shape[:-1], packing.words(n), dtype=torch.int64)
    _call("cl_pack", backend, DTYPES[x.dtype], _at(x), x.numel() // max(n, 1), n, _at(packed), torch.get_num_threads())
    return packed


def pack_codes(codes: Tensor, bits: int, backend: str) -> Tensor:
    """`packing.pack_codes`, on the CPU."""
    codes = codes.contiguous()
    n = codes.shape[-1]
    packed = torch.empty(bits, *codes.shape[:-1], packing.words(n), dtype=torch.int64)
    _call("cl_pack_codes", backend, _at(codes), codes.numel() // max(n, 1), n, bits, _at(packed))
    return packed


def binary_linear(x: Tensor, weight: Tensor, n: int, scale: Tensor | None, backend: str) -> Tensor:
    """`reference.binary_linear` of packed rows, times a scale (N,) in float32."""
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty(len(x), len(weight), dtype=torch.float32)  # whatever the default dtype is
    _call(
        "cl_linear", backend, _at(x), len(x), _at(weight), len(weight), n, _at(scale), _at(out), torch.get_num_threads()
    )
    return out


def binary_conv2d(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    scale: Tensor | None,
    out: Tensor,
    backend: str,
) -> None:
    """`reference.binary_conv2d`, times a scale (out,), into a float32 tensor of the memory format of ``x``."""
    weight = weight.contiguous()
    sizes = (*x.shape, not x.is_contiguous(), *weight.shape[:3], *stride, *padding, *dilation, groups, *out.shape[2:])
    pointers = _at(x), _at(weight), _at(scale), _at(out)
    geometry = ctypes.byref(_Convolution(*sizes))
    _call("cl_conv2d", backend, geometry, DTYPES[x.dtype], *pointers, torch.get_num_threads())


def plane_product(
    x: Tensor, x_values: list[int], weight: Tensor, weight_values: list[int], n: int, backend: str
) -> Tensor:
    """`reference.plane_product`."""
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty(x.shape[1], weight.shape[1], dtype=torch.int32)
    factors = []
    for planes, values in ((x, x_values), (weight, weight_values)):
        factors += [_at(planes), planes.shape[1], (ctypes.c_int32 * len(values))(*values), len(values)]
    _call("cl_planes", backend, *factors, n, _at(out), torch.get_num_threads())
    return out


def _call(name: str, backend: str, *arguments: Any) -> None:
    status = getattr(_library()[0], name)(BACKENDS.index(backend), *arguments)
    if status == 1:
        raise MemoryError(f"{name} found too little memory")
    if status == 2:
        raise ValueError(packing.ONES_AFTER_THE_END)
    if status == 3:
        raise ValueError(packing.LARGE_CODE)


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _library() -> tuple[ctypes.CDLL | None, tuple[str, ...], str]:
    if _loaded:  # without the lock, which a small layer would notice
        return _loaded[0]
    said: list[str] = []
    with _lock:
        if not _loaded:
            _loaded.append(_load(said.append))
    for message in said:  # not before it is settled what runs: where warnings are errors, the next call goes on
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return _loaded[0]


def _load(warn: Callable[[str], None]) -> tuple[ctypes.CDLL | None, tuple[str, ...], str]:
    """The library, its backends on this machine, and what went wrong."""
    try:
        sources = {path.name: path.read_bytes() for path in _SOURCES.iterdir() if path.suffix in (".cpp", ".h")}
        library = build.library("binary.cpp", sources, _check, warn)
    except Exception as error:  # noqa: BLE001 — whatever fails here, the reference computes
        problem = str(error) or repr(error)
        warn(f"the binary operators run on their slow reference: {problem}")
        return None, (), problem
    return library, tuple(name for number, name in enumerate(BACKENDS) if library.cl_has(number)), ""


def _check(library: ctypes.CDLL) -> None:
    """Declare the functions, and let every backend multiply one row, rows in tiles, and images of either layout."""
    number, size, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    factor = pointer, size, pointer, size
    library.cl_has.argtypes = [number]
    library.cl_pack.argtypes = [number, number, pointer, size, size, pointer, size]
    library.cl_pack_codes.argtypes = [number, pointer, size, size, number, pointer]
    library.cl_linear.argtypes = [number, pointer, size, pointer, size, size, pointer, pointer, size]
    library.cl_planes.argtypes = [number, *factor, *factor, size, pointer, size]
    library.cl_conv2d.argtypes = [number, pointer, number, pointer, pointer, pointer, pointer, size]
    for backend, name in enumerate(BACKENDS):
        if library.cl_has(backend):
            for rows in (1, 9):
                _compare(f"{name}, rows: {rows}", *_try_linear(library, backend, rows))
            for channels_last in (False, True):
                _compare(f"{name}, an image", *_try_convolution(library, backend, channels_last))


def _compare(what: str, found: ctypes.Array, wanted: list[int]) -> None:
    for number, right in zip(found, wanted, strict=True):
        if number != right:
            raise OSError(f"{what}: it counts {number} where it is {right}")


def _try_linear(library: ctypes.CDLL, backend: int, rows: int) -> tuple[ctypes.Array, list[int]]:
    """Products of rows of 70 signs with 5 others: what was found and, by integers of Python, what is right."""
    draw = random.Random(rows)
    x, weight = ([draw.getrandbits(70) for _ in range(count)] for count in (rows, 5))
    words = [
        (ctypes.c_uint64 * (2 * len(each)))(*(b >> i & (1 << 64) - 1 for b in each for i in (0, 64)))
        for each in (x, weight)
    ]
    found = (ctypes.c_float * (rows * 5))()
    library.cl_linear(backend, words[0], rows, words[1], 5, 70, None, found, 1)
    return found, [70 - 2 * (a ^ b).bit_count() for a in x for b in weight]


def _try_convolution(library: ctypes.CDLL, backend: int, channels_last: bool) -> tuple[ctypes.Array, list[int]]:
    """Likewise, of a padded image of (3, 3, 3) and kernels of (2, 3, 2, 2). A pixel's signs are bits of an integer."""
    draw = random.Random(0)
    image = {place: draw.getrandbits(3) for place in product(range(3), repeat=2)}
    kernels = [{place: draw.getrandbits(3) for place in product(range(2), repeat=2)} for _ in range(2)]
    planes = [[1.0 if pixel >> c & 1 else -1.0 for pixel in image.values()] for c in range(3)]
    right = [[0] * 16, [0] * 16]
    for kernel, sums in zip(kernels, right, strict=True):
        for at, (y, z) in enumerate(product(range(-1, 3), repeat=2)):
            differ = (image.get((y + i, z + j), 0b111) ^ bits for (i, j), bits in kernel.items())
            sums[at] = 12 - 2 * sum(each.bit_count() for each in differ)
    if channels_last:
        planes, right = list(map(list, zip(*planes, strict=True))), list(map(list, zip(*right, strict=True)))
    x, weight = list(chain(*planes)), [bits for kernel in kernels for bits in kernel.values()]
    sizes = 1, 3, 3, 3, channels_last, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 4, 4  # as in `binary_conv2d`
    pointers = (ctypes.c_float * 27)(*x), (ctypes.c_uint64 * 8)(*weight), None
    found = (ctypes.c_float * 32)()
    library.cl_conv2d(backend, ctypes.byref(_Convolution(*sizes)), DTYPES[torch.float32], *pointers, found, 1)
    return found, list(chain(*right))
