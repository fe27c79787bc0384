"""What a tensor really holds in memory, whatever its layout."""

import torch
from torch import Tensor

_INDICES = {
    torch.strided: (),
    torch.sparse_coo: (Tensor._indices,),
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices),
}


def num_stored(tensor: Tensor) -> int:
    """Number of values stored: all of a dense tensor's, and only the explicit ones of a sparse tensor."""
    return _values(tensor).numel()


def nbytes_stored(tensor: Tensor) -> int:
    """Bytes of the values and, in a sparse layout, of the indices (``Tensor.nbytes`` counts as if it were dense)."""
    return _values(tensor).nbytes + sum(indices(tensor).nbytes for indices in _INDICES[tensor.layout])


def _values(tensor: Tensor) -> Tensor:
    if tensor.layout == torch.strided:
        return tensor
    return tensor._values() if tensor.layout == torch.sparse_coo else tensor.values()
