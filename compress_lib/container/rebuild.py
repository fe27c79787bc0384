"""A network and what a file says of it: its state, whether they fit, and how to build it again. Chapter 07."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from compress_lib.binary import conversion as binary
from compress_lib.models import zoo
from compress_lib.quantization.integer import conversion as integer

Kinds = Mapping[str, tuple[str, tuple[int, ...]]]  # of tensors: their type and shape, by name
_MOST_EXAMPLE = 1 << 24  # numbers in the batch that a network is traced with to convert it
_MOST_WEIGHTS = 64  # of a network that a value in a file can stand for: signs, in a word


def state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a plain network, its own parameters and buffers.

    Raises
    ------
    TypeError, ValueError
        If it is no network, is parametrized, or has a state that is not of tensors alone.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise ValueError(
                f"model must be plain, but its layer {name!r} is parametrized: bake that in first, with "
                "masks.deploy or with deploy of its method"
            )
    tensors = model.state_dict(keep_vars=True)
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor) or torch.nn.parameter.is_lazy(value):
            raise TypeError(f"model must have a state of tensors, got {type(value).__name__} in {name!r}")
    return tensors


def owners(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name the first one of the same tensor: another one if it is tied."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}


def kinds(tensors: Mapping[str, Tensor]) -> Kinds:
    """The types and shapes of a state."""
    return {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in tensors.items()}


def check_fit(needed: Kinds, found: Kinds) -> None:
    """A ValueError says how what was found differs from what the network needs."""
    if missing := sorted(needed.keys() - found.keys()):
        raise ValueError(f"it lacks {_some(missing)} of the network")
    if unknown := sorted(found.keys() - needed.keys()):
        raise ValueError(f"it has {_some(unknown)}, which the network has not")
    for name, (dtype, shape) in found.items():
        if needed[name] != (dtype, shape):
            raise ValueError("it has {!r} of {} {}, the network of {} {}".format(name, dtype, shape, *needed[name]))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class _WithoutNumbers(TorchFunctionMode):
    """On the device "meta" networks have shapes alone; but to draw no numbers there, torch imports a compiler."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return args[0] if function is Tensor.normal_ else function(*args, **(kwargs or {}))


def build(metadata: Mapping, claimed: int) -> nn.Module:
    """The network that metadata describe (see `container`), with some numbers or other.

    Parameters
    ----------
    metadata : mapping
        Of a file.
    claimed : int
        How many values the file has: a much larger network is refused before it takes memory.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    if "architecture" not in metadata:
        raise ValueError("its metadata name no architecture: say which model to load it into")
    name, options, form = metadata["architecture"], metadata.get("options", {}), metadata.get("form")
    try:
        with torch.device("meta"), _WithoutNumbers():
            size = sum(tensor.numel() for tensor in zoo.build(name, **options).state_dict().values())
        if size > _MOST_WEIGHTS * claimed + 65536:
            raise ValueError(f"{name} with {options} has {size:,} values, not {claimed:,}")
        with torch.random.fork_rng(devices=[]):
            network = zoo.build(name, **options)
            return network if form is None else _converted(network, **form)
    except Exception as error:  # builders raise all sorts of errors over what a damaged file tells them
        raise ValueError(f"its metadata describe no network: {error}") from error


def _converted(network: nn.Module, kind: str, **form: Any) -> nn.Module:
    if kind not in FORMS:
        raise ValueError(f"form must be of a kind in {tuple(FORMS)}, got {kind!r}")
    return FORMS[kind](network, **form)


def _of_integers(network: nn.Module, settings: Mapping, example_shape: list[int]) -> nn.Module:
    if not 0 < math.prod(example_shape) <= _MOST_EXAMPLE:
        raise ValueError(f"example_shape must have up to {_MOST_EXAMPLE:,} numbers, got {example_shape}")
    return integer.build_deployed(network, tuple(example_shape), dict(settings))


def _of_signs(network: nn.Module, settings: Mapping) -> nn.Module:
    return binary.build_deployed(network, settings)


# All forms that a file can have its network converted to: the kind in its metadata, and what makes such a network, with
# some numbers or other, of the dense one and the rest of the form. The methods do not know of files.
FORMS: dict[str, Callable[..., nn.Module]] = {"int8": _of_integers, "binary": _of_signs}
