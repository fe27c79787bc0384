"""The explorer of MobileNet's multipliers against networks that are built and counted by the library."""

import functools
import itertools
import json
import re

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of
from torch import nn

from compress_lib import cost
from compress_lib.explore import width_and_resolution
from compress_lib.models import zoo
from compress_lib.models.mobilenet import mobilenet_v1

ANSWERS = """return argument.map((state) => {
    const { sentence, details, results, charts, tables } = module.compute(data, state, format);
    return { state, sentence, words: details, results, charts, tables: tables() };
});"""
SEPARABLE, FULL = "depthwise separable", "full"


@functools.cache
def counted(alpha, size, convolutions, kernel):
    """What the library counts; for K = 5 each 3×3 convolution behind the first one is exchanged."""
    with torch.device("meta"):
        model = mobilenet_v1(alpha=alpha, separable=convolutions == SEPARABLE)
        for name, old in list(model.named_modules()):
            if isinstance(old, nn.Conv2d) and old.kernel_size == (3, 3) and not name.startswith("features.0."):
                shape = (old.in_channels, old.out_channels, kernel, old.stride, kernel // 2)
                new = nn.Conv2d(*shape, groups=old.groups, bias=False)
                parent, _, last = name.rpartition(".")
                model.get_submodule(parent)[int(last)] = new
    return cost.count(model, (3, size, size))


def layers(found, kind):
    """The convolutions of one kind, in order: "depthwise", "pointwise", or "full" ones of the blocks."""
    rows = [row for row in found.layers if row.kind == "Conv2d" and not row.name.startswith("features.0.")]
    return [row for row in rows if kind == FULL or f".{kind}." in row.name]


def number(cell):
    return int(cell.replace(",", ""))


@pytest.fixture(scope="module")
def answers(browser):
    page = new_page(browser)
    yield lambda widget, states: inside(page, widget, ANSWERS, states)
    page.close()


@pytest.fixture(scope="module")
def widget():
    return width_and_resolution.explorer()


def settings(convolutions=(SEPARABLE, FULL), kernels=(3,), blocks=(7,)):
    names = ("alpha", "size", "block", "convolutions", "kernel")
    axes = (width_and_resolution.ALPHAS, width_and_resolution.SIZES, blocks, convolutions, kernels)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]


def test_every_width_and_every_size_is_that_of_the_librarys_network(answers, widget):
    states = [s for s in settings((SEPARABLE,)) if s["size"] == 224 or s["alpha"] == 0.35]
    for answer in answers(widget, states):
        state, found = answer["state"], answer["results"]
        expected = counted(state["alpha"], state["size"], SEPARABLE, 3)
        assert (found["params"], found["macs"]) == (expected.params, expected.macs), state


@pytest.mark.parametrize(
    ("alpha", "size", "convolutions", "params", "millions"),
    [
        (1, 224, SEPARABLE, 4_231_976, 568.74),
        (0.75, 224, SEPARABLE, 2_585_560, 325.40),
        (0.5, 224, SEPARABLE, 1_331_592, 149.50),
        (0.25, 224, SEPARABLE, 470_072, 41.03),
        (1, 192, SEPARABLE, 4_231_976, 418.12),
        (1, 128, SEPARABLE, 4_231_976, 186.40),
        (1, 224, FULL, 29_294_088, 4867.29),
    ],
)
def test_the_papers_networks(answers, widget, alpha, size, convolutions, params, millions):
    state = widget.state | {"alpha": alpha, "size": size, "convolutions": convolutions}
    (answer,) = answers(widget, [state])
    assert answer["results"]["params"] == params
    assert answer["results"]["macs"] / 1e6 == pytest.approx(millions, abs=0.005)


