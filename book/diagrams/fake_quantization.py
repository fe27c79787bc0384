"""Simulated quantization: rounded forward, straight through backward. Chapter 5."""

import torch
from kit import BLUE, ORANGE, SOFT, TINY, Drawing

from compress_lib.quantization.integer import affine

BITS, STEP = 3, 0.5


def staircase() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, what the library's fake quantization makes of them, and the gradient that comes back."""
    w = torch.linspace(-2.25, 2.25, 451, requires_grad=True)
    rounded = affine.fake_quantize(w, STEP, 0, BITS, narrow=True)
    rounded.sum().backward()
    return w.detach(), rounded.detach(), w.grad


def draw() -> Drawing:
    """The layer as a block diagram, and the staircase with the line that the gradient sees."""
    picture = Drawing(
        "fake-quantization",
        480,
        474,
        "A layer with simulated quantization",
        """
        Float weights are quantized to integers and dequantized to floats on a grid. The convolution uses these, and
        the activations after the ReLU are quantized and dequantized too. A dashed arrow shows the gradient, which goes
        back around each rounding and reaches the float weights. A plot shows the staircase of the forward pass and,
        dashed, the line whose slope the backward pass uses: one inside the range, zero outside.
        """,
    )
    left, right, conv = 126, 370, 222
    picture.operation(left, 36, 198, 48, ["weights $w$", "float32, being trained"], BLUE, fill=0.13)
    picture.rect(left - 99, 80, 198, 112, SOFT, r=10, dash="3 3", width=1)
    picture.arrow((left, 60), (left, 92))
    picture.operation(left, 112, 180, 40, ["quantize", "$q = $clamp(round($w / Δ$))"])
    picture.arrow((left, 132), (left, 142))
    picture.operation(left, 162, 180, 40, ["dequantize", "$ŵ = Δ · q$"])
    picture.arrow((left, 182), (left, conv), (right - 77, conv))
    picture.label((left + right) / 2 + 6, conv - 12, "$ŵ$")

    picture.arrow((right, 40), (right, conv - 22))
    picture.label(right, 26, "activations $x̂$")
    picture.operation(right, conv, 150, 40, "convolution, bias")
    picture.arrow((right, conv + 20), (right, conv + 38))
    picture.operation(right, conv + 57, 150, 34, "ReLU")
    picture.arrow((right, conv + 74), (right, conv + 101))
    picture.rect(right - 75, conv + 91, 150, 86, SOFT, r=10, dash="3 3", width=1)
    picture.operation(right, conv + 117, 120, 28, "quantize")
    picture.arrow((right, conv + 131), (right, conv + 138))
    picture.operation(right, conv + 152, 120, 28, "dequantize")
    picture.arrow((right, conv + 166), (right, conv + 214))
    picture.label(right, conv + 230, "$x̂$ of the next layer")

    back = {"color": ORANGE, "dash": "5 4"}
    side = right + 96
    picture.arrow((right + 16, conv + 206), (side, conv + 206), (side, conv), (right + 77, conv), **back)
    picture.arrow((right - 77, conv + 12), (12, conv + 12), (12, 36), (left - 101, 36), **back)
    picture.label(left - 20, conv + 28, "gradient, straight through", color=ORANGE, size=TINY)

    _plot(picture, 20, 276, 200, 176)
    return picture


def _plot(picture: Drawing, x: float, y: float, w: float, h: float) -> None:
    """The staircase, and the line of slope 1 or 0 that the gradient takes it for."""
    weights, rounded, slope = staircase()
    scale = w / 4.5
    at = lambda a, b: (x + w / 2 + scale * float(a), y + h / 2 - scale * float(b))
    picture.arrow((x, y + h / 2), (x + w, y + h / 2), width=1)
    picture.arrow((x + w / 2, y + h), (x + w / 2, y), width=1)
    jumps = (rounded.diff() != 0).nonzero().flatten().tolist()
    steps = [at(weights[0], rounded[0])]
    for i in jumps:
        middle = (weights[i] + weights[i + 1]) / 2
        steps += [at(middle, rounded[i]), at(middle, rounded[i + 1])]
    picture.line(*steps, at(weights[-1], rounded[-1]), color=BLUE, width=2)
    inside = weights[slope == 1]
    low, high = inside.min(), inside.max()
    picture.line(at(weights[0], low), at(low, low), at(high, high), at(weights[-1], high), color=ORANGE, dash="5 4")
    picture.label(x + w - 4, y + h / 2 + 14, "$w$")
    picture.label(x + w / 2 - 14, y + 8, "$ŵ$")
    picture.label(x + 52, y + 36, "forward", color=BLUE, size=TINY)
    picture.label(x + w / 2 + 62, y + h - 32, ["backward,", "as if"], color=ORANGE, size=TINY)
