"""Batch normalization statistics measured again: the cheapest repair of a pruned network. Chapter 04."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress_lib.network import watching


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: Tensor, *, batch_size: int = 250) -> nn.Module:
    """Replace the running statistics of every batch normalization by averages over ``images``.

    They are reset, and then averaged with equal weights over the batches (``momentum=None``), each layer reading what
    the layers before it make with the statistics of the batch, as in training. Weights stay as they are.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    images : Tensor
        ``(N, …)``, uint8 or float; no labels are needed.
    batch_size : int
        Images per batch; a last, smaller batch is left out if there is a full one.

    Returns
    -------
    nn.Module
        A copy, in evaluation mode.

    Raises
    ------
    ValueError
        If there are no images, or the model has no batch normalization with running statistics.
    """
    model = copy.deepcopy(model).eval()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        raise ValueError(f"model={type(model).__name__} has no batch normalization with running statistics")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    whole = len(images) // batch_size * batch_size
    for batch in watching.batches(model, images[: whole or None], batch_size):
        model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
