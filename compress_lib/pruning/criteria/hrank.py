"""The rank of a channel's feature maps (HRank). Chapter 04.

Lin, Ji, Wang, Zhang, Zhang, Tian, Shao, "HRank: filter pruning using high-rank feature map", CVPR 2020,
arXiv 2002.10179.
"""

import torch
from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def hrank(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """The mean over images of the matrix rank of a channel's feature map; low ranks are to be pruned.

    The rank is numerical: singular values above ``max(H, W) · ε · σ_max`` count (ε of the activations' precision). It
    is the ReLU that lowers it: where none directly follows the layer, as before the sum of a residual block, nearly all
    maps have full rank, and the scores rank nothing. A linear layer has 1×1 maps of rank 0 or 1, as have the rows of a
    one-dimensional convolution: the mean is then the fraction of images that the channel answers to.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation
        With activations; the planes of a three-dimensional convolution are stacked into one matrix.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32, at least 0 and at most the smaller side of the map.

    Raises
    ------
    TypeError
        For another kind of layer.
    ValueError
        Without activations, or if they are not finite or not of this layer.
    """
    maps = _inputs.activations(layer, data, "hrank")
    images, channels = maps.shape[:2]
    width = maps.shape[-1] if maps.dim() > 2 else 1
    return torch.linalg.matrix_rank(maps.reshape(images, channels, -1, width)).float().mean(0)
