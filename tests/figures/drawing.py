"""Figures that use everything the style knows, and their SVG as trees."""

import functools
import re
from xml.etree import ElementTree

from matplotlib import pyplot as plt

from compress_lib import figures
from compress_lib.figures.svg import draw

SVG = "{http://www.w3.org/2000/svg}"


def everything():
    """Two panels: lines with a legend and direct labels, bars with a hatch, open markers, text in black and white."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
    for i, color in enumerate(figures.COLORS):
        left.plot([0, 1, 2], [i, i + 1, 1000 * i], label=f"line {i}", color=color)
    left.plot([0, 1], [5, 6], "o", markerfacecolor="white", color="black")
    figures.label_lines(left)
    left.set(xlabel="steps", ylabel="seconds", title="A title in bold that is longer than a panel is wide")
    right.bar([1, 2], [300, 2000], color=[figures.OFF, figures.RULE], hatch="//", edgecolor=figures.GROUND)
    right.text(1, 100, "white", color="white")
    right.set(xlabel="bars", xticks=[1, 2], xticklabels=["one", "two"])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


@functools.cache
def drawn() -> str:
    """The SVG of `everything`."""
    return draw(everything())


def svg(figure) -> ElementTree.Element:
    return ElementTree.fromstring(draw(figure))


def drawings(root: ElementTree.Element) -> list[ElementTree.Element]:
    """That of the page and, taken out of it, that of the phone."""
    phone = root.find(f"{SVG}svg")
    if phone is None:
        return [root]
    root.remove(phone)
    return [root, phone]


def texts(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    """What is written → where it is anchored."""
    found = {}
    for text in root.iter(f"{SVG}text"):
        place = (
            re.findall(r"[-\d.]+", text.get("transform", ""))
            if text.get("x") is None
            else (text.get("x"), text.get("y"))
        )
        found[text.text] = float(place[0]), float(place[1])
    return found
