"""First-order Taylor expansion of the loss: activation times gradient. Chapter 04.

Molchanov, Tyree, Karras, Aila, Kautz, "Pruning convolutional neural networks for resource efficient inference",
ICLR 2017, arXiv 1611.06440.
"""

from torch import Tensor, nn

from compress_lib.pruning.criteria import _inputs
from compress_lib.pruning.observe import Observation


def taylor(layer: nn.Module, data: Observation | None = None) -> Tensor:
    """``mean_n | mean_m a_nm · g_nm |``; small ones are to be pruned.

    Setting a channel's map a to zero changes the loss of image n by ``−Σ_m a_nm · g_nm`` to first order, g being the
    gradient at a. The paper's criterion takes the mean over the M positions of the map, then the absolute value, then
    the mean over images: opposite signs cancel within a map, not between images. (Its sequel, "Importance estimation
    for neural network pruning", CVPR 2019, arXiv 1906.10771, squares the sum where this takes the absolute mean.)

    Parameters
    ----------
    layer : nn.Module
        Linear or convolution.
    data : Observation
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
    values, slopes = _inputs.activations(layer, data, "taylor"), _inputs.gradients(layer, data, "taylor")
    if values.shape != slopes.shape:
        raise ValueError(f"data.gradients has shape {tuple(slopes.shape)}, data.activations {tuple(values.shape)}")
    products = (values * slopes).double().reshape(*values.shape[:2], -1)
    return products.mean(2).abs().mean(0).float()
