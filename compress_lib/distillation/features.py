"""Features of layers that are named by string, read by hooks that are removed afterwards. Chapter 12."""

from collections.abc import Collection

from torch import Tensor, nn

from compress_lib.network import watching


class _ReachedError(Exception):
    """The layer has run; what is behind it need not."""


def run(model: nn.Module, layers: Collection[str], images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a model, and what its named layers put out on the way.

    Parameters
    ----------
    model : nn.Module
        In the mode it is in; gradients flow through the features. It has no hook of this function afterwards.
    layers : collection of str
        Names of submodules, each of which runs once and returns a tensor.
    images : Tensor
        A batch that the model takes.

    Returns
    -------
    (Tensor, dict of str to Tensor)

    Raises
    ------
    TypeError
        If a layer returns no tensor.
    ValueError
        If there is no such layer (the nearest names are in the message), or it runs not at all or more than once, or
        what it put out is overwritten in place, as by ``nn.ReLU(inplace=True)``.
    """
    found: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def note(name: str, _: tuple, output: Tensor) -> None:
        if name in found:
            raise ValueError(f"layer {name!r} runs more than once when the model runs")
        found[name] = _tensor(name, output)
        versions[name] = output._version

    with watching.watching(_inner(model), layers, note):
        output = model(images)
    for name in layers:
        if name not in found:
            raise ValueError(f"layer {name!r} is not called when the model runs")
        if found[name]._version != versions[name]:
            raise ValueError(f"the output of layer {name!r} is changed in place; name the layer that changes it")
    return output, found


def up_to(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """What the named layer puts out. Nothing behind it runs, so batch statistics behind it stay as they are.

    Parameters
    ----------
    model, layer, images
        As for `run`. Of a layer that runs more than once it is the first output.

    Raises
    ------
    TypeError, ValueError
        As `run`.
    """
    found = []

    def stop(name: str, _: tuple, output: Tensor) -> None:
        found.append(_tensor(name, output))
        raise _ReachedError

    try:
        with watching.watching(_inner(model), [layer], stop):
            model(images)
    except _ReachedError:
        return found[0]
    raise ValueError(f"layer {layer!r} is not called when the model runs")


def pooled(activation: Tensor) -> Tensor:
    """(N, C): the mean over the places of a map; what has no places stays as it is."""
    return activation.flatten(2).mean(2) if activation.dim() > 2 else activation


def _tensor(name: str, output: Tensor) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {name!r} must return a tensor, got {type(output).__name__}")
    return output


def _inner(model: nn.Module) -> nn.Module:
    """The model that several processes train together, without what wraps it."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
