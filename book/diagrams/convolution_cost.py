"""A convolution and its cost: where each factor of O²·N·M·K² comes from. Chapter 1."""

from kit import INK, ORANGE, SMALL, SOFT, TEXT, TINT, Drawing
from torch import nn

from compress_lib import cost

CHANNELS, FILTERS, KERNEL, SIZE = 3, 4, 3, 6
CELL, STEP = 17, 14  # of the maps, and from one to the one behind it


def draw() -> Drawing:
    """The window on all channels, the filter, the number that comes out; and the count of the products."""
    layer = cost.count(nn.Conv2d(CHANNELS, FILTERS, KERNEL, bias=False), (CHANNELS, SIZE, SIZE)).layers[0]
    out = layer.output_shape[-1]
    one = layer.macs // (out**2 * FILTERS)
    picture = Drawing(
        "convolution-cost",
        480,
        372,
        "A convolution and its cost",
        f"""
        A window of {KERNEL} by {KERNEL} pixels lies on all {CHANNELS} channels of the input. One of {FILTERS} filters,
        as deep as the input, turns it into one number of one of the {FILTERS} output maps. Below, the count: {one}
        multiply-adds for one number, times {out**2} positions of the window, times {FILTERS} filters, is
        {layer.macs:,}.
        """,
    )
    base = 150  # where the front maps stand
    input_x, filter_x, output_x = 24, 208, 358
    input_y, filter_y, output_y = base - SIZE * CELL, base - 24 - KERNEL * CELL, base - 15 - out * CELL

    for depth in reversed(range(CHANNELS)):
        x, y = input_x + depth * STEP, input_y - depth * STEP
        picture.grid(x, y, SIZE, SIZE, CELL)
        picture.grid(x + (SIZE - KERNEL) * CELL, y, KERNEL, KERNEL, CELL, ORANGE, fill=TINT)
    for depth in reversed(range(CHANNELS)):
        picture.grid(filter_x + depth * STEP, filter_y - depth * STEP, KERNEL, KERNEL, CELL, ORANGE, fill=TINT)
    for depth in reversed(range(FILTERS)):
        x, y = output_x + depth * STEP, output_y - depth * STEP
        picture.grid(x, y, out, out, CELL)
    pixel_x = output_x + (out - 1) * CELL
    picture.rect(pixel_x, output_y, CELL, CELL, ORANGE, fill=0.75, width=1.2)

    middle = filter_y + KERNEL * CELL / 2
    picture.arrow((input_x + SIZE * CELL + 36, middle), (filter_x - 10, middle), color=ORANGE)
    picture.arrow((filter_x + KERNEL * CELL + 36, middle), (output_x - 12, middle), color=ORANGE)
    deep = STEP * (CHANNELS - 1)
    _depth(picture, input_x, input_y, deep, "$M$")
    _depth(picture, filter_x, filter_y, deep, "$M$")
    _depth(picture, output_x, output_y, STEP * (FILTERS - 1), "$N$")
    picture.text(filter_x + KERNEL * CELL / 2, filter_y + KERNEL * CELL + 18, "$K$", size=TEXT)
    picture.text(output_x - 12, output_y + out * CELL - 3, "$O$", size=TEXT)

    for x, name, detail in (
        (input_x + 62, "input", "$M$ channels"),
        (filter_x + 36, "one of $N$ filters", "$M·K^2$ weights"),
        (output_x + 50, "output", "$N$ maps of $O^2$"),
    ):
        picture.text(x, base + 28, name, weight=600)
        picture.text(x, base + 47, detail, size=SMALL, color=SOFT)

    top = base + 92
    for i, (words, symbols, number) in enumerate(
        (
            ("one number: window · filter", "$M·K^2$", f"{one}"),
            ("at every position", "$× O^2$", f"× {out**2}"),
            ("for every filter", "$× N$", f"× {FILTERS}"),
            ("multiply–adds", "$O^2·N·M·K^2$", f"{layer.macs:,}"),
        )
    ):
        y, last = top + 31 * i, i == 3
        color = ORANGE if i == 0 else INK
        picture.text(input_x, y, words, anchor="start", color=color, weight=600 if last else None)
        picture.text(346, y, symbols, anchor="end", color=color, size=TEXT + 1)
        picture.text(460, y, number, anchor="end", color=color, weight=600 if last else None)
    picture.line((input_x, top + 72), (460, top + 72), color=SOFT, width=1)
    return picture


def _depth(picture: Drawing, x: float, y: float, length: float, name: str) -> None:
    """A dimension line along the stack, on its upper left."""
    picture.line((x - 6, y - 6), (x + length - 6, y - length - 6), color=SOFT, width=1)
    picture.text(x + length / 2 - 13, y - length / 2 - 9, name, anchor="end")
