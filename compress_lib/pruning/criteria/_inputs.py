"""What criteria take from a layer and from its observation, checked."""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib.pruning.observe import Observation

_SCORED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def out_channels(layer: nn.Module) -> int:
    """The number of scores a criterion owes: output channels, or output features of a linear layer."""
    if not isinstance(layer, _SCORED):
        kind = parametrize.type_before_parametrizations(layer) if isinstance(layer, nn.Module) else type(layer)
        allowed = ", ".join(cls.__name__ for cls in _SCORED)
        raise TypeError(f"layer must be one of {allowed}, got {kind.__name__}")
    return len(layer.weight)


def filters(layer: nn.Module) -> Tensor:
    """The filters as rows, ``(out_channels, inputs of a filter)``, in double precision; biases are no part of them."""
    channels = out_channels(layer)
    return layer.weight.detach().reshape(channels, -1).double()


def activations(layer: nn.Module, data: Observation | None, criterion: str) -> Tensor:
    """The recorded activations ``(N, C, …)``."""
    return _recorded(layer, data, criterion, "activations", "images")


def gradients(layer: nn.Module, data: Observation | None, criterion: str) -> Tensor:
    """Their recorded gradients, of the same shape."""
    return _recorded(layer, data, criterion, "gradients", "images and labels")


def _recorded(layer: nn.Module, data: Observation | None, criterion: str, what: str, needs: str) -> Tensor:
    channels = out_channels(layer)
    values = getattr(data, what, None)
    if values is None:
        raise ValueError(f"{criterion} needs the layer's {what}: pass data from observe.observe with {needs}")
    if values.dim() < 2 or values.shape[1] != channels:
        raise ValueError(
            f"data.{what} has shape {tuple(values.shape)}; the layer has {channels} output channels, along axis 1"
        )
    if not values.isfinite().all():
        raise ValueError(f"data.{what} holds NaN or infinite values; {criterion} cannot rank by them")
    return values.detach()
