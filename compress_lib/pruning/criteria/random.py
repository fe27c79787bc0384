"""Random scores: what every criterion has to beat. Chapter 04."""

import torch
from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def random(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """One uniform number per channel, from PyTorch's global generator: seed it with ``torch.manual_seed``.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation, optional
        Not used.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32, in [0, 1).

    Raises
    ------
    TypeError
        For another kind of layer.
    """
    return torch.rand(_inputs.out_channels(layer))
