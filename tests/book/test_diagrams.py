"""The diagrams: drawn from today's library, complete alone and on the site, legible, and true to the code they show."""

import re
import sys
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from browsing import new_page
from building import ROOT
from torch import nn

from compress_lib import ops
from compress_lib.coding import huffman
from compress_lib.figures import palette
from compress_lib.models import shuffle_units
from compress_lib.models.mobilenet import DepthwiseSeparable, InvertedResidual
from compress_lib.models.squeezenet import Fire
from compress_lib.models.xception import xception_small

FOLDER = ROOT / "book" / "diagrams"
FILES = sorted(FOLDER.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {"svg", "title", "desc", "path", "rect", "circle", "text", "tspan"}  # no style, no script, no link

sys.path.insert(0, str(FOLDER))

import draw
import filter_surgery
import huffman_coding
import kit
import xnor_popcount


def read(name):
    """The root of a committed file."""
    return ElementTree.parse(FOLDER / f"{name}.svg").getroot()


def texts(name):
    """What is written in it, in the order of drawing."""
    return ["".join(element.itertext()) for element in read(name).iter(f"{SVG}text")]


def test_the_committed_files_are_those_that_the_kit_draws():
    drawn = {f"{picture.name}.svg": picture.svg() for picture in (make() for make in draw.DIAGRAMS)}
    assert sorted(drawn) == [path.name for path in FILES]
    for path in FILES:
        assert path.read_text(encoding="utf-8") == drawn[path.name], f"{path.name}: `make diagrams` draws another one"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_complete_alone_and_harmless_on_a_page(path):
    root = ElementTree.parse(path).getroot()
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title.text and len(description.text) > 40
    assert root.get("role") == "img" and root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids == [f"{path.stem}-title", f"{path.stem}-desc"]
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ELEMENTS
    assert "url(" not in path.read_text(encoding="utf-8") and path.stat().st_size < 30_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_colors_are_those_of_the_theme(path):
    allowed = {f"var({name}, {light})" for light, name in palette.VARIABLES.items()} | {"none"}
    for element in ElementTree.parse(path).getroot().iter():
        assert {element.get("fill", "none"), element.get("stroke", "none")} <= allowed
        assert not element.get("style")


def test_text_is_inside_large_enough_and_nowhere_on_other_text(browser):
    page = new_page(browser, viewport={"width": 600, "height": 800})
    page.set_content("".join(path.read_text(encoding="utf-8") for path in FILES))
    pictures = page.evaluate(
        """() => [...document.querySelectorAll('svg')].map((svg) => ({
            name: svg.querySelector('title').id,
            size: [svg.viewBox.baseVal.width, svg.viewBox.baseVal.height],
            texts: [...svg.querySelectorAll('text')].map((text) => {
                const {x, y, width, height} = text.getBBox();
                return [text.textContent, x, y, x + width, y + height, parseFloat(text.getAttribute('font-size'))];
            }),
        }))"""
    )
    page.close()
    assert len(pictures) == len(FILES)
    for picture in pictures:
        width, height = picture["size"]
        assert width <= 480
        for words, left, top, right, bottom, size in picture["texts"]:
            assert 0 <= left and right <= width and 0 <= top and bottom <= height, (picture["name"], words)
            assert size >= 14, (picture["name"], words)
        for (one, a0, b0, a1, b1, _), (other, c0, d0, c1, d1, _) in combinations(picture["texts"], 2):
            apart = a1 <= c0 + 1 or c1 <= a0 + 1 or b1 <= d0 + 5 or d1 <= b0 + 5  # boxes are higher than their letters
            assert apart, (picture["name"], one, other)


def test_the_light_colors_are_the_site_s():
    style = (ROOT / "book" / "assets" / "book.css").read_text(encoding="utf-8")
    for light, name in palette.VARIABLES.items():
        assert re.findall(rf"{name}: light-dark\((#\w+), #\w+\)", style) == [light]


# what the diagrams say


def test_mathematics_is_set_with_raised_and_lowered_parts():
    spans = ElementTree.fromstring(f"<t>{kit._spans('a $O^2·w_{14}$ b', 10)}</t>")
    assert "".join(spans.itertext()) == "a O2·w14 b"
    by_text = {span.text: span for span in spans}
    assert by_text["O"].get("font-style") == "italic" and by_text["2"].get("font-style") is None
    assert float(by_text["2"].get("dy")) < 0 < float(by_text["14"].get("dy"))
    assert sum(float(span.get("dy", 0)) for span in spans) == pytest.approx(0), "the line goes on where it was"


def test_surgery_removes_one_column_of_everything():
    gone = filter_surgery.removed()
    column = filter_surgery.GONE
    for name, mask in gone.items():
        expected = torch.zeros_like(mask)
        if name == "3.weight":
            expected[:, column] = True
        else:
            expected[column] = True
        assert torch.equal(mask, expected), name
    assert {"filter 3: −27 weights", "−4 numbers", "kernels that read it: −36 weights"} <= set(texts("filter-surgery"))


def test_the_stored_gaps_lead_to_the_drawn_places():
    bits = [words for words in texts("relative-index") if re.fullmatch("[01]{3}", words)]
    places = np.cumsum([int(each, 2) + 1 for each in bits]) - 1
    assert places.tolist() == [0, 3, 11, 14]


def test_the_words_of_the_tree_are_those_of_the_library_s_stream():
    code = huffman_coding.words()
    assert {symbol: len(word) for symbol, word in code.items()} == dict(zip("abcde", (1, 2, 3, 4, 4), strict=True))
    rest = "".join(
        symbol * (count - huffman_coding.MESSAGE.count(symbol))
        for symbol, count in zip(huffman_coding.SYMBOLS, huffman_coding.COUNTS, strict=True)
    )
    symbols = [huffman_coding.SYMBOLS.index(symbol) for symbol in huffman_coding.MESSAGE + rest]
    data = huffman.encode(np.array(symbols))
    stream = "".join(f"{byte:08b}" for byte in data[huffman.table_nbytes(data) :])
    drawn = [words for words in texts("huffman-tree") if words in ("0", "1")]
    assert stream.startswith("".join(drawn[-18:])), "the last digits drawn are the message"


def test_xnor_and_popcount_give_the_product():
    a, b = (torch.tensor([values], dtype=torch.float32) for values in (xnor_popcount.A, xnor_popcount.B))
    product = int(ops.binary_linear(a, ops.pack_signs(b), len(xnor_popcount.A)))
    equal = int((a == b).sum())
    assert f"popcount: {equal} ones" in texts("xnor-popcount")
    assert f"sum = 2 · {equal} − 8 = +{product}" in texts("xnor-popcount")


def calls(module, x, names):
    """The order in which these parts of a module run, and the channels that each puts out."""
    seen = []
    for name in names:
        part = module.get_submodule(name)
        part.register_forward_hook(lambda _, __, y, name=name: seen.append((name, y.shape[1])))
    with torch.no_grad():
        seen.append(("output", module.eval()(x).shape[1]))
    return seen


def kinds(module):
    """The classes of a sequence of layers."""
    return [type(layer).__name__ for layer in module]


def test_fire():
    fire = Fire(128, 16, 128)
    order = calls(fire, torch.randn(1, 128, 7, 7), ["squeeze", "expand1x1", "expand3x3"])
    assert order == [("squeeze", 16), ("expand1x1", 64), ("expand3x3", 64), ("output", 128)]
    assert kinds(fire.squeeze) == kinds(fire.expand1x1) == kinds(fire.expand3x3) == ["Conv2d", "ReLU"]
    written = texts("fire-module")
    assert [words for words in written if "ReLU" in words] == [
        f"{n:,} weights, ReLU" for n in (128 * 16, 16 * 64, 9 * 16 * 64)
    ]
    assert written[-2:] == ["12,288 weights", "an ordinary 3×3 convolution: 147,456"]


def test_separable_and_inverted():
    block = DepthwiseSeparable(128, 128, 1)
    order = calls(block, torch.randn(1, 128, 7, 7), ["depthwise", "pointwise"])
    assert order == [("depthwise", 128), ("pointwise", 128), ("output", 128)]
    assert kinds(block.depthwise) == kinds(block.pointwise) == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert {f"{9 * 128 * 128:,} weights", f"{9 * 128:,} + {128 * 128:,}"} <= set(texts("depthwise-separable"))

    inverted = InvertedResidual(24, 24, 1, 6)
    x = torch.randn(1, 24, 7, 7)
    order = calls(inverted, x, ["expand", "depthwise", "project"])
    assert order == [("expand", 144), ("depthwise", 144), ("project", 24), ("output", 24)]
    assert kinds(inverted.expand) == kinds(inverted.depthwise) == ["Conv2d", "BatchNorm2d", "ReLU6"]
    assert kinds(inverted.project) == ["Conv2d", "BatchNorm2d"]
    nn.init.zeros_(inverted.project[0].weight)
    assert torch.equal(inverted(x), x), "the shortcut joins the narrow ends"
    assert [words for words in texts("inverted-residual") if words.isdigit()] == ["128"] * 3 + [
        "24",
        "144",
        "144",
        "24",
    ]


def test_shuffle_units(monkeypatch):
    shuffled = []

    def watched(x, groups, shuffle=shuffle_units.channel_shuffle):
        shuffled.append((x.shape[1], groups, list(order)))
        return shuffle(x, groups)

    monkeypatch.setattr(shuffle_units, "channel_shuffle", watched)
    order = []

    def run(unit, x, parts):
        for name in parts:
            unit.get_submodule(name).register_forward_hook(lambda *_, name=name: order.append(name))
        return unit.eval()(x)

    first = shuffle_units.ShuffleUnit(48, 48, 1, 3)
    run(first, torch.randn(1, 48, 7, 7), ["reduce", "depthwise", "expand"])
    assert order == ["reduce", "depthwise", "expand"] and shuffled == [(12, 3, ["reduce"])]
    assert [kinds(part)[1:] for part in (first.reduce, first.depthwise, first.expand)] == [
        ["BatchNorm2d", "ReLU"],
        *[["BatchNorm2d"]] * 2,
    ]

    order.clear(), shuffled.clear()
    x = torch.randn(1, 48, 7, 7)
    y = run(shuffle_units.SplitUnit(48, 48, 1), x, ["branch"])
    assert shuffled == [(48, 2, ["branch"])] and torch.equal(y[:, ::2], x[:, :24]), "one half passes as it is"
    order.clear(), shuffled.clear()
    second = shuffle_units.SplitUnit(48, 96, 2)
    assert run(second, x, ["shortcut", "branch"]).shape == (1, 96, 4, 4) and shuffled == [
        (96, 2, ["shortcut", "branch"])
    ]
    convolutions = lambda part: [
        (layer.kernel_size[0], layer.groups > 1, layer.stride[0])
        for layer in part.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert convolutions(second.shortcut) == [(3, True, 2), (1, False, 1)]
    assert convolutions(second.branch) == [(1, False, 1), (3, True, 2), (1, False, 1)]


def test_xception_s_module():
    block = xception_small().features[4]
    assert kinds(block.branch) == ["ReLU", "SeparableConv2d", "BatchNorm2d"] * 3
    assert isinstance(block.shortcut, nn.Identity)
    assert kinds(block.branch[1].children()) == ["Conv2d", "Identity", "Conv2d"]
    boxes = [words for words in texts("xception-module") if words in ("ReLU", "separable 3×3", "batch norm")]
    assert boxes == ["ReLU", "separable 3×3", "batch norm"] * 3
    assert {"1,440 weights", "468 weights", "252 weights"} <= set(texts("xception-towers"))
