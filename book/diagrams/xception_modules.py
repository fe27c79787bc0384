"""Towers that become a depthwise convolution, and Xception's module. Chapter 16."""

from kit import BLUE, GREEN, ORANGE, PURPLE, SMALL, SOFT, TINY, Drawing
from torch import nn
from wiring import Tensor, each_alone, grouped, join, show

from compress_lib.models.xception import xception

CHANNELS = 12  # small enough to draw a tower for each


def towers() -> Drawing:
    """One tower, four, and as many as there are channels."""
    counts = 1, 4, CHANNELS
    weights = [nn.Conv2d(CHANNELS, CHANNELS, 3, groups=t, bias=False).weight.numel() for t in counts]
    first = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False).weight.numel()
    picture = Drawing(
        "xception-towers",
        480,
        340,
        "From one tower to as many as channels",
        f"""
        Three layers side by side, each a 1 by 1 convolution that reads all {CHANNELS} channels, and 3 by 3
        convolutions in towers behind it. One tower is an ordinary convolution with {weights[0]:,} weights; four towers
        have {weights[1]}; {CHANNELS} towers, one for each channel, are a depthwise convolution with {weights[2]}.
        """,
    )
    scale = 10.5
    for middle, count, numel, title in zip(
        (78, 236, 394), counts, weights, ("ordinary", "in 4 towers", "depthwise"), strict=True
    ):
        palette = (ORANGE, BLUE, GREEN, PURPLE) if count == 4 else (ORANGE,)
        colors = tuple(palette[i % len(palette)] for i in range(count))
        above = Tensor(middle, 48, CHANNELS, scale, (SOFT,))
        between = Tensor(middle, 136, CHANNELS, scale, colors)
        below = Tensor(middle, 252, CHANNELS, scale, colors)
        grouped(picture, above, between, (SOFT,))
        if count == CHANNELS:
            each_alone(picture, between, below)
        else:
            grouped(picture, between, below, colors)
        show(picture, above)
        for tensor in (between, below):
            show(picture, tensor, None if count == CHANNELS else "")
        picture.text(middle + 4, 24, title, weight=600)
        picture.operation(middle, 101, 60, 28, "1×1")
        picture.operation(middle, 204, 60, 28, "3×3")
        picture.label(middle + 4, 296, [f"{first + numel:,} weights"], size=SMALL, weight=600, color=ORANGE)
        picture.label(middle + 4, 317, f"{first} + {numel:,}", size=TINY, color=SOFT)
    return picture


def module() -> Drawing:
    """A module of Xception's middle flow, and one of its separable convolutions in detail."""
    block = xception().features[9]
    separable = [layer for layer in block.branch if type(layer).__name__ == "SeparableConv2d"]
    channels = separable[0].depthwise.in_channels
    parts = separable[0].depthwise.weight.numel(), separable[0].pointwise.weight.numel()
    picture = Drawing(
        "xception-module",
        480,
        520,
        "A module of Xception",
        f"""
        On the left, a module of the middle flow: {len(separable)} times a ReLU, a separable 3 by 3 convolution and a
        batch normalization, and a shortcut that is added at the end. On the right, one separable convolution: a
        depthwise 3 by 3 convolution with {parts[0]:,} weights and, with nothing in between, a pointwise one with
        {parts[1]:,}, on {channels} channels.
        """,
    )
    left, y = 112, 38
    picture.label(left, 16, f"{channels} channels", size=SMALL)
    start, zoomed = y + 4, None
    for _ in separable:
        for name in ("ReLU", "separable 3×3", "batch norm"):
            accent = name == "separable 3×3"
            picture.arrow((left, y), (left, y + 15))
            picture.operation(left, y + 29, 132, 27, name, ORANGE if accent else SOFT, fill=0.14 if accent else 0.05)
            zoomed = zoomed or (y + 29 if accent else None)
            y += 43
    plus = y + 26
    picture.arrow((left, y), (left, plus - 11))
    join(picture, left, plus)
    picture.arrow((left, plus + 11), (left, plus + 38))
    picture.line((left, start), (18, start), (18, plus), color=SOFT)
    picture.arrow((18, plus), (left - 12, plus))

    x0, x1, y0, y1 = 222, 470, 62, 368
    for corner in (y0, y1):
        picture.line(
            (left + 67, zoomed + (13 if corner == y1 else -13)), (x0, corner), color=ORANGE, width=1, dash="3 3"
        )
    picture.rect(x0, y0, x1 - x0, y1 - y0, ORANGE, r=10, width=1, dash="3 3")
    middle, scale = (x0 + x1) / 2 - 4, 200 / channels
    above, between, below = (Tensor(middle, top, channels, scale) for top in (88, 200, 312))
    each_alone(picture, above, between)
    grouped(picture, between, below)
    for tensor in (above, between, below):
        show(picture, tensor)
    for tensor, name, numel in ((above, "depthwise 3×3", parts[0]), (between, "pointwise 1×1", parts[1])):
        picture.operation(middle, tensor.bottom + 45, 134, 44, [name, f"{numel:,} weights"])
    picture.label(middle, below.bottom + 18, "no activation in between", size=TINY, color=SOFT)
    return picture