def test_comparisons_kinds_and_intensities(answers, widget):
    for answer in answers(widget, [widget.state, *states_of(widget, 12)]):
        state, found = answer["state"], answer["results"]
        here = (state["alpha"], state["size"])
        both = {form: counted(*here, form, state["kernel"]) for form in (SEPARABLE, FULL)}
        now, full = both[state["convolutions"]], both[FULL]
        largest, usual = (counted(1, 224, form, state["kernel"]) for form in (FULL, SEPARABLE))
        assert (found["params"], found["macs"]) == (now.params, now.macs)
        assert found["fewer_macs"] == full.macs / now.macs
        assert found["fewer_params"] == full.params / now.params
        assert found["fewer_than_largest"] == largest.macs / now.macs
        other = both[SEPARABLE if state["convolutions"] == FULL else FULL]
        rows = [(number(row[1]), number(row[2])) for row in answer["tables"][0]["rows"]]
        assert rows == [(c.params, c.macs) for c in (now, other, usual, largest)]

        split = state["convolutions"] == SEPARABLE
        kinds = ["depthwise", "pointwise"] if split else [FULL]
        macs, params = ([sum(getattr(row, key) for row in layers(now, k)) for k in kinds] for key in ("macs", "params"))
        assert [1e6 * v for v in answer["charts"][3]["values"]] == pytest.approx([*macs, now.macs - sum(macs)])
        assert answer["charts"][4]["values"] == [*params, now.params - sum(params)]
        shares = [m / now.macs for m in macs] if split else [None, None]
        assert [found["depthwise_share"], found["pointwise_share"]] == shares
        check_intensities(answer, both)


def check_intensities(answer, both):
    state, found = answer["state"], answer["results"]
    work = {
        kind: [cost.arithmetic_intensity(row) for row in layers(both[FULL if kind == FULL else SEPARABLE], kind)]
        for kind in ("depthwise", "pointwise", FULL)
    }
    at = {kind: values[state["block"] - 1] for kind, values in work.items()}
    split = state["convolutions"] == SEPARABLE
    for kind in ("depthwise", "pointwise"):
        assert found[f"{kind}_intensity"] == (at[kind] if split else None)
    assert found["full_intensity"] == at[FULL]
    chart = answer["charts"][5]
    assert [series["y"] for series in chart["series"]] == list(work.values())
    assert chart["marker"]["y"] == ([at["depthwise"], at["pointwise"]] if split else [at[FULL]])
    for row, kind in zip(answer["tables"][1]["rows"], work, strict=True):
        layer = layers(both[FULL if kind == FULL else SEPARABLE], kind)[state["block"] - 1]
        assert number(row[1]) == layer.macs
        assert number(row[2]) == layer.nbytes + layer.input_nbytes + layer.activation_nbytes


def test_the_other_charts_show_the_numbers(answers, widget):
    all_answers = answers(widget, settings(kernels=(3, 5)))
    macs = {tuple(a["state"].values()): a["results"]["macs"] / 1e6 for a in all_answers}
    for answer in all_answers:
        alpha, size, block, form, kernel = answer["state"].values()
        curves, bars = answer["charts"][1:3]
        assert curves["marker"] == {"x": alpha, "label": "here", "y": [macs[alpha, size, block, form, kernel]]}
        for series, s in zip(curves["series"], (224, 192, 160, 128), strict=True):
            assert series["y"] == [macs[a, s, block, form, kernel] for a in width_and_resolution.ALPHAS]
            assert series["label"].startswith(str(s))
        # Each place has two bars on top of each other, the first of all its MACs, the second without the depthwise
        # ones.
        assert bars["edges"][:5] == [-0.5, 0.5, -0.5, 0.5, 0.5] and len(bars["edges"]) == 4 * 15 + 1
        assert sum(bars["values"][0::4]) == pytest.approx(answer["results"]["macs"] / 1e6)
        depthwise = sum(bars["values"][0::4]) - sum(bars["values"][2::4])
        share = answer["results"]["depthwise_share"] or 0
        assert depthwise == pytest.approx(share * answer["results"]["macs"] / 1e6)
        assert not any(bars["values"][1::2]) and ("key" in bars) == (form == SEPARABLE)


