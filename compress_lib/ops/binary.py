"""Products of signs, on packed weights: `binary_linear`, `binary_conv2d`, and packing. Chapter 08.

Rastegari et al., "XNOR-Net: ImageNet classification using binary convolutional neural networks", ECCV 2016, arXiv
1603.05279, section 3.2; Courbariaux, Hubara et al., "Binarized neural networks", NIPS 2016, arXiv 1602.02830. Of two
rows of n signs, packed into bits, those that differ count −1 and the others +1:

    Σ a_i b_i = n − 2 · popcount(a XOR b).
"""

import torch
from torch import Tensor

from compress_lib.ops import checks, library, packing, reference  # noqa: F401 — library registers the operators


def pack_signs(x: Tensor) -> Tensor:
    """Pack the signs of the last axis, 64 to a word.

    Bit i of word j, the least significant first, is 1 if element ``64 j + i`` is ``>= 0``: zeros of either sign are +1,
    NaN is −1. Bits after the last element are 0.

    Parameters
    ----------
    x : Tensor
        (…, n), float32, float16, bfloat16 or float64, in any strides.

    Returns
    -------
    Tensor
        (…, ⌈n/64⌉), int64, contiguous.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor of floats with at least one axis.
    """
    return torch.ops.compress_lib.pack_signs(checks.floats("x", x))


def unpack_signs(packed: Tensor, n: int) -> Tensor:
    """The signs that `pack_signs` packed.

    Parameters
    ----------
    packed : Tensor
        (…, ⌈n/64⌉), int64.
    n : int
        Signs in a row.

    Returns
    -------
    Tensor
        (…, n), float32: 1 or −1.

    Raises
    ------
    TypeError, ValueError
        If ``packed`` has another dtype or not the words of n signs, or n is no integer from 0.
    """
    checks.integer("n", n, 0, 2**63 - 1)
    leading = tuple(packed.shape[:-1]) if isinstance(packed, Tensor) else ()
    checks.packed("packed", packed, (*leading, packing.words(n)))
    return torch.ops.compress_lib.unpack_signs(packed, n)


def pack_conv_weight(weight: Tensor) -> Tensor:
    """Pack the signs of a convolution's weight along its input channels, for each tap.

    Parameters
    ----------
    weight : Tensor
        (out, in/groups, kh, kw), of a dtype that `pack_signs` takes.

    Returns
    -------
    Tensor
        (out, kh, kw, ⌈in/groups/64⌉), int64, contiguous.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor of floats with four axes.
    """
    return torch.ops.compress_lib.pack_signs(checks.floats("weight", weight, 4).permute(0, 2, 3, 1))


def binary_linear(x: Tensor, packed_weight: Tensor, in_features: int, scale: float | Tensor | None = None) -> Tensor:
    """The product of signs ``sign(x) @ sign(weight).T``, times a scale.

    There is no gradient.

    Parameters
    ----------
    x : Tensor
        (…, in_features), float32, float16, bfloat16 or float64; its signs are taken inside, as by `pack_signs`.
    packed_weight : Tensor
        (out, ⌈in_features/64⌉), int64, as of `pack_signs`.
    in_features : int
        Up to 2^24: longer sums are not always float32 numbers.
    scale : float or Tensor, optional
        (out,) or (): a factor in float32, for each output or for all.

    Returns
    -------
    Tensor
        (…, out), float32: the exact integer sum, times the scale, with one rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type, dtype, shape or device; on the CPU, if ``packed_weight`` has ones after
        ``in_features``.
    """
    x = checks.floats("x", x)
    checks.features(in_features)
    checks.last_axis("x", x, in_features)
    checks.packed("packed_weight", packed_weight, (None, packing.words(in_features)), like=x)
    scale = checks.scales(scale, packed_weight.shape[0], like=x)
    return torch.ops.compress_lib.binary_linear(x, packed_weight, in_features, scale)


def binary_conv2d(
    x: Tensor,
    packed_weight: Tensor,
    in_channels: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    scale: float | Tensor | None = None,
) -> Tensor:
    """The convolution of signs, padded with +1, times a scale.

    That is ``conv2d(pad(sign(x), value=1), sign(weight))``: as a padded zero has no sign, it counts as the zeros inside
    the image do. There is no gradient.

    Parameters
    ----------
    x : Tensor
        (B, in_channels, H, W), float32, float16, bfloat16 or float64, in any strides; its signs are taken inside, as by
        `pack_signs`.
    packed_weight : Tensor
        (out, kh, kw, ⌈in_channels/groups/64⌉), int64, as of `pack_conv_weight`.
    in_channels : int
    kernel_size, stride, padding, dilation : int or (int, int)
        Of rows and of columns.
    groups : int
        As of ``conv2d``.
    scale : float or Tensor, optional
        (out,) or (): a factor in float32, for each output channel or for all.

    Returns
    -------
    Tensor
        (B, out, H', W'), float32: the exact integer sum, times the scale, with one rounding. Channels-last if ``x`` is
        channels-last and not contiguous as well.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type, dtype, shape or device, a sum has more than 2^24 terms, the padded image is
        smaller than the kernel or has 2^31 rows or columns, the padded images or the output have more than 2^40
        elements; on the CPU, if ``packed_weight`` has ones after its channels.
    """
    x = checks.floats("x", x, 4)
    shape = x.shape
    checks.integer("groups", groups, 1, 2**31 - 1)
    checks.integer("in_channels", in_channels, 1, 2**31 - 1)
    if in_channels % groups:
        raise ValueError(f"groups must divide in_channels={in_channels}, got {groups}")
    if shape[1] != in_channels:
        raise ValueError(f"x must have the shape (B, in_channels={in_channels}, H, W), got {tuple(shape)}")
    kernel, strides = checks.pair("kernel_size", kernel_size, 1), checks.pair("stride", stride, 1)
    paddings, dilations = checks.pair("padding", padding, 0), checks.pair("dilation", dilation, 1)
    channels = in_channels // groups
    if channels * kernel[0] * kernel[1] > reference.LARGEST:
        raise ValueError(f"kernel_size={kernel_size} and {channels} channels make sums of more than 2^24 terms")
    checks.packed("packed_weight", packed_weight, (None, *kernel, packing.words(channels)), like=x)
    outputs = packed_weight.shape[0]
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} outputs of packed_weight, got {groups}")
    size = reference.output_size(shape[2:], kernel, strides, paddings, dilations)
    if min(size) < 1:
        raise ValueError(
            f"x of shape {tuple(shape)} is smaller, padding={padding} included, than kernel_size={kernel_size} with "
            f"dilation={dilation}"
        )
    checks.images(shape, paddings, outputs, size)
    scale = checks.scales(scale, outputs, like=x)
    return torch.ops.compress_lib.binary_conv2d(x, packed_weight, strides, paddings, dilations, groups, scale)
