"""Signs and bits, 64 to a word: the layout of all packed tensors, in PyTorch. Chapter 08.

Courbariaux, Hubara et al., "Binarized neural networks", NIPS 2016, arXiv 1602.02830, section 1.3. Bit i of word j, the
least significant first, is element ``64 j + i`` of the last axis. A row of n elements takes ``⌈n/64⌉`` words of int64;
the bits after the last element are 0, in both factors of a product, so that they cancel. n itself is not stored.

A sign's bit is 1 for ``x >= 0``: 1 stands for +1, 0 for −1. Zero of either sign is +1, as in the papers; NaN, of which
``x >= 0`` is false, counts as −1. Negative subnormal numbers are −1 as other negative ones, though a processor that was
told to flush them (``torch.set_flush_denormal``) would compare them as zeros.
"""

import torch
from torch import Tensor
from torch.nn import functional

WORD = 64  # bits
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # of as many bytes as a float
ONES_AFTER_THE_END = "packed_weight must have zeros after the last element of a row: it was packed for longer rows"
LARGE_CODE = "codes must be below 2^bits"


def words(n: int) -> int:
    """The words that n bits take."""
    return -(-n // WORD)


def pack_bits(bits: Tensor) -> Tensor:
    """Pack bools along the last axis.

    Parameters
    ----------
    bits : Tensor
        (…, n), bool.

    Returns
    -------
    Tensor
        (…, ⌈n/64⌉), int64, contiguous.
    """
    bits = functional.pad(bits.to(torch.uint8), (0, -bits.shape[-1] % WORD))
    if not bits.numel():  # which has no bytes to be viewed as words
        return torch.empty(*bits.shape[:-1], bits.shape[-1] // WORD, dtype=torch.int64, device=bits.device)
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    packed = (bits.unflatten(-1, (bits.shape[-1] // 8, 8)) * weights).sum(-1, dtype=torch.uint8)
    return packed.view(torch.int64)  # the first byte is the least significant one wherever PyTorch runs


def unpack_bits(packed: Tensor, n: int) -> Tensor:
    """The first n bits of each row.

    Parameters
    ----------
    packed : Tensor
        (…, ⌈n/64⌉), int64.
    n : int

    Returns
    -------
    Tensor
        (…, n), uint8: 0 or 1.
    """
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = packed.contiguous().view(torch.uint8).unsqueeze(-1) >> places & 1
    return bits.flatten(-2)[..., :n]


def check_end(packed: Tensor, n: int) -> None:
    """Refuse rows with ones after the n-th bit.

    Raises
    ------
    ValueError
    """
    if n % WORD and (packed[..., -1] & -1 << n % WORD).any():
        raise ValueError(ONES_AFTER_THE_END)


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Pack the bits of codes in planes, along the last axis.

    Parameters
    ----------
    codes : Tensor
        (…, n), uint8.
    bits : int

    Returns
    -------
    Tensor
        (bits, …, ⌈n/64⌉), int64, contiguous: plane i has the bits of worth ``2^i``.

    Raises
    ------
    ValueError
        If a code has more bits.
    """
    if bits < 8 and (codes >> bits).any():
        raise ValueError(LARGE_CODE)
    return torch.stack([pack_bits((codes >> i & 1).bool()) for i in range(bits)])


def positive(x: Tensor) -> Tensor:
    """Where the sign is +1: ``x >= 0``, and not so for subnormal numbers that the processor takes for zeros.

    Parameters
    ----------
    x : Tensor
        float32, float16, bfloat16 or float64.

    Returns
    -------
    Tensor
        Bool, of the shape of ``x``.
    """
    bits = x.detach().view(_INTEGERS[x.itemsize])
    return (x >= 0) & (bits - 1 >= -1)  # from 0; or the least integer, the bits of −0, less 1: the largest one


def pack_signs(x: Tensor) -> Tensor:
    """Pack the signs of the last axis.

    Parameters
    ----------
    x : Tensor
        (…, n), float32, float16, bfloat16 or float64.

    Returns
    -------
    Tensor
        (…, ⌈n/64⌉), int64, contiguous.
    """
    return pack_bits(positive(x))


def unpack_signs(packed: Tensor, n: int) -> Tensor:
    """The first n signs of each row.

    Parameters
    ----------
    packed : Tensor
        (…, ⌈n/64⌉), int64.
    n : int

    Returns
    -------
    Tensor
        (…, n), float32: 1 or −1.
    """
    return unpack_bits(packed, n).float().mul_(2).sub_(1)


def pack_conv_weight(weight: Tensor) -> Tensor:
    """Pack the signs of a convolution's weight along its input channels, for each tap.

    Parameters
    ----------
    weight : Tensor
        (out, in/groups, kh, kw), of a dtype as there.

    Returns
    -------
    Tensor
        (out, kh, kw, ⌈in/groups/64⌉), int64, contiguous.
    """
    return pack_signs(weight.permute(0, 2, 3, 1))
