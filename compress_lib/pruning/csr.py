"""Compressed sparse row (CSR): what a pruned weight takes in bytes, and a model with its sparse layers in CSR. Chapter 02.

CSR stores the nonzero values row by row, the column of each, and for each row where it starts. It pays for every
surviving weight with an index, so it saves bytes only beyond `break_even_sparsity`, and time only much later.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from compress_lib.pruning import masks
from compress_lib.pruning.csr_linear import CSRLinear
from compress_lib.pruning.report import Report


def nbytes(weight: Tensor, *, index_bytes: int = 4, value_bytes: int = 4) -> int:
    """The bytes of a weight in CSR: ``nnz·(value + index) + (rows + 1)·index``.

    Parameters
    ----------
    weight : Tensor
        (rows, columns), or a convolution's (out, in, kh, kw), read as (out, in·kh·kw).
    index_bytes, value_bytes : int
        Bytes of one column index or row offset, and of one value.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the weight has fewer than two axes.
    """
    if weight.dim() < 2:
        raise ValueError(f"weight must have at least two axes, got shape {tuple(weight.shape)}")
    return int(weight.count_nonzero()) * (value_bytes + index_bytes) + (len(weight) + 1) * index_bytes


def break_even_sparsity(shape: Sequence[int], *, index_bytes: int = 4, value_bytes: int = 4) -> float:
    """The sparsity above which CSR takes fewer bytes than the dense weight.

    Setting `nbytes` equal to ``rows·columns·value`` gives, with v and i the bytes of a value and an index,
    ``s* = 1 − (v − i·(rows + 1)/(rows·columns)) / (v + i)``: one half plus the cost of the row offsets when v = i.

    Parameters
    ----------
    shape : sequence of int
        (rows, columns), or a convolution's (out, in, kh, kw).
    index_bytes, value_bytes : int
        As in `nbytes`.

    Returns
    -------
    float
        Above 1 where the row offsets alone outweigh the dense weight.

    Raises
    ------
    ValueError
        If the shape has fewer than two axes or an empty one.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"shape must have at least two axes, none of them empty, got {tuple(shape)}")
    offsets = index_bytes * (shape[0] + 1) / math.prod(shape)
    return 1 - (value_bytes - offsets) / (value_bytes + index_bytes)


@dataclass
class LayerRow:
    """One layer in CSR. The bytes include the bias."""

    layer: str
    weights: int
    kept: int
    sparsity: float
    dense_nbytes: int
    csr_nbytes: int


def convert(model: nn.Module, *, min_sparsity: float | None = None) -> tuple[nn.Module, Report]:
    """Replace the sparse linear layers of a model by `CSRLinear`. Convolutions stay dense: torch has no kernel for them.

    Parameters
    ----------
    model : nn.Module
        Masked or plain; left as it is.
    min_sparsity : float, optional
        Convert the layers with at least this fraction of zeros, in [0, 1]. Without it, the layers that take fewer
        bytes in CSR.

    Returns
    -------
    (nn.Module, Report)
        A copy without masks, and one `LayerRow` per converted layer; ``skipped`` says why the others were not.

    Raises
    ------
    ValueError
        If ``min_sparsity`` is outside [0, 1].
    """
    if min_sparsity is not None and not 0 <= min_sparsity <= 1:
        raise ValueError(f"min_sparsity must be in [0, 1], got {min_sparsity}")
    converted = masks.finalize(model)
    rows, skipped, replacements = [], {}, {}
    for name, module in converted.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if type(module) is not nn.Linear:  # a subclass may read its weight in other ways than by calling forward
            skipped[name] = f"{type(module).__name__} has no sparse kernel here"
            continue
        layer = CSRLinear.from_dense(module)
        weights, kept = module.weight.numel(), len(layer.values)
        row = LayerRow(name, weights, kept, 1 - kept / weights, _dense_nbytes(module), layer.nbytes)
        if min_sparsity is None and row.csr_nbytes >= row.dense_nbytes:
            skipped[name] = f"{row.csr_nbytes:,} bytes in CSR against {row.dense_nbytes:,} dense"
        elif min_sparsity is not None and row.sparsity < min_sparsity:
            skipped[name] = f"sparsity {row.sparsity:.2%} is below {min_sparsity:.2%}"
        else:
            rows.append(row)
            replacements[id(module)] = layer
    return _replace(converted, replacements), Report(rows, skipped, title="Linear layers in CSR")


def _dense_nbytes(linear: nn.Linear) -> int:
    return sum(parameter.nbytes for parameter in linear.parameters())


def _replace(model: nn.Module, replacements: dict[int, nn.Module]) -> nn.Module:
    """Put new layers in the place of old ones, given by id, wherever the model holds them."""
    if id(model) in replacements:
        return replacements[id(model)]
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in replacements:
                parent._modules[name] = replacements[id(child)]
    return model
