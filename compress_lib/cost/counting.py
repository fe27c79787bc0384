"""Parameters, multiply-adds and memory of any network, per layer and in total (chapter 1).

The forward pass runs on fake tensors: they have shapes, data types and lifetimes, and no data. So counting takes no
arithmetic and no memory, ResNet-50 is done in a fraction of a second, and what is counted is what the network executes
rather than what its layers declare.
"""

import copy
import logging
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import type_before_parametrizations

from compress_lib.cost.costs import Cost, LayerCost
from compress_lib.cost.tensors import nbytes_stored, num_stored
from compress_lib.cost.tracking import OpTracker, Visit

_PARAMETRIZATIONS = "parametrizations"


def count(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Count what one forward pass in evaluation mode costs, on one input.

    Nothing is computed, and ``model`` is not touched: a copy without data runs in its place. Multiply-adds
    come from shapes, not values: a weight that is zero costs as much as any other, and so does one that a sparse layout
    leaves out, though it takes no memory there.

    Parameters
    ----------
    model : nn.Module
        Any module whose ``forward`` takes one tensor, on any device.
    input_shape : sequence of int
        Shape of one input without the batch axis, for example ``(1, 28, 28)``. The batch size is 1. The input has the
        data type of the model's first floating-point parameter.

    Returns
    -------
    Cost
        Totals, and one `LayerCost` for each module that has parameters, does multiply-adds, or has no children.

    Raises
    ------
    TypeError
        If ``model`` is no ``nn.Module`` (or a TorchScript one), or ``input_shape`` no sequence of integers.
    ValueError
        If ``input_shape`` has an axis below 1 or does not fit the model, if the model has neither parameters nor
        operations, is lazy and has not run yet, or if its operations depend on values in the input.

    Examples
    --------
    >>> count(nn.Conv2d(16, 32, kernel_size=3, padding=1, bias=False), (16, 8, 8)).macs  # 32 * 16 * 3 * 3 * 8 * 8
    294912
    """
    check_model(model)
    _check_has_shapes(model)
    shape = _checked_shape(input_shape)
    tracker = _run_without_data(model, shape)
    params = sum(map(num_stored, model.parameters()))
    if tracker.num_ops == 0 and params == 0:
        raise ValueError(f"model={type(model).__name__} has no parameters and no operations: there is nothing to count")
    return Cost(
        input_shape=shape,
        params=params,
        macs=sum(tracker.macs.values()),
        nbytes=sum(map(nbytes_stored, chain(model.parameters(), model.buffers()))),
        peak_activation_nbytes=tracker.peak_nbytes,
        layers=tuple(_layers(model, tracker)),
        uncounted=tuple(tracker.uncounted),
    )


def check_model(model: object) -> None:
    """Raise TypeError unless ``model`` is an ``nn.Module``."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")


def _check_has_shapes(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(f"model holds a TorchScript module ({name or 'itself'}); count the nn.Module it came from")
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"model is lazy: {name} has no shape before the model has run once")


def _checked_shape(input_shape: Any) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
    except TypeError:
        raise TypeError(f"input_shape={input_shape!r} must be a sequence of integers such as (1, 28, 28)") from None
    if min(shape, default=1) < 1:
        raise ValueError(f"input_shape={shape} must have sizes of at least 1")
    return shape


def _run_without_data(model: nn.Module, shape: tuple[int, ...]) -> OpTracker:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    replica, weights = _replica_without_data(model, fake)
    tracker = OpTracker(weights)
    for name, module in replica.named_modules():
        if _owner(name) == name:
            tracker.watch_module(name, module)
    with _plain_attention(), _quiet_fake_tensors(), torch.no_grad(), fake:
        x = torch.empty((1, *shape), dtype=_input_dtype(weights), device=next((w.device for w in weights), "cpu"))
        try:
            with tracker:
                tracker.watch_memory([x])
                replica(x)
        except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException) as error:
            where = _describe(replica, tracker)
            raise ValueError(f"model cannot be counted from shapes alone: {where} needs data for {error}") from error
        except NotImplementedError:
            raise
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            where = _describe(replica, tracker)
            raise ValueError(f"input_shape={shape} does not fit the model: {where} refused it: {reason}") from error
    return tracker


