"""The book's colors, by the names that the site's style sheet gives them, and the tint for matrices.

A figure is drawn with the light value of a color. In the SVG it becomes ``var(--name, value)``: the site then decides,
and anywhere else the light value holds.
"""

from matplotlib.colors import ListedColormap, to_rgb

__all__ = [
    "BLUE",
    "COLORS",
    "GREEN",
    "GROUND",
    "INK",
    "LINES",
    "MARKERS",
    "OFF",
    "ORANGE",
    "PURPLE",
    "RULE",
    "SOFT",
    "SURFACE",
    "TINT",
    "VARIABLES",
]

BLUE = "#1f5f99"
ORANGE = "#a4480a"
GREEN = "#17705a"
PURPLE = "#7a3f94"
INK = "#1d2430"  # text and marks
SOFT = "#525d6b"  # what stands back
OFF = "#98a2b0"  # what is switched off, removed or only there to compare with
RULE = "#dbe0e6"
SURFACE = "#f6f7f9"
GROUND = "#ffffff"

VARIABLES = {
    BLUE: "--c0",
    ORANGE: "--c1",
    GREEN: "--c2",
    PURPLE: "--c3",
    INK: "--ink",
    SOFT: "--soft",
    OFF: "--off",
    RULE: "--rule",
    SURFACE: "--surface",
    GROUND: "--ground",
}

# Series: the colors are equally dark, so in gray the line and the marker tell them apart.
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SOFT, INK)
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")

# From nothing to blue: an opacity, so that zero is the page's own ground, light or dark.
TINT = ListedColormap([(*to_rgb(BLUE), step / 255) for step in range(256)], name="tint")
