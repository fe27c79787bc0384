"""Dense networks as ONNX files, for runtimes other than PyTorch. Chapter 18.

The export goes through ``torch.export``, PyTorch's default since 2.9: it follows the operations rather than one run of
them, so it refuses a network whose path depends on values, of which the older exporter, by TorchScript, would silently
keep one path. That one is faster, deprecated, and not supported from Python 3.14 on.
"""

import copy
import importlib.util
import os

import torch
from torch import Tensor, nn

from compress_lib import files

__all__ = ["INPUT", "OUTPUT", "onnx_bytes", "require", "to_onnx"]

# What the file calls its one input and its one output.
INPUT, OUTPUT = "input", "output"


def to_onnx(model: nn.Module, path: str | os.PathLike, example_input: Tensor) -> None:
    """Write a network to an ONNX file, whole or not at all.

    Parameters
    ----------
    model : nn.Module
        From one tensor to one tensor, of operations that ONNX has: a dense network. It is exported in evaluation mode
        and left as it is.
    path : str or path
        Of the file.
    example_input : Tensor
        (N, …), on the model's device. The file takes any number of samples, of this shape and data type.

    Raises
    ------
    TypeError
        If ``model`` is no module, or ``example_input`` or what the model makes of it no tensor.
    ValueError
        If ``example_input`` is empty, or the model has operations that ONNX lacks, depends on values or on the number
        of samples, or is over the 2 GB that a file holds.
    ModuleNotFoundError
        If the packages onnx and onnxscript are not installed.
    """
    files.write(path, onnx_bytes(model, example_input))


def onnx_bytes(model: nn.Module, example_input: Tensor) -> bytes:
    """The content of the file that `to_onnx` writes; parameters and errors as there."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(example_input, Tensor):
        raise TypeError(f"example_input must be a tensor, not {type(example_input).__name__}")
    if example_input.dim() == 0 or len(example_input) == 0:
        raise ValueError(f"example_input must have samples on its first axis, not shape {tuple(example_input.shape)}")
    require("onnx", "onnxscript")
    model = copy.deepcopy(model).eval()
    # A number of samples that may be anything is followed with 2; with 1 it would be taken for a constant.
    samples = example_input[:1].repeat(2, *[1] * (example_input.dim() - 1))
    with torch.no_grad():
        output = model(samples)
    if not isinstance(output, Tensor):
        raise TypeError(f"model must return one tensor, not a {type(output).__name__}")
    try:
        program = torch.onnx.export(
            model,
            (samples,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"model={type(model).__name__} cannot be exported to ONNX: {_reason(error)}") from error
    assert program is not None, "the exporter returns a program"
    # Asked for any number of samples, the exporter falls back to the one it was given, and says nothing.
    if not program.model_proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        name = type(model).__name__
        raise ValueError(
            f"model={name} cannot be exported to ONNX: its operations take no other number of samples than 2"
        )
    try:
        return program.model_proto.SerializeToString()
    except ValueError as error:
        raise ValueError(f"model={type(model).__name__} does not fit into one ONNX file: {error}") from error


def require(*packages: str) -> None:
    """Raise ModuleNotFoundError, with what to do about it, unless the optional packages are installed."""
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        raise ModuleNotFoundError(
            f"{' and '.join(missing)} is needed for ONNX and not installed: pip install 'compress-lib[onnx]'"
        )


def _reason(error: BaseException) -> str:
    """The first line of what went wrong in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0] or type(error).__name__
