"""The explorer of XNOR and popcount against the packed words and the kernels of compress_lib.ops, and against NumPy."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of

from compress_lib import ops
from compress_lib.explore import xnor_popcount
from compress_lib.models import zoo

SHAPES = [(64, 3, 3), (128, 2, 3), (20, 2, 2), (1, 1, 5), (64, 1, 1)]
NBSP = "\u00a0"


def example(shape, seed=0):
    """Two normal filters, one with zeros of both signs; a patch with a few zeros."""
    rng = np.random.default_rng(seed)
    patch = rng.normal(size=shape)
    patch.flat[::7] = 0
    zeros = rng.normal(size=shape) * (rng.random(shape) < 0.5) * rng.choice([-1, 1], shape)
    zeros.flat[0] = -1.0  # not all of them
    return {"normal": rng.normal(size=shape), "zeros": zeros, "other": rng.normal(size=shape)}, patch


def words_of(array):
    """The signs as bits, word by word: each place of the kernel has its own words, of 64 channels each."""
    bits = (np.float32(array) >= 0).astype(int)
    size = min(64, len(array))
    places = [bits[:, row, column] for row in range(bits.shape[1]) for column in range(bits.shape[2])]
    return np.concatenate(places).reshape(-1, size)


def every_state(widget):
    axes = [[(control["name"], value) for value in control["values"]] for control in widget.controls]
    return [dict(pairs) for pairs in itertools.product(*axes)]


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


def computed(page, widget, states):
    body = """return argument.map((state) => {
        const { sentence, details, results, charts, tables } = module.compute(data, state, format);
        return { sentence, details, results, charts, tables: tables() };
    });"""
    return inside(page, widget, body, states)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_step_counts_the_signs_that_are_equal(page, shape):
    filters, patch = example(shape)
    widget = xnor_popcount.explorer(filters, patch, bits=1)
    states = every_state(widget)
    if len(states) > 300:
        states = states_of(widget, 300)
    x = words_of(patch)
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        found, at = answer["results"], state.get("word", 1) - 1
        w = words_of(filters[state["filter"]])
        pairs = at * x.shape[1] + state["bits"]
        signs = (2 * x.ravel() - 1)[:pairs] * (2 * w.ravel() - 1)[:pairs]
        assert (found["pairs"], found["agree"], found["dot"]) == (pairs, (signs == 1).sum(), signs.sum())
        assert found["total"] == ((2 * x - 1) * (2 * w - 1)).sum()
        formula = f"2 · {found['agree']} − {pairs} = {found['dot']}".replace("-", "−").replace(" ", NBSP)
        assert formula in answer["sentence"] and len(answer["sentence"]) <= 150
        assert ("the product of all signs" in answer["sentence"]) == (pairs == x.size)
        if state["bits"]:
            equal = x[at, state["bits"] - 1] == w[at, state["bits"] - 1]
            assert (f"pair {state['bits']} is equal" in answer["sentence"]) == equal
        (chart,) = answer["charts"]
        assert (chart["x"], chart["w"], chart["done"]) == (x[at].tolist(), w[at].tolist(), state["bits"])


@pytest.mark.parametrize("shape", SHAPES)
def test_the_end_is_what_the_librarys_kernel_gives(page, shape):
    filters, patch = example(shape, seed=1)
    widget = xnor_popcount.explorer(filters, patch, bits=1)
    ends = {control["name"]: control["values"][-1] for control in widget.controls}
    states = [ends | {"filter": name} for name in filters]
    weight = torch.tensor(np.stack(list(filters.values()))).float()
    x = torch.tensor(patch).float()[None]
    expected = ops.binary_conv2d(x, ops.pack_conv_weight(weight), shape[0], shape[1:]).flatten().tolist()
    answers = computed(page, widget, states)
    assert [answer["results"]["dot"] for answer in answers] == expected
    assert [answer["results"]["total"] for answer in answers] == expected


def test_the_table_has_the_packed_words(page):
    filters, patch = example((128, 2, 3))
    widget = xnor_popcount.explorer(filters, patch)
    packed = {n: ops.pack_conv_weight(torch.tensor(a).float()[None]).flatten().tolist() for n, a in filters.items()}
    of_x = ops.pack_conv_weight(torch.tensor(patch).float()[None]).flatten().tolist()
    states = [widget.state | {"filter": name} for name in filters]
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        rows = answer["tables"][0]["rows"]
        assert len(rows) == 2 * 3 * 2
        total = 0
        for row, x, w in zip(rows, of_x, packed[state["filter"]], strict=True):
            assert [int(cell, 16) for cell in row[1:3]] == [number % 2**64 for number in (x, w)]
            ones = 64 - ((x ^ w) % 2**64).bit_count()
            total += ones
            assert row[3:] == [ones, total]


def test_every_step_is_said(page):
    widget = xnor_popcount.explorer(*example((20, 2, 2)))
    states = [state for state in every_state(widget) if state["filter"] == "normal"]
    assert len({answer["sentence"] for answer in computed(page, widget, states)}) == len(states) == 21 * 4


BIT = (
    r'ex-bit( ex-bit-new)?"><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"[^>]*></rect>'
    r"<text[^>]*>([01])<"
)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_picture_shows_the_bits_and_lights_the_last_one(compute, shape):
    filters, patch = example(shape)
    widget = xnor_popcount.explorer(filters, patch, bits=1)
    size = min(64, shape[0])
    states = [widget.state | {"bits": bits} for bits in sorted({0, 1, size // 2, size})]
    x, w = words_of(patch)[0], words_of(filters["normal"])[0]
    for state, answer in zip(states, compute(widget, states), strict=True):
        picture, done = answer["charts"][0], state["bits"]
        cells = re.findall(BIT, picture)
        shown = [int(bit) for *_, bit in cells]
        assert shown == [*x, *w, *(x == w).astype(int)[:done]]
        assert [i for i, cell in enumerate(cells) if cell[0]] == ([2 * size + done - 1] if done else [])
        boxes = [tuple(map(float, cell[1:5])) for cell in cells]
        assert all(a >= 40 and a + c <= 320.1 for a, _, c, _ in boxes)
        places = json.loads(re.search(r'data-drag="bits" data-axis="xy" data-places="([^"]*)"', picture)[1])
        assert len(places) == size + 1
        for i, (left, top) in enumerate(places[1:]):
            (a, b, c, _), (_, y, _, h) = boxes[i], boxes[size + i]
            assert left == pytest.approx(a + c / 2, abs=0.1) and b < top < y + h


def test_the_answer_to_the_question(page):
    widget = xnor_popcount.explorer(*example((64, 1, 1)))
    question, answer = inside(page, widget, "return [module.predict.question, module.predict.answer];")
    agree, pairs = map(int, re.search(r"agree in (\d+) of (\d+)", question).groups())
    assert answer == agree - (pairs - agree)


def test_a_layer_of_the_zoo(page):
    weight = zoo.load("vgg-small").get_submodule("features.20").weight.detach()
    patch = np.random.default_rng(0).normal(size=(64, 3, 3))
    widget = xnor_popcount.explorer({"filter 5": weight[5].numpy()}, patch, word=9, bits=64)
    (answer,) = computed(page, widget, [widget.state])
    product = (torch.where(weight[5] >= 0, 1, -1) * torch.where(torch.tensor(patch) >= 0, 1, -1)).sum().item()
    assert answer["results"]["dot"] == product


def test_a_single_word_has_no_control_for_it():
    widget = xnor_popcount.explorer(*example((64, 1, 1)))
    assert [control["name"] for control in widget.controls] == ["bits", "filter"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filters": {}}, "filters must name one to 8 filters"),
        ({"patch": np.ones((2, 1, 3))}, "patch must have the shape of the filters"),
        ({"filters": {"a": np.full((2, 3, 3), np.nan)}}, "must be finite"),
        ({"filters": {"a": np.ones((70, 1, 1))}, "patch": np.ones((70, 1, 1))}, "or a multiple of 64, got 70"),
        ({"bits": 3}, "value of slider 'bits' must be one of"),
        ({"word": 10}, "value of slider 'word' must be one of"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(changes, words):
    arguments = {"filters": {"a": np.ones((2, 3, 3))}, "patch": np.ones((2, 3, 3)), "bits": 1}
    with pytest.raises(ValueError, match=words):
        xnor_popcount.explorer(**arguments | changes)
