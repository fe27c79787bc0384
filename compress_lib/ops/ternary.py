"""Products of ternary numbers, −1, 0 and 1, in two bit planes. Chapter 08.

Li, Zhang, Liu, "Ternary weight networks", arXiv 1605.04711, whose weights, apart from their scale, are such numbers. A
number t has the bits m, whether it is not 0, and p, whether it is positive: ``t = 2 p − m``. So the product of two rows
is one of bit planes that are worth −1 and 2::

    Σ s t = Σ (2 p − m)(2 q − l) = 4 |p AND q| − 2 |p AND l| − 2 |m AND q| + |m AND l|,

where the bars count ones. With a threshold Δ, ``pack_ternary(w * (w.abs() > Δ))`` packs the weights.
"""

import torch
from torch import Tensor

from compress_lib.ops import checks, library, packing  # noqa: F401 — library registers the operators

_VALUES = [-1, 2]


def pack_ternary(x: Tensor) -> Tensor:
    """Pack the signs of the last axis, with zeros: ``torch.sign(x)``.

    Parameters
    ----------
    x : Tensor
        (…, n), float32, float16, bfloat16 or float64. NaN counts as 0.

    Returns
    -------
    Tensor
        (2, …, ⌈n/64⌉), int64, contiguous: which are not 0, and which are positive, packed as by `pack_signs`.

    Raises
    ------
    TypeError, ValueError
        If it is no tensor of floats with at least one axis.
    """
    x = checks.floats("x", x)
    above, below = torch.ops.compress_lib.pack_signs(x), torch.ops.compress_lib.pack_signs(-x)  # x ≥ 0, x ≤ 0
    return torch.stack((above ^ below, above & ~below))


def ternary_linear(x: Tensor, packed_weight: Tensor, in_features: int, scale: float | Tensor | None = None) -> Tensor:
    """The product of ternary numbers ``torch.sign(x) @ weight.T``, times a scale. There is no gradient.

    Parameters
    ----------
    x : Tensor
        (…, in_features), of a dtype that `pack_ternary` takes; its signs are taken inside. Signs without a zero make it
        a product of binary activations and ternary weights.
    packed_weight : Tensor
        (2, out, ⌈in_features/64⌉), int64, as of `pack_ternary`.
    in_features : int
        Up to 2^24.
    scale : float or Tensor, optional
        (out,) or (): a factor in float32, for each output or for all.

    Returns
    -------
    Tensor
        (…, out), float32: the exact integer sum, times the scale, with one rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument has another type, dtype, shape or device.
    """
    planes = pack_ternary(x)
    checks.features(in_features)
    checks.last_axis("x", x, in_features)
    checks.packed("packed_weight", packed_weight, (2, None, packing.words(in_features)), like=x)
    scale = checks.scales(scale, packed_weight.shape[1], like=x)
    planes = planes.flatten(1, -2) if planes.dim() > 2 else planes.unsqueeze(1)
    product = torch.ops.compress_lib.plane_product(planes, _VALUES, packed_weight, _VALUES, in_features).float()
    product = product.view(*x.shape[:-1], packed_weight.shape[1])
    return product if scale is None else product * scale
