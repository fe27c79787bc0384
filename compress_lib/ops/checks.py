"""What the operators refuse, by name. Nothing here looks at a tensor's numbers, so that ``torch.compile`` passes."""

import torch
from torch import Tensor

from compress_lib.ops import reference

_INTEGERS = (int, torch.SymInt)
LARGEST_IMAGES = 1 << 40  # elements: up to 8 TB, where each takes a word
_LARGEST_SCALE = torch.finfo(torch.float32).max
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def floats(name: str, x: Tensor, dims: int | None = None) -> Tensor:
    """The tensor, detached, if it is of floats, with so many axes or at least one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32, float16, bfloat16 or float64, got {x.dtype}")
    dense(name, x)
    if x.dim() != dims if dims else not x.dim():
        raise ValueError(f"{name} must have {dims or 'some'} axes, got shape {tuple(x.shape)}")
    return x.detach()


def dense(name: str, x: Tensor) -> None:
    """Refuse a tensor that is sparse, or not laid out by strides for another reason."""
    if x.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got the layout {x.layout}")


def integer(name: str, value: int, least: int, most: int) -> int:
    """The number, if it is an integer in this range."""
    if isinstance(value, bool) or not isinstance(value, _INTEGERS):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most:,}, got {value}")
    return value


def features(in_features: int) -> int:
    """The length of a sum, if float32 holds it exactly."""
    return integer("in_features", in_features, 1, reference.LARGEST)


def pair(name: str, value: int | tuple[int, int], least: int) -> list[int]:
    """Of rows and of columns."""
    both = [value, value] if isinstance(value, int) else list(value) if isinstance(value, tuple | list) else None
    if both is None or len(both) != 2:
        raise TypeError(f"{name} must be an integer or two, got {value!r}")
    return [integer(name, each, least, 2**31 - 1) for each in both]


def packed(name: str, x: Tensor, shape: tuple, like: Tensor | None = None) -> Tensor:
    """The tensor, if it holds int64 words in this shape (None: any size), where the other one is."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype != torch.int64:
        raise TypeError(f"{name} must be packed in int64, got {x.dtype}")
    dense(name, x)
    # Not `size not in (None, found)`: torch.compile of torch 2.11 takes that for true where found is symbolic.
    if x.dim() != len(shape) or any(
        size is not None and size != found for size, found in zip(shape, x.shape, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have the shape ({wanted}), got {tuple(x.shape)}")
    if like is not None and like.device != x.device:
        raise ValueError(f"{name} must be on {like.device}, where the input is, got {x.device}")
    return x


def last_axis(name: str, x: Tensor, in_features: int) -> None:
    """Refuse a tensor whose rows have another length."""
    if x.shape[-1] != in_features:
        raise ValueError(f"{name} must have the shape (…, in_features={in_features}), got {tuple(x.shape)}")


def images(shape: tuple, padding: list, outputs: int, size: tuple) -> None:
    """Refuse images, padded, or an output that have more places than the kernels can count."""
    batch, channels, height, width = shape
    height, width = height + 2 * padding[0], width + 2 * padding[1]
    if height >= 2**31 or width >= 2**31:
        raise ValueError(f"padding={padding} must leave fewer than 2^31 rows and columns, got ({height}, {width})")
    batch = batch or 1  # of no images the sizes are computed all the same
    elements = max(batch * channels * height * width, batch * outputs * size[0] * size[1])
    if elements > LARGEST_IMAGES:
        raise ValueError(
            f"x and the output must have at most 2^40 elements, padding={padding} included, got {elements:,}: "
            f"x of shape {tuple(shape)}, {outputs} output channels"
        )


def scales(scale: float | Tensor | None, outputs: int, like: Tensor) -> Tensor | None:
    """A float32 number for each output."""
    if scale is None:
        return None
    if not isinstance(scale, Tensor):
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise TypeError(f"scale must be a number or a tensor, got {type(scale).__name__}")
        if abs(scale) > _LARGEST_SCALE and abs(scale) != float("inf"):
            raise ValueError(
                "scale must be a number that float32 can hold, up to 3.4e38 in magnitude, got a larger one"
            )
        return torch.full((outputs,), float(scale), dtype=torch.float32, device=like.device)
    if scale.dtype not in FLOATS:
        raise TypeError(f"scale must be float32, float16, bfloat16 or float64, got {scale.dtype}")
    dense("scale", scale)
    if scale.dim() and tuple(scale.shape) != (outputs,):
        raise ValueError(f"scale must have the shape () or ({outputs},), got {tuple(scale.shape)}")
    if scale.device != like.device:
        raise ValueError(f"scale must be on {like.device}, where the input is, got {scale.device}")
    return scale.detach().float().expand(outputs).contiguous()