def test_what_the_sentence_says_is_so(answers, widget):
    found = answers(widget, settings(kernels=(3, 5), blocks=(1, 12)))
    assert len({answer["sentence"] for answer in found}) == len(found), "every move of a slider says something else"
    for answer in found:
        said, results, state = answer["words"], answer["results"], answer["state"]
        assert len(answer["sentence"]) <= 150 and "NaN" not in answer["sentence"]
        assert "NaN" not in said and "undefined" not in said and "null" not in said and "  " not in said
        assert f"has {results['params']:,} parameters" in said
        assert ("waits for memory" in said) == (state["convolutions"] == SEPARABLE)
        assert ("the most of all" in said) == (results["fewer_than_largest"] == 1)
        inputs, outputs = (32, 64) if state["block"] == 1 else (512, 1024)
        width = [round(state["alpha"] * channels) for channels in (outputs, inputs)]
        side = state["size"] // (2 if state["block"] == 1 else 16)
        after = side if state["block"] == 1 else side // 2
        shapes = [f"{c} × {s} × {s}" for c, s in zip(width, (after, side), strict=True)]
        assert f"makes {shapes[0]} of {shapes[1]}:" in said.replace("\u00a0", " ")


def test_charts_can_be_drawn(compute, widget):
    for answer in compute(widget, states_of(widget, 12)):
        assert len(answer["charts"]) == 6


def test_the_drawing_has_the_maps_of_the_network(answers, widget):
    for answer in answers(widget, states_of(widget, 12)):
        state, drawn = answer["state"], answer["charts"][0]
        for maps, alpha, size in ((drawn["maps"], state["alpha"], state["size"]), (drawn["full"], 1, 224)):
            found = counted(alpha, size, FULL, 3)
            rows = [row for row in found.layers if row.kind == "Conv2d"]
            assert [(m["width"], m["side"]) for m in maps] == [tuple(row.output_shape[:2]) for row in rows]
        kinds = ["depthwise", "pointwise"] if state["convolutions"] == SEPARABLE else [FULL]
        now = counted(state["alpha"], state["size"], state["convolutions"], state["kernel"])
        largest = counted(1, 224, state["convolutions"], state["kernel"])
        at = state["block"] - 1
        assert [bar["macs"] for bar in drawn["bars"]] == [layers(now, kind)[at].macs for kind in kinds]
        assert drawn["most"] == max(layers(largest, kind)[at].macs for kind in kinds)


MAP = r'class="ex-(map|largest)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'


def test_maps_are_as_wide_as_their_channels_and_as_high_as_their_side(compute, widget):
    states = [widget.state | {"alpha": 0.5, "size": 128, "block": 3}, widget.state]
    for state, answer in zip(states, compute(widget, states), strict=True):
        picture = answer["charts"][0]
        drawn = {"map": [], "largest": []}
        for kind, *box in re.findall(MAP, picture):
            drawn[kind].append(tuple(map(float, box)))
        shapes = {"map": (state["alpha"], state["size"]), "largest": (1, 224)}
        last, first = drawn["largest"][-1], drawn["largest"][0]
        across, down = last[2] / 1024, first[3] / 112
        for kind, boxes in drawn.items():
            layers_of = [row for row in counted(*shapes[kind], FULL, 3).layers if row.kind == "Conv2d"]
            expected = [(across * row.output_shape[0], down * row.output_shape[1]) for row in layers_of]
            assert np.array([box[2:] for box in boxes]) == pytest.approx(np.array(expected), abs=0.02)
            assert len({round(y + h / 2, 1) for _, y, _, h in boxes}) <= 2, "one axis"
        for (x, _, w, _), (a, _, b, _) in zip(drawn["map"], drawn["largest"], strict=True):
            assert x + w / 2 == pytest.approx(a + b / 2, abs=0.02)
        drags = re.findall(r'data-drag="(\w+)" data-axis="(.)" data-places="([^"]*)"', picture)
        assert [(name, axis) for name, axis, _ in drags] == [("block", "x"), ("alpha", "x"), ("size", "y")]
        blocks, alphas, sizes = (json.loads(places) for *_, places in drags)
        assert blocks == pytest.approx([a + b / 2 for a, _, b, _ in drawn["largest"][1:]], abs=0.06)
        edge = drawn["map"][-1][0] + drawn["map"][-1][2] - 7  # the knob is within
        assert alphas[width_and_resolution.ALPHAS.index(state["alpha"])] == pytest.approx(edge, abs=0.06)
        assert sizes[width_and_resolution.SIZES.index(state["size"])] == pytest.approx(drawn["map"][0][1] + 7, abs=0.06)