def _replica_without_data(model: nn.Module, fake: FakeTensorMode) -> tuple[nn.Module, list[Tensor]]:
    """A copy of the model in evaluation mode whose tensors have no data, and those tensors."""
    # deepcopy takes from its memo what it finds there: the copy gets fake tensors, shared ones stay shared, and neither
    # memory nor time goes into copying weights.
    memo: dict[int, Tensor] = {}
    for module in model.modules():
        attributes = chain(module.parameters(recurse=False), module.buffers(recurse=False), vars(module).values())
        for value in attributes:
            if isinstance(value, Tensor) and id(value) not in memo:
                memo[id(value)] = fake.from_tensor(value)
    weights = list(memo.values())
    return copy.deepcopy(model, memo).eval(), weights


def _input_dtype(weights: list[Tensor]) -> torch.dtype:
    return next((w.dtype for w in weights if w.is_floating_point()), torch.get_default_dtype())


def _describe(model: nn.Module, tracker: OpTracker) -> str:
    name = tracker.innermost
    layer = f"layer {name!r}" if name else "the model itself"
    visit = tracker.visits.get(name)
    given = " and ".join(str(shape) for shape in visit.input_shapes) if visit else "nothing"
    return f"{layer} ({_kind(model.get_submodule(name))}, given {given})"


def _layers(model: nn.Module, tracker: OpTracker) -> Iterator[LayerCost]:
    modules: dict[str, nn.Module] = {}
    tensors: dict[str, dict[int, Tensor]] = {}
    for name, module in model.named_modules():
        name = _owner(name)
        modules.setdefault(name, module)
        own = tensors.setdefault(name, {})
        own |= {id(t): t for t in chain(module.parameters(recurse=False), module.buffers(recurse=False))}
    for name in dict.fromkeys(chain(tracker.visits, modules)):
        module, held, visit = modules[name], list(tensors[name].values()), tracker.visits.get(name)
        childless = all(child == _PARAMETRIZATIONS for child, _ in module.named_children())
        if not (held or tracker.macs.get(name) or (visit and childless)):
            continue
        visit = visit or Visit([])
        output_shape = visit.output_shape
        yield LayerCost(
            name=name,
            kind=_kind(module),
            output_shape=output_shape[1:] if output_shape and output_shape[0] == 1 else output_shape,
            params=sum(num_stored(tensor) for tensor in held if isinstance(tensor, nn.Parameter)),
            macs=tracker.macs.get(name, 0),
            nbytes=sum(map(nbytes_stored, held)),
            input_nbytes=visit.input_nbytes,
            activation_nbytes=visit.output_nbytes,
        )


def _owner(name: str) -> str:
    """The layer that a module inside a parametrization (its original weight, a mask) belongs to; otherwise ``name``."""
    parts = name.split(".")
    return ".".join(parts[: parts.index(_PARAMETRIZATIONS)]) if _PARAMETRIZATIONS in parts else name


def _kind(module: nn.Module) -> str:
    return type_before_parametrizations(module).__name__


@contextmanager
def _plain_attention():
    """Attention by operations that can be told apart: no fused encoder layers, no compiling of flex attention."""
    from torch.nn.attention import flex_attention  # as slow to import as the rest of this library

    fast_path, flex = torch.backends.mha.get_fastpath_enabled(), flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG
    torch.backends.mha.set_fastpath_enabled(False)
    flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = flex


@contextmanager
def _quiet_fake_tensors():
    """Keep PyTorch from logging a traceback beside the error that `count` raises about a shape that does not fit."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
