"""The explorer of binary filters against their definitions in NumPy, and against the layers of compress_lib.binary."""

import re

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of

from compress_lib import ops
from compress_lib.binary import ternary, xnor
from compress_lib.explore import binary_filter
from compress_lib.models import zoo

NBSP = "\u00a0"


def example(shape, seed=0):
    """A normal filter, one with zeros of both signs, heavy tails, one of equal magnitudes; a patch with a few zeros."""
    rng = np.random.default_rng(seed)
    patch = rng.normal(size=shape)
    patch.flat[::7] = 0
    filters = {
        "normal": rng.normal(size=shape) * 0.05,
        "zeros": rng.normal(size=shape) * (rng.random(shape) < 0.5) * rng.choice([-1, 1], shape),
        "tails": rng.standard_t(2, size=shape),
        "signs": rng.choice([-0.25, 0.25], shape),
    }
    return filters, patch


SHAPES = [(64, 3, 3), (20, 2, 3), (70, 1, 2), (1, 5, 5), (3, 1, 1)]


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


def computed(page, widget, states, parts=("sentence", "results")):
    body = """return argument[0].map((state) => {
        const answer = module.compute(data, state, format);
        return Object.fromEntries(argument[1].map((part) => [part, answer[part]]));
    });"""
    return inside(page, widget, body, [states, parts])


def defined(weight, kind):
    """B and the best α, from the definitions, in float64."""
    magnitude = np.abs(weight)
    kept = magnitude > 0.7 * magnitude.mean() if kind == "ternary" else np.full(weight.shape, True)
    return np.where(weight >= 0, 1, -1) * kept, magnitude[kept].mean()


def in_order(array):
    """Place by place of the kernel, all channels of each."""
    return np.concatenate([array[:, r, c] for r in range(array.shape[1]) for c in range(array.shape[2])])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_number_is_that_of_its_definition(page, shape):
    filters, patch = example(shape)
    widget = binary_filter.explorer(filters, patch)
    states = states_of(widget, 300)
    x = np.float32(patch).astype(np.float64)
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        found, so_far = answer["results"], state["elements"]
        w = np.float32(filters[state["filter"]]).astype(np.float64)
        b, best = defined(w, state["weights"])
        alpha = state["percent"] / 100 * best
        assert found["alpha"] == pytest.approx(alpha)
        assert found["error"] == pytest.approx(np.square(w - alpha * b).sum() / np.square(w).sum())
        assert found["kept"] == np.count_nonzero(b)
        xs, ws, bs = (in_order(array)[:so_far] for array in (x, w, b))
        signs = np.where(xs >= 0, 1, -1)
        assert found["agree"] == (signs == bs).sum()
        assert found["signs"] == (signs * bs).sum() == 2 * found["agree"] - np.count_nonzero(bs)
        assert found["exact"] == pytest.approx((xs * ws).sum())
        assert found["real_input"] == pytest.approx(alpha * (xs * bs).sum())
        assert found["scaled"] == pytest.approx(alpha * np.abs(x).mean() * (signs * bs).sum())
        words = f"2{NBSP}·{NBSP}{found['agree']} − {np.count_nonzero(bs)} = {found['signs']}".replace("-", "−")
        assert words in answer["sentence"]
        assert ("least that any α leaves" in answer["sentence"]) == (state["percent"] == 100)


def test_no_scale_of_the_slider_does_better_than_the_best(page):
    filters, patch = example((16, 3, 3))
    widget = binary_filter.explorer(filters, patch)
    for name in filters:
        for kind in binary_filter.WEIGHTS:
            percents = list(binary_filter.PERCENTS)
            states = [widget.state | {"filter": name, "weights": kind, "percent": p} for p in percents]
            errors = [answer["results"]["error"] for answer in computed(page, widget, states)]
            assert percents[int(np.argmin(errors))] == 100 and errors[0] == errors[-1] == pytest.approx(1)


