"""The widths of layers: cutting them, and files that remember them. Chapter 03."""

import copy
import json
import os
import zlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compress_lib import files
from compress_lib.network.op_kinds import CONVOLUTIONS, PER_CHANNEL

_FORMAT = "narrowed model 1"
_SIZES = (
    (nn.Linear, ("in_features", "out_features")),
    (CONVOLUTIONS, ("in_channels", "out_channels", "groups")),
    (nn.PReLU, ("num_parameters",)),
    (PER_CHANNEL, ("num_features",)),
)
_USES = ("kernel_size", "stride", "padding", "dilation", "padding_mode", "ceil_mode", "eps", "affine")


def cut_(layer: nn.Module, outputs: Tensor | None, inputs: Tensor | None) -> None:
    """Keep only some channels of a linear, convolution or per-channel layer, in place.

    Parameters
    ----------
    layer : one of the kinds above.
    outputs, inputs : indices of the channels to keep; None keeps all. A per-channel layer has outputs only.

    Raises
    ------
    ValueError
        If the groups of a convolution would not stay equally wide.
    """
    if isinstance(layer, nn.Linear):
        inputs = torch.arange(layer.in_features) if inputs is None else inputs
        outputs = torch.arange(layer.out_features) if outputs is None else outputs
        _set(layer, "weight", layer.weight[outputs][:, inputs])
        layer.in_features, layer.out_features = len(inputs), len(outputs)
    elif isinstance(layer, CONVOLUTIONS):
        inputs = torch.arange(layer.in_channels) if inputs is None else inputs
        outputs = torch.arange(layer.out_channels) if outputs is None else outputs
        groups, local = _grouping(inputs, layer.in_channels // layer.groups)
        if _grouping(outputs, layer.out_channels // layer.groups)[0] != groups:
            raise ValueError(f"the groups of a convolution would not stay equally wide: {layer}")
        _set(layer, "weight", layer.weight[outputs][:, local])
        layer.in_channels, layer.out_channels, layer.groups = len(inputs), len(outputs), len(groups)
    elif outputs is not None:
        for name, tensor in _own_tensors(layer):
            if tensor.dim():  # not the counter of batches
                _set(layer, name, tensor[outputs])
        setattr(layer, _size_names(layer)[0], len(outputs))
        return
    if outputs is not None and (bias := layer._parameters["bias"]) is not None:
        _set(layer, "bias", bias[outputs])


def zero_other_inputs_(layer: nn.Module, inputs: Tensor) -> None:
    """Set all weights to zero that read a channel which is not in ``inputs``, in place."""
    others = torch.ones(channel_counts(layer)[0], dtype=torch.bool)
    others[inputs] = False
    weight = layer.get_parameter("weight").data
    if isinstance(layer, CONVOLUTIONS):
        rows = weight.view(layer.groups, -1, *weight.shape[1:])  # (groups, outputs, inputs, …)
        for group, columns in zip(rows, others.view(layer.groups, -1), strict=True):
            group[:, columns] = 0
    else:
        weight[:, others] = 0


def channel_counts(layer: nn.Module) -> tuple[int, int]:
    """The numbers of channels that a layer reads and makes."""
    sizes = [getattr(layer, name) for name in _size_names(layer)]
    return sizes[0], sizes[1] if len(sizes) > 1 else sizes[0]


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a narrowed model to one file, whole or not at all: its weights, and the widths of its layers.

    The file is a safetensors file: nothing in it is executed when it is read.

    Raises
    ------
    ValueError
        If the model has state that is no tensor.
    """
    state = model.state_dict()
    if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"model has state that is no tensor and cannot be saved: {strange}")
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}  # tied ones apart
    layers = {name: (_use(layer), _sizes(layer)) for name, layer in model.named_modules(remove_duplicate=False)}
    files.save_tensors(path, tensors, _FORMAT, {"layers": json.dumps(layers, separators=(",", ":"))})


def load(path: str | os.PathLike, model: nn.Module) -> nn.Module:
    """Read a file that `save` wrote.

    Parameters
    ----------
    path : of the file.
    model : nn.Module
        The architecture before it was narrowed, with any weights. Left as it is.

    Returns
    -------
    nn.Module
        A copy of ``model`` with the widths and the weights of the file, in evaluation mode.

    Raises
    ------
    ValueError
        If the file is truncated, altered or of another kind, or was made from another architecture.
    """
    tensors, metadata = files.load_tensors(path, _FORMAT)
    saved: dict[str, tuple[str, list[int]]] = json.loads(metadata["layers"])
    narrowed = copy.deepcopy(model).eval()
    layers = dict(narrowed.named_modules(remove_duplicate=False))
    state = narrowed.state_dict(keep_vars=True)
    differing = (
        sorted((layers.keys() ^ saved.keys()) | (state.keys() ^ tensors.keys()))
        or [name for name, layer in layers.items() if not _narrowed_from(layer, *saved[name])]
        or [
            name
            for name, tensor in state.items()
            if tensor.shape != tensors[name].shape and not _size_names(layers[name.rpartition(".")[0]])
        ]
    )
    if differing:
        raise ValueError(
            f"{path} was made from another architecture than model={type(model).__name__}: {differing[:5]}"
        )
    for name, (_, sizes) in saved.items():
        for attribute, size in zip(_size_names(layers[name]), sizes, strict=True):
            setattr(layers[name], attribute, size)
    for name, tensor in state.items():
        tensor.data = tensors[name].to(tensor.device)
    return narrowed


def _sizes(layer: nn.Module) -> list[int]:
    return [getattr(layer, name) for name in _size_names(layer)]


def _use(layer: nn.Module) -> str:
    """A checksum of what cutting leaves as it is: the kind of a layer, and how it goes over its input."""
    ours = type(layer).__module__.startswith("torch.nn.")
    use = [type(layer).__name__, *((name, getattr(layer, name, None)) for name in _USES if ours)]
    return f"{zlib.crc32(repr(use).encode()):x}"


def _narrowed_from(layer: nn.Module, use: str, sizes: list[int]) -> bool:
    originals = _sizes(layer)
    return (
        use == _use(layer)
        and len(sizes) == len(originals)
        and all(0 < n <= o for n, o in zip(sizes, originals, strict=True))
    )


def _grouping(channels: Tensor, width: int) -> tuple[list[int], Tensor]:
    """The groups that have channels left, and which channels of each group these are: the same in all."""
    groups, local = (channels // width).unique(), (channels % width).unique()
    if len(groups) * len(local) != len(channels):
        raise ValueError("the groups of a convolution would not stay equally wide")
    return groups.tolist(), local


def _size_names(layer: nn.Module) -> tuple[str, ...]:
    return next((names for kind, names in _SIZES if isinstance(layer, kind)), ())


def _own_tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from list(layer.named_parameters(recurse=False))
    yield from list(layer.named_buffers(recurse=False))


def _set(layer: nn.Module, name: str, value: Tensor) -> None:
    before = getattr(layer, name)
    if isinstance(before, nn.Parameter):
        value = nn.Parameter(value.detach().clone(), requires_grad=before.requires_grad)
    setattr(layer, name, value)
