"""Tensors from the side, and who reads whom between two: all, each its own, or each its group. Chapters 13 to 16."""

from collections.abc import Sequence
from dataclasses import dataclass

from kit import BLUE, HAIR, SOFT, TINY, WASH, Drawing

HIGH = 20  # of a slab's front
THREAD = 20  # between the ends of the lines that stand for all of them
NARROW = 6  # of a stripe at least, where channels are too many to draw each


@dataclass
class Tensor:
    """A slab in a drawing: as wide as it has channels, in equal parts of its colors."""

    middle: float
    top: float
    channels: int
    scale: float
    colors: Sequence[str] = (BLUE,)

    @property
    def width(self) -> float:
        return self.channels * self.scale

    @property
    def bottom(self) -> float:
        return self.top + HIGH

    @property
    def left(self) -> float:
        return self.middle - self.width / 2

    @property
    def right(self) -> float:
        return self.middle + self.width / 2

    def parts(self, count: int) -> list[tuple[float, float]]:
        """The ends of equal parts."""
        width = self.width / count
        return [(self.left + i * width, self.left + (i + 1) * width) for i in range(count)]


def show(picture: Drawing, tensor: Tensor, label: str | None = "", *, beside: bool = False) -> None:
    """Draw the slab, with the channels of each part or a label on it; beside it if told, or if it is narrow."""
    picture.slab(tensor.left, tensor.top, tensor.width, HIGH, tensor.colors)
    parts = len(tensor.colors)
    if label is None:
        return
    words = label or str(tensor.channels // parts)
    if beside or tensor.width / parts < 9 * len(words) + 6:
        picture.label(tensor.right + 15, tensor.top + HIGH / 2 - 2, words, size=TINY, anchor="start")
        return
    for x0, x1 in [(tensor.left, tensor.right)] if label else tensor.parts(parts):
        picture.label((x0 + x1) / 2, tensor.top + HIGH / 2, words, size=TINY)


def grouped(picture: Drawing, above: Tensor, below: Tensor, colors: Sequence[str] = (BLUE,)) -> None:
    """As many groups as colors: each group of outputs reads its own group of inputs. One is an ordinary convolution."""
    y0, y1 = above.bottom, below.top
    for color, (x0, x1), (x2, x3) in zip(colors, above.parts(len(colors)), below.parts(len(colors)), strict=True):
        picture.wash([[(x0, y0), (x1, y0), (x3, y1), (x2, y1)]], color)
        starts, ends = _spread(x0, x1), _spread(x2, x3)
        threads = [f"M{start:.1f} {y0:.0f}L{end:.1f} {y1:.0f}" for start in starts for end in ends]
        picture.path("".join(threads), color, width=HAIR, opacity=0.45)


def _spread(x0: float, x1: float) -> list[float]:
    """From two to six points, where the threads end."""
    gaps = min(5, max(1, round((x1 - x0) / THREAD)))
    return [x0 + i / gaps * (x1 - x0) for i in range(gaps + 1)]


def each_alone(picture: Drawing, above: Tensor, below: Tensor) -> None:
    """Depthwise: every channel reads itself; as stripes, fewer than the channels where these are too narrow."""
    count = above.channels
    while above.width / count < NARROW:
        count //= 2
    stripes: dict[str, list] = {color: [] for color in above.colors}
    for i, ((x0, x1), (x2, x3)) in enumerate(zip(above.parts(count), below.parts(count), strict=True)):
        gap = 0.22 * (x1 - x0)
        stripes[above.colors[i * len(above.colors) // count]].append(
            [(x0 + gap, above.bottom), (x1 - gap, above.bottom), (x3 - gap, below.top), (x2 + gap, below.top)]
        )
    for color, corners in stripes.items():
        picture.wash(corners, color, 2.2 * WASH)


def moved(picture: Drawing, above: Tensor, below: Tensor, order: Sequence[int], *, width: float = 1.2) -> None:
    """At each place below, the channel of this number above: curves of their colors."""
    sources, targets = above.parts(len(order)), below.parts(len(order))
    bend = (below.top - above.bottom) / 2
    for color in dict.fromkeys(above.colors):
        curves = []
        for target, source in zip(targets, order, strict=True):
            if above.colors[source * len(above.colors) // len(order)] == color:
                x0, x1 = sum(sources[source]) / 2, sum(target) / 2
                y0, y1 = above.bottom, below.top
                curves.append(f"M{x0:.1f} {y0:.1f}C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}")
        picture.path("".join(curves), color, width=width)


def join(picture: Drawing, x: float, y: float) -> None:
    """Where two tensors are added."""
    picture.circle(x, y, 11, SOFT, fill=0.06, width=1.2)
    picture.label(x, y, "+", size=17)
