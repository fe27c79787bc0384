"""Which channels of a network can only be removed together. Chapter 03.

The network runs on names instead of numbers. Every layer gives each channel that it makes a name of its own, the
network's operations move the names as they would move the numbers, and each layer that reads an activation notes whose
channels arrive. Where an operation needs two channels to have the same fate (an addition, a group of a convolution, the
halves of a split), their names are joined. What cannot be followed is not guessed: the names that enter it are fixed,
with the reason.

The idea of groups of coupled channels is from Fang et al., "DepGraph: towards any structural pruning", CVPR 2023,
arXiv 2301.12900.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from compress_lib.pruning import kinds
from compress_lib.pruning.names import Names, compact, varying


class Channels(fx.Interpreter):
    """Follows the names of the channels through a traced network; ``names`` has what was found afterwards.

    Parameters
    ----------
    graph : of the network; its weights are dropped.
    names : takes the findings, and may have those of an earlier run.
    shared : the layers that own a parameter together with another layer.
    """

    def __init__(self, graph: fx.GraphModule, names: Names, shared: frozenset[str] = frozenset()) -> None:
        super().__init__(graph.to("meta"))
        self.names, self.shared = names, shared

    def follow(self, input_shape: Sequence[int]) -> None:
        """Run on an input of this shape, which has no names.

        Raises
        ------
        ValueError
            If the shape does not fit the network.
        """
        try:
            self.run(torch.zeros(input_shape, dtype=torch.long))
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0]
            shape = tuple(input_shape)
            raise ValueError(
                f"example_input of shape {shape} does not fit the model: {self._where()}: {reason}"
            ) from error

    # What the interpreter meets

    def run_node(self, node: fx.Node):
        self._node = node
        return super().run_node(node)

    def get_attr(self, target, args, kwargs):
        return torch.zeros(self.fetch_attr(target).shape, dtype=torch.long)

    def output(self, target, args, kwargs):
        self._fix(args, "the output of the model")
        return args[0]

    def call_module(self, target, args, kwargs):
        layer = self.fetch_attr(target)
        x = args[0] if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) else None
        if x is not None and not self._readable(layer):
            return self._unknown(layer, args, kwargs)
        match layer:
            case nn.Linear() if x is not None:
                return self._linear(target, layer, x)
            case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() if x is not None and x.dim() == len(layer.kernel_size) + 2:
                return self._convolution(target, layer, x)
            case nn.PReLU(num_parameters=1):
                return x
        if x is not None and isinstance(layer, kinds.PER_CHANNEL):
            return self._per_channel(target, x)
        if x is not None and isinstance(layer, kinds.ELEMENTWISE):
            return x
        if x is not None and isinstance(layer, kinds.PER_MAP) and x.dim() > 2:
            return self._per_map(layer, args, kwargs)
        if isinstance(layer, nn.Flatten):
            return layer(x)
        if isinstance(layer, nn.ChannelShuffle):
            return self._shuffle(x, layer.groups)
        return self._unknown(layer, args, kwargs)

    def call_function(self, target, args, kwargs):
        return self._operation(target, target.__name__, args, kwargs)

    def call_method(self, target, args, kwargs):
        return self._operation(lambda x, *rest, **named: getattr(x, target)(*rest, **named), target, args, kwargs)

    def _operation(self, function: Callable, name: str, args, kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = name.rstrip("_")
        name = name[1:] if name.startswith("i") and name[1:] in kinds.BINARY_OPERATIONS else name
        if not tensors or name in ("size", "dim", "getattr"):
            return function(*args, **kwargs)
        if name in kinds.ELEMENTWISE_OPERATIONS and len(tensors) == 1:
            return tensors[0]
        if name in kinds.BINARY_OPERATIONS:
            return tensors[0] if len(tensors) == 1 else self._elementwise(*tensors)
        if name in kinds.PER_MAP_OPERATIONS and args[0].dim() > 2:
            return self._per_map(function, args, kwargs)
        if name in kinds.REDUCTIONS and len(args) + len(kwargs) > 1:
            return self._reduced(args[0], *args[1:], **kwargs)
        if name in kinds.MOVES:
            return function(*args, **kwargs)
        if name in ("view", "reshape"):
            return self._reshaped(function, args)
        if name in ("chunk", "split"):
            return self._split(function, name, args, kwargs)
        if name == "getitem":
            return self._picked(*args)
        if name == "channel_shuffle":
            return self._shuffle(*args, **kwargs)
        return self._unknown(function, args, kwargs)

    # The layers

    def _linear(self, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
        self._reads(name, self._along(x, -1), layer.in_features)
        return self._makes(name, layer.out_features).expand(*x.shape[:-1], -1)

    def _convolution(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        read = self._reads(name, self._along(x, 1), layer.in_channels)
        made = self._makes(name, layer.out_channels)
        if (groups := layer.groups) > 1:
            read, written = read.view(groups, -1), made.view(groups, -1)
            # The groups must stay equally wide. Either whole groups go, inputs and outputs together (a depthwise
            # convolution is the extreme), or the same channel of every group: whichever takes smaller steps.
            if groups >= read.shape[1]:
                self._join(torch.cat([read, written], 1).T)
            else:
                self._join(read)
                self._join(written)
        return _on_axis_1(made, _shape_of(layer, x))

    def _per_channel(self, name: str, x: Tensor) -> Tensor:
        names = self._along(x, 1)
        if name in self.names.scales:
            self._join(self.names.scales[name], names)
        self.names.scales[name] = names
        if name in self.shared:
            self._fix(names, f"{name} shares a parameter with another layer")
        return _on_axis_1(names, x.shape)

    def _reads(self, name: str, names: Tensor, width: int) -> Tensor:
        if len(names) != width:
            raise ValueError(f"it reads {width} channels and is given {len(names)}")
        if name in self.names.inputs:  # the same layer a second time
            self._join(self.names.inputs[name], names)
        self.names.inputs[name] = names
        if name in self.shared:
            self._fix(names, f"{name} shares a parameter with another layer")
        return names

    def _makes(self, name: str, width: int) -> Tensor:
        if name not in self.names.outputs:
            self.names.outputs[name] = self.names.fresh(width)
        if name in self.shared:
            self._fix(self.names.outputs[name], f"{name} shares a parameter with another layer")
        return self.names.outputs[name]

    def _readable(self, layer: nn.Module) -> bool:
        """Whether the weight, if the kind of layer has one that is cut, is an ordinary parameter (no mask, no norm)."""
        if isinstance(layer, (nn.Linear, *kinds.CONVOLUTIONS)):
            return isinstance(layer._parameters.get("weight"), nn.Parameter)
        return True

    # The operations

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

    def _per_map(self, operation: Callable, args, kwargs) -> Tensor:
        """What treats the map of each channel by itself."""
        x = args[0]
        shape = _shape_of(operation, *args, **kwargs)
        return _on_axis_1(self._along(x, 1), shape)

    def _reduced(self, x: Tensor, dim, keepdim: bool = False) -> Tensor:
        dims = {d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
        if dims & set(varying(x)):
            self._fix(x, f"{self._where()} mixes channels")
            x = torch.zeros_like(x)
        return x.amax(sorted(dims), keepdim)

    def _reshaped(self, function: Callable, args) -> Tensor:
        """A size written as a number must still be right afterwards: along it nothing may go, or all that is there."""
        written = self._node.args[1:]
        written = written[0] if len(written) == 1 and isinstance(written[0], (tuple, list)) else written
        y = args[0].reshape(*args[1:])
        carrying = varying(y)
        for dim in carrying:
            if len(written) == y.dim() and isinstance(written[dim], int) and written[dim] != -1:
                if carrying == [dim]:
                    self._fix(y, f"the size {written[dim]} is written into {self._where()}")
                else:
                    self._join(compact(y).movedim(dim, 0).flatten(1))
        return y

    def _split(self, function: Callable, name: str, args, kwargs):
        """Equal parts stay equal if the same channel of each part goes."""
        parts = function(*args, **kwargs)
        x = args[0]
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % x.dim()
        if dim in varying(x):
            size = self._node.kwargs.get("split_size_or_sections", self._node.args[1:2])
            written = name == "split" and not isinstance(size[0] if isinstance(size, tuple) else size, fx.Node)
            if written or len({part.shape for part in parts}) > 1:
                self._fix(x, f"cut into fixed or unequal parts in {self._where()}")
            else:
                self._join(*(compact(part).flatten() for part in parts))
        return parts

    def _picked(self, x, index):
        if not isinstance(x, Tensor):
            return x[index]
        picks = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in picks:
            at = picks.index(Ellipsis)
            picks[at : at + 1] = [slice(None)] * (x.dim() - sum(pick is not None for pick in picks) + 1)
        dims = [pick for pick in picks if pick is not None]
        if any(dims[dim] != slice(None) for dim in varying(x) if dim < len(dims)):
            self._fix(x, f"channels are picked by number in {self._where()}")
        return x[index]

    def _shuffle(self, x: Tensor, groups: int) -> Tensor:
        """Channel (a, i) of (groups, channels per group) goes to (i, a)."""
        names = self._along(x, 1).view(groups, -1)
        self._join(names)
        return _on_axis_1(names.T.flatten(), x.shape)

    def _unknown(self, operation: Callable, args, kwargs):
        kind = type(operation).__name__ if isinstance(operation, nn.Module) else "an operation"
        if isinstance(operation, nn.Module) and not self._readable(operation):
            reason = f"{self._where()} has no plain weight (a mask or a reparametrization: finalize it first)"
        else:
            reason = f"{self._where()} ({kind}) mixes channels or is not known"
        self._fix((args, kwargs), reason)
        y = operation(*_without_data(args), **_without_data(kwargs))
        return tree_map(lambda t: torch.zeros(t.shape, dtype=torch.long) if isinstance(t, Tensor) else t, y)

    # Names

    def _along(self, x: Tensor, dim: int) -> Tensor:
        """The names along one axis; those that share a place on it are joined."""
        x = compact(x).movedim(dim, 0).flatten(1)
        if (x != x[:, :1]).any():
            self._join(x.T)
        return x[:, 0]

    def _join(self, *rows: Tensor) -> None:
        self.names.join(*rows, where=self._where())

    def _fix(self, tree, reason: str) -> None:
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                self.names.fix(leaf, reason)

    def _where(self) -> str:
        target = self._node.target
        return target if isinstance(target, str) else f"{self._node.name} ({target.__name__})"


def _on_axis_1(names: Tensor, shape: Sequence[int]) -> Tensor:
    return names.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def _without_data(tree):
    return tree_map(lambda t: torch.empty(t.shape, device="meta") if isinstance(t, Tensor) else t, tree)


def _shape_of(operation: Callable, *args, **kwargs) -> torch.Size:
    return operation(*_without_data(args), **_without_data(kwargs)).shape
