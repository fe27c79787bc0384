"""Watching the layers of a network while it runs: what enters and what leaves them. Chapters 03, 04 and 12."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from compress_lib.data import as_input


def find(model: nn.Module, name: str) -> nn.Module:
    """The layer ``name``.

    Raises
    ------
    ValueError
        If the model has no such layer; the message has the names that are most like it.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        layers = [layer for layer, _ in model.named_modules(remove_duplicate=False)]
    like = difflib.get_close_matches(str(name), layers, n=5, cutoff=0.0)
    raise ValueError(f"{type(model).__name__} has no layer {name!r}; the names most like it are {like}")


@contextmanager
def watching(model: nn.Module, names: Iterable[str], note: Callable[[str, tuple, Tensor], None]) -> Iterator[None]:
    """While the block runs, each call of a named layer is told: ``note(name, inputs, output)``. The hooks then go.

    Parameters
    ----------
    model : nn.Module
    names : iterable of str
        Names of submodules.
    note : callable
        Takes the name, the positional arguments of the call and what it returned; what it raises reaches the caller.

    Raises
    ------
    ValueError
        If the model has no such submodule, as `find`.
    """
    with ExitStack() as hooks:
        for name in names:
            hook = find(model, name).register_forward_hook(
                lambda _, inputs, output, name=name: note(name, inputs, output)
            )
            hooks.callback(hook.remove)
        yield


def batches(model: nn.Module, images: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Batches of images, (N, C, H, W) uint8 (normalized here) or float, on the model's device."""
    if len(images) == 0:
        raise ValueError("images is empty")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    for batch in images.split(batch_size):
        yield as_input(batch).to(device)


@torch.no_grad()
def in_order(model: nn.Module, names: Iterable[str], images: Tensor) -> list[str]:
    """Those of the named layers that run, in the order of their first calls."""
    called: dict[str, None] = {}
    with watching(model, names, lambda name, *_: called.setdefault(name)):
        model(next(batches(model, images[:1], 1)))
    return list(called)


def calls(model: nn.Module, name: str, batch: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Input and output of the layer ``name`` in each of its calls while ``model`` runs on ``batch``.

    Raises
    ------
    ValueError
        If it is not called.
    """
    found = []
    with watching(model, [name], lambda _, inputs, output: found.append((inputs[0], output))):
        model(batch)
    if not found:
        raise ValueError(f"layer {name!r} is not called when the model runs")
    return found
