"""Multiply-adds of one tensor operation, from the shapes it was called with.

One MAC is one multiplication whose result is accumulated. Convolutions, matrix products and attention have MACs; bias
additions, normalization, pooling and activations have none (chapter 1). Positions that fall on zero padding and weights
that happen to be zero count like any other, because a dense kernel multiplies them all the same.

PyTorch's own ``torch.utils.flop_counter`` holds the formulas of most operations (two FLOPs to a MAC). The few below are
the ones it lacks, and `compress_lib.cost.attention` has those of attention. A custom operator joins in by
``torch.utils.flop_counter.register_flop_formula``.
"""

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from compress_lib.cost import attention

_OWN_NAMESPACES = ("aten", "prim", "prims")
_LOOKS_LIKE_A_PRODUCT = re.compile(r"conv|fft|rnn|lstm|attention|multi_head|transformer|matmul|linear$|mv_?$|mm(_|$)")


def macs_of(operator: Any, args: tuple, kwargs: dict, out: Any) -> int | None:
    """Multiply-adds of one call.

    Parameters
    ----------
    operator : torch._ops.OpOverloadPacket or torch._ops.HigherOrderOperator
        The operation, for example ``torch.ops.aten.convolution``.
    args, kwargs, out
        What it was called with and what it returned; only their shapes are read.

    Returns
    -------
    int or None
        ``None`` where no formula is known: an element-wise operation, a copy, or one that `is_uncounted` reports.
    """
    if formula := _FORMULAS.get(str(operator)):
        return formula(*args)
    if formula := attention.FORMULAS.get(str(operator)):
        return formula(*args, **kwargs)
    if operator in flop_registry:
        return flop_registry[operator](*args, **kwargs, out_val=out) // 2
    return None


def is_uncounted(operator: Any) -> bool:
    """Whether an operation without a formula may hide multiply-adds: a custom operator, or a product by its name."""
    namespace, _, name = str(operator).rpartition(".")
    return namespace not in _OWN_NAMESPACES or bool(_LOOKS_LIKE_A_PRODUCT.search(name))


def _matrix_vector(matrix: Tensor, _vector: Tensor) -> int:
    return prod(matrix.shape)


def _add_matrix_vector(_bias: Tensor | None, matrix: Tensor, _vector: Tensor) -> int:
    return prod(matrix.shape)


def _dot(x: Tensor, _y: Tensor) -> int:
    return x.numel()


def _add_batch_matmul(_bias: Tensor | None, batch1: Tensor, batch2: Tensor) -> int:
    return prod(batch1.shape) * batch2.shape[-1]


def _trilinear(
    x1: Tensor, weight: Tensor, x2: Any, expand1: Sequence[int], expand2: Sequence[int], expand3: Sequence[int], *_: Any
) -> int:
    # nn.Bilinear, y[o] = sum over i, j of x1[i] w[o, i, j] x2[j]: one accumulation per weight and sample.
    shapes = []
    for tensor, inserted_axes in ((x1, expand1), (weight, expand2), (x2, expand3)):
        shape = list(tensor.shape)
        for axis in sorted(inserted_axes):
            shape.insert(axis, 1)
        shapes.append(shape)
    return prod(torch.broadcast_shapes(*shapes))


def _rnn(x: Tensor, *weights: Any) -> int:
    # Each time step of each sequence multiplies by every weight matrix once; biases are the vectors.
    steps = x.numel() // x.shape[-1]
    return steps * sum(prod(w.shape) for w in weights if w.dim() == 2)


def _mkldnn_rnn_layer(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, *_: Any) -> int:
    return _rnn(x, weight_ih, weight_hh)


def _cudnn_rnn(x: Tensor, weights: Any, *_: Any) -> int:
    return _rnn(x, *weights)


_FORMULAS: dict[str, Callable[..., int | None]] = {
    "aten.mv": _matrix_vector,
    "aten.addmv": _add_matrix_vector,
    "aten.dot": _dot,
    "aten.vdot": _dot,
    "aten.addbmm": _add_batch_matmul,
    "aten._trilinear": _trilinear,
    "aten.mkldnn_rnn_layer": _mkldnn_rnn_layer,
    "aten._cudnn_rnn": _cudnn_rnn,
}
