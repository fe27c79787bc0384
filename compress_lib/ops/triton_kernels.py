"""The binary operators on a GPU: packing, matrix product and convolution of signs, in Triton. Chapter 08.

Rastegari et al., "XNOR-Net: ImageNet classification using binary convolutional neural networks", ECCV 2016,
arXiv 1603.05279. A sign is a bit, 1 for +1 (``x >= 0``), in the layout of `packing`. Bits differ where the product of
the signs is −1, so ``a · b = n − 2 popcount(a xor b)``; the bits beyond the end of a row, 0 in both, add nothing. The
products are loops over tiles: ROWS × COLS results, times LANES words that are counted side by side and added up at the
end. Long lanes read memory in long runs, which is all that matters to one row; with many rows, a word that was read is
used ROWS or COLS times. Tensor cores stay idle, and no instruction is newer than those of a T4.

The functions take CUDA tensors and leave the checks to `compress_lib.ops`. Under ``TRITON_INTERPRET=1``, set before
this module is imported, they take CPU tensors, and Triton's interpreter runs the same lines: so they are tested without
a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

_COUNTERS = 4096  # of a program, ROWS × COLS × LANES: 32 registers in each of its 128 threads


@triton.jit
def _popcount(v):
    """The number of ones in each int64 word, as int32."""
    if _INTERPRETED:  # no libdevice there: ones of neighboring bits, pairs and nibbles are added in place
        v = v - ((v >> 1) & 0x5555555555555555)
        v = (v & 0x3333333333333333) + ((v >> 2) & 0x3333333333333333)
        v = (v + (v >> 4)) & 0x0F0F0F0F0F0F0F0F
        return ((v * 0x0101010101010101) >> 56).to(tl.int32)  # the product's top byte is the sum of all bytes
    else:
        return libdevice.popc(v)


_INTERPRETED = tl.constexpr(not isinstance(_popcount, triton.JITFunction))


@triton.jit
def _pack_kernel(x, packed, n, words, d1, rows, x0, x1, x2, xn, p0, p1, p2, ROWS: tl.constexpr):
    """One word of each of ROWS rows; x0, x1, x2 and xn are the strides of x, p0, p1 and p2 those of packed."""
    program = tl.program_id(0)
    blocks = tl.cdiv(rows, ROWS)
    row = (program % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    word = (program // blocks % words).to(tl.int64)
    i0 = (program // blocks // words // d1).to(tl.int64)
    i1 = (program // blocks // words % d1).to(tl.int64)
    bit = tl.arange(0, 64)
    element = word * 64 + bit
    mask = (row < rows)[:, None] & (element < n)[None, :]
    values = tl.load(x + i0 * x0 + i1 * x1 + row[:, None] * x2 + element[None, :] * xn, mask=mask, other=-1)
    if values.dtype != tl.float64:  # which would round tiny negative numbers to zero
        values = values.to(tl.float32)  # not every GPU compares bfloat16 numbers
    ones = (values >= 0).to(tl.int64) << bit[None, :]
    tl.store(packed + i0 * p0 + i1 * p1 + row * p2 + word, tl.sum(ones, axis=1), mask=row < rows)


@triton.jit
def _vector_kernel(x, w, y, n, cols, words, COLS: tl.constexpr, LANES: tl.constexpr):
    """One row of x: the weights are read once, along their rows, and nothing is exchanged before the end."""
    col = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    lane = tl.arange(0, LANES)
    w_lanes = w + col[:, None] * words + lane[None, :]
    differ = tl.zeros((COLS, LANES), tl.int32)
    for k in range(0, words, LANES):
        inside = lane < words - k
        a = tl.load(x + k + lane, mask=inside, other=0)
        b = tl.load(w_lanes + k, mask=inside[None, :] & (col < cols)[:, None], other=0)
        differ += _popcount(a[None, :] ^ b)
    tl.store(y + col, n - 2 * tl.sum(differ, axis=1), mask=col < cols)


@triton.jit
def _matrix_kernel(x, w, y, n, rows, cols, words, ROWS: tl.constexpr, COLS: tl.constexpr, LANES: tl.constexpr):
    """Many rows of x, 32 at a time. Programs that read the same weights run side by side."""
    blocks = tl.cdiv(rows, ROWS)
    row = (tl.program_id(0) % blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = (tl.program_id(0) // blocks).to(tl.int64) * COLS + tl.arange(0, COLS)
    lane = tl.arange(0, LANES)
    x_lanes = x + row[:, None] * words + lane[None, :]
    w_lanes = w + col[:, None] * words + lane[None, :]
    differ = tl.zeros((ROWS, COLS, LANES), tl.int32)
    for k in range(0, words, LANES):
        inside = (lane < words - k)[None, :]
        a = tl.load(x_lanes + k, mask=inside & (row < rows)[:, None], other=0)
        b = tl.load(w_lanes + k, mask=inside & (col < cols)[:, None], other=0)
        differ += _popcount(a[:, None, :] ^ b[None, :, :])
    mask = (row < rows)[:, None] & (col < cols)[None, :]
    tl.store(y + row[:, None] * cols + col[None, :], n - 2 * tl.sum(differ, axis=2), mask=mask)


@triton.jit
def _conv_kernel(
    x, w, y, pixels, height, width, out_height, out_width, groups, cols,
    stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, y_image, y_channel, y_pixel,
    CHANNELS: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    COLS: tl.constexpr, PIXELS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The matrix product of the weights of a group and the words under its windows, which are gathered on the way.

    A row of weights runs over taps and, within a tap, over words. Pixels are neighbors in a warp: each thread works
    out the address of one pixel and one word, and uses the word for COLS output channels.
    """
    WORDS: tl.constexpr = (CHANNELS + 63) // 64
    TOTAL: tl.constexpr = KERNEL_H * KERNEL_W * WORDS
    LAST_WORD: tl.constexpr = (1 << CHANNELS % 64) - 1 if CHANNELS % 64 else -1  # ones where channels are
    blocks = tl.cdiv(pixels, PIXELS)
    col_blocks = tl.cdiv(cols, COLS)
    pixel = tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)
    col = tl.program_id(0) // blocks % col_blocks * COLS + tl.arange(0, COLS)
    group = tl.program_id(0) // blocks // col_blocks
    lane = tl.arange(0, LANES)

    area = out_height * out_width
    image = (pixel // area).to(tl.int64)
    top = (pixel % area // out_width * stride_h - pad_h)[:, None]
    left = (pixel % out_width * stride_w - pad_w)[:, None]
    channel = (group * cols + col).to(tl.int64)
    differ = tl.zeros((COLS, PIXELS, LANES), tl.int32)
    for k in range(0, TOTAL, LANES):
        tap, word = (k + lane) // WORDS, (k + lane) % WORDS
        at_y = top + (tap // KERNEL_W * dilation_h)[None, :]
        at_x = left + (tap % KERNEL_W * dilation_w)[None, :]
        within = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        padding = tl.where(word == WORDS - 1, LAST_WORD, -1).to(tl.int64)  # the sign of a zero is +1
        address = ((image[:, None] * height + at_y) * width + at_x) * groups * WORDS + group * WORDS + word[None, :]
        inside = (k + lane < TOTAL)[None, :]
        a = tl.load(x + address, mask=inside & within & (pixel < pixels)[:, None], other=0)
        a = tl.where(inside & ~within, padding[None, :], a)
        b = tl.load(w + channel[:, None] * TOTAL + k + lane[None, :], mask=inside & (col < cols)[:, None], other=0)
        differ += _popcount(b[:, None, :] ^ a[None, :, :])
    dot = CHANNELS * KERNEL_H * KERNEL_W - 2 * tl.sum(differ, axis=2)
    to = channel[:, None] * y_channel + (image * y_image + (pixel % area).to(tl.int64) * y_pixel)[None, :]
    tl.store(y + to, dot, mask=(col < cols)[:, None] & (pixel < pixels)[None, :])


def pack_signs(x: Tensor) -> Tensor:
    """Pack the signs of the last axis: (…, n) of any real dtype to (…, ⌈n/64⌉) int64, contiguous.

    ``x >= 0`` is +1: zeros of both signs are, NaN is not.
    """
    *leading, n = x.shape
    packed = torch.empty(*leading, -(-n // 64), dtype=torch.int64, device=x.device)
    if packed.numel():
        _pack(x.reshape(1, 1, -1, n), packed.view(1, 1, -1, packed.shape[-1]))
    return packed


def pack_image(x: Tensor, groups: int = 1) -> Tensor:
    """Pack the signs of images along the channels of each group, of which there are n = C/groups.

    (B, C, H, W) of any real dtype to (B, H, W, groups · ⌈n/64⌉) int64, contiguous. Images are not copied first, whether
    they are contiguous or channels-last.
    """
    batch, channels, height, width = x.shape
    n = channels // groups
    words = -(-n // 64)
    packed = torch.empty(batch, height, width, groups * words, dtype=torch.int64, device=x.device)
    if packed.numel():
        pixels = x.reshape(batch, groups, n, height * width).transpose(2, 3)
        _pack(pixels, packed.view(batch, height * width, groups, words).transpose(1, 2))
    return packed


def _pack(x: Tensor, packed: Tensor) -> None:
    """Fill (d0, d1, rows, words) from (d0, d1, rows, n)."""
    d0, d1, rows, words = packed.shape
    block = _block(rows, 64)
    grid = (triton.cdiv(rows, block) * words * d1 * d0,)
    with torch.cuda.device_of(x):
        _pack_kernel[grid](x, packed, x.shape[3], words, d1, rows, *x.stride(), *packed.stride()[:3], ROWS=block)


def _block(size: int, largest: int) -> int:
    """A power of two that covers the size or is the largest."""
    return min(triton.next_power_of_2(max(size, 1)), largest)


def binary_linear(x_packed: Tensor, w_packed: Tensor, n: int) -> Tensor:
    """All dot products of rows of n signs: (…, ⌈n/64⌉) and (out, ⌈n/64⌉), int64, to (…, out) int32."""
    cols, words = w_packed.shape
    y = torch.empty(*x_packed.shape[:-1], cols, dtype=torch.int32, device=x_packed.device)
    if not y.numel():
        return y
    x, w = x_packed.contiguous(), w_packed.contiguous()
    rows = y.numel() // cols
    with torch.cuda.device_of(x):
        if rows == 1:
            lanes = _block(words, 64)
            block_cols = _block(cols, 1024 // lanes)
            grid = (triton.cdiv(cols, block_cols),)
            _vector_kernel[grid](x, w, y, n, cols, words, COLS=block_cols, LANES=lanes)
        else:
            block_rows = _block(rows, 32)
            block_cols = _block(cols, 32 if block_rows == 32 else 16)  # small batches have few blocks of rows
            lanes = _block(words, min(64, _COUNTERS // (block_rows * block_cols)))
            grid = (triton.cdiv(rows, block_rows) * triton.cdiv(cols, block_cols),)
            _matrix_kernel[grid](x, w, y, n, rows, cols, words, ROWS=block_rows, COLS=block_cols, LANES=lanes)
    return y


def binary_conv2d(
    x_packed: Tensor,
    w_packed: Tensor,
    n: int,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The convolution of signs, padded with +1: ``conv2d(pad(sign(x), value=1), sign(weight))``.

    From (B, H, W, groups · ⌈n/64⌉), as of `pack_image`, and (out, kh, kw, ⌈n/64⌉), int64, where n is the number of
    input channels of a group, to (B, out, H', W') int32 in the memory format that is asked for (contiguous or
    channels-last). Pairs are vertical and horizontal. Raises ValueError if the result has more than 2^30 pixels.
    """
    batch, height, width, _ = x_packed.shape
    out, *kernel, _ = w_packed.shape
    out_height, out_width = (
        (length + 2 * pad - step * (taps - 1) - 1) // jump + 1
        for length, pad, step, taps, jump in zip((height, width), padding, dilation, kernel, stride, strict=True)
    )
    pixels, cols = batch * out_height * out_width, out // groups
    if pixels > 1 << 30:  # which the kernel counts in 32 bits: 64-bit divisions are slow
        raise ValueError(f"the result must have at most 2^30 pixels, got {pixels}: split the batch")
    size = batch, out, out_height, out_width
    y = torch.empty(size, dtype=torch.int32, device=x_packed.device, memory_format=memory_format)
    if not y.numel():
        return y
    block_cols, block_pixels = _block(cols, 32), _block(pixels, 32)
    lanes = _block(w_packed[0].numel(), min(64, _COUNTERS // (block_cols * block_pixels)))
    grid = (triton.cdiv(pixels, block_pixels) * triton.cdiv(cols, block_cols) * groups,)
    with torch.cuda.device_of(x_packed):
        _conv_kernel[grid](
            x_packed.contiguous(), w_packed.contiguous(), y, pixels, height, width, out_height, out_width, groups, cols,
            *stride, *padding, *dilation, y.stride(0), y.stride(1), y.stride(3),
            CHANNELS=n, KERNEL_H=kernel[0], KERNEL_W=kernel[1], COLS=block_cols, PIXELS=block_pixels, LANES=lanes,
        )  # fmt: skip
    return y
