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


def computed(page, widget, states, parts=("sentence", "details", "results")):
    body = """return argument[0].map((state) => {
        const answer = module.compute(data, state, format);
        answer.tables = answer.tables();
        return Object.fromEntries(argument[1].map((part) => [part, answer[part]]));
    });"""
    return inside(page, widget, body, [states, parts])


def defined(weight, kind):
    """B and the best α, from the definitions, in float64."""
    magnitude = np.abs(weight)
    kept = magnitude > 0.7 * magnitude.mean() if kind == "ternary" else np.full(weight.shape, True)
    return np.where(weight >= 0, 1, -1) * kept, magnitude[kept].mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_number_is_that_of_its_definition(page, shape):
    filters, patch = example(shape)
    widget = binary_filter.explorer(filters, patch)
    states = states_of(widget, 300)
    x = np.float32(patch).astype(np.float64)
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        found = answer["results"]
        w = np.float32(filters[state["filter"]]).astype(np.float64)
        b, best = defined(w, state["weights"])
        alpha = state["percent"] / 100 * best
        assert found["alpha"] == pytest.approx(alpha)
        assert found["error"] == pytest.approx(np.square(w - alpha * b).sum() / np.square(w).sum())
        assert found["kept"] == np.count_nonzero(b)
        signs = np.where(x >= 0, 1, -1)
        assert found["signs"] == (signs * b).sum()
        assert found["exact"] == pytest.approx((x * w).sum())
        assert found["real_input"] == pytest.approx(alpha * (x * b).sum())
        assert found["scaled"] == pytest.approx(alpha * np.abs(x).mean() * (signs * b).sum())
        assert ("least that any α leaves" in answer["details"]) == (state["percent"] == 100)
        assert ("the least of all α" in answer["sentence"]) == (state["percent"] == 100)
        assert len(answer["sentence"]) <= 150


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
        states = [widget.state | {"filter": name, "weights": kind} for name in filters]
        answers = computed(page, widget, states, ("results", "tables"))
        found = [answer["results"]["scaled"] for answer in answers]
        assert found == pytest.approx(output.tolist(), rel=1e-5, abs=1e-6)
        exact = [answer["results"]["exact"] for answer in answers]
        assert exact == pytest.approx((x.flatten(1) @ weight.flatten(1).T).flatten().tolist(), rel=1e-4, abs=1e-4)
        assert {answer["results"]["nbytes"] for answer in answers} == {nbytes[kind]}
        rows = answers[0]["tables"][0]["rows"]
        assert [row[0] for row in rows] == list(filters)
        for row, answer in zip(rows, answers, strict=True):
            shown = [float(text.replace("−", "-")) for text in row[1:]]
            real = [answer["results"][name] for name in ("exact", "real_input", "scaled")]
            assert shown == pytest.approx(real, rel=6e-3)


def test_the_charts_hold_the_weights_the_errors_and_what_is_lost(page):
    filters, patch = example((20, 2, 3))
    widget = binary_filter.explorer(filters, patch)
    states = states_of(widget, 60, seed=1)
    for state, answer in zip(states, computed(page, widget, states, ("results", "charts")), strict=True):
        histogram, errors, pictures = answer["charts"]
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
        b, _ = defined(w, state["weights"])
        alpha = answer["results"]["alpha"]
        assert histogram["drag"] == errors["drag"] | {"mirror": True}
        percents = {control["name"]: control["values"] for control in widget.controls}["percent"]
        assert histogram["drag"]["at"] == pytest.approx(
            [share / 100 * defined(w, state["weights"])[1] for share in percents]
        )
        for image, values in zip(pictures["images"], (w, alpha * b, w - alpha * b), strict=True):
            peak = 3 * np.abs(w).mean()
            # 20 channels of 2 × 3 side by side, five to a row
            assert (image["rows"], image["cols"]) == (4 * 2, 5 * 3)
            shown = np.array(image["values"]).reshape(4, 2, 5, 3).transpose(0, 2, 1, 3).reshape(20, 2, 3)
            assert shown == pytest.approx(values / peak, rel=1e-6, abs=1e-9)


def test_channels_that_do_not_fill_the_square_leave_the_rest_blank(page):
    filters, patch = example((3, 1, 1))
    widget = binary_filter.explorer(filters, patch)
    (answer,) = computed(page, widget, [widget.state], ("charts",))
    image = answer["charts"][2]["images"][0]
    assert (image["rows"], image["cols"], image["values"][3]) == (2, 2, 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_question_is_answered_by_the_products(page, seed):
    filters, patch = example((16, 3, 3), seed)
    widget = binary_filter.explorer(filters, patch)
    body = """const at = (changes) => module.compute(data, { ...argument, ...changes }, format).results;
        return module.predict.options[module.predict.answer(at)];"""
    answer = inside(page, widget, body, widget.state | {"percent": 55, "weights": "ternary"})
    x, w = np.float32(patch).astype(np.float64), np.float32(filters["normal"]).astype(np.float64)
    b, best = defined(w, "binary")
    exact, weights = (x * w).sum(), best * (x * b).sum()
    both = best * np.abs(x).mean() * (np.where(x >= 0, 1, -1) * b).sum()
    assert answer == ("the signs of W" if abs(weights - exact) > abs(both - weights) else "the signs of x")


def test_charts_can_be_drawn(compute):
    for shape in SHAPES:
        widget = binary_filter.explorer(*example(shape))
        ends = [widget.state | {"percent": 0}, widget.state | {"percent": 200}]
        for answer in compute(widget, [*ends, *states_of(widget, 20)]):
            histogram, errors, pictures = answer["charts"]
            assert all("<svg" in chart for chart in (histogram, errors)) and pictures.count("<canvas") == 3
            assert len(re.findall(r'class="ex-tick" text-anchor="middle"', histogram)) >= 3


def test_products_that_are_all_0_can_be_drawn(compute):
    one, other = np.zeros((2, 2, 3, 1))
    one[0, 0], other[1, 1] = 1, -1
    widget = binary_filter.explorer({"one": one}, other, percent=0)
    (answer,) = compute(widget, [widget.state])
    assert answer["results"]["exact"] == answer["results"]["real_input"] == 0


def test_filters_of_a_real_layer(compute):
    weight = zoo.load("vgg-small").get_submodule("features.20").weight.detach()
    patch = np.random.default_rng(0).normal(size=(64, 3, 3))
    widget = binary_filter.explorer({"filter 5": weight[5].numpy()}, patch)
    (answer,) = compute(widget, [widget.state])
    alpha = weight[5].abs().mean()
    error = (weight[5] - alpha * weight[5].sign()).square().sum() / weight[5].square().sum()
    assert answer["results"]["error"] == pytest.approx(error.item(), rel=1e-5)
    assert answer["results"]["nbytes"] == 9 * 8 + 4
    assert f"filter 5 is off by {100 * error:.1f}{NBSP}% of ‖W‖²" in answer["words"]


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
        ({"filters": {"a": np.ones((9000, 3, 3))}, "patch": np.ones((9000, 3, 3))}, "data must take at most"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        binary_filter.explorer(**{"filters": {"a": np.ones((2, 3, 3))}, "patch": np.ones((2, 3, 3))} | changes)
