"""The binary products in plain PyTorch: what the kernels must equal, and what runs where there is none. Chapter 08.

Rastegari et al., "XNOR-Net", ECCV 2016, arXiv 1603.05279, section 3.2. Signs become floats again and are multiplied as
such, a block at a time. The sums are exact: whole numbers of at most `LARGEST` in magnitude are float32 numbers,
whatever the order of summation. A convolution is summed tap by tap, rather than by ``conv2d``, whose fast algorithms
round; and ``torch.autocast``, which would round to 8 or 11 bits, is switched off.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress_lib.ops import packing

LARGEST = 1 << 24  # elements of a sum: beyond, float32 skips odd numbers
BLOCK = 1 << 22  # elements that are unpacked at a time: 16 MB as float32


def _without_autocast(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(product)
    def exact(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return product(x, *arguments, **options)

    return exact


@_without_autocast
def binary_linear(x: Tensor, weight: Tensor, n: int) -> Tensor:
    """The dot products of packed signs.

    Parameters
    ----------
    x : Tensor
        (M, ⌈n/64⌉), int64, as of `packing.pack_signs`.
    weight : Tensor
        (N, ⌈n/64⌉), int64.
    n : int
        Signs in a row, up to `LARGEST`.

    Returns
    -------
    Tensor
        (M, N), int32, from −n to n.
    """
    product = torch.empty(len(x), len(weight), dtype=torch.int32, device=x.device)
    rows = max(1, BLOCK // max(n, 1))
    for i in range(0, len(x), rows):
        signs = packing.unpack_signs(x[i : i + rows], n)
        for j in range(0, len(weight), rows):
            product[i : i + rows, j : j + rows] = signs @ packing.unpack_signs(weight[j : j + rows], n).T
    return product


@_without_autocast
def binary_conv2d(
    x: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """The convolution of signs, padded with +1: ``conv2d(pad(sign(x), value=1), sign(weight))``.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W), float; signs are taken inside.
    weight : Tensor
        (out, kh, kw, ⌈C/groups/64⌉), int64, as of `packing.pack_conv_weight`.
    stride, padding, dilation : (int, int)
        Of rows and of columns.
    groups : int

    Returns
    -------
    Tensor
        (B, out, H', W'), int32, contiguous.
    """
    out, kernel = len(weight), weight.shape[1:3]
    channels = x.shape[1] // groups
    height, width = output_size(x.shape[2:], kernel, stride, padding, dilation)
    signs = packing.unpack_signs(weight, channels).unflatten(0, (groups, out // groups))
    product = torch.empty(len(x), out, height, width, dtype=torch.int32, device=x.device)
    images = max(1, BLOCK // max(1, x[:1].numel()))
    for i in range(0, len(x), images):
        padded = packing.positive(x[i : i + images]).float().mul_(2).sub_(1)
        padded = functional.pad(padded, (padding[1], padding[1], padding[0], padding[0]), value=1.0)
        padded = padded.unflatten(1, (groups, channels))
        total = torch.zeros(len(padded), groups, out // groups, height, width, dtype=torch.float32, device=x.device)
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                top, left = row * dilation[0], column * dilation[1]
                seen = padded[..., top :: stride[0], left :: stride[1]][..., :height, :width]
                total += torch.einsum("goc,bgchw->bgohw", signs[:, :, row, column], seen)
        product[i : i + images] = total.flatten(1, 2)
    return product


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int]:
    """The rows and columns that a convolution puts out; below 1 where the kernel is larger than the padded image."""
    rows, columns = (
        (length + 2 * pad - spread * (taps - 1) - 1) // step + 1
        for length, taps, step, pad, spread in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return rows, columns


@_without_autocast
def plane_product(x: Tensor, x_values: list[int], weight: Tensor, weight_values: list[int], n: int) -> Tensor:
    """The dot products of integers in bit planes: ``Σ_ij u_i v_j popcount(a_i AND b_j)``.

    Parameters
    ----------
    x : Tensor
        (P, M, ⌈n/64⌉), int64: the planes a_i.
    x_values : list of int
        What a bit of each plane is worth, u_i.
    weight : Tensor
        (Q, N, ⌈n/64⌉), int64: the planes b_j.
    weight_values : list of int
        v_j
    n : int
        Integers in a row, up to `LARGEST`.

    Returns
    -------
    Tensor
        (M, N), int32; it is the caller's to see that the sums fit.
    """
    product = torch.empty(x.shape[1], weight.shape[1], dtype=torch.int32, device=x.device)
    rows = max(1, BLOCK // max(n, 1))
    for i in range(0, x.shape[1], rows):
        for j in range(0, weight.shape[1], rows):
            total = torch.zeros_like(product[i : i + rows, j : j + rows])
            for bits, u in zip(x[:, i : i + rows], x_values, strict=True):
                left = packing.unpack_bits(bits, n).float()
                for others, v in zip(weight[:, j : j + rows], weight_values, strict=True):
                    total += (left @ packing.unpack_bits(others, n).float().T).int() * (u * v)
            product[i : i + rows, j : j + rows] = total
    return product
