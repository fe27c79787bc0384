"""Watching a forward pass: which module each multiply-add belongs to, and how much activation memory is alive.

`compress_lib.cost.count` runs the network under an `OpTracker` with fake tensors, so that shapes and lifetimes are
those of a real forward pass and no arithmetic is done.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compress_lib.cost.macs import is_uncounted, macs_of

_COMPRESSED_SPARSE = (torch.ops.aten.sparse_compressed_tensor, torch.ops.aten._sparse_compressed_tensor_unsafe)


@dataclass
class Visit:
    """What went through one module: the shape it returned last, and bytes in and out summed over its calls."""

    input_shapes: list[tuple[int, ...]]
    output_shape: tuple[int, ...] | None = None
    input_nbytes: int = 0
    output_nbytes: int = 0


class OpTracker(TorchDispatchMode):
    """Adds up multiply-adds by module and follows the peak of live activation memory.

    Parameters
    ----------
    weights : iterable of Tensor
        Parameters, buffers and other constants: their memory, and views of it, are not activations.

    Attributes
    ----------
    macs : dict of str to int
        Multiply-adds by the name of the innermost watched module.
    visits : dict of str to Visit
        The watched modules in the order in which they were first called.
    peak_nbytes : int
        The largest sum of the storages that were alive at once. Views share a storage and are counted once.
    num_ops : int
        Tensor operations seen.
    uncounted : dict of str to None
        Operations that may do multiply-adds and have no formula, in the order seen.
    """

    # An operator of operators (flex attention) comes here, too; what happens inside of one does not.
    supports_higher_order_operators = True

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__()
        self.macs: dict[str, int] = defaultdict(int)
        self.visits: dict[str, Visit] = {}
        self.peak_nbytes = 0
        self.num_ops = 0
        self.uncounted: dict[str, None] = {}
        self._scope = [""]
        self._weight_storages = {w.untyped_storage()._cdata for w in weights if w.layout == torch.strided}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    @property
    def innermost(self) -> str:
        """Name of the module that is running."""
        return self._scope[-1]

    def watch_module(self, name: str, module: nn.Module) -> None:
        """Attribute to ``name`` what happens while ``module`` runs."""

        def enter(_module, args, kwargs):
            self._scope.append(name)
            inputs = _tensors((args, kwargs))
            shapes = [tuple(tensor.shape) for tensor in inputs]
            visit = self.visits.setdefault(name, Visit(shapes))
            visit.input_shapes = shapes
            visit.input_nbytes += _nbytes(inputs)

        def leave(_module, _args, output):
            # A module that swallowed an exception of a submodule leaves the submodule's name behind.
            while self._scope.pop() != name:
                pass
            outputs = _tensors(output)
            self.visits[name].output_nbytes += _nbytes(outputs)
            if outputs:
                self.visits[name].output_shape = tuple(outputs[0].shape)

        # First in, last out: weights computed by another hook (weight norm, pruning masks) belong to the module too.
        module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
        module.register_forward_hook(leave)

    def watch_memory(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of ``tensors`` for as long as they live, and update the peak."""
        for tensor in tensors:
            if tensor.layout != torch.strided:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self._weight_storages:
                # A weak reference keeps no data, and keeps the address from being used again.
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self.peak_nbytes = max(self.peak_nbytes, sum(nbytes for _, nbytes in self._live.values()))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        operator = getattr(func, "overloadpacket", func)
        if isinstance(func, OpOverload):
            # Under inference mode composite operations (linear, matmul) arrive whole: take them apart first.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if operator in _COMPRESSED_SPARSE:
            out = _compressed_sparse(func, *args, **kwargs)
        else:
            out = func(*args, **kwargs)
        self.num_ops += 1
        macs = macs_of(operator, args, kwargs, out)
        if macs is not None:
            self.macs[self.innermost] += macs
        elif is_uncounted(operator):
            self.uncounted[str(operator)] = None
        self.watch_memory(_tensors(out))
        return out


def _compressed_sparse(
    func: Any,
    _compressed_indices: Tensor,
    _plain_indices: Tensor,
    values: Tensor,
    size: Sequence[int] | None = None,
    *,
    layout: torch.layout,
    **_options: Any,
) -> Tensor:
    """A fake tensor of that shape and layout; PyTorch refuses to put one together from parts that are fake."""
    if size is None:
        raise DynamicOutputShapeException(func)
    blocks = values.shape[1:] if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    return values.new_empty(size).to_sparse(layout=layout, blocksize=blocks)


def _tensors(tree: object) -> list[Tensor]:
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
