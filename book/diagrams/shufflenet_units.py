"""ShuffleNets' units, and the shuffle. Chapter 15."""

from dataclasses import dataclass

import torch
from kit import BLUE, GREEN, INK, ORANGE, SMALL, SOFT, TINT, TINY, Drawing
from wiring import Tensor, each_alone, grouped, join, moved, show

from compress_lib.models.shuffle_units import ShuffleUnit, SplitUnit, channel_shuffle
from compress_lib.models.shufflenet import shufflenet_v2_small

CHANNELS, GROUPS = 48, 3  # of V1's unit: few enough to draw each channel of its bottleneck
COLORS = (BLUE, ORANGE, GREEN)
DRAWN = 16  # channels of V2's shuffle, in place of them all


def order(channels: int, groups: int) -> list[int]:
    """Which channel stands at each place after the library's shuffle."""
    return channel_shuffle(torch.arange(channels).view(1, -1, 1, 1), groups).flatten().tolist()


def mixed(colors: tuple[str, ...], channels: int) -> list[str]:
    """The colors of the channels after a shuffle of groups of these colors."""
    return [colors[channel * len(colors) // channels] for channel in order(channels, len(colors))]


def shuffle() -> Drawing:
    """Twelve channels of three groups change places, and the table behind it."""
    channels = CHANNELS // 4
    places, size = order(channels, GROUPS), channels // GROUPS
    listed = ", ".join(map(str, places))
    picture = Drawing(
        "channel-shuffle",
        480,
        392,
        "Channel shuffle",
        f"""
        {channels} channels in {GROUPS} groups, each group in its color, are wired to new places, in the order
        {listed}. Each group of the next layer then reads channels of all groups. Below, the same as a table: written
        row by row, one row for each group, and read column by column.
        """,
    )
    scale, middle = 35, 240
    above = Tensor(middle, 44, channels, scale, COLORS)
    below = Tensor(middle, 158, channels, scale, mixed(COLORS, channels))
    picture.text(middle, 22, "made by three groups", size=SMALL, weight=600)
    moved(picture, above, below, places)
    for tensor, numbers in ((above, list(range(channels))), (below, places)):
        _cells(picture, [(x0 + 3, tensor.top) for x0, _ in tensor.parts(channels)], numbers, scale - 6)
    for x0, x1 in below.parts(GROUPS):
        x0, x1, y = x0 + 4, x1 - 4, below.top + 32
        picture.line((x0, y), (x0, y + 6), (x1, y + 6), (x1, y), color=SOFT, width=1)
    picture.text(middle, below.top + 58, "read by three groups, each sees all colors", size=SMALL, weight=600)

    cell, left, top = 44, middle - 44 * size / 2, 276
    for row in range(GROUPS):
        numbers = list(range(row * size, (row + 1) * size))
        _cells(picture, [(left + i * cell + 3, top + 32 * row) for i in range(size)], numbers, cell - 6)
    picture.text(left - 52, top + 52, "write rows", size=SMALL, color=SOFT)
    picture.arrow((left - 88, top + 62), (left - 14, top + 62))
    picture.text(left + cell * size + 60, top + 52, "read columns", size=SMALL, color=SOFT)
    picture.arrow((left + cell * size + 60, top + 60), (left + cell * size + 60, top + 94))
    return picture


def _cells(picture: Drawing, corners: list[tuple[float, float]], numbers: list[int], width: float) -> None:
    """Channels with their numbers, in the colors of the groups that made them."""
    of = [COLORS[number * GROUPS // (CHANNELS // 4)] for number in numbers]
    for color in dict.fromkeys(of):
        its = [corner for corner, each in zip(corners, of, strict=True) if each == color]
        picture.grids(its, 1, 1, (width, 24), color, fill=TINT)
    for (x, y), number in zip(corners, numbers, strict=True):
        picture.label(x + width / 2, y + 12, str(number), size=TINY)


def first_unit() -> Drawing:
    """V1's unit at stride 1."""
    unit = ShuffleUnit(CHANNELS, CHANNELS, 1, GROUPS)
    bottleneck = unit.depthwise[0].in_channels
    picture = Drawing(
        "shufflenet-v1-unit",
        480,
        508,
        "A unit of ShuffleNet V1",
        f"""
        {CHANNELS} channels in {unit.groups} groups, each in its color. A grouped 1 by 1 convolution reduces each group
        on its own, to {bottleneck} channels in all. A shuffle mixes the groups. A depthwise 3 by 3 convolution filters
        each channel, and a second grouped 1 by 1 convolution, whose groups read all colors, goes back to {CHANNELS}
        channels. A shortcut adds the input, and a ReLU follows.
        """,
    )
    middle, scale, gray = 288, 6, (SOFT,) * GROUPS
    above = Tensor(middle, 30, CHANNELS, scale, COLORS)
    reduced = Tensor(middle, 130, bottleneck, scale, COLORS)
    shuffled = Tensor(middle, 204, bottleneck, scale, mixed(COLORS, bottleneck))
    filtered = Tensor(middle, 278, bottleneck, scale, shuffled.colors)
    below = Tensor(middle, 378, CHANNELS, scale, gray)
    plus, side = below.bottom + 30, 464
    picture.line((above.right + 14, above.top + 8), (side, above.top + 8), (side, plus), color=SOFT)
    picture.arrow((side, plus), (middle + 13, plus))
    grouped(picture, above, reduced, COLORS)
    moved(picture, reduced, shuffled, order(bottleneck, GROUPS))
    each_alone(picture, shuffled, filtered)
    grouped(picture, filtered, below, gray)
    show(picture, above)
    show(picture, reduced, str(bottleneck), beside=True)
    for tensor in (shuffled, filtered):
        show(picture, tensor, None)
    show(picture, below)
    picture.arrow((middle, below.bottom), (middle, plus - 12))
    join(picture, middle, plus)
    picture.arrow((middle, plus + 12), (middle, plus + 46))
    for y0, y1, name, after in (
        (above.bottom, reduced.top, "grouped 1×1", "BN, ReLU"),
        (reduced.bottom, shuffled.top, "shuffle", None),
        (shuffled.bottom, filtered.top, "depthwise 3×3", "BN"),
        (filtered.bottom, below.top, "grouped 1×1", "BN"),
        (plus - 10, plus + 10, "add, ReLU", None),
    ):
        y = (y0 + y1) / 2
        picture.label(
            12, y - 9 * bool(after), name, anchor="start", weight=600, color=ORANGE if name == "shuffle" else INK
        )
        if after:
            picture.label(12, y + 9, after, anchor="start", size=TINY, color=SOFT)
    return picture


@dataclass
class Branch:
    """A chain of tensors, and what leads from each to the next."""

    tensors: list[Tensor]
    steps: list[str]

    def wires(self, picture: Drawing) -> None:
        """Who reads whom."""
        for above, below, step in zip(self.tensors, self.tensors[1:], self.steps, strict=False):
            if step == "1×1":
                grouped(picture, above, below, below.colors)
            else:
                each_alone(picture, above, below)

    def boxes(self, picture: Drawing) -> None:
        """The names of the steps, on their wires."""
        for above, below, step in zip(self.tensors, self.tensors[1:], self.steps, strict=False):
            lines = step.split(", ", 1)
            wide, high = (72, 28) if len(lines) == 1 else (107, 42)
            picture.operation(above.middle, (above.bottom + below.top) / 2 - 2, wide, high, lines)


SPLIT_SCALE, HALVES = 1.9, (BLUE, ORANGE)
TOPS = 48, 108, 200, 292, 384, 448, 508  # of V2's input, the branches' four tensors, the whole, the shuffled


def _split_unit(picture: Drawing, title: str, above: Tensor, branches: list[Branch]) -> None:
    """A unit of V2: from the input to two branches, and from their ends to the shuffled whole."""
    picture.text(above.middle + 4, 24, title, weight=600)
    for branch, (x0, x1) in zip(branches, above.parts(2), strict=True):
        branch.wires(picture)
        start = branch.tensors[0]
        picture.arrow(((x0 + x1) / 2, above.bottom), (start.middle, start.top - 8), color=start.colors[0])
    total = sum(branch.tensors[-1].channels for branch in branches)
    whole = Tensor(above.middle, TOPS[5], total, SPLIT_SCALE, HALVES)
    shuffled = Tensor(above.middle, TOPS[6], total, SPLIT_SCALE, mixed(HALVES, DRAWN))
    for branch, (x0, x1) in zip(branches, whole.parts(2), strict=True):
        end = branch.tensors[-1]
        picture.arrow((end.middle, end.bottom), ((x0 + x1) / 2, whole.top - 8), color=end.colors[0])
    moved(picture, whole, shuffled, order(DRAWN, 2))
    for tensor in (above, *branches[0].tensors, *branches[1].tensors, whole):
        show(picture, tensor)
    show(picture, shuffled, None)
    for branch in branches:
        branch.boxes(picture)


def second_units() -> Drawing:
    """V2's units, at stride 1 and 2, as they follow each other in the book's small network."""
    units = [unit for unit in shufflenet_v2_small().features if isinstance(unit, SplitUnit)]
    down = next(unit for unit in units[1:] if unit.shortcut is not None)
    channels, half = down.branch[0][0].in_channels, units[1].branch[0][0].in_channels
    doubled = 2 * down.branch[2][0].out_channels
    picture = Drawing(
        "shufflenet-v2-units",
        480,
        548,
        "The units of ShuffleNet V2",
        f"""
        On the left, stride 1: {channels} channels are split into halves of {half}. One half passes as it is; the other
        goes through a 1 by 1, a depthwise 3 by 3 and a 1 by 1 convolution. The halves are concatenated and shuffled.
        On the right, stride 2: both branches read all {channels} channels, the first through a depthwise convolution
        with stride 2 and a 1 by 1 convolution, the second through three convolutions; concatenated they are {doubled}
        channels, which are shuffled.
        """,
    )

    def branch(middle: float, rows: tuple[int, ...], count: int, colors: tuple[str, ...], *steps: str) -> Branch:
        pairs = zip(rows, colors, strict=True)
        return Branch([Tensor(middle, TOPS[row], count, SPLIT_SCALE, (color,)) for row, color in pairs], list(steps))

    plain, halving = "depthwise, 3×3", "depthwise, 3×3, stride 2"
    kept = branch(48, (1, 4), half, (BLUE,) * 2, "as it is")
    changed = branch(154, (1, 2, 3, 4), half, (ORANGE,) * 4, "1×1", plain, "1×1")
    _split_unit(picture, "stride 1", Tensor(104, TOPS[0], channels, SPLIT_SCALE, HALVES), [kept, changed])
    first = branch(298, (2, 3, 4), channels, (SOFT, BLUE, BLUE), halving, "1×1")
    second = branch(412, (1, 2, 3, 4), channels, (SOFT, *(ORANGE,) * 3), "1×1", halving, "1×1")
    _split_unit(picture, "stride 2", Tensor(354, TOPS[0], channels, SPLIT_SCALE, (SOFT,)), [first, second])

    picture.label(104, 98, "split", size=TINY, color=SOFT)
    picture.label(262, 98, "both read all", size=TINY, color=SOFT)
    picture.label(211, 434, "concatenate", size=TINY, color=SOFT)
    picture.label(211, 488, "shuffle", size=TINY, color=ORANGE, weight=600)
    return picture
