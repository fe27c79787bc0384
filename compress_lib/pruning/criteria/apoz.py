"""Average percentage of zeros (APoZ): how often a channel is silent. Chapter 04.

Hu, Peng, Tai, Tang, "Network trimming: a data-driven neuron pruning approach towards efficient deep architectures",
2016, arXiv 1607.03250.
"""

from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def apoz(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``1 − APoZ``, the fraction of activations that are not zero; channels with many zeros are to be pruned.

    APoZ counts zeros over all images and positions after the ReLU. Where no ReLU directly follows the layer, as before
    the sum of a residual block, hardly a value is zero, and the scores are 1 and rank nothing.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation
        With activations.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32, in [0, 1].

    Raises
    ------
    TypeError
        For another kind of layer.
    ValueError
        Without activations, or if they are not finite or not of this layer.
    """
    values = _inputs.activations(layer, data, "apoz").transpose(0, 1).flatten(1)
    return (values.count_nonzero(1) / values.shape[1]).float()
