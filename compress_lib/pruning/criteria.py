"""Criteria: how much a channel is worth keeping. Chapter 04.

Each is a function ``(layer, data=None) -> scores``, one score per output channel, high for what to keep. ``data`` is
a `LayerRecord`; a criterion says what it needs of it. `ALL` holds them by name.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib.network.recording import LayerRecord

_SCORED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ENTROPY_BINS = 20


def l1_norm(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``Σ |w|`` over the weights of each filter; small ones are to be pruned. The bias does not count.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord, optional
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
    return _filters(layer).abs().sum(1).float()


def l2_norm(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``√(Σ w²)`` over the weights of each filter; small ones are to be pruned. The bias does not count.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710, who
    compare it with the L1 norm.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord, optional
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
    return _filters(layer).square().sum(1).sqrt().float()


def geometric_median(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``Σ_j ‖f_i − f_j‖₂`` over all filters of the layer; small ones are to be pruned.

    The geometric median is the point with the smallest such sum; the filter nearest to it, among the filters, is the
    one that the sum ranks lowest. A common shift of all filters changes nothing: unlike a norm, the score does not care
    where the origin is.

    He, Liu, Wang, Hu, Yang, "Filter pruning via geometric median for deep convolutional neural networks acceleration",
    CVPR 2019, arXiv 1811.00250.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord, optional
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
    filters = _filters(layer)
    # The default takes ‖a‖² + ‖b‖² − 2a·b for large matrices, and equal filters would be some distance apart.
    distances = torch.cdist(filters, filters, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.sum(1).float()


def batch_norm_scale(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``|γ|`` of the normalization that directly follows; small ones are to be pruned.

    The paper trains with an L1 penalty on γ first. Without one, γ still says how far a channel swings, not whether the
    next layer listens.

    Liu, Li, Shen, Huang, Yan, Zhang, "Learning efficient convolutional networks through network slimming", ICCV 2017,
    arXiv 1708.06519.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord
        With ``batch_norm``; it needs no images.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32.

    Raises
    ------
    TypeError
        For another kind of layer.
    ValueError
        If no normalization with scales directly follows the layer, or it has another number of channels.
    """
    channels = _out_channels(layer)
    norm = getattr(data, "batch_norm", None)
    if norm is None or norm.weight is None:
        raise ValueError(
            "batch_norm_scale needs a batch normalization with scales that directly follows the layer: pass data from "
            "recording.record, and leave out layers that have none"
        )
    if len(norm.weight) != channels:
        raise ValueError(f"data.batch_norm has {len(norm.weight)} scales; the layer has {channels} output channels")
    return norm.weight.detach().abs().float()


