"""The operators as PyTorch knows them: ``torch.ops.compress_lib``, eager and in ``torch.compile``. Chapter 08.

Each has a schema, an implementation for the CPU and for CUDA, and a fake rule that gives shape, dtype and strides of
the output. The arguments have been checked by the functions of `compress_lib.ops`. Ones after the end of a row of the
weight, which would be counted, are looked for on the CPU only: on a GPU the look would wait for it.
"""

from typing import Any

import torch
from torch import Tensor

from compress_lib.ops import native, packing, reference

_library = torch.library.Library("compress_lib", "DEF")
_CONVOLUTION = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
for _schema in (
    "pack_signs(Tensor x) -> Tensor",
    "unpack_signs(Tensor packed, SymInt n) -> Tensor",
    "pack_codes(Tensor codes, SymInt bits) -> Tensor",
    "binary_linear(Tensor x, Tensor weight, SymInt n, Tensor? scale) -> Tensor",
    f"binary_conv2d(Tensor x, Tensor weight, {_CONVOLUTION}, Tensor? scale) -> Tensor",
    "plane_product(Tensor x, int[] x_values, Tensor weight, int[] weight_values, SymInt n) -> Tensor",
):
    _library.define(_schema, tags=torch.Tag.pt2_compliant_tag)


def _cpu(function):
    _library.impl(function.__name__, function, "CPU")
    return function


def _cuda(function):
    _library.impl(function.__name__.removeprefix("cuda_"), function, "CUDA")
    return function


def _fake(function):
    torch.library.register_fake(f"compress_lib::{function.__name__.removeprefix('fake_')}", function, lib=_library)
    return function


@_cpu
def pack_signs(x: Tensor) -> Tensor:
    backend = native.backend()
    return packing.pack_signs(x) if backend == "reference" else native.pack_signs(x, backend)


@_cuda
def cuda_pack_signs(x: Tensor) -> Tensor:
    from compress_lib.ops import triton_kernels  # here, as importing Triton takes time, and only GPUs need it

    return triton_kernels.pack_signs(x)


@_fake
def fake_pack_signs(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], packing.words(x.shape[-1]), dtype=torch.int64)


@_cpu
@_cuda
def unpack_signs(packed: Tensor, n: int) -> Tensor:
    return packing.unpack_signs(packed, n)


@_fake
def fake_unpack_signs(packed: Tensor, n: int) -> Tensor:
    return packed.new_empty(*packed.shape[:-1], n, dtype=torch.float32)


@_cpu
def pack_codes(codes: Tensor, bits: int) -> Tensor:
    backend = native.backend()
    return packing.pack_codes(codes, bits) if backend == "reference" else native.pack_codes(codes, bits, backend)


@_cuda
def cuda_pack_codes(codes: Tensor, bits: int) -> Tensor:
    return packing.pack_codes(codes, bits)


@_fake
def fake_pack_codes(codes: Tensor, bits: int) -> Tensor:
    return codes.new_empty(bits, *codes.shape[:-1], packing.words(codes.shape[-1]), dtype=torch.int64)


@_cpu
def binary_linear(x: Tensor, weight: Tensor, n: int, scale: Tensor | None) -> Tensor:
    backend = native.backend()
    if backend == "reference":
        packing.check_end(weight, n)
        product = reference.binary_linear(packing.pack_signs(x).reshape(-1, weight.shape[1]), weight, n).float()
        product = product if scale is None else product * scale
    else:
        packed = native.pack_signs(x, backend).view(-1, weight.shape[1])
        product = native.binary_linear(packed, weight, n, scale, backend)
    return product.view(*x.shape[:-1], len(weight))


@_cuda
def cuda_binary_linear(x: Tensor, weight: Tensor, n: int, scale: Tensor | None) -> Tensor:
    from compress_lib.ops import triton_kernels

    product = triton_kernels.binary_linear(triton_kernels.pack_signs(x), weight, n)
    return product.float() if scale is None else product * scale


@_fake
def fake_binary_linear(x: Tensor, weight: Tensor, n: int, scale: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0], dtype=torch.float32)


@_cpu
def binary_conv2d(
    x: Tensor, weight: Tensor, stride: list, padding: list, dilation: list, groups: int, scale: Tensor | None
) -> Tensor:
    out = fake_binary_conv2d(x, weight, stride, padding, dilation, groups, scale)
    backend = native.backend()
    if backend == "reference":
        packing.check_end(weight, x.shape[1] // groups)
        geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        out.copy_(reference.binary_conv2d(x, weight, **geometry))
        return out if scale is None else out.mul_(scale.view(-1, 1, 1))
    dense = x.contiguous(memory_format=_memory_format(x))
    native.binary_conv2d(dense, weight, stride, padding, dilation, groups, scale, out, backend)
    return out


@_cuda
def cuda_binary_conv2d(
    x: Tensor, weight: Tensor, stride: list, padding: list, dilation: list, groups: int, scale: Tensor | None
) -> Tensor:
    from compress_lib.ops import triton_kernels

    packed, channels = triton_kernels.pack_image(x, groups), x.shape[1] // groups
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    product = triton_kernels.binary_conv2d(packed, weight, channels, **geometry, memory_format=_memory_format(x))
    return product.float() if scale is None else product * scale.view(-1, 1, 1)


@_fake
def fake_binary_conv2d(
    x: Tensor, weight: Tensor, stride: list, padding: list, dilation: list, groups: int, scale: Tensor | None
) -> Tensor:
    size = reference.output_size(x.shape[2:], weight.shape[1:3], stride, padding, dilation)
    shape = x.shape[0], weight.shape[0], *size
    return torch.empty(shape, dtype=torch.float32, device=x.device, memory_format=_memory_format(x))


def _memory_format(x: Tensor) -> torch.memory_format:
    """Of the output: channels-last if x is that and not contiguous as well."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


@_cpu
def plane_product(x: Tensor, x_values: list, weight: Tensor, weight_values: list, n: int) -> Tensor:
    backend = native.backend()
    if backend == "reference":
        packing.check_end(weight, n)
        return reference.plane_product(x, x_values, weight, weight_values, n)
    return native.plane_product(x, x_values, weight, weight_values, n, backend)


@_cuda
def cuda_plane_product(x: Tensor, x_values: list, weight: Tensor, weight_values: list, n: int) -> Tensor:
    return reference.plane_product(x, x_values, weight, weight_values, n)


@_fake
def fake_plane_product(x: Tensor, x_values: list, weight: Tensor, weight_values: list, n: int) -> Tensor:
    return x.new_empty(x.shape[1], weight.shape[1], dtype=torch.int32)
