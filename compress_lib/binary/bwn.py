"""Binary-weight networks (BWN): signs times the scale that brings a filter nearest to its real weights. Chapter 08.

Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net: ImageNet classification using binary convolutional neural networks",
ECCV 2016, arXiv 1603.05279, section 3.1. As BinaryConnect, but with ``α sign W``, α = ‖W‖₁ / n of each filter (see
`binarization`). It is trained and packed likewise, with `binaryconnect.clip` and `packed_weight.pack`.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from compress_lib.binary.binarization import GRADIENTS, scale, scaled_sign
from compress_lib.network import parametrized


class ScaledSign(nn.Module):
    """A parametrization of ``weight``: `binarization.scaled_sign`."""

    binarizes_weight = True

    def __init__(self, gradient: str = "exact") -> None:
        super().__init__()
        if gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {GRADIENTS}, got {gradient!r}")
        self.gradient = gradient

    def forward(self, weight: Tensor) -> Tensor:
        return scaled_sign(weight, self.gradient)

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Signs, no zeros, and a scale per filter; see `packed_weight.pack`."""
        return weight, None, scale(weight)


def convert(model: nn.Module, layers: Iterable[str] | None = None, *, gradient: str = "exact") -> nn.Module:
    """The train form.

    Parameters
    ----------
    model, layers : as for `binaryconnect.convert`.
    gradient : {"exact", "paper"}
        As for `binarization.scaled_sign`.

    Returns
    -------
    nn.Module
        A copy whose layers compute with scaled signs.

    Raises
    ------
    TypeError, ValueError
        As for `parametrized.parametrize_weights`, and if there is no such gradient.
    """
    return parametrized.parametrize_weights(model, layers, lambda: ScaledSign(gradient))