def apoz(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``1 − APoZ``, the fraction of activations that are not zero; channels with many zeros are to be pruned.

    APoZ counts zeros over all images and positions after the ReLU. Where no ReLU directly follows the layer, as before
    the sum of a residual block, hardly a value is zero, and the scores are 1 and rank nothing.

    Hu, Peng, Tai, Tang, "Network trimming: a data-driven neuron pruning approach towards efficient deep architectures",
    2016, arXiv 1607.03250.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord
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
    values = _activations(layer, data, "apoz").transpose(0, 1).flatten(1)
    return (values.count_nonzero(1) / values.shape[1]).float()


def entropy(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``−Σ_i p_i ln p_i`` of a histogram of the channel's mean activation; low ones are to be pruned.

    Each map is averaged to one number per image, and the numbers of the N images fall into `ENTROPY_BINS` equal bins.
    The paper does not say what the bins span. Here one grid serves the layer, from the smallest number of all its
    channels to the largest: a channel that hardly varies stays in few bins and scores low. (With a grid of its own for
    each channel the scale would not matter, and two batches of images would agree much less on the ranking.) A channel
    that is the same for all images has entropy 0; the most is ``ln min(N, ENTROPY_BINS)``.

    Luo, Wu, "An entropy-based pruning method for CNN compression", 2017, arXiv 1706.05791.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord
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
    values = _activations(layer, data, "entropy").double()
    means = values.reshape(*values.shape[:2], -1).mean(2)
    low, high = means.aminmax()
    width = high - low if high > low else 1
    bins = (
        ((means - low) / width * ENTROPY_BINS).long().clamp(max=ENTROPY_BINS - 1)
    )  # the maximum belongs to the last bin
    counts = torch.zeros(ENTROPY_BINS, means.shape[1], dtype=torch.float64, device=means.device)
    counts.scatter_add_(0, bins, torch.ones_like(means))
    return torch.special.entr(counts / len(means)).sum(0).float()


def hrank(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """The mean over images of the matrix rank of a channel's feature map; low ranks are to be pruned.

    The rank is numerical: singular values above ``max(H, W) · ε · σ_max`` count (ε of the activations' precision). It
    is the ReLU that lowers it: where none directly follows the layer, as before the sum of a residual block, nearly all
    maps have full rank, and the scores rank nothing. A linear layer has 1×1 maps of rank 0 or 1, as have the rows of a
    one-dimensional convolution: the mean is then the fraction of images that the channel answers to.

    Lin, Ji, Wang, Zhang, Zhang, Tian, Shao, "HRank: filter pruning using high-rank feature map", CVPR 2020,
    arXiv 2002.10179.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord
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
    maps = _activations(layer, data, "hrank")
    images, channels = maps.shape[:2]
    width = maps.shape[-1] if maps.dim() > 2 else 1
    return torch.linalg.matrix_rank(maps.reshape(images, channels, -1, width)).float().mean(0)


def taylor(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """``mean_n | mean_m a_nm · g_nm |``; small ones are to be pruned.

    Setting a channel's map a to zero changes the loss of image n by ``−Σ_m a_nm · g_nm`` to first order, g being the
    gradient at a. The paper's criterion takes the mean over the M positions of the map, then the absolute value, then
    the mean over images: opposite signs cancel within a map, not between images. (Its sequel, "Importance estimation
    for neural network pruning", CVPR 2019, arXiv 1906.10771, squares the sum where this takes the absolute mean.)

    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning convolutional neural networks for resource efficient inference",
    ICLR 2017, arXiv 1611.06440.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord
        With activations and gradients.

    Returns
    -------
    Tensor
        ``(out_channels,)``, float32, in units of the loss per position.

    Raises
    ------
    TypeError
        For another kind of layer.
    ValueError
        Without activations or gradients, or if they are not finite, not of this layer, or of different shapes.
    """
    values, slopes = _activations(layer, data, "taylor"), _gradients(layer, data, "taylor")
    if values.shape != slopes.shape:
        raise ValueError(f"data.gradients has shape {tuple(slopes.shape)}, data.activations {tuple(values.shape)}")
    products = (values * slopes).double().reshape(*values.shape[:2], -1)
    return products.mean(2).abs().mean(0).float()


def random(layer: nn.Module, data: LayerRecord | None = None) -> Tensor:
    """One uniform number per channel, from PyTorch's global generator: seed it with ``torch.manual_seed``.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : LayerRecord, optional
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
    return torch.rand(_out_channels(layer))


def _out_channels(layer: nn.Module) -> int:
    """The number of scores a criterion owes: output channels, or output features of a linear layer."""
    return len(_weight(layer))


def _filters(layer: nn.Module) -> Tensor:
    """The filters as rows, ``(out_channels, inputs of a filter)``, in double precision; biases are no part of them."""
    return _weight(layer).detach().flatten(1).double()


def _weight(layer: nn.Module) -> Tensor:
    if not isinstance(layer, _SCORED):
        kind = parametrize.type_before_parametrizations(layer) if isinstance(layer, nn.Module) else type(layer)
        allowed = ", ".join(cls.__name__ for cls in _SCORED)
        raise TypeError(f"layer must be one of {allowed}, got {kind.__name__}")
    return layer.weight


def _activations(layer: nn.Module, data: LayerRecord | None, criterion: str) -> Tensor:
    """The recorded activations ``(N, C, …)``."""
    return _recorded(layer, data, criterion, "activations", "images")


def _gradients(layer: nn.Module, data: LayerRecord | None, criterion: str) -> Tensor:
    """Their recorded gradients, of the same shape."""
    return _recorded(layer, data, criterion, "gradients", "images and labels")


def _recorded(layer: nn.Module, data: LayerRecord | None, criterion: str, what: str, needs: str) -> Tensor:
    channels = _out_channels(layer)
    values = getattr(data, what, None)
    if values is None:
        raise ValueError(f"{criterion} needs the layer's {what}: pass data from recording.record with {needs}")
    if values.dim() < 2 or values.shape[1] != channels:
        raise ValueError(
            f"data.{what} has shape {tuple(values.shape)}; the layer has {channels} output channels, along axis 1"
        )
    if not values.isfinite().all():
        raise ValueError(f"data.{what} holds NaN or infinite values; {criterion} cannot rank by them")
    return values.detach()


ALL = {
    criterion.__name__: criterion
    for criterion in (l1_norm, l2_norm, geometric_median, batch_norm_scale, apoz, entropy, hrank, taylor, random)
}
