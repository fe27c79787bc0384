"""Each color is seen on both grounds, is the one of the site's style sheets, and none is like another."""

import re
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb

from compress_lib import figures
from compress_lib.figures.palette import VARIABLES

ASSETS = Path(__file__).parents[2] / "book" / "assets"


def themes() -> dict[str, dict[str, str]]:
    """Theme → variable → color, as the site's style sheet has them."""
    css = (ASSETS / "book.css").read_text(encoding="utf-8")
    pairs = re.findall(r"(--[a-z0-9]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", css)
    return {"light": {name: light for name, light, _ in pairs}, "dark": {name: dark for name, _, dark in pairs}}


THEMES = themes()


def contrast(one: str, other: str) -> float:
    """That of WCAG 2.1."""

    def luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the lightest gray for text on white


def test_the_light_colors_are_those_that_figures_are_drawn_with():
    light = THEMES["light"]
    assert {name: light[name] for name in VARIABLES.values()} == {name: color for color, name in VARIABLES.items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("color", [*figures.COLORS, figures.INK, figures.SOFT])
def test_series_and_their_labels_are_readable(theme, color):
    """4.5, for text: a line's label has the line's color."""
    values = THEMES[theme]
    assert contrast(values[VARIABLES[color]], values["--ground"]) >= 4.5


def test_series_differ_in_gray_too():
    assert len(figures.COLORS) == len(figures.LINES) == len(figures.MARKERS) == len(set(figures.MARKERS))
    assert len(set(figures.LINES)) == len(figures.LINES)
