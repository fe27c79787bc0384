"""The explorer of the squeeze ratio against networks that are built and counted by the library."""

import json
import math
import re

import pytest
import torch
from browsing import new_page
from exploring import inside
from torch import nn

from compress_lib import cost
from compress_lib.explore import squeeze_ratio
from compress_lib.models.alexnet import alexnet_caffe
from compress_lib.models.squeezenet import Fire, squeezenet1_0

ANSWERS = """return argument.map((state) => {
    const { sentence, details, results, charts, tables } = module.compute(data, state, format);
    return { state, sentence, words: details, results, charts, tables: tables() };
});"""
MEASURED = {1: 0.9, 0.125: 0.875, 0.5: 0.8875}


class Uneven(nn.Module):
    """A fire module with any share of 3×3 filters, a branch without filters left out."""

    def __init__(self, inputs, squeeze, ones, threes):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.ones = nn.Conv2d(squeeze, ones, 1) if ones else None
        self.threes = nn.Conv2d(squeeze, threes, 3, padding=1) if threes else None

    def forward(self, x):
        x = self.squeeze(x)
        return torch.cat([branch(x) for branch in (self.ones, self.threes) if branch is not None], dim=1)


def rebuilt(make):
    """SqueezeNet 1.0 with ``make(inputs, width)`` in place of each fire module, without weights."""
    with torch.device("meta"):
        model = squeezenet1_0()
        for i, module in enumerate(model.features):
            if isinstance(module, Fire):
                model.features[i] = make(module.squeeze[0].in_channels, 2 * module.expand1x1[0].out_channels)
    return cost.count(model, (3, 224, 224))


def by_part(counted, parts):
    """(parameters, MACs) of the layers of each part, then of all others, then of all."""
    rows = [[row for row in counted.layers if part in row.name.split(".")] for part in parts]
    rows.append([row for row in counted.layers if not any(row in part for part in rows)])
    sums = [(sum(row.params for row in part), sum(row.macs for row in part)) for part in rows]
    return [*sums, (counted.params, counted.macs)]


def cells(rows, columns=2):
    """The last ``columns`` cells of each row as numbers."""
    return [tuple(int(cell.replace(",", "")) for cell in row[-columns:]) for row in rows]


@pytest.fixture(scope="module")
def answers(browser):
    page = new_page(browser)
    yield lambda widget, states: inside(page, widget, ANSWERS, states)
    page.close()


@pytest.fixture(scope="module")
def widget():
    return squeeze_ratio.explorer(accuracies=MEASURED)


def states(**fixed):
    ratios, percents = fixed.get("ratio", squeeze_ratio.RATIOS), fixed.get("percent", squeeze_ratio.PERCENTS)
    fires = fixed.get("fire", squeeze_ratio.FIRES)
    return [{"ratio": r, "percent": p, "fire": f} for r in ratios for p in percents for f in fires]


def test_half_3x3_is_the_librarys_network_at_every_ratio(answers, widget):
    parts = ("squeeze", "expand1x1", "expand3x3")
    for answer in answers(widget, states(percent=[50], fire=["fire2", "fire8"])):
        ratio, found = answer["state"]["ratio"], answer["results"]
        with torch.device("meta"):
            model = squeezenet1_0(squeeze_ratio=ratio)
        counted = cost.count(model, (3, 224, 224))
        assert (found["params"], found["macs"], found["nbytes"]) == (counted.params, counted.macs, counted.nbytes)
        assert cells(answer["tables"][0]["rows"]) == by_part(counted, parts)
        name = {"fire2": "features.2", "fire8": "features.9"}[answer["state"]["fire"]]
        convolutions = [row for row in counted.layers if row.name.startswith(name + ".") and row.params]
        assert found["fire_params"] == sum(row.params for row in convolutions)
        assert found["fire_macs"] == sum(row.macs for row in convolutions)
        rows = answer["tables"][1]["rows"]
        assert cells(rows)[:3] == [(row.params, row.macs) for row in convolutions]
        assert [row[1] for row in rows][:3] == [row.output_shape[0] for row in convolutions]


