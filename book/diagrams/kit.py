"""The drawing kit: one visual language for every diagram of the book, written as plain SVG.

Blue is data, orange is what the picture is about, green and purple are further groups; ink, soft and rule are text and
lines. Each color is the site's custom property with the light color behind it: on the site a diagram follows the theme,
and alone it is complete. Nothing has an id but title and description, so that several can stand on one page.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from compress_lib.figures import palette


def _themed(light: str) -> str:
    return f"var({palette.VARIABLES[light]}, {light})"


INK, SOFT, GROUND = map(_themed, (palette.INK, palette.SOFT, palette.GROUND))
BLUE, ORANGE, GREEN, PURPLE = map(_themed, (palette.BLUE, palette.ORANGE, palette.GREEN, palette.PURPLE))
SANS = "var(--sans, system-ui, sans-serif)"
SERIF = "var(--serif, Charter, Georgia, serif)"

TEXT, SMALL, TINY = 15.5, 15, 14  # sizes; a diagram 480 wide is shown at seven tenths on a phone
LEADING = 18  # from line to line
LINE, HAIR = 1.5, 0.75
HATCH, DEPTH = 5, 9  # from line to line of a hatched area; of a slab
WASH, TINT = 0.13, 0.3  # opacities of a color as a background, and of one that must be told from it

Point = tuple[float, float]


class Drawing:
    """An SVG that is drawn on from back to front.

    Parameters
    ----------
    name : str
        Of the file, without its suffix.
    width, height : float
    title, description : str
        For those who do not see it: what it is, and what it shows.
    """

    def __init__(self, name: str, width: float, height: float, title: str, description: str) -> None:
        self.name, self.width, self.height = name, width, height
        self.title, self.description = title, " ".join(description.split())
        self._parts: list[str] = []

    # shapes

    def rect(self, x: float, y: float, w: float, h: float, color: str = INK, *, fill: float = 0, r: float = 0, **line):
        """A rectangle in a color: ``fill`` is the opacity of its inside over the page's ground, 0 for none."""
        box = {"x": x, "y": y, "width": w, "height": h, "rx": r or None}
        if fill:
            self._add("rect", **box, fill=GROUND)
        self._add("rect", **box, fill=color if fill else "none", fill_opacity=fill or None, **_stroke(color, **line))

    def polygons(self, shapes: Sequence[Sequence[Point]], color: str = INK, *, fill: float = 0, **line):
        """As `rect`, of any corners; several that do not cover each other in one path."""
        if fill:
            self.wash(shapes, GROUND, 1)
        self._filled(shapes, color, fill, **line)

    def wash(self, shapes: Sequence[Sequence[Point]], color: str, opacity: float = WASH):
        """Colored areas that what lies below shines through, without outlines."""
        self._add(
            "path",
            d="".join(_path(points) + "z" for points in shapes),
            fill=color,
            fill_opacity=opacity if opacity < 1 else None,
        )

    def circle(self, x: float, y: float, r: float, color: str = INK, *, fill: float = 0, **line):
        """As `rect`."""
        if fill:
            self._add("circle", cx=x, cy=y, r=r, fill=GROUND)
        style = _stroke(color, **line)
        self._add("circle", cx=x, cy=y, r=r, fill=color if fill else "none", fill_opacity=fill or None, **style)

    def dots(self, centers: Sequence[Point], r: float, color: str = INK):
        """Small disks, all in one path."""
        d = "".join(f"{_path([center])}h0" for center in centers)
        self._add("path", d=d, fill="none", stroke=color, stroke_width=2 * r, stroke_linecap="round")

    def path(self, d: str, color: str = INK, **line):
        """Lines and curves in SVG's own words."""
        self._add("path", d=d, fill="none", **_stroke(color, **line))

    def line(self, *points: Point, color: str = INK, **line):
        """A line through the points."""
        self.path(_path(points), color, **line)

    def arrow(self, *points: Point, color: str = SOFT, **line):
        """A line through the points with a head at its end."""
        (x0, y0), (x, y) = points[-2:]
        length = ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5
        ux, uy = (x - x0) / length, (y - y0) / length
        self.line(*points[:-1], (x - 6 * ux, y - 6 * uy), color=color, **line)
        head = [(x, y)] + [(x - 8 * ux - side * uy, y - 8 * uy + side * ux) for side in (4, -4)]
        self._add("path", d=_path(head) + "z", fill=color)

    def hatch(self, boxes: Sequence[tuple[float, float, float, float]], color: str = ORANGE):
        """What is removed, as x, y, width and height: slanted lines in a broken frame."""
        frames, slanted = [], []
        for x, y, w, h in boxes:
            frames.append(_path([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]) + "z")
            k = HATCH / 2
            while k < w + h:  # on each, the coordinates inside the box add up to k
                (x0, y0), (x1, y1) = (max(0, k - h), min(h, k)), (min(w, k), max(0, k - w))
                slanted.append(_path([(x + x0, y + y0), (x + x1, y + y1)]))
                k += HATCH
        self._add("path", d="".join(frames), fill=GROUND)
        self.path("".join(slanted), color, width=HAIR)
        self.path("".join(frames), color, width=1.2, dash="3 2")

    def grids(
        self,
        corners: Sequence[Point],
        columns: int,
        rows: int,
        cell: float | Point,
        color: str = BLUE,
        *,
        fill: float = WASH,
    ):
        """Feature maps or kernels of one size, none in front of another: cells in a frame, all in three paths."""
        wide, high = (cell, cell) if isinstance(cell, (int, float)) else cell
        w, h = _number(columns * wide), _number(rows * high)
        frames = "".join(f"{_path([corner])}h{w}v{h}h-{w}z" for corner in corners)
        self._add("path", d=frames, fill=GROUND)
        self._add("path", d=frames, fill=color, fill_opacity=fill, **_stroke(color, width=1.2))
        inner = []
        for x, y in corners:
            inner += [f"{_path([(x + i * wide, y)])}v{h}" for i in range(1, columns)]
            inner += [f"{_path([(x, y + i * high)])}h{w}" for i in range(1, rows)]
        if inner:
            self.path("".join(inner), color, width=HAIR, opacity=0.5)

    def grid(self, x: float, y: float, columns: int, rows: int, cell: float, color: str = BLUE, *, fill: float = WASH):
        """One of `grids`."""
        self.grids([(x, y)], columns, rows, cell, color, fill=fill)

    # text

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = TEXT,
        color: str = INK,
        anchor: str = "middle",
        weight: int | None = None,
        mono: bool = False,
    ):
        """Text on the baseline ``y``; between dollars is mathematics, ``$O^2 N_{out}$``."""
        family = "var(--mono, ui-monospace, monospace)" if mono else None
        attributes = {"x": x, "y": y, "font_size": size, "fill": color, "font_weight": weight, "font_family": family}
        attributes["text_anchor"] = None if anchor == "start" else anchor
        self._parts.append(f"<text{_attributes(attributes)}>{_spans(words, size)}</text>")

    def label(self, x: float, y: float, lines: str | Sequence[str], *, size: float = SMALL, **style):
        """Lines of text around the height ``y``: the middle of them lies there."""
        lines = [lines] if isinstance(lines, str) else lines
        top = y - LEADING * (len(lines) - 1) / 2 + 0.34 * size
        for i, words in enumerate(lines):
            self.text(x, top + i * LEADING, words, size=size, **style)

    # what a network is made of

    def operation(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        lines: str | Sequence[str],
        color: str = SOFT,
        *,
        fill: float = 0.06,
    ):
        """A rounded box around (x, y), its middle; the first line is what is done, the others details."""
        lines = [lines] if isinstance(lines, str) else lines
        self.rect(x - w / 2, y - h / 2, w, h, color, fill=fill, r=7, width=1.2)
        top = y - LEADING * (len(lines) - 1) / 2 + 0.34 * SMALL
        for i, words in enumerate(lines):
            self.text(x, top + LEADING * i, words, size=TINY if i else SMALL, color=SOFT if i else INK)

    def slab(self, x: float, y: float, w: float, h: float, colors: Sequence[str] = (BLUE,)):
        """A tensor from the side, as wide as it has channels, in equal parts of these colors; (x, y) is its front's."""
        up, part = 0.62 * DEPTH, w / len(colors)
        outline = [
            (x, y),
            (x + DEPTH, y - up),
            (x + w + DEPTH, y - up),
            (x + w + DEPTH, y + h - up),
            (x + w, y + h),
            (x, y + h),
        ]
        self.wash([outline], GROUND, 1)
        for color in dict.fromkeys(colors):
            at = [x + i * part for i, each in enumerate(colors) if each == color]
            tops = [[(a, y), (a + DEPTH, y - up), (a + part + DEPTH, y - up), (a + part, y)] for a in at]
            fronts = [[(a, y), (a + part, y), (a + part, y + h), (a, y + h)] for a in at]
            for shapes, fill in ((tops, 0.1), (fronts, 0.24)):
                self._filled(shapes, color, fill, width=1)
        side = [(x + w, y), (x + w + DEPTH, y - up), (x + w + DEPTH, y + h - up), (x + w, y + h)]
        self._filled([side], colors[-1], 0.4, width=1)

    def svg(self) -> str:
        """The whole file."""
        names = f"{self.name}-title", f"{self.name}-desc"
        head = {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": self.width,
            "height": self.height,
            "viewBox": f"0 0 {_number(self.width)} {_number(self.height)}",
            "role": "img",
            "aria-labelledby": " ".join(names),
            "fill": INK,
            "font_family": SANS,
        }
        told = zip(("title", "desc"), names, (self.title, self.description), strict=True)
        inside = [f"<{tag} id={quoteattr(name)}>{escape(words)}</{tag}>" for tag, name, words in told]
        return "\n".join([f"<svg{_attributes(head)}>", *inside, *self._parts, "</svg>", ""])

    def _filled(self, shapes: Sequence[Sequence[Point]], color: str, fill: float, **line) -> None:
        inside = {"fill": color if fill else "none", "fill_opacity": fill or None}
        self._add("path", d="".join(_path(points) + "z" for points in shapes), **inside, **_stroke(color, **line))

    def _add(self, tag: str, **attributes) -> None:
        self._parts.append(f"<{tag}{_attributes(attributes)}/>")


