"""The L1 norm of a filter. Chapter 04.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710.
"""

from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def l1_norm(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``Σ |w|`` over the weights of each filter; small ones are to be pruned. The bias does not count.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation, optional
        Not used.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32.

    Raises
    ------
    TypeError
        For another kind of layer.
    """
    return _inputs.filters(layer).abs().sum(1).float()