@pytest.mark.parametrize("channels", [64, 20, 70])
def test_the_end_is_the_output_of_the_layers(page, channels):
    """One place of XNOR-Net's convolution, of binary weights with real inputs, and of the product with "
    "ternary weights."""
    filters, patch = example((channels, 3, 3))
    widget = binary_filter.explorer(filters, patch)
    x, weight = torch.tensor(patch).float()[None], torch.tensor(np.stack(list(filters.values()))).float()
    layer = xnor.XnorConv2d(channels, len(filters), 3, bias=False, input_scale=True)
    layer.weight.data = weight
    kept, alpha = ternary.approximate(weight, per_filter=True)
    packed = ops.pack_ternary((torch.where(weight >= 0, 1.0, -1.0) * kept).flatten(1))
    signs = torch.where(x >= 0, 1.0, -1.0).flatten(1)
    outputs = {
        "binary": layer(x).flatten(),
        "ternary": ops.ternary_linear(signs, packed, x.numel(), alpha).flatten() * x.abs().mean(),
    }
    nbytes = {
        "binary": ops.pack_conv_weight(weight[:1]).nbytes + 4,
        "ternary": 2 * ops.pack_conv_weight(weight[:1]).nbytes + 4,
    }
    for kind, output in outputs.items():
        states = [widget.state | {"filter": name, "weights": kind, "elements": x.numel()} for name in filters]
        answers = computed(page, widget, states, ("results", "tables"))
        found = [answer["results"]["scaled"] for answer in answers]
        assert found == pytest.approx(output.tolist(), rel=1e-5, abs=1e-6)
        exact = [answer["results"]["exact"] for answer in answers]
        assert exact == pytest.approx((x.flatten(1) @ weight.flatten(1).T).flatten().tolist(), rel=1e-4, abs=1e-4)
        assert {answer["results"]["nbytes"] for answer in answers} == {nbytes[kind]}
        rows = answers[0]["tables"][1]["rows"]
        assert [row[0] for row in rows] == list(filters)
        for row, answer in zip(rows, answers, strict=True):
            shown = [float(text.replace("−", "-")) for text in row[1:]]
            real = [answer["results"][name] for name in ("exact", "real_input", "scaled")]
            assert shown == pytest.approx(real, rel=6e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_table_has_the_bits_of_the_packed_words(page, shape):
    """Joined, the rows of each word are the bits that `ops.pack_conv_weight` makes, and their XNOR is counted."""
    filters, patch = example(shape)
    widget = binary_filter.explorer(filters, patch)
    channels, _, columns = shape
    ends = [p + min(c + 64, channels) for p in range(0, patch.size, channels) for c in range(0, channels, 64)]
    states = [
        widget.state | {"filter": name, "weights": kind, "elements": end}
        for name in ("normal", "zeros")
        for kind in binary_filter.WEIGHTS
        for end in ends
    ]
    for state, answer in zip(states, computed(page, widget, states, ("results", "tables")), strict=True):
        index = ends.index(state["elements"])
        place, word = divmod(index, -(-channels // 64))
        row, column = divmod(place, columns)
        table = answer["tables"][0]
        assert table["caption"].startswith(f"Word {index + 1} of {len(ends)}, kernel place ({row}, {column})")
        of_x, of_w, same = ("".join(bits[i] for bits in table["rows"]) for i in (1, 2, 3))
        weight = torch.tensor(filters[state["filter"]]).float()
        packed = [
            ops.pack_conv_weight(t[None])[0, row, column, word].item() for t in (torch.tensor(patch).float(), weight)
        ]
        for text, number in zip((of_x, of_w), packed, strict=True):
            bits = [number >> i & 1 for i in range(len(text))]
            assert all(shown in (str(bit), "\u2012") for shown, bit in zip(text, bits, strict=True))
        first = 64 * word
        kept = defined(weight.numpy().astype(np.float64), state["weights"])[0][first : first + 64, row, column] != 0
        assert [character != "\u2012" for character in of_w] == kept.tolist()
        expected = ["\u2012" if b == "\u2012" else str(int(a == b)) for a, b in zip(of_x, of_w, strict=True)]
        assert list(same) == expected
        assert table["rows"][-1][4] == answer["results"]["agree"]
        before = table["rows"][0][4] - table["rows"][0][3].count("1")
        assert before == (answer["results"]["agree"] - same.count("1"))
        assert table["rows"][0][0] == (f"{first}–{min(first + 8, channels) - 1}" if channels - first > 1 else first)


def test_the_charts_hold_the_weights_the_errors_and_the_sums(page):
    filters, patch = example((20, 2, 3))
    widget = binary_filter.explorer(filters, patch)
    states = states_of(widget, 60, seed=1)
    for state, answer in zip(states, computed(page, widget, states, ("results", "charts")), strict=True):
        histogram, errors, pictures, sums = answer["charts"]
        w = np.float32(filters[state["filter"]]).astype(np.float64)
        edges, counts = np.array(histogram["edges"]), np.array(histogram["values"])
        assert counts.sum() == w.size and edges[0] == -edges[-1] and edges[-1] >= np.abs(w).max()
        assert np.abs(counts - np.histogram(w, edges)[0]).sum() <= 4, "but for numbers at an edge"
        assert [m["x"] for m in histogram["markers"]] == [-answer["results"]["alpha"], answer["results"]["alpha"]]
        threshold = 0.7 * np.abs(w).mean()
        centers = (edges[1:] + edges[:-1]) / 2
        assert histogram.get("off") == (list(np.abs(centers) <= threshold) if state["weights"] == "ternary" else None)
        *curves, least = errors["series"]
        for i, kind in enumerate(binary_filter.WEIGHTS):
            b, best = defined(w, kind)
            expected = [np.square(w - alpha * b).sum() / np.square(w).sum() for alpha in curves[i]["x"]]
            assert curves[i]["y"] == pytest.approx(expected)
            assert least["x"][i] == pytest.approx(best) and least["y"][i] == pytest.approx(min(curves[i]["y"]))
        assert errors["marker"] == {"x": answer["results"]["alpha"], "label": "here", "y": [answer["results"]["error"]]}
        assert sums["marker"]["y"] == [answer["results"][name] for name in ("exact", "real_input", "scaled")]
        assert sums["series"][0]["y"][-1] == pytest.approx((np.float32(patch).astype(float) * w).sum())
        assert all(series["x"][-1] == w.size and series["y"][0] == 0 for series in sums["series"])
        word = max(0, -(-state["elements"] // 20) - 1)
        row, column = divmod(word, 3)
        b, _ = defined(w, state["weights"])
        values = {image["label"]: np.array(image["values"]) for image in pictures["images"]}
        assert values["x"][:20] == pytest.approx(patch[:, row, column] / (3 * np.abs(patch).mean()), rel=1e-6)
        assert (values["sign x"][:20] == np.where(patch[:, row, column] >= 0, 1, -1)).all()
        assert (np.sign(values["W"][:20]) == np.sign(w[:, row, column])).all()
        assert (np.sign(values["αB"][:20]) == (b[:, row, column] if state["percent"] else 0)).all()
        agree = values["sign x"][:20] * b[:, row, column] * (20 * word + np.arange(20) < state["elements"])
        assert (values["XNOR"][:20] == agree).all()
        assert all((image[20:] == 0).all() and len(image) == 24 for image in values.values())


def test_charts_can_be_drawn(compute):
    for shape in SHAPES:
        widget = binary_filter.explorer(*example(shape))
        ends = [widget.state | {"elements": 0, "percent": 0}, widget.state | {"percent": 200}]
        for answer in compute(widget, [*ends, *states_of(widget, 20)]):
            histogram, errors, pictures, sums = answer["charts"]
            assert all("<svg" in chart for chart in (histogram, errors, sums)) and pictures.count("<canvas") == 5
            assert len(re.findall(r'class="ex-tick" text-anchor="middle"', histogram)) >= 3


def test_products_that_are_all_0_can_be_drawn(compute):
    one, other = np.zeros((2, 2, 3, 1))
    one[0, 0], other[1, 1] = 1, -1
    widget = binary_filter.explorer({"one": one}, other, percent=0)
    (answer,) = compute(widget, [widget.state])
    assert answer["results"]["exact"] == answer["results"]["real_input"] == 0


def test_every_step_is_said(page):
    widget = binary_filter.explorer(*example((20, 2, 3)))
    steps = next(control["values"] for control in widget.controls if control["name"] == "elements")
    assert steps == [0, *(20 * place + done for place in range(6) for done in (8, 16, 20))]
    states = [widget.state | {"elements": step} for step in steps]
    answers = computed(page, widget, states, ("sentence", "tables"))
    assert len({answer["sentence"] for answer in answers}) == len(steps)
    assert [len(answer["tables"][0]["rows"]) for answer in answers] == [0, *[1, 2, 3] * 6]


def test_filters_of_a_real_layer(compute):
    weight = zoo.load("vgg-small").get_submodule("features.20").weight.detach()
    patch = np.random.default_rng(0).normal(size=(64, 3, 3))
    widget = binary_filter.explorer({"filter 5": weight[5].numpy()}, patch, elements=576)
    (answer,) = compute(widget, [widget.state])
    alpha = weight[5].abs().mean()
    error = (weight[5] - alpha * weight[5].sign()).square().sum() / weight[5].square().sum()
    assert answer["results"]["error"] == pytest.approx(error.item(), rel=1e-5)
    assert answer["results"]["nbytes"] == 9 * 8 + 4
    assert f"filter 5 is off by {100 * error:.1f}{NBSP}% of ‖W‖²" in answer["sentence"]


def test_the_first_word_is_shown_at_the_start():
    for shape, first in zip(SHAPES, [64, 20, 64, 1, 3], strict=True):
        assert binary_filter.explorer(*example(shape)).state["elements"] == first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filters": {}}, r"filters must name one to 8 filters, got \[\]"),
        ({"filters": {str(i): np.ones((2, 3, 3)) for i in range(9)}}, "filters must name one to 8"),
        ({"filters": {"a": np.ones((2, 9))}}, r"filters\['a'\] must have the shape \(in, kh, kw\), .* got \(2, 9\)"),
        ({"filters": {"a": np.ones((0, 3, 3))}}, r"no axis empty, got \(0, 3, 3\)"),
        ({"filters": {"a": np.full((2, 3, 3), np.nan)}}, r"filters\['a'\] must be finite"),
        ({"filters": {"a": np.full((2, 3, 3), 1e39)}}, r"filters\['a'\] must be finite"),
        ({"filters": {"a": np.zeros((2, 3, 3))}}, r"filters\['a'\] must hold a number other than 0, got 18 zeros"),
        ({"filters": {"a": np.ones((2, 3, 3)), "b": np.ones((2, 3, 1))}}, r"one shape, got \(2, 3, 3\) for 'a' and"),
        ({"patch": np.ones((2, 1, 3))}, r"patch must have the shape of the filters, \(2, 3, 3\), got \(2, 1, 3\)"),
        ({"patch": np.full((2, 3, 3), -np.inf)}, "patch must be finite"),
        ({"patch": np.zeros((2, 3, 3))}, "patch must hold a number other than 0, got 18 zeros"),
        ({"weights": "one bit"}, "value of choice 'weights' must be one of"),
        ({"percent": 101}, "value of slider 'percent' must be one of"),
        ({"elements": 9}, "value of slider 'elements' must be one of"),
        ({"filters": {"a": np.ones((9000, 3, 3))}, "patch": np.ones((9000, 3, 3))}, "data must take at most"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        binary_filter.explorer(**{"filters": {"a": np.ones((2, 3, 3))}, "patch": np.ones((2, 3, 3))} | changes)
