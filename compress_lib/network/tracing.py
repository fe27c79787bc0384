"""A network as a graph of layers and operations, by ``torch.fx``. Chapters 03 and 04."""

import copy
import traceback
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

_PACKAGE = Path(__file__).parents[1]
_NOT_THE_MODEL = (Path(torch.__file__).parent, _PACKAGE / "network", _PACKAGE / "pruning")


def trace(model: nn.Module, training: bool = False) -> fx.GraphModule:
    """The graph of ``model``, over a copy of its weights, as it runs in evaluation mode or in training mode.

    Layers of ``torch.nn`` are single nodes (``call_module``) and keep the names they have in ``model``.

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        If a layer has no weights yet or computes them in an old-style hook, or the ``forward`` cannot be traced, with
        the line that stopped it: control flow that depends on the values in a tensor, for example.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, layer in model.named_modules():
        if any(is_lazy(tensor) for tensor in (*layer._parameters.values(), *layer._buffers.values())):
            raise ValueError(f"layer {name!r} is lazy and has no weights yet; run one batch through the model first")
        if any(isinstance(value, Tensor) and not value.is_leaf for value in vars(layer).values()):
            raise ValueError(f"layer {name!r} keeps a computed weight (an old-style mask or norm): remove that first")
    try:
        return fx.symbolic_trace(copy.deepcopy(model).train(training))
    except Exception as error:
        line = line_of_the_model(error)
        raise ValueError(f"model={type(model).__name__} cannot be traced by torch.fx: {line}: {error}") from error


def line_of_the_model(error: Exception) -> str:
    """The innermost frame of an error outside PyTorch and this package: the line of the model's own code."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(folder in Path(frame.filename).parents for folder in _NOT_THE_MODEL):
            return f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
    return "in a layer of PyTorch"