def _stroke(color: str, *, width: float = LINE, dash: str | None = None, opacity: float | None = None) -> dict:
    if not width:
        return {}
    return {"stroke": color, "stroke_width": width, "stroke_dasharray": dash, "stroke_opacity": opacity}


def _attributes(attributes: dict) -> str:
    shown = {name.replace("_", "-"): value for name, value in attributes.items() if value is not None}
    return "".join(
        f" {name}={quoteattr(value if isinstance(value, str) else _number(value))}" for name, value in shown.items()
    )


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0: no minus before a zero


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _spans(words: str, size: float) -> str:
    """Mathematics in the serif: letters italic, digits upright, raised and lowered parts smaller."""
    pieces: list[tuple[str, bool, int]] = []  # text, italic serif or not, raised
    out, height = [], 0.0
    for i, part in enumerate(words.split("$")):
        if i % 2 == 0:
            pieces.append((part, False, 0))
            continue
        for mark, braced, single, plain in re.findall(r"([\^_])(?:\{(.*?)\}|(.))|([^\^_]+)", part):
            pieces.append((braced or single or plain, True, {"": 0, "^": 1, "_": -1}[mark]))
    for text, is_math, raised in pieces:
        wanted = -raised * (0.38 if raised > 0 else 0.22) * size
        for run in re.findall(RUNS, text) if is_math else [text] if text else []:
            style = {"dy": wanted - height if wanted != height else None, "font_size": 0.74 * size if raised else None}
            if is_math:
                style |= {"font_family": SERIF, "font_style": "italic" if _slants(run) else None}
            height = wanted
            shown = _attributes(style)
            out.append(f"<tspan{shown}>{escape(run)}</tspan>" if shown else escape(run))
    return "".join(out)


RUNS = r"[Α-Ω]+|[^\W\d_]\u0302?|[\W\d_]+"  # capital Greek, a letter with or without a hat, all else


def _slants(run: str) -> bool:
    return run[0].isalpha() and not "Α" <= run[0] <= "Ω"


def ranges(*lengths: float, gap: float = 0, start: float = 0) -> list[tuple[float, float]]:
    """Intervals of these lengths, one after the other."""
    ends = [start]
    for length in lengths:
        ends.append(ends[-1] + length + gap)
    return [(a, b - gap) for a, b in pairwise(ends)]
