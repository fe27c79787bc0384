"""The SVG of a figure: the book's colors and no others, text as text, the same bytes each time, small."""

import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from drawing import SVG, drawings, drawn, everything, svg, texts
from matplotlib import pyplot as plt

from compress_lib import figures
from compress_lib.figures.palette import VARIABLES
from compress_lib.figures.svg import _path, draw, variable


def test_drawn_again_it_has_the_same_bytes():
    assert draw(everything()) == drawn()


def test_the_figure_itself_stays_as_it_was():
    figure = everything()
    before = plt.get_fignums(), figure.get_size_inches().tolist(), figure.axes[0].get_ylabel(), len(figure.legends)
    first = draw(figure)
    assert before == (
        plt.get_fignums(),
        figure.get_size_inches().tolist(),
        figure.axes[0].get_ylabel(),
        len(figure.legends),
    )
    assert draw(figure) == first


def test_every_color_is_one_of_the_books():
    content = drawn()
    assert set(re.findall(r"#[0-9a-f]{6}\b", content)) >= {*figures.COLORS, figures.OFF, figures.RULE, figures.GROUND}
    rest = content
    for color, name in VARIABLES.items():
        rest = rest.replace(f"var({name}, {color})", "")
    assert not re.findall(r"#[0-9a-f]{3,8}(?=[;\"' ])", re.sub(r"#f[0-9a-f]{8}-\d+", "", rest))
    for element in ElementTree.fromstring(content).iter():
        assert not {"fill", "stroke"}.intersection(element.keys()), "a color outside of style"


def test_a_color_of_the_readers_stays():
    plt.plot([1, 2], color="#ff00ff")
    assert "stroke:#ff00ff" in draw(plt.gcf())
    assert variable("#ff00ff") == "#ff00ff"


def test_text_is_text_in_the_pages_font():
    root = ElementTree.fromstring(drawn())
    assert {"steps", "seconds", "line 0", "0.0", "2,000"} <= texts(root).keys()
    content = ElementTree.tostring(root, encoding="unicode")
    assert "DejaVu" not in content and content.count("font-family:var(--sans") == 2


def test_two_widths_in_one_file():
    page, phone = drawings(ElementTree.fromstring(drawn()))
    assert phone.get("class") == "phone" and phone.get("display") == "none"
    widths = [float(each.get("viewBox").split()[2]) for each in (page, phone)]
    assert widths == [pytest.approx(7.2 * 72), pytest.approx(3.65 * 72)]
    assert float(page.get("width")) == pytest.approx(7.2 * 96)


def test_nothing_is_referred_to_that_is_not_there_and_no_id_is_there_twice():
    ids, references = [], []
    plt.plot([1, 2], "s")
    for content in (drawn(), draw(plt.gcf())):
        ids += re.findall(r'\bid="([^"]+)"', content)
        references += re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', content)
    assert len(ids) == len(set(ids)) and set(ids) == {a or b for a, b in references}


def test_a_path_is_written_shorter_and_stays_the_same():
    long = "M 1.234567 2 L 3.004999 2 L 3.004999 -5.1 L 1.234567 2 z M 0 0 L 0 9 C 1 2 3 4 5 6 L 7 6"
    short = _path(long)
    assert short == "M1.23 2H3V-5.1L1.23 2zM0 0V9C1 2 3 4 5 6H7"


def test_a_histogram_is_one_path_with_all_its_bars():
    values = np.random.default_rng(0).normal(size=20_000)
    plt.hist(values, bins=200)
    content = draw(plt.gcf())
    assert len(content) < 60_000
    page, _ = drawings(ElementTree.fromstring(content))
    bars = max((path.get("d") for path in page.iter(f"{SVG}path")), key=len)
    assert bars.count("M") == bars.count("z") == 200


def test_paths_that_shine_through_each_other_stay_apart():
    for _ in range(2):
        plt.axvspan(0, 1, alpha=0.5)
    page, _ = drawings(svg(plt.gcf()))
    assert 2 in Counter(path.get("d") for path in page.iter(f"{SVG}path")).values()


def test_many_points_are_stored_as_a_picture():
    plt.scatter(*np.random.default_rng(0).normal(size=(2, 5_000)))
    content = draw(plt.gcf())
    assert "data:image/png;base64," in content
    assert content.count("<use") < 50 and len(content) < 75_000


def test_lines_of_a_text_are_anchored_where_the_text_is():
    figure, axis = plt.subplots()
    axis.set_yticks([0], ["a long first line\nshort"])
    page, _ = drawings(svg(figure))
    (x0, y0), (x1, y1) = (texts(page)[line] for line in ("a long first line", "short"))
    assert x0 == x1 and y1 > y0
    content = ElementTree.tostring(page, encoding="unicode")
    assert content.count("text-anchor:end") >= 1


def test_a_formula_is_refused_and_a_dollar_is_not():
    figure, axes = plt.subplots()
    axes.loglog([1, 1e9], [1, 1e-9])  # whose ticks matplotlib names with formulas, and the book does not
    axes.set_title("5 $ a day")
    assert "5 $ a day" in draw(figure)
    axes.set_xlabel("$q/(1-q)$")
    with pytest.raises(ValueError, match=r"plain text, without formulas, not '\$q/\(1-q\)\$'"):
        draw(figure)
