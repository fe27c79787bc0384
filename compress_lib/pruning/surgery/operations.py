"""What the operations between the layers do with the symbols of channels: moves, couplings, and sizes. Chapter 03.

What only moves numbers moves symbols in the same way, by the same function; what needs two channels to go together
couples their symbols; everything else fixes the channels that enter it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from compress_lib.network import op_kinds
from compress_lib.pruning.surgery.interpreter import SymbolInterpreter, on_axis_1
from compress_lib.pruning.surgery.symbols import SymbolicSize, compact, varying

_LIBRARIES = ("torch", "torchvision", "_operator", "builtins")
_WITH_SIZES = {
    "size", "getattr", "dim", "view", "reshape", "expand", "view_as", "reshape_as", "expand_as", "split",
}  # fmt: skip


class Operations(SymbolInterpreter):
    """Runs the functions and methods of a graph on symbols."""

    def call_function(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A function moves symbols as it would move numbers."""
        if (getattr(target, "__module__", None) or "builtins").partition(".")[0] not in _LIBRARIES:
            return self._unknown()
        return self._operation(target, getattr(target, "__name__", ""), args, kwargs)

    def call_method(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """A method of a tensor does what the function of its name does."""
        return self._operation(lambda x, *rest, **named: getattr(x, target)(*rest, **named), target, args, kwargs)

    def _operation(self, function: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))):
            return self._number(function, name, args, kwargs)
        if "input" in kwargs:
            args, kwargs = (kwargs["input"], *args), {key: kwargs[key] for key in kwargs if key != "input"}
        in_place = name.endswith("_")
        name = name.rstrip("_")
        name = name[1:] if name.startswith("i") and name[1:] in op_kinds.BINARY_OPERATIONS else name
        if name in _WITH_SIZES:
            return self._with_sizes(function, name, args, kwargs)
        self._fix_sizes((args, kwargs))
        if name in op_kinds.MOVES and not in_place:
            return function(*args, **kwargs)
        return self._by_kind(function, name, args, kwargs)

    def _with_sizes(self, function: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Operations that give sizes, or take them: these may follow the number of channels."""
        x, rest = args[0], args[1:]
        match name:
            case "size":
                return self._size(x, *rest, **kwargs)
            case "getattr":
                return self._attribute(x, *rest)
            case "dim":
                return x.dim()
            case "view" | "reshape" | "expand":
                return self._resized(name, x, rest or (kwargs.get("size", kwargs.get("shape")),))
            case "view_as" | "reshape_as" | "expand_as":
                return self._resized(name.removesuffix("_as"), x, self._size(tree_leaves((rest, kwargs))[0]))
        return self._split(function, args, kwargs)

    def _by_kind(self, function: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Operations on the numbers of channels, whose sizes are fixed."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        x: Any = args[0] if args else None
        rest = args[1:]
        if name in op_kinds.ELEMENTWISE_OPERATIONS and len(tensors) == 1:
            return tensors[0]
        if name in op_kinds.BINARY_OPERATIONS and len(tensors) < 3:
            return tensors[0] if len(tensors) == 1 else self._elementwise(*tensors)
        if op_kinds.PER_MAP_OPERATIONS.get(name) == tensors[0].dim() or (name == "interpolate" and x.dim() > 2):
            return self._per_map(x)
        if name in op_kinds.REDUCTIONS:
            return self._reduced(x, *rest, **kwargs)
        match name:
            case "cat" | "concat":
                return self._concatenated(args, kwargs)
            case "chunk":
                return self._split(function, args, kwargs)
            case "getitem":
                return self._picked(x, *rest)
            case "pad":
                return self._padded(x, *rest, **kwargs)
            case "channel_shuffle":
                return self._shuffle(x, *rest, **kwargs)
        return self._unknown()

    # Numbers: sizes, and what is computed from them

    def _number(self, function: Callable, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What is made of no tensor: nothing depends on channels, unless a size that does goes in."""
        made = self._node.meta["made"]
        sizes = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, SymbolicSize)]
        if not sizes:
            return self._without_symbols()
        if name == "getitem" or (name == "add" and isinstance(made, tuple)):  # parts of shapes, or shapes put together
            return function(*args, **kwargs)
        if type(made) is int:
            return SymbolicSize(made, torch.cat([size.symbols.flatten() for size in sizes]))
        return self._unknown()

    def _size(self, x: Tensor, dim: int | None = None) -> Any:
        carrying, symbols = varying(x), compact(x)
        sizes = tuple(SymbolicSize(n, symbols) if d in carrying else n for d, n in enumerate(x.shape))
        return sizes if dim is None else sizes[dim]

    def _attribute(self, x: Tensor, name: str) -> Any:
        match name:
            case "shape":
                return self._size(x)
            case "T" | "data":
                return getattr(x, name)
            case "device" | "dtype" | "ndim":
                return self._node.meta["made"]
        return self._unknown()

    def _resized(self, name: str, x: Tensor, sizes: Sequence) -> Tensor:
        """View, reshape, expand. The sizes must still be right afterwards.

        A size follows the channels if it is −1 or computed from their number. Along an axis with another size nothing
        may go, or all that is there: then all along it are coupled, and one other axis gives way.
        """
        sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else tuple(sizes)
        if not all(isinstance(size, int) for size in sizes):
            return self._unknown()
        y = x.expand(sizes) if name == "expand" else x.reshape(sizes)
        carrying, own, following = varying(y), self.symbols.roots(y), []
        for dim, size in enumerate(sizes):
            counts = isinstance(size, SymbolicSize) and self.symbols.roots(size.symbols) == own
            if dim in carrying and (size == -1 or counts):
                following.append(dim)
            else:
                self._fix_sizes(size)
        if carrying and len(following) != 1:
            self._fix(y, f"the size {list(sizes)} is written into {self._where()}")
        else:
            for dim in set(carrying) - set(following):
                self._couple(compact(y).movedim(dim, 0).flatten(1))
        return y

    # Tensors

    def _elementwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors meet, broadcast: channels that meet can only go together."""
        if y.numel() == 1 or x.numel() == 1:  # one number for all
            small, large = (y, x) if y.numel() == 1 else (x, y)
            self._fix(small, f"broadcast over channels in {self._where()}")
            return large.expand(torch.broadcast_shapes(x.shape, y.shape))
        shape = torch.broadcast_shapes(x.shape, y.shape)
        carrying = {dim - len(shape) for dim in (*varying(x.expand(shape)), *varying(y.expand(shape)))}
        for one, other in ((x, y), (y, x)):
            if any(-dim > one.dim() or one.shape[dim] == 1 != shape[dim] for dim in carrying):
                self._fix(one, f"broadcast over channels in {self._where()}")
                return other.expand(shape)
        x, y = x.expand(shape), y.expand(shape)
        index = tuple(slice(None) if dim - len(shape) in carrying else slice(0, 1) for dim in range(len(shape)))
        self._couple(x[index].flatten(), y[index].flatten())
        return x

    def _per_map(self, x: Tensor) -> Tensor:
        """What treats the map of each channel by itself."""
        made = self._node.meta["made"]
        return on_axis_1(self._line(x, 1), made.shape) if isinstance(made, Tensor) else self._unknown()

    def _reduced(self, x: Tensor, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
        dim = kwargs.get("axis", dim)
        dims = {d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,))}
        if dims & set(varying(x)) or not dims:
            return self._unknown()
        return x.amax(sorted(dims), keepdim)

    def _concatenated(self, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        parts = kwargs.get("tensors", args[0] if args else ())
        dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0)) % parts[0].dim()
        for axis in {axis for part in parts for axis in varying(part)} - {dim}:  # along it the parts lie side by side
            self._couple(*(self._line(part, axis) for part in parts))
        shape = torch.broadcast_shapes(*(compact(part).movedim(dim, 0)[0].shape for part in parts))
        small = [part.movedim(dim, 0)[(slice(None), *(slice(0, n) for n in shape))].movedim(0, dim) for part in parts]
        return torch.cat(small, dim).expand(self._node.meta["made"].shape)

    def _split(self, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Equal parts stay equal if the same channel of each part goes."""
        parts, x = function(*args, **kwargs), args[0]
        size = kwargs.get("split_size_or_sections", kwargs.get("split_size", args[1] if len(args) > 1 else None))
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % x.dim()
        if dim not in varying(x):
            self._fix_sizes((args, kwargs))
            return parts
        follows = self._node.target in (torch.chunk, "chunk")
        if isinstance(size, SymbolicSize) and not follows:
            follows = self.symbols.roots(size.symbols) == self.symbols.roots(x)
        if follows and len({part.shape for part in parts}) == 1:
            self._couple(*(compact(part).flatten() for part in parts))
        else:
            self._fix_sizes((args, kwargs))
            self._fix(x, f"cut into fixed or unequal parts in {self._where()}")
        return parts

    def _picked(self, x: Any, index: Any) -> Any:
        if not isinstance(x, Tensor):
            return x[index]
        picks = list(index) if isinstance(index, tuple) else [index]
        if not all(pick is None or pick is ... or isinstance(pick, (int, slice)) for pick in picks):
            return self._unknown()
        if ... in picks:
            at = picks.index(...)
            picks[at : at + 1] = [slice(None)] * (x.dim() - sum(pick is not None for pick in picks) + 1)
        dims = [pick for pick in picks if pick is not None]
        if any(dims[dim] != slice(None) for dim in varying(x) if dim < len(dims)):
            self._fix(x, f"channels are picked by number in {self._where()}")
        return x[index]

    def _padded(self, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
        sides = [*reversed(list(zip(pad[::2], pad[1::2], strict=True)))]  # the last axis comes first in ``pad``
        touched = [x.dim() - len(sides) + i for i, (before, after) in enumerate(sides) if before or after]
        if set(touched) & set(varying(x)):
            return self._unknown()
        for dim in touched:
            x = x.narrow(dim, 0, 1)
        return x.expand(self._node.meta["made"].shape)

    def _shuffle(self, x: Tensor, groups: int) -> Tensor:
        """Channel (a, i) of (groups, channels per group) goes to (i, a)."""
        symbols = self._line(x, 1).view(groups, -1)
        self._couple(symbols)
        return on_axis_1(symbols.T.flatten(), x.shape)
