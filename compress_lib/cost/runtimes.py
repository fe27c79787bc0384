"""What can run a network on the CPU: PyTorch as it is, or with channels innermost in memory, ONNX Runtime (chapter 18).

Eager PyTorch looks up and launches one operation after the other. A runtime that sees the whole network beforehand
joins operations and plans memory; what it gains is greatest where the operations are small, as in compact networks.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib import export
from compress_lib.cost.counting import check_model

# An output may differ from eager mode's by this part of its largest value: rounding, in another order of sums.
_TOLERANCE = 1e-3


def prepare(
    models: Mapping[str, nn.Module], x: Tensor, runtimes: Sequence[str]
) -> tuple[dict[str, Callable], dict[str, str]]:
    """A function without arguments for each model in each runtime, all giving the outputs of eager mode.

    Parameters
    ----------
    models : mapping of str to nn.Module
        On the CPU; copies in evaluation mode run in their place.
    x : Tensor
        (N, …), what they are given, all of it at once.
    runtimes : sequence of str
        Of ``"eager"``, ``"channels-last"`` (images (N, C, H, W) only) and ``"onnxruntime"``, which takes as many
        threads as PyTorch has now.

    Returns
    -------
    functions : dict of str to callable
        By model and runtime, ``"dense, eager"``, model by model. They return a tensor or, from ONNX Runtime, an array.
    versions : dict of str to str
        By the same names, the runtime with the version of what it is part of: ``"eager, torch 2.15.0"``.

    Raises
    ------
    TypeError, ValueError
        If a model is no module, ``x`` no tensor on the CPU, or ``runtimes`` is empty, names one twice or an unknown
        one; what the export raises, with the name of the model.
    ModuleNotFoundError
        If ONNX Runtime is asked for and not installed.
    RuntimeError
        If a runtime's output is not that of eager mode.
    """
    _check(models, x, runtimes)
    functions, versions = {}, {}
    with torch.no_grad():
        for model_name, model in models.items():
            model = copy.deepcopy(model).eval()
            expected = model(x)
            for runtime in runtimes:
                name = f"{model_name}, {runtime}"
                try:
                    functions[name], versions[name] = _PREPARE[runtime](model, x)
                except ValueError as error:
                    raise ValueError(f"{model_name} cannot run in {runtime}: {error}") from error
                _check_output(name, torch.as_tensor(functions[name]()), expected)
    return functions, versions


def _eager(model: nn.Module, x: Tensor) -> tuple[Callable, str]:
    return lambda: model(x), f"eager, torch {torch.__version__}"


def _channels_last(model: nn.Module, x: Tensor) -> tuple[Callable, str]:
    if x.dim() != 4:
        raise ValueError(f"x must be images (N, C, H, W), not of shape {tuple(x.shape)}")
    layout = {"memory_format": torch.channels_last}
    model, x = copy.deepcopy(model).to(**layout), x.contiguous(**layout)
    return lambda: model(x), f"channels-last, torch {torch.__version__}"


def _onnxruntime(model: nn.Module, x: Tensor) -> tuple[Callable, str]:
    export.require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Its threads would go on spinning after a call, and slow whatever is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    content = export.onnx_bytes(model, x)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {export.INPUT: x.contiguous().numpy()}
    return lambda: session.run(None, feed)[0], f"onnxruntime {onnxruntime.__version__}"


_PREPARE = {"eager": _eager, "channels-last": _channels_last, "onnxruntime": _onnxruntime}


def _check(models: Mapping[str, nn.Module], x: Any, runtimes: Any) -> None:
    for model in models.values():
        check_model(model)
    if not isinstance(x, Tensor) or x.device.type != "cpu":
        what = f"a tensor on {x.device}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise TypeError(f"x must be a tensor on the CPU, where all runtimes run, not {what}")
    known = ", ".join(_PREPARE)
    if isinstance(runtimes, str) or not runtimes or len(set(runtimes)) < len(runtimes):
        raise ValueError(f"runtimes={runtimes!r} must be one or more of {known}, each once")
    if unknown := [runtime for runtime in runtimes if runtime not in _PREPARE]:
        raise ValueError(f"runtimes has {unknown[0]!r}, which is none of {known}")


def _check_output(name: str, output: Tensor, expected: Tensor) -> None:
    if output.shape != expected.shape:
        raise RuntimeError(f"{name} gives shape {tuple(output.shape)}, eager mode {tuple(expected.shape)}")
    difference, largest = (output - expected).abs().max(), expected.abs().max()
    if not difference <= _TOLERANCE * largest:  # nor where either is no number
        raise RuntimeError(
            f"{name} is up to {difference:.2g} off the output of eager mode, which goes to {largest:.2g}"
        )
