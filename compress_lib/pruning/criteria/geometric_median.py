"""Distance to the other filters (FPGM): what is near all others can be replaced by them. Chapter 04.

He, Liu, Wang, Hu, Yang, "Filter pruning via geometric median for deep convolutional neural networks acceleration",
CVPR 2019, arXiv 1811.00250.
"""

import torch
from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def geometric_median(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``Σ_j ‖f_i − f_j‖₂`` over all filters of the layer; small ones are to be pruned.

    The geometric median is the point with the smallest such sum; the filter nearest to it, among the filters, is the
    one that the sum ranks lowest. A common shift of all filters changes nothing: unlike a norm, the score does not care
    where the origin is.

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
    filters = _inputs.filters(layer)
    # The default takes ‖a‖² + ‖b‖² − 2a·b for large matrices, and equal filters would be some distance apart.
    distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum(1).float()