def test_any_share_of_3x3_is_that_of_a_network_built_by_hand(answers, widget):
    for answer in answers(widget, states(ratio=[1 / 16, 0.125, 0.75], percent=[0, 12.5, 62.5, 100], fire=["fire5"])):
        ratio, percent = answer["state"]["ratio"], answer["state"]["percent"]

        def make(inputs, width, ratio=ratio, percent=percent):
            threes = int(width * percent / 100)
            return Uneven(inputs, int(width * ratio), width - threes, threes)

        counted = rebuilt(make)
        assert (answer["results"]["params"], answer["results"]["macs"]) == (counted.params, counted.macs)
        assert cells(answer["tables"][0]["rows"]) == by_part(counted, ("squeeze", "ones", "threes"))


def test_beside_alexnet_and_plain_convolutions(answers, widget):
    (answer,) = answers(widget, [widget.state])
    found = answer["results"]
    plain = rebuilt(lambda inputs, width: nn.Conv2d(inputs, width, 3, padding=1))
    with torch.device("meta"):
        alexnet = cost.count(alexnet_caffe(), (3, 227, 227))
    assert alexnet.params == 60_965_224 and found["params"] == 1_248_424
    assert found["fewer_than_alexnet"] == alexnet.params / found["params"]
    assert found["fewer_than_plain"] == plain.params / found["params"]
    assert found["macs_to_alexnet"] == found["macs"] / alexnet.macs
    expected = [(c.params, c.macs) for c in (plain, alexnet)]
    assert cells(answer["tables"][2]["rows"]) == [(found["params"], found["macs"]), *expected]
    assert answer["charts"][4]["values"] == [found["nbytes"], plain.nbytes, alexnet.nbytes]


def test_charts_show_the_numbers(answers, widget):
    found = {(a["state"]["ratio"], a["state"]["percent"]): a for a in answers(widget, states(fire=["fire9"]))}
    for (ratio, _), answer in found.items():
        bars, macs, curves = answer["charts"][1:4]
        params = cells(answer["tables"][0]["rows"])
        assert [*bars["values"], sum(bars["values"])] == [part[0] for part in params]
        assert [round(1e6 * value) for value in macs["values"]] == [part[1] for part in params[:-1]]
        assert curves["marker"] == {"x": ratio, "label": "here", "y": [answer["results"]["params"] / 1e6]}
        for series, percent in zip(curves["series"][:3], (0, 50, 100), strict=True):
            assert series["y"] == [found[r, percent]["results"]["params"] / 1e6 for r in squeeze_ratio.RATIOS]
        assert set(curves["series"][3]["y"]) == {cells(answer["tables"][2]["rows"])[1][0] / 1e6}


def test_accuracies_are_shown_where_they_were_measured_and_nowhere_else(answers, widget):
    for answer in answers(widget, states(fire=["fire2"])):
        ratio, percent = answer["state"]["ratio"], answer["state"]["percent"]
        expected = MEASURED.get(ratio) if percent == 50 else None
        assert answer["results"]["accuracy"] == expected
        chart = answer["charts"][5]
        assert chart["series"][0]["x"] == sorted(MEASURED)
        assert chart["series"][0]["y"] == [MEASURED[r] for r in sorted(MEASURED)]
        assert chart["marker"]["y"] == ([] if expected is None else [expected])
        assert chart["y"]["min"] < min(MEASURED.values()) and max(MEASURED.values()) <= chart["y"]["max"]
        assert ("measured accuracy" in answer["words"]) == (expected is not None)
    bare = squeeze_ratio.explorer()
    (answer,) = answers(bare, [bare.state])
    assert len(answer["charts"]) == 5 and answer["results"]["accuracy"] is None


