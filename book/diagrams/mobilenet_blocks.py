"""MobileNets' blocks: a convolution taken apart in space and channels, and the inverted residual. Chapter 14."""

from kit import BLUE, ORANGE, SMALL, SOFT, Drawing
from torch import nn
from wiring import Tensor, each_alone, grouped, join, show

from compress_lib.models.mobilenet import mobilenet_v1, mobilenet_v2

LEFT, RIGHT = 112, 350  # middles of the two panels
SCALE = 1.3  # pixels a channel


def separable() -> Drawing:
    """An ordinary convolution, and the depthwise and pointwise ones that take its place: a block of MobileNetV1."""
    block = mobilenet_v1().features[3]
    depthwise, pointwise = block.depthwise[0], block.pointwise[0]
    inputs, outputs = depthwise.in_channels, pointwise.out_channels
    ordinary = nn.Conv2d(inputs, outputs, depthwise.kernel_size, bias=False).weight.numel()
    parts = depthwise.weight.numel(), pointwise.weight.numel()
    picture = Drawing(
        "depthwise-separable",
        480,
        374,
        "An ordinary and a depthwise separable convolution",
        f"""
        On the left, a 3 by 3 convolution from {inputs} to {outputs} channels: every output reads all channels and nine
        places, with {ordinary:,} weights. On the right, a depthwise convolution filters each channel on its own, with
        {parts[0]:,} weights, and a pointwise one mixes the channels at each place, with {parts[1]:,}: together
        {sum(parts):,}.
        """,
    )
    top, bottom = 56, 284
    picture.text(LEFT, 26, "ordinary", weight=600)
    picture.text(RIGHT, 26, "depthwise separable", weight=600)

    above, below = Tensor(LEFT, top, inputs, SCALE), Tensor(LEFT, bottom, outputs, SCALE)
    grouped(picture, above, below)
    show(picture, above)
    show(picture, below)
    picture.operation(LEFT, (top + bottom) / 2 + 10, 160, 64, ["3×3", "nine places and", "all channels at once"])

    above, between, below = (
        Tensor(RIGHT, y, channels, SCALE)
        for y, channels in ((top, inputs), ((top + bottom) / 2, inputs), (bottom, outputs))
    )
    each_alone(picture, above, between)
    grouped(picture, between, below)
    for tensor in (above, between, below):
        show(picture, tensor)
    for y, lines in (
        (above.bottom + 44, ["depthwise 3×3", "nine places"]),
        (between.bottom + 44, ["pointwise 1×1", "all channels"]),
    ):
        picture.operation(RIGHT, y, 130, 42, lines)
    picture.text(LEFT, bottom + 50, f"{ordinary:,} weights", weight=600)
    picture.text(RIGHT, bottom + 50, f"{parts[0]:,} + {parts[1]:,}", weight=600, color=ORANGE)
    picture.text(RIGHT, bottom + 72, f"{ordinary / sum(parts):.1f} times fewer", size=SMALL, color=SOFT)
    return picture


def inverted() -> Drawing:
    """Blocks of MobileNetV1 and V2, both drawn to one scale."""
    first, second = mobilenet_v1().features[3], mobilenet_v2().features[3]
    wide = first.pointwise[0].out_channels
    narrow, expanded = second.expand[0].in_channels, second.expand[0].out_channels
    assert second.residual and second.project[0].out_channels == narrow and len(second.project) == 2
    picture = Drawing(
        "inverted-residual",
        480,
        442,
        "A block of MobileNetV1 and the inverted residual of MobileNetV2",
        f"""
        On the left, MobileNetV1: a depthwise and a pointwise convolution, {wide} channels all the way, a ReLU after
        each. On the right, MobileNetV2: a 1 by 1 convolution expands {narrow} channels to {expanded}, a depthwise one
        filters them, a 1 by 1 convolution projects them back to {narrow} without an activation, and a shortcut adds
        the {narrow} channels of the input.
        """,
    )
    tops = 56, 152, 248, 344
    picture.text(LEFT, 26, "MobileNetV1", weight=600)
    picture.text(RIGHT, 26, "MobileNetV2", weight=600)

    above, between, below = (Tensor(LEFT, y, wide, SCALE) for y in (tops[0], tops[1], tops[2]))
    each_alone(picture, above, between)
    grouped(picture, between, below)
    for tensor in (above, between, below):
        show(picture, tensor)
    for tensor, name in ((above, "depthwise 3×3"), (between, "pointwise 1×1")):
        picture.operation(LEFT, tensor.bottom + 36, 128, 42, [name, "BN, ReLU"])

    ends, hidden = (ORANGE,), (narrow, expanded, expanded, narrow)
    above, widened, filtered, below = (
        Tensor(RIGHT, y, channels, SCALE, ends if channels == narrow else (BLUE,))
        for y, channels in zip(tops, hidden, strict=True)
    )
    side, plus = RIGHT + 114, below.bottom + 24
    picture.line((above.right + 12, above.top + 8), (side, above.top + 8), (side, plus), color=ORANGE)
    picture.arrow((side, plus), (RIGHT + 13, plus), color=ORANGE)
    grouped(picture, above, widened)
    each_alone(picture, widened, filtered)
    grouped(picture, filtered, below)
    for tensor in (above, widened, filtered, below):
        show(picture, tensor)
    for tensor, name, after in (
        (above, "expand 1×1", "BN, ReLU6"),
        (widened, "depthwise 3×3", "BN, ReLU6"),
        (filtered, "project 1×1", "BN, no activation"),
    ):
        picture.operation(RIGHT, tensor.bottom + 36, 140, 42, [name, after])
    picture.arrow((RIGHT, below.bottom), (RIGHT, plus - 12))
    join(picture, RIGHT, plus)
    picture.arrow((RIGHT, plus + 12), (RIGHT, plus + 38))
    return picture
