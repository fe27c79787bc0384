"""The entropy of a channel's mean activation over images. Chapter 04.

Luo, Wu, "An entropy-based pruning method for CNN compression", 2017, arXiv 1706.05791.
"""

import torch
from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation

BINS = 20


def entropy(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``−Σ_i p_i ln p_i`` of a histogram of the channel's mean activation; low ones are to be pruned.

    Each map is averaged to one number per image, and the numbers of the N images fall into `BINS` equal bins. The
    paper does not say what the bins span. Here one grid serves the layer, from the smallest number of all its channels
    to the largest: a channel that hardly varies stays in few bins and scores low. (With a grid of its own for each
    channel the scale would not matter, and two batches of images would agree much less on the ranking.) A channel that
    is the same for all images has entropy 0; the most is ``ln min(N, BINS)``.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation
        With activations.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32, in nats.

    Raises
    ------
    TypeError
        For another kind of layer.
    ValueError
        Without activations, or if they are not finite or not of this layer.
    """
    values = _inputs.activations(layer, data, "entropy").double()
    means = values.reshape(*values.shape[:2], -1).mean(2)
    low, high = means.aminmax()
    width = high - low if high > low else 1
    bins = ((means - low) / width * BINS).long().clamp(max=BINS - 1)  # the maximum belongs to the last bin
    counts = torch.zeros(BINS, means.shape[1], dtype=torch.float64, device=means.device)
    counts.scatter_add_(0, bins, torch.ones_like(means))
    return torch.special.entr(counts / len(means)).sum(0).float()
