"""What the operations between the layers do with the names of channels: moves, ties, and sizes. Chapter 03.

A name stands where the number of its channel would stand. What only moves numbers moves names in the same way, by the
same function; what needs two channels to have one fate joins their names; all else fixes the names that enter it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map

from compress_lib.network import op_kinds
from compress_lib.pruning.surgery.symbols import Names, Width, compact, varying

_LIBRARIES = ("torch", "torchvision", "_operator", "builtins")


class Operations(fx.Interpreter):
    """Runs the functions and methods of a graph on names.

    Parameters
    ----------
    graph : each node's ``meta["made"]`` has what it makes, on the device "meta".
    names : takes the findings.
    """

    def __init__(self, graph: fx.GraphModule, names: Names) -> None:
        super().__init__(graph)
        self.names = names

    def run_node(self, node: fx.Node):
        """Remember the node, for messages."""
        self._node = node
        try:
            value = super().run_node(node)
            followed = shapes_of(value) == shapes_of(node.meta["made"])
        except (RuntimeError, TypeError, ValueError, IndexError):
            followed = False
        return value if followed else self._unknown()  # a form of the operation that the rule for it does not know

    def call_function(self, target, args, kwargs):
        """A function moves names as it would move numbers."""
        if (getattr(target, "__module__", None) or "builtins").partition(".")[0] not in _LIBRARIES:
            return self._unknown()
        return self._operation(target, getattr(target, "__name__", ""), args, kwargs)

    def call_method(self, target, args, kwargs):
        """A method of a tensor does what the function of its name does."""
        return self._operation(lambda x, *rest, **named: getattr(x, target)(*rest, **named), target, args, kwargs)

    def _operation(self, function: Callable, name: str, args, kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not tensors:
            return self._number(function, name, args, kwargs)
        if "input" in kwargs:
            args, kwargs = (kwargs["input"], *args), {key: kwargs[key] for key in kwargs if key != "input"}
        x, rest = args[0] if args else None, args[1:]
        in_place = name.endswith("_")
        name = name.rstrip("_")
        name = name[1:] if name.startswith("i") and name[1:] in op_kinds.BINARY_OPERATIONS else name
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
                return self._resized(name.removesuffix("_as"), x, self._size(tensors[1]))
            case "split":
                return self._split(function, args, kwargs)
        self._fix_widths((args, kwargs))
        if name in op_kinds.ELEMENTWISE_OPERATIONS and len(tensors) == 1:
            return tensors[0]
        if name in op_kinds.BINARY_OPERATIONS and len(tensors) < 3:
            return tensors[0] if len(tensors) == 1 else self._elementwise(*tensors)
        if op_kinds.PER_MAP_OPERATIONS.get(name) == tensors[0].dim() or (name == "interpolate" and x.dim() > 2):
            return self._per_map(x)
        if name in op_kinds.REDUCTIONS:
            return self._reduced(x, *rest, **kwargs)
        if name in op_kinds.MOVES and not in_place:
            return function(*args, **kwargs)
        if name in ("cat", "concat"):
            return self._concatenated(function, args, kwargs)
        if name == "chunk":
            return self._split(function, args, kwargs)
        if name == "getitem":
            return self._picked(x, *rest)
        if name == "pad":
            return self._padded(x, *rest, **kwargs)
        if name == "channel_shuffle":
            return self._shuffle(x, *rest, **kwargs)
        return self._unknown()

    # Numbers: sizes, and what is computed from them

    def _number(self, function: Callable, name: str, args, kwargs):
        """What is made of no tensor: nothing depends on channels, unless a size that does goes in."""
        made = self._node.meta["made"]
        widths = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Width)]
        if not widths:
            return self._nameless()
        if name == "getitem" or (name == "add" and isinstance(made, tuple)):  # parts of shapes, or shapes put together
            return function(*args, **kwargs)
        if type(made) is int:
            return Width(made, torch.cat([width.names.flatten() for width in widths]))
        return self._unknown()

    def _size(self, x: Tensor, dim: int | None = None):
        carrying, names = varying(x), compact(x)
        sizes = tuple(Width(n, names) if d in carrying else n for d, n in enumerate(x.shape))
        return sizes if dim is None else sizes[dim]

    def _attribute(self, x: Tensor, name: str):
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
        may go, or all that is there: then all along it are joined, and one other axis gives way.
        """
        sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else tuple(sizes)
        if not all(isinstance(size, int) for size in sizes):
            return self._unknown()
        y = x.expand(sizes) if name == "expand" else x.reshape(sizes)
        carrying, own, following = varying(y), self.names.roots(y), []
        for dim, size in enumerate(sizes):
            counts = isinstance(size, Width) and self.names.roots(size.names) == own
            if dim in carrying and (size == -1 or counts):
                following.append(dim)
            else:
                self._fix_widths(size)
        if carrying and len(following) != 1:
            self._fix(y, f"the size {list(sizes)} is written into {self._where()}")
        else:
            for dim in set(carrying) - set(following):
                self._join(compact(y).movedim(dim, 0).flatten(1))
        return y

    # Tensors

    def _elementwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors meet, broadcast: channels that meet share their fate."""
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
        self._join(x[index].flatten(), y[index].flatten())
        return x

    def _per_map(self, x: Tensor) -> Tensor:
        """What treats the map of each channel by itself."""
        made = self._node.meta["made"]
        return on_axis_1(self._line(x, 1), made.shape) if isinstance(made, Tensor) else self._unknown()

    def _reduced(self, x: Tensor, dim=None, keepdim: bool = False, **kwargs) -> Tensor:
        dim = kwargs.get("axis", dim)
        dims = {d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,))}
        if dims & set(varying(x)) or not dims:
            return self._unknown()
        return x.amax(sorted(dims), keepdim)

    def _concatenated(self, function: Callable, args, kwargs) -> Tensor:
        parts = kwargs.get("tensors", args[0] if args else ())
        dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0)) % parts[0].dim()
        for axis in {axis for part in parts for axis in varying(part)} - {dim}:  # along it the parts lie side by side
            self._join(*(self._line(part, axis) for part in parts))
        shape = torch.broadcast_shapes(*(compact(part).movedim(dim, 0)[0].shape for part in parts))
        small = [part.movedim(dim, 0)[(slice(None), *(slice(0, n) for n in shape))].movedim(0, dim) for part in parts]
        return torch.cat(small, dim).expand(self._node.meta["made"].shape)

    def _split(self, function: Callable, args, kwargs):
        """Equal parts stay equal if the same channel of each part goes."""
        parts, x = function(*args, **kwargs), args[0]
        size = kwargs.get("split_size_or_sections", kwargs.get("split_size", args[1] if len(args) > 1 else None))
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % x.dim()
        if dim not in varying(x):
            self._fix_widths((args, kwargs))
            return parts
        follows = self._node.target in (torch.chunk, "chunk")
        if isinstance(size, Width) and not follows:
            follows = self.names.roots(size.names) == self.names.roots(x)
        if follows and len({part.shape for part in parts}) == 1:
            self._join(*(compact(part).flatten() for part in parts))
        else:
            self._fix_widths((args, kwargs))
            self._fix(x, f"cut into fixed or unequal parts in {self._where()}")
        return parts

    def _picked(self, x, index):
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
        widths = [*reversed(list(zip(pad[::2], pad[1::2])))]  # the last axis comes first in ``pad``
        touched = [x.dim() - len(widths) + i for i, (before, after) in enumerate(widths) if before or after]
        if set(touched) & set(varying(x)):
            return self._unknown()
        for dim in touched:
            x = x.narrow(dim, 0, 1)
        return x.expand(self._node.meta["made"].shape)

    def _shuffle(self, x: Tensor, groups: int) -> Tensor:
        """Channel (a, i) of (groups, channels per group) goes to (i, a)."""
        names = self._line(x, 1).view(groups, -1)
        self._join(names)
        return on_axis_1(names.T.flatten(), x.shape)

    def _unknown(self, reason: str = "") -> Tensor:
        """Nothing that enters may lose channels; what leaves has no names."""
        inputs = self.fetch_args_kwargs_from_env(self._node)
        self._fix(inputs, reason or f"{self._where()} mixes channels or is not known")
        self._fix_widths(inputs)
        return self._nameless()

    def _nameless(self):
        nothing = torch.zeros((), dtype=torch.long)
        return tree_map(lambda t: nothing.expand(t.shape) if isinstance(t, Tensor) else t, self._node.meta["made"])

    # Names

    def _line(self, x: Tensor, dim: int) -> Tensor:
        """The names along one axis; those that share a place on it are joined."""
        x = compact(x, keep=dim % x.dim()).movedim(dim, 0).flatten(1)
        if (x != x[:, :1]).any():
            self._join(x.T)
        return x[:, 0]

    def _join(self, *rows: Tensor) -> None:
        self.names.join(*rows, where=self._where())

    def _fix(self, tree, reason: str) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                self.names.fix(leaf, reason)

    def _fix_widths(self, tree) -> None:
        for leaf in tree_leaves(tree):
            for number in (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,):
                if isinstance(number, Width):
                    self.names.fix(number.names, f"the number of channels enters {self._where()}")

    def _where(self) -> str:
        """The layer, or the operation and the module whose ``forward`` it belongs to."""
        node = self._node
        if node.op == "call_module":
            return node.target
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
        modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        return f"{name} of {modules[-1]}" if modules else name


def on_axis_1(names: Tensor, shape: Sequence[int]) -> Tensor:
    return names.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def shapes_of(tree) -> list[torch.Size]:
    return [leaf.shape for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