def test_what_the_sentence_says_is_so(answers, widget):
    found = answers(widget, states())
    assert len({answer["sentence"] for answer in found}) == len(found), "every move of a slider says something else"
    for answer in found:
        said, results, state = answer["words"], answer["results"], answer["state"]
        assert len(answer["sentence"]) <= 150 and "NaN" not in answer["sentence"]
        assert "NaN" not in said and "undefined" not in said and "  " not in said
        steps = round(16 * state["ratio"])
        common = math.gcd(steps, 16)
        assert said.startswith(f"With SR = {steps // common}/{16 // common} and" if steps < 16 else "With SR = 1 and")
        assert ("more than with plain" in said) == (results["fewer_than_plain"] < 1)
        assert ("But its" in said) == (results["macs_to_alexnet"] > 1)
        module, plain = answer["tables"][1]["rows"][0], answer["tables"][1]["rows"][-1]
        inputs = (int(plain[2].replace(",", "")) // plain[1] - 1) // 9  # weights and bias of each filter
        assert (f"{state['fire']} squeezes" in said) == (module[1] < inputs)
        assert ("widens" in said) == (module[1] > inputs)


def test_the_drawing_has_the_module_that_is_counted(answers, widget):
    for answer in answers(widget, states(ratio=[1 / 16, 0.5, 1], percent=[0, 37.5, 50, 100])):
        drawn, rows = answer["charts"][0], answer["tables"][1]["rows"]
        filters = [row[1] for row in rows]
        assert [drawn["squeezed"], drawn["ones"], drawn["threes"]] == filters[:3]
        assert drawn["ones"] + drawn["threes"] == filters[-1]
        assert [*drawn["params"], drawn["plain"]] == [part[0] for part in (*cells(rows[:3]), *cells(rows[-1:]))]
        assert drawn["inputs"] == (cells(rows[-1:])[0][0] // filters[-1] - 1) // 9
        assert (drawn["ratios"], drawn["percents"]) == (squeeze_ratio.RATIOS, squeeze_ratio.PERCENTS)


BUNDLE = r'class="ex-bundle[^"]*" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"'


def test_bundles_are_as_wide_as_their_channels_are_many(compute, widget):
    given = states(ratio=[1 / 16, 0.5, 1], percent=[0, 37.5, 100], fire=["fire2", "fire8"])
    for state, answer in zip(given, compute(widget, given), strict=True):
        picture, rows = answer["charts"][0], answer["tables"][1]["rows"]
        bundles = [tuple(map(float, found)) for found in re.findall(BUNDLE, picture)]
        squeezed, ones, threes = (row[1] for row in rows[:3])
        inputs = {"fire2": 96, "fire8": 384}[state["fire"]]
        expected = [inputs, squeezed, *(n for n in (ones, threes) if n), ones + threes]
        scale = bundles[-1][2] / expected[-1]
        assert [w for _, _, w in bundles] == pytest.approx([scale * n for n in expected], abs=0.1)
        assert all(x >= 0 and x + w <= 320 for x, _, w in bundles)
        heights = [y for _, y, _ in bundles]
        assert heights == sorted(heights) and len(set(heights)) == 4
        drags = dict(re.findall(r'data-drag="(\w+)" data-axis="x" data-places="([^"]*)"', picture))
        edges, borders = (json.loads(drags[name]) for name in ("ratio", "percent"))
        edge = bundles[1][0] + bundles[1][2]
        assert edges[squeeze_ratio.RATIOS.index(state["ratio"])] == pytest.approx(edge, abs=0.15)
        border = borders[squeeze_ratio.PERCENTS.index(state["percent"])]
        left = bundles[2][0] if ones else border
        assert border == pytest.approx(left + scale * ones + (4 if ones and threes else 0), abs=0.2)


@pytest.mark.parametrize("accuracies", [None, {0.25: 0.0}, {0.25: 1.0, 1.0: 1.0}, MEASURED])
def test_charts_can_be_drawn(compute, accuracies):
    widget = squeeze_ratio.explorer(accuracies=accuracies)
    for answer in compute(widget, states(ratio=[1 / 16, 0.125, 1], percent=[0, 50, 100], fire=["fire2"])):
        assert len(answer["charts"]) == (6 if accuracies else 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"squeeze_ratio": 0.1}, "value of slider 'ratio' must be one of"),
        ({"percent_3x3": 33}, "value of slider 'percent' must be one of"),
        ({"fire": "fire1"}, "value of choice 'fire' must be one of"),
        ({"accuracies": {0.1: 0.5}}, r"accuracies must have keys among the multiples of 1/16 up to 1, got \[0.1\]"),
        ({"accuracies": {0.5: 90}}, r"accuracies must lie in \[0, 1\], got \[90.0\]"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        squeeze_ratio.explorer(**changes)


def test_the_figures_words_hold_the_papers_number():
    assert "1,248,424 at 0.125" in squeeze_ratio.explorer().alt
