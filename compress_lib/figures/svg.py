"""A matplotlib figure as SVG for the book: the site's fonts and colors, two widths, the same bytes in every run."""

import io
import itertools
import re
import zlib
from xml.etree import ElementTree

import matplotlib
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text

from compress_lib.figures.layout import PAGE, PHONE, laid_out
from compress_lib.figures.palette import INK, VARIABLES

__all__ = ["draw", "variable"]

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
FONTS = "var(--sans, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif)"
RASTER_DPI = 96

ElementTree.register_namespace("", SVG.strip("{}"))


def variable(color: str) -> str:
    """``"#1f5f99"`` → ``"var(--c0, #1f5f99)"``; black is ink, and a color that is not the book's stays as it is."""
    color = INK if color == "#000000" else color
    return f"var({VARIABLES[color]}, {color})" if color in VARIABLES else color


def draw(figure: Figure) -> str:
    """The SVG of a figure: as wide as the page, and inside it, not displayed, the same figure for a phone.

    Returns
    -------
    str
        One ``<svg>``. Its last child is an ``<svg class="phone" display="none">`` if the figure is wider than a phone;
        the site takes it out and shows the one that fits.

    Raises
    ------
    ValueError
        If a text holds a formula (``$q$``): its letters would come without the page's fonts and colors, or not at all.
    """
    root = _compact(_rendered(laid_out(figure, PAGE)))
    if figure.get_figwidth() > PHONE:
        phone = _compact(_rendered(laid_out(figure, PHONE)))
        phone.attrib.update({"class": "phone", "display": "none"})
        root.append(phone)
    return ElementTree.tostring(root, encoding="unicode")


def _rendered(figure: Figure) -> ElementTree.Element:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "book"}):
        figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    for text in figure.findobj(Text):
        if text.get_visible() and is_math_text(text.get_text()):
            raise ValueError(
                f"figures of the book name things in plain text, without formulas, not {text.get_text()!r}"
            )
    return ElementTree.fromstring(buffer.getvalue())


def _compact(root: ElementTree.Element) -> ElementTree.Element:
    """Replace colors and fonts, and drop what only matplotlib needs: a figure takes a third of the bytes."""
    for parent in list(root.iter()):
        parent[:] = [child for child in parent if child.tag not in (f"{SVG}metadata", f"{SVG}style")]
    for path in root.findall(f".//*[@id='ground']/{SVG}path"):
        path.set("class", "ground")
    _anchor_lines(root)
    for element in root.iter():
        _tidy(element)
    _rename(root)
    _unwrap(root)
    _merge(root)
    _share(root)
    width, height = (float(each) for each in root.attrib["viewBox"].split()[2:])
    root.attrib.clear()
    root.attrib.update(
        {
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width * 96 / 72:g}",
            "height": f"{height * 96 / 72:g}",
            "style": f"font-family:{FONTS};fill:{variable(INK)};stroke-linejoin:round",
        }
    )
    return root


def _tidy(element: ElementTree.Element) -> None:
    """One element's attributes and text."""
    for old in [name for name in element.attrib if name.startswith(XLINK)]:
        element.set(old.removeprefix(XLINK), element.attrib.pop(old))
    for name in {"fill", "stroke"}.intersection(element.keys()):  # of a hatch
        element.set("style", f"{name}:{element.attrib.pop(name)};{element.get('style', '')}")
    if element.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del element.attrib["transform"]
    rewritten = {"style": _style, "d": _path} | dict.fromkeys(("x", "y", "transform", "width", "height"), _shorter)
    for name in rewritten.keys() & element.keys():
        element.set(name, rewritten[name](element.attrib[name]))
    element.text = element.text if element.tag in (f"{SVG}text", f"{SVG}tspan") else None
    element.tail = None


def _style(style: str) -> str:
    """Declarations without the font family, which is the root's, with variables for colors."""
    kept = []
    for declaration in filter(None, (each.strip() for each in style.split(";"))):
        name, value = (each.strip() for each in declaration.split(":", 1))
        if name == "font-weight" and value == "700":
            value = "600"
        if name != "font-family" and (name, value) != ("stroke-linejoin", "round"):
            kept.append(f"{name}:{variable(value)}")
    return ";".join(kept)


