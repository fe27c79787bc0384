"""Products of few-bit integers by bit planes: k-bit weights and m-bit activations. Chapter 08.

Zhou et al., "DoReFa-Net: training low bitwidth convolutional neural networks with low bitwidth gradients", arXiv
1606.06160, equation 3. Of codes ``a = Σ 2^i a_i`` and ``b = Σ 2^j b_j`` with bits a_i and b_j,

    Σ a b = Σ_ij 2^(i+j) popcount(a_i AND b_j):

k · m binary products. Codes are unsigned; numbers on an affine grid are the caller's arithmetic,
``Σ (a − z)(b − y) = Σ a b − y Σ a − z Σ b + n z y``, and signs, as 1-bit codes, ``Σ a (2 b − 1) = 2 Σ a b − Σ a``.
"""

import torch
from torch import Tensor

from compress_lib.ops import checks, library, packing  # noqa: F401 — library registers the operators


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Pack unsigned codes into bit planes.

    Parameters
    ----------
    codes : Tensor
        (…, n), uint8, below ``2^bits``.
    bits : int
        From 1 to 8.

    Returns
    -------
    Tensor
        (bits, …, ⌈n/64⌉), int64, contiguous: plane i has bit i of the codes, packed as by `pack_signs`.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type or shape, or a code has more bits.
    """
    checks.integer("bits", bits, 1, 8)
    if not isinstance(codes, Tensor) or codes.dtype != torch.uint8:
        raise TypeError(f"codes must be a tensor of uint8, got {getattr(codes, 'dtype', type(codes).__name__)}")
    checks.dense("codes", codes)
    if not codes.dim():
        raise ValueError("codes must have some axes, got shape ()")
    return torch.ops.compress_lib.pack_codes(codes, bits)


def multibit_linear(codes: Tensor, packed_weight: Tensor, in_features: int, bits: int) -> Tensor:
    """The product of unsigned codes, ``codes @ weight.T``. There is no gradient.

    Parameters
    ----------
    codes : Tensor
        (…, in_features), uint8, below ``2^bits``.
    packed_weight : Tensor
        (k, out, ⌈in_features/64⌉), int64, as of `pack_codes`: k-bit codes.
    in_features : int
        Up to 2^24.
    bits : int
        Of the codes, from 1 to 8.

    Returns
    -------
    Tensor
        (…, out), int32, exact.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type, dtype, shape or device, a code has more bits, or the largest sum that is
        possible, ``in_features (2^bits − 1) (2^k − 1)``, does not fit int32.
    """
    checks.features(in_features)
    checks.packed("packed_weight", packed_weight, (None, None, packing.words(in_features)))
    checks.integer("the planes of packed_weight", packed_weight.shape[0], 1, 8)
    planes = pack_codes(codes, bits)
    checks.last_axis("codes", codes, in_features)
    checks.packed("packed_weight", packed_weight, (None, None, None), like=codes)
    largest = in_features * (2**bits - 1) * (2 ** packed_weight.shape[0] - 1)
    if largest >= 2**31:
        raise ValueError(f"in_features={in_features}: sums of up to {largest:,} do not fit int32")
    values = [1 << i for i in range(bits)]
    weight_values = [1 << j for j in range(packed_weight.shape[0])]
    product = torch.ops.compress_lib.plane_product(
        planes.flatten(1, -2) if planes.dim() > 2 else planes.unsqueeze(1),
        values,
        packed_weight,
        weight_values,
        in_features,
    )
    return product.view(*codes.shape[:-1], packed_weight.shape[1])
