"""The L1 penalty on weights, which drives many of them towards zero before pruning. Chapter 02.

Its counterpart, the L2 penalty, is the optimizer's weight decay.
"""

import operator
from collections.abc import Collection
from functools import reduce

from torch import Tensor, nn

from compress_lib.network import targets


def l1_penalty(model: nn.Module, exclude: Collection[str] = ()) -> Tensor:
    """The sum of ``|w|`` over the prunable weights, to be scaled and added to the loss.

    Biases and normalization parameters do not count, nor do weights that a mask has removed.

    Parameters
    ----------
    model : nn.Module
    exclude : collection of str
        Layers that do not count.

    Returns
    -------
    Tensor
        Scalar, differentiable.

    Raises
    ------
    ValueError
        If the model has no weights to penalize or ``exclude`` names an unknown layer.
    """
    return reduce(operator.add, (layer.weight.abs().sum() for layer in targets.prunable(model, exclude).values()))
