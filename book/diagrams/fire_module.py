"""SqueezeNet's fire module. Chapter 13."""

from kit import BLUE, GREEN, ORANGE, SMALL, SOFT, TINY, Drawing
from wiring import Tensor, grouped, show

from compress_lib.models.squeezenet import squeezenet1_0

SCALE = 2.2  # pixels a channel


def draw() -> Drawing:
    """The second fire module of SqueezeNet 1.0, from 128 channels through 16 to 64 and 64."""
    fire = squeezenet1_0().features[3]
    squeeze, one, three = fire.squeeze[0], fire.expand1x1[0], fire.expand3x3[0]
    inputs, outputs = squeeze.in_channels, one.out_channels + three.out_channels
    weights = [layer.weight.numel() for layer in (squeeze, one, three)]
    ordinary = 9 * inputs * outputs
    picture = Drawing(
        "fire-module",
        480,
        428,
        "A fire module",
        f"""
        From top to bottom: an input of {inputs} channels. A squeeze layer of 1 by 1 filters leaves
        {squeeze.out_channels}. Two expand layers read these side by side, {one.out_channels} filters of 1 by 1 and
        {three.out_channels} of 3 by 3, and their outputs are concatenated to {outputs} channels. The module has
        {sum(weights):,} weights, an ordinary 3 by 3 convolution from {inputs} to {outputs} channels has {ordinary:,}.
        """,
    )
    middle, aside = 240, 90
    above = Tensor(middle, 30, inputs, SCALE)
    narrow = Tensor(middle, 132, squeeze.out_channels, SCALE, (ORANGE,))
    left = Tensor(middle - aside, 250, one.out_channels, SCALE)
    right = Tensor(middle + aside, 250, three.out_channels, SCALE, (GREEN,))
    below = Tensor(middle, 324, outputs, SCALE, (BLUE, GREEN))

    grouped(picture, above, narrow)
    grouped(picture, narrow, left)
    grouped(picture, narrow, right, (GREEN,))
    for tensor, colors in ((left, (BLUE,)), (right, (GREEN,))):
        half = Tensor(middle + (tensor.middle - middle) / aside * below.width / 4, below.top, tensor.channels, SCALE)
        picture.arrow((tensor.middle, tensor.bottom + 4), (half.middle, below.top - 8), color=colors[0])
    for tensor in (above, narrow, left, right):
        show(picture, tensor)
    picture.slab(below.left, below.top, below.width, 20, below.colors)
    for x, channels in ((-1, one.out_channels), (1, three.out_channels)):
        picture.label(middle + x * below.width / 4, below.top + 10, str(channels), size=TINY)

    picture.operation(middle, 87, 168, 42, ["squeeze 1×1", f"{weights[0]:,} weights, ReLU"], fill=0.04)
    picture.operation(left.middle - 8, 198, 168, 42, ["expand 1×1", f"{weights[1]:,} weights, ReLU"], fill=0.04)
    picture.operation(right.middle + 8, 198, 168, 42, ["expand 3×3", f"{weights[2]:,} weights, ReLU"], fill=0.04)
    picture.label(above.right + 18, 40, "input", anchor="start", size=TINY, color=SOFT)
    picture.label(middle, 296, "concatenate", size=TINY, color=SOFT)
    picture.text(middle, 376, f"{sum(weights):,} weights", weight=600, color=ORANGE)
    picture.text(middle, 398, f"an ordinary 3×3 convolution: {ordinary:,}", size=SMALL, color=SOFT)
    return picture