MEASURED = {SEPARABLE: {0.5: [0.87, 0.875], 1: [0.89]}, FULL: {1: [0.9, 0.91]}}


def test_measured_networks_stand_at_their_multiply_adds_and_only_they_have_a_dot(answers):
    widget = width_and_resolution.explorer(accuracies=MEASURED)
    names = {SEPARABLE: "mobilenet-v1-small", FULL: "plain-small"}

    @functools.cache
    def millions(kind, alpha):
        with torch.device("meta"):
            return cost.count(zoo.build(names[kind], alpha=alpha), (1, 28, 28)).macs / 1e6

    given = [widget.state | {"alpha": a, "convolutions": kind} for a in (0.25, 0.5, 0.85, 1) for kind in names]
    for answer in answers(widget, given):
        state, chart = answer["state"], answer["charts"][1]
        for series, (kind, measured) in zip(chart["series"], MEASURED.items(), strict=True):
            assert series["label"] == kind
            assert series["y"] == [value for values in measured.values() for value in values]
            assert series["x"] == [millions(kind, alpha) for alpha, values in measured.items() for _ in values]
        kind, alpha = state["convolutions"], state["alpha"]
        found = MEASURED[kind].get(alpha)
        place = chart["drag"]["at"][width_and_resolution.ALPHAS.index(alpha)]
        assert chart["marker"]["x"] == millions(kind, alpha) == place
        assert chart["marker"]["y"] == ([sum(found) / len(found)] if found else [])
        assert ("not measured" in chart["marker"]["label"]) == (found is None)
        assert len(answer["charts"]) == 7


def test_the_question_is_answered_by_the_librarys_networks(answers, browser, widget):
    page = new_page(browser)
    body = """const at = (changes) => module.compute(data, { ...argument, ...changes }, format).results;
        return module.predict.answer(at);"""
    small, large = (counted(1, 224, SEPARABLE, kernel).macs for kernel in (3, 5))
    assert inside(page, widget, body, widget.state) == pytest.approx(100 * (large / small - 1))
    page.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 0.33}, "value of slider 'alpha' must be one of"),
        ({"size": 100}, "value of slider 'size' must be one of"),
        ({"convolutions": "grouped"}, "value of choice 'convolutions' must be one of"),
        ({"kernel": 7}, "value of choice 'kernel' must be one of"),
        ({"block": 14}, "value of choice 'block' must be one of"),
        ({"accuracies": {"grouped": {1: [0.9]}}}, r"accuracies must have keys among .*, got \['grouped'\]"),
        ({"accuracies": {FULL: {0.33: [0.9]}}}, r"accuracies\['full'\] must have keys among .*, got \[0.33\]"),
        ({"accuracies": {FULL: {0.5: [90]}}}, r"accuracies\['full'\]\[0.5\] must lie in \[0, 1\], got \[90.0\]"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        width_and_resolution.explorer(**changes)


def test_the_figures_words_hold_the_papers_numbers(widget):
    for words in ("41.03 at α = 0.25", "149.50 at α = 0.5", "325.40 at α = 0.75", "568.74 at α = 1"):
        assert words in widget.alt
    halves = {
        h: list(map(cost.arithmetic_intensity, layers(counted(1, 224, SEPARABLE, 3), h)))
        for h in ("depthwise", "pointwise")
    }
    assert f"at most {max(halves['depthwise']):.2f} in a depthwise" in widget.alt
    assert f"at least {min(halves['pointwise']):.2f} in a pointwise" in widget.alt
