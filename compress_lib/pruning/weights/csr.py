"""Compressed sparse row (CSR): the bytes of a pruned weight, and a model with its sparse layers in CSR. Chapter 02.

CSR stores the nonzero values row by row, the column of each, and for each row where it starts. It pays for every
surviving weight with an index, so it saves bytes only beyond `break_even_sparsity`, and time only much later.
"""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress_lib import checks, files
from compress_lib.network import masks
from compress_lib.network.replacing import replace_
from compress_lib.report import LayerRow, Report

_FORMAT = "CSR linear layer 2"


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
class SparseLayer(LayerRow):
    """One layer in CSR. The bytes include the bias."""

    sparsity: float
    dense_nbytes: int
    csr_nbytes: int


def deploy(model: nn.Module, *, min_sparsity: float | None = None) -> tuple[nn.Module, Report]:
    """Replace the sparse linear layers of a model by `CSRLinear`; torch has no kernel for sparse convolutions.

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
        A copy without masks, and one `SparseLayer` per converted layer; ``skipped`` says why the others were not.

    Raises
    ------
    ValueError
        If ``min_sparsity`` is outside [0, 1].
    """
    if min_sparsity is not None:
        checks.fraction("min_sparsity", min_sparsity, below_one=False)
    converted = masks.deploy(model)
    rows, skipped, replacements = [], {}, []
    for name, module in converted.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        if type(module) is not nn.Linear:  # a subclass may read its weight in other ways than by calling forward
            skipped[name] = f"{type(module).__name__} has no sparse kernel here"
            continue
        layer = CSRLinear.from_dense(module)
        weights, kept = module.weight.numel(), len(layer.values)
        row = SparseLayer(
            name, type(module).__name__, weights, kept, 1 - kept / weights, _dense_nbytes(module), layer.nbytes
        )
        if min_sparsity is None and row.csr_nbytes >= row.dense_nbytes:
            skipped[name] = f"{row.csr_nbytes:,} bytes in CSR against {row.dense_nbytes:,} dense"
        elif min_sparsity is not None and row.sparsity < min_sparsity:
            skipped[name] = f"sparsity {row.sparsity:.2%} is below {min_sparsity:.2%}"
        else:
            rows.append(row)
            replacements.append((module, layer))
    for module, layer in replacements:  # now, as the loop above walks through the model
        converted = replace_(converted, module, layer)
    return converted, Report(rows, skipped, title="Linear layers in CSR")


class CSRLinear(nn.Module):
    """``y = x Wᵀ + b`` with W in CSR, multiplied by torch's sparse kernel. For inference: it has no parameters.

    In memory the indices are int32 (int64 where int32 is too small), because torch multiplies with nothing narrower.
    In the state dict, and so on disk, columns and offsets each take the narrowest integer type that holds them.

    Parameters
    ----------
    in_features : int
        The columns of W.
    values : Tensor
        (nnz,) nonzero weights, row by row.
    columns : Tensor
        (nnz,) the column of each, ascending within a row.
    offsets : Tensor
        (out_features + 1,) where each row starts in ``values``; the last entry is nnz.
    bias : Tensor, optional
        (out_features,).

    Raises
    ------
    ValueError
        If the three do not make a CSR matrix, or the bias has another length than there are rows.
    """

    values: Tensor
    columns: Tensor
    offsets: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, values: Tensor, columns: Tensor, offsets: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.in_features, self.out_features = in_features, len(offsets) - 1
        index_dtype = torch.int32 if max(in_features, len(values)) <= torch.iinfo(torch.int32).max else torch.int64
        self.register_buffer("values", values)
        self.register_buffer("columns", columns.to(index_dtype))
        self.register_buffer("offsets", offsets.to(index_dtype))
        self.register_buffer("bias", bias)
        if bias is not None and bias.shape != (self.out_features,):
            raise ValueError(f"bias must have shape ({self.out_features},), got {tuple(bias.shape)}")
        try:
            with warnings.catch_warnings():  # torch says once per process that CSR is in beta
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
                self._matrix(check_invariants=True)
        except RuntimeError as error:
            raise ValueError(f"values, columns and offsets do not make a CSR matrix: {error}") from None
        self.register_state_dict_post_hook(_narrow)

    @classmethod
    def from_dense(cls, linear: nn.Linear) -> "CSRLinear":
        """The CSR form of a linear layer, masked or plain; its zeros are dropped, its bias is copied.

        Raises
        ------
        TypeError
            If ``linear`` is not a linear layer.
        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be a torch.nn.Linear, got {type(linear).__name__}")
        weight = linear.weight.detach()
        row, column = weight.nonzero(as_tuple=True)
        offsets = torch.zeros(len(weight) + 1, dtype=torch.int64, device=weight.device)
        offsets[1:] = weight.count_nonzero(dim=1).cumsum(0)
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return cls(linear.in_features, weight[row, column], column, offsets, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have {self.in_features} features on its last axis, got shape {tuple(x.shape)}")
        flat = x.reshape(-1, self.in_features)
        # W xᵀ, not x Wᵀ: torch multiplies a CSR matrix fast from the left only.
        y = (self._matrix() @ flat.T).T
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors in the state dict: what a file holds, its header aside."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    def save(self, path: str | os.PathLike) -> None:
        """Write the layer to one safetensors file, whole or not at all."""
        tensors = {name: tensor.cpu() for name, tensor in self.state_dict().items()}
        files.save_tensors(path, tensors, _FORMAT, {"in_features": str(self.in_features)})

    @classmethod
    def load(cls, path: str | os.PathLike) -> "CSRLinear":
        """Read a file that `save` wrote.

        Raises
        ------
        ValueError
            If the file is truncated, altered or of another kind.
        """
        tensors, metadata = files.load_tensors(path, _FORMAT)
        try:
            return cls(int(metadata["in_features"]), **tensors)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a CSR linear layer: {error}") from None

    def extra_repr(self) -> str:
        kept = len(self.values) / (self.in_features * self.out_features)
        return f"in_features={self.in_features}, out_features={self.out_features}, sparsity={1 - kept:.4f}"

    def _matrix(self, check_invariants: bool = False) -> Tensor:
        size = (self.out_features, self.in_features)
        # Not by the argument of the same name: torch 2.11 warns when that says False.
        with torch.sparse.check_sparse_tensor_invariants(check_invariants):
            return torch.sparse_csr_tensor(self.offsets, self.columns, self.values, size)


def _narrow(module: CSRLinear, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict) -> None:
    """Store columns and offsets in the narrowest integer type that holds them."""
    for name, largest in (("columns", module.in_features - 1), ("offsets", len(module.values))):
        narrowest = next(
            t for t in (torch.uint8, torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(t).max
        )
        state_dict[prefix + name] = state_dict[prefix + name].to(narrowest)


def _dense_nbytes(linear: nn.Linear) -> int:
    return sum(parameter.nbytes for parameter in linear.parameters())