def _shorter(numbers: str) -> str:
    """Hundredths of a point are enough."""
    found = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return " ".join(re.sub(r"(?<![\d.])-0(?![\d.])", "0", found).split())


def _path(commands: str) -> str:
    """``L`` along an axis becomes ``H`` or ``V``, which needs one number."""
    kept, here = [], ["", ""]
    for letter, numbers in re.findall(r"([A-Za-z]) ?([^A-Za-z]*)", _shorter(commands)):
        there = numbers.split()[-2:]
        if letter == "L" and there[1] == here[1]:
            letter, numbers = "H", there[0]
        elif letter == "L" and there[0] == here[0]:
            letter, numbers = "V", there[1]
        kept.append(letter + numbers.rstrip())
        here = there or ["", ""]
    return "".join(kept)


def _anchor_lines(root: ElementTree.Element) -> None:
    """The lines of a text that `layout` marked: each begins, ends or is centered where the text is anchored."""
    for group in root.iter(f"{SVG}g"):
        if (group.get("id") or "").startswith("anchor "):
            _, x, side = group.attrib["id"].split()
            for line in group.iter(f"{SVG}text"):
                y = re.findall(r"[-\d.]+", line.attrib.pop("transform"))[1]
                line.attrib.update({"x": x, "y": y, "style": f"{line.get('style')};text-anchor:{side}"})


def _rename(root: ElementTree.Element) -> None:
    """Short ids for what is referred to, different from those of another figure; no others."""
    content = ElementTree.tostring(root, encoding="unicode")
    used = dict.fromkeys(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', content))
    key = f"f{zlib.crc32(content.encode()):08x}"
    names = {a or b: f"{key}-{number}" for number, (a, b) in enumerate(used)}
    for element in root.iter():
        if element.get("id") in names:
            element.set("id", names[element.get("id")])
        else:
            element.attrib.pop("id", None)
        for name, value in element.items():
            if "#" in value:
                element.set(name, re.sub(r"(?<=url\(#)[^)]+|(?<=^#).+$", lambda m: names.get(m[0], m[0]), value))


def _unwrap(element: ElementTree.Element) -> None:
    """Drop groups that say nothing, and empty definitions."""
    children = []
    for child in element:
        _unwrap(child)
        children += list(child) if child.tag == f"{SVG}g" and not child.attrib else [child]
    element[:] = [child for child in children if not _invisible(child)]


def _invisible(element: ElementTree.Element) -> bool:
    return (element.tag in (f"{SVG}g", f"{SVG}defs") and not len(element)) or element.get("style") == "fill:none"


def _merge(element: ElementTree.Element) -> None:
    """Neighbors of one look become one path: the bars of a histogram, the rules of a grid."""
    kept: list[ElementTree.Element] = []
    for child in element:
        _merge(child)
        if kept and _mergeable(child) and _mergeable(kept[-1]) and _look(child) == _look(kept[-1]):
            kept[-1].attrib["d"] += child.attrib["d"]
        else:
            kept.append(child)
    element[:] = kept


def _share(element: ElementTree.Element) -> None:
    """What neighbors have in common is said once, by a group."""
    kept: list[ElementTree.Element] = []
    for common, run in itertools.groupby(element, key=lambda e: (e.get("style"), e.get("clip-path"))):
        children = list(run)
        for child in children:
            _share(child)
        if any(common) and len(children) > 1 and all(child.tag != f"{SVG}svg" for child in children):
            group = ElementTree.Element(f"{SVG}g")
            for name, value in zip(("style", "clip-path"), common, strict=True):
                if value is not None:
                    group.set(name, value)
                    for child in children:
                        del child.attrib[name]
            group[:] = children
            children = [group]
        kept += children
    element[:] = kept


def _mergeable(element: ElementTree.Element) -> bool:
    """A path that has either an area or an outline, and lets nothing shine through: order inside it is invisible."""
    style = element.get("style", "")
    return (
        element.tag == f"{SVG}path"
        and "id" not in element.attrib
        and "opacity" not in style
        and ("fill:none" in style or "stroke:" not in style)
    )


def _look(element: ElementTree.Element) -> dict[str, str]:
    return {name: value for name, value in element.items() if name != "d"}
