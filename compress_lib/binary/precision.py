"""Where float32 must be: sums of signs are exact in it, not in the types that autocast puts in its place. Chapter 08.

A sum of n signs is a whole number up to n, and float16 and bfloat16 hold these to 2048 and to 256 only.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def without_autocast(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A method of a layer that ``torch.autocast`` does not change.

    Under it, the method runs as outside of it, on an input in the type of the layer's weight, or in float32 where that
    is packed; its output is of that type, too.
    """

    @functools.wraps(forward)
    def unchanged(layer: Any, x: Tensor) -> Tensor:
        if x.is_meta or not torch.is_autocast_enabled(kind := x.device.type):
            return forward(layer, x)
        weight = layer.weight
        with torch.autocast(kind, enabled=False):
            return forward(layer, x.to(weight.dtype if weight.is_floating_point() else torch.float32))

    return unchanged


def check_float32(layer: Layer) -> Layer:
    """The layer, if its weights are float32.

    Raises
    ------
    TypeError
        If they are not: the operators compute in float32, and may round otherwise than the layer.
    """
    if layer.weight.dtype != torch.float32:
        raise TypeError(
            f"layer must have weights in float32 to be packed, got {layer.weight.dtype}: the packed form computes in "
            "float32, and may have other outputs; convert the train form with .float() first"
        )
    return layer
