"""BinaryConnect: weights of ±1 in the products, real ones behind them that collect the gradients. Chapter 08.

Courbariaux, Bengio, David, "BinaryConnect: training deep neural networks with binary weights during propagations", NIPS
2015, arXiv 1511.00363. A step computes with ``w_b = sign w``, or with w_b drawn at random such that its mean is w, and
applies the gradient with respect to w_b to w; then w is clipped to [−1, 1], beyond which it would change nothing.
Activations stay real.

As the chance of +1, unlike a sign, depends on the size of w, random signs begin with weights spread over [−1, 1]. In
evaluation the signs are taken in both cases, as these alone are stored; the paper computes with the real weights where
it trained with random ones::

    model = convert(model)
    training.fit(model, images, labels, epochs=4, seed=0, after_step=clip)
    deployed = packed_weight.pack(model)
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compress_lib.binary.binarization import latent_weights, stochastic_sign, straight_through_sign
from compress_lib.network import parametrized


class BinaryWeight(nn.Module):
    """A parametrization of ``weight``: its signs, or in training a draw by `binarization.stochastic_sign`.

    The draws are from torch's own generator, which `training.fit` seeds.
    """

    binarizes_weight = True

    def __init__(self, stochastic: bool = False) -> None:
        super().__init__()
        self.stochastic = stochastic

    def forward(self, weight: Tensor) -> Tensor:
        return stochastic_sign(weight) if self.stochastic and self.training else straight_through_sign(weight)

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Signs, no zeros, and the scale 1; see `packed_weight.pack`."""
        return weight, None, weight.new_ones(())


def convert(model: nn.Module, layers: Iterable[str] | None = None, *, stochastic: bool = False) -> nn.Module:
    """The train form.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    layers : iterable of str, optional
        Names of linear and convolution layers; without it all but the first and the last.
    stochastic : bool
        Draw the signs in training; and divide the weights of each layer by the largest of them.

    Returns
    -------
    nn.Module
        A copy whose layers compute with signs.

    Raises
    ------
    TypeError, ValueError
        As for `parametrized.parametrize_weights`.
    """
    converted = parametrized.parametrize_weights(model, layers, lambda: BinaryWeight(stochastic))
    if stochastic:
        with torch.no_grad():
            for weight in latent_weights(converted):
                weight.div_(weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny))
    return converted


@torch.no_grad()
def clip(model: nn.Module, lr: float = 0.0) -> None:
    """Clip the real weights behind signs to [−1, 1], in place: an ``after_step`` of `training.fit` for any ``lr``."""
    for weight in latent_weights(model):
        weight.clamp_(-1, 1)
