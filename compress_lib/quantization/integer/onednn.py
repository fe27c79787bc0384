"""What oneDNN's int8 kernels, which PyTorch ships, can be trusted with. Chapter 05.

A processor without VNNI adds pairs of products in int16 that saturates: 255 · 127 + 255 · 127 becomes 32,767, half of
what it is, without a word. Weights from −127 do not prevent that; 7 bits in either factor do. And three kinds of
convolutions oneDNN (of torch 2.14 and 2.15) gets wrong, also without a word, or crashes in: the first window lies in
the padding alone; it reaches over the whole image and beyond; or the stride is above one and the output one column
wide.
"""

import functools
import warnings
from collections.abc import Sequence

import torch

from compress_lib.quantization.integer import affine

_INT16 = torch.iinfo(torch.int16)


def multiplies(weight_bits: int, input_bits: int, device: torch.device) -> bool:
    """Whether codes of so many bits are multiplied, and summed exactly, on this device; once, a warning if not."""
    found = support() if device.type == "cpu" else "missing"
    largest = affine.quant_range(weight_bits, signed=True)[1] * affine.quant_range(input_bits, signed=False)[1]
    if found == "exact" or (found == "saturating" and 2 * largest <= _INT16.max):
        return True
    warn_once(f"oneDNN's int8 kernels are {found} here: quantized layers compute in float32, which is slower")
    return False


@functools.cache
def support() -> str:
    """What becomes of 8-bit codes on this processor: "exact", "saturating" (in int16) or "missing"."""
    codes, weight = torch.full((1, 2), 255, dtype=torch.uint8), torch.full((1, 2), 127, dtype=torch.int8)
    try:
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        one, zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
        arguments: tuple = (codes, 1.0, 0, packed, one, zero, None, 1.0, 0, torch.float32, "none", [], "")
        found = torch.ops.onednn.qlinear_pointwise.default(*arguments).item()
        torch.ops.onednn.qconv_prepack.default, torch.ops.onednn.qconv2d_pointwise.default  # noqa: B018
    except (AttributeError, NotImplementedError, RuntimeError):
        return "missing"
    return "exact" if found == 2 * 255 * 127 else "saturating"


def convolves(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> bool:
    """Whether a convolution of images of this size, rows and columns, is none of the three kinds above."""
    reach = [apart * (kernel - 1) for apart, kernel in zip(dilation, kernel_size, strict=True)]
    if any(pad > r or length + pad <= r for length, pad, r in zip(size, padding, reach, strict=True)):
        return False  # the first window lies in the padding alone, or reaches over the whole image and beyond
    columns = (size[1] + 2 * padding[1] - reach[1] - 1) // stride[1] + 1
    return columns > 1 or stride[1] == 1


@functools.cache
def warn_once(message: str) -> None:
    """Each message once in a process."""
    warnings.warn(message, stacklevel=5)
