"""The scale of the batch normalisation after a layer, as network slimming reads it. Chapter 04.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning efficient convolutional networks through network slimming", ICCV 2017,
arXiv 1708.06519.
"""

from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def batch_norm_scale(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``|γ|`` of the normalisation that directly follows; small ones are to be pruned.

    The paper trains with an L1 penalty on γ first. Without one, γ still says how far a channel swings, not whether the
    next layer listens.

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation
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
        If no normalisation with scales directly follows the layer, or it has another number of channels.
    """
    channels = _inputs.out_channels(layer)
    norm = getattr(data, "batch_norm", None)
    if norm is None or norm.weight is None:
        raise ValueError(
            "batch_norm_scale needs a batch normalisation with scales that directly follows the layer: pass data from "
            "observe.observe, and leave out layers that have none"
        )
    if len(norm.weight) != channels:
        raise ValueError(f"data.batch_norm has {len(norm.weight)} scales; the layer has {channels} output channels")
    return norm.weight.detach().abs().float()
