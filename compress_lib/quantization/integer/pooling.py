"""Pooling of codes by the maximum. Chapter 05.

The order of codes is that of the numbers that they stand for, so their maximum needs no arithmetic. PyTorch's own
kernel refuses uint8 with the channels innermost, the layout in which the int8 kernels leave their codes; the maximum of
a few shifted slices takes any layout and integer type, and is faster.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.utils import _pair


def max_pool2d(
    codes: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """``torch.nn.functional.max_pool2d`` of unsigned codes.

    Parameters
    ----------
    codes : Tensor
        (…, H, W), not negative: the padding, which is never the maximum, is with 0.
    kernel_size, stride, padding, dilation, ceil_mode : as there.
    return_indices : bool
        False; it is here because the arguments are those of the other.

    Returns
    -------
    Tensor
        (…, H', W'), of the dtype of ``codes``.
    """
    sizes = zip(
        (-2, -1), _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation), strict=True
    )
    for axis, kernel, step, pad, apart in sizes:  # first along the columns, then along the rows
        length, reach = codes.shape[axis], apart * (kernel - 1) + 1
        windows = -(-(length + 2 * pad - reach) // step) + 1 if ceil_mode else (length + 2 * pad - reach) // step + 1
        if (windows - 1) * step >= length + pad:  # a last window in the padding alone
            windows -= 1
        span = (windows - 1) * step + 1
        missing = max(span + reach - 1 - length - pad, 0)
        if pad or missing:
            codes = F.pad(codes, (pad, missing) if axis == -1 else (0, 0, pad, missing))
        codes = _maximum([codes.narrow(axis, apart * k, span) for k in range(kernel)], axis, step)
    return codes


def _maximum(slices: list[Tensor], axis: int, step: int) -> Tensor:
    every = (..., slice(None, None, step)) + (slice(None),) * (-1 - axis)
    found = slices[0][every]
    for other in slices[1:]:
        found = torch.maximum(found, other[every])
    return found
