"""Bytes on disk: the size of a file that was written, not of one imagined."""

import os
import tempfile

from safetensors.torch import save_model
from torch import nn

from compress_lib.cost.counting import check_model


def nbytes_on_disk(model: nn.Module) -> int:
    """Write the model's state dict to a temporary safetensors file and return the file's size.

    The header with names, shapes and data types is part of it. A tensor shared by several layers is written once.

    Parameters
    ----------
    model : nn.Module
        Any module with dense tensors; it is left as it is.

    Returns
    -------
    int
        Bytes. The file is deleted again.

    Raises
    ------
    TypeError
        If ``model`` is no ``nn.Module``.
    OSError
        If the temporary directory cannot hold the file.
    """
    check_model(model)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "model.safetensors")
        save_model(model, path)
        return os.path.getsize(path)
