"""The explorer of towers against what the library counts of real convolutions."""

import itertools
import math
import re

import pytest
from browsing import new_page
from exploring import states_of
from matplotlib import pyplot as plt
from torch import nn

from compress_lib import cost
from compress_lib.explore import towers
from compress_lib.models.xception import SeparableConv2d

NBSP = "\u00a0"


def convolution(inputs, outputs, kernel, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def after_pointwise(inputs, outputs, kernel, groups):
    return nn.Sequential(convolution(inputs, outputs, 1), convolution(outputs, outputs, kernel, groups))


def as_state(inputs, outputs, number, kernel=3, size=7):
    return {"channels_in": inputs, "channels_out": outputs, "towers": number, "kernel": kernel, "size": size}


def split(outputs, wanted):
    """The largest divisor up to what is wanted."""
    return max(t for t in range(1, min(wanted, outputs) + 1) if outputs % t == 0)


def test_every_number_is_that_of_real_convolutions(compute):
    widget = towers.explorer()
    states = [s for s in states_of(widget, 600) if s["channels_in"] * s["channels_out"] <= 128**2 and s["size"] <= 28][
        :50
    ]
    assert len(states) == 50
    for state, answer in zip(states, compute(widget, states), strict=True):
        inputs, outputs, kernel, size = (state[name] for name in ("channels_in", "channels_out", "kernel", "size"))
        groups, found = split(outputs, state["towers"]), answer["results"]
        counted = cost.count(after_pointwise(inputs, outputs, kernel, groups), (inputs, size, size))
        pointwise, spatial = counted.layers
        full = cost.count(convolution(inputs, outputs, kernel), (inputs, size, size))
        assert found["towers"] == groups
        for name, row in (("", counted), ("pointwise_", pointwise), ("spatial_", spatial), ("full_", full)):
            assert (found[f"{name}params"], found[f"{name}macs"]) == (row.params, row.macs)
        assert found["relative"] == pytest.approx(counted.params / full.params) == counted.macs / full.macs
        extreme = cost.count(after_pointwise(inputs, outputs, kernel, outputs), (inputs, size, size))
        assert found["extreme"] == pytest.approx(extreme.params / full.params)
        first = cost.count(
            nn.Sequential(convolution(inputs, inputs, kernel, inputs), convolution(inputs, outputs, 1)),
            (inputs, size, size),
        )
        (table,) = answer["tables"]
        designs = [full, counted, *([extreme] if groups < outputs else []), first]
        assert [row[1:3] for row in table["rows"]] == [[f"{d.params:,}", f"{d.macs:,}"] for d in designs]
        shares = [float(row[3].removesuffix(f"{NBSP}%")) for row in table["rows"]]
        assert shares == pytest.approx([100 * d.macs / full.macs for d in designs], abs=0.05001)


def test_both_ends_are_the_modules_of_xception(compute):
    """1×1 first is the paper's "extreme" module, k×k first its separable convolution: 1/M + 1/k² and 1/N + 1/k²."""
    widget = towers.explorer()
    pairs = [(16, 48), (48, 16), (32, 32)]
    for (inputs, outputs), answer in zip(
        pairs, compute(widget, [as_state(*pair, 1024) for pair in pairs]), strict=True
    ):
        modules = [SeparableConv2d(inputs, outputs, pointwise_first=first) for first in (True, False)]
        extreme, separable = (cost.count(module, (inputs, 7, 7)) for module in modules)
        found = answer["results"]
        assert (found["params"], found["macs"]) == (extreme.params, extreme.macs)
        assert found["relative"] == found["extreme"] == pytest.approx(1 / inputs + 1 / 9)
        last = answer["tables"][0]["rows"][-1]
        assert last[1:3] == [f"{separable.params:,}", f"{separable.macs:,}"]
        assert separable.params / found["full_params"] == pytest.approx(1 / outputs + 1 / 9)
        assert "a filter for each channel" in answer["words"]


EVERYTHING = list(itertools.product(towers.CHANNELS, towers.CHANNELS, towers.KERNELS))


def test_more_towers_than_the_break_even_are_cheaper_than_one_full_convolution(compute):
    widget = towers.explorer()
    states = [as_state(inputs, outputs, 1, kernel) for inputs, outputs, kernel in EVERYTHING]
    for (inputs, outputs, kernel), answer in zip(EVERYTHING, compute(widget, states), strict=True):
        full = inputs * outputs * kernel**2
        costs = {
            t: inputs * outputs + outputs // t * outputs * kernel**2 for t in range(1, outputs + 1) if outputs % t == 0
        }
        even = answer["results"]["break_even"]
        assert [t > even + 1e-9 for t in costs] == [total < full for total in costs.values()]
        cheaper = min(t for t, total in costs.items() if total < full)
        assert f"cheaper than the full one from t = {cheaper} on" in answer["words"]
        curve = answer["charts"][1]
        assert ("break-even, t = " in curve) == ("(break-even " in answer["words"]) == (even >= 1)
        told = {int(t): float(share) for share, t in re.findall(r"([\d.]+)&nbsp;% with (\d+) tower", curve)}
        assert told == pytest.approx({t: 100 * total / full for t, total in costs.items()}, abs=0.05001)
        shares = re.findall(r'text-anchor="end"[^>]*>([\d.,]+)&nbsp;%<', curve)
        powers = [math.log2(float(share.replace(",", "")) / 100) for share in shares]
        assert len(powers) >= 2 and all(abs(power - round(power)) < 0.01 for power in powers), "round powers of two"


def test_the_formula_in_the_sentence_is_the_cost(compute):
    widget = towers.explorer()
    states = states_of(widget, 300, seed=1)
    for state, answer in zip(states, compute(widget, states), strict=True):
        ratio, area = re.search(r"N/\(tM\) \+ 1/k² = ([\d/]+) \+ 1/(\d+)\.", answer["words"]).groups()
        over, under = (int(n) for n in (ratio + "/1").split("/")[:2])
        assert over / under + 1 / int(area) == pytest.approx(answer["results"]["relative"])
        assert math.gcd(over, under) == 1 and int(area) == state["kernel"] ** 2
        wanted, outputs = state["towers"], state["channels_out"]
        said = (
            f"{wanted} towers would be more than the {outputs} channels."
            if wanted > outputs
            else f"{outputs} channels do not split into {wanted} equal towers; these are {split(outputs, wanted)}."
        )
        split_evenly = outputs % wanted == 0
        assert (said in answer["words"]) != split_evenly
        assert answer["sentence"].startswith(f"Not {wanted}: {outputs} channels allow ") != split_evenly


RECTANGLE = r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'


def rectangles(picture, kind):
    """(x, y, width, height) of what has a class."""
    return [tuple(map(float, found)) for found in re.findall(f'class="ex-{kind}" {RECTANGLE}', picture)]


@pytest.mark.parametrize(("inputs", "outputs", "wanted", "kernel"), [
    (16, 8, 1, 3), (16, 8, 8, 3), (48, 96, 12, 5), (1024, 1024, 1024, 3), (64, 48, 24, 7), (8, 256, 2, 3),
])  # fmt: skip
def test_areas_are_weights(compute, inputs, outputs, wanted, kernel):
    widget = towers.explorer(channels_in=inputs, channels_out=outputs, towers=wanted, kernel=kernel)
    (answer,) = compute(widget, [widget.state])
    picture, found = answer["charts"][0], answer["results"]  # 320 wide
    boxes = rectangles(picture, "tower")
    ((_, top, wide, height),) = rectangles(picture, "full")
    ((_, floor, base, thickness),) = rectangles(picture, "pointwise")
    assert len(boxes) == wanted
    assert all(a + w <= b + 0.02 for (a, _, w, _), (b, _, _, _) in itertools.pairwise(boxes)), "side by side"
    assert boxes[0][0] >= 4 and boxes[-1][0] + boxes[-1][2] <= 4 + wide + 0.02
    assert base == wide and floor + thickness == pytest.approx(top + height, abs=0.02)
    full = found["full_params"]
    assert thickness / height == pytest.approx(found["pointwise_params"] / full, abs=0.01)
    tall = height * found["spatial_params"] / full
    for _, y, _, h in boxes:
        assert y + h == pytest.approx(floor, abs=0.02), "they stand on the 1×1"
        assert h == pytest.approx(min(max(3, tall), floor), abs=0.2), "3 pixels at least, and not above the picture"
    assert ("higher than the picture" in picture) == (tall > floor)
    gaps = wide - sum(w for _, _, w, _ in boxes)
    assert gaps <= 0.17 * wide, "the pitch, gaps included, stands for the channels"
    each = outputs // wanted
    depthwise = ": depthwise" if each == 1 else ""
    assert f">{inputs} → {outputs} channels; each tower {each} → {each}{depthwise}<" in picture


def test_dragging_the_upper_edge_sets_the_towers(compute):
    widget = towers.explorer(channels_in=64, channels_out=96)
    (answer,) = compute(widget, [widget.state | {"towers": 4}])
    picture = answer["charts"][0]
    places = re.search(r'data-drag="towers" data-axis="y" data-places="\[([^\]]*)\]"', picture)[1]
    ((_, _, _, height),) = rectangles(picture, "full")
    base = rectangles(picture, "full")[0][1] + height
    for wanted, y in zip(towers.TOWERS, map(float, places.split(",")), strict=True):
        number = split(96, wanted)
        assert base - y == pytest.approx(min(base, height * (96 / (64 * number) + 1 / 9)), abs=0.1)


def test_towers_part_in_steps_that_begin_and_end_where_they_should(browser):
    """From 4 to 16 towers: at first 16 boxes as high as the 4 and without gaps, in the end those of 16."""
    page = new_page(browser)
    widget = towers.explorer()
    front = widget._charts + "\nexport { towersHeights, towersBetween, towersBoxes };"
    body = """async ([source, a, b]) => {
        const text = new Blob([source], { type: "text/javascript" });
        const { towersHeights, towersBetween, towersBoxes } = await import(URL.createObjectURL(text));
        const [old, now] = [a, b].map(towersHeights);
        const steps = [0, 0.5, 1].map((share) => towersBetween(old, now, share));
        return steps.map((step) => ({ ...step, boxes: towersBoxes(step.count, step.parted, 0, 160) }));
    }"""
    shape = {"inputs": 256, "channels": 256, "kernel": 3}
    for few, many in ((4, 16), (16, 4)):
        start, half, end = page.evaluate(body, [front, shape | {"towers": few}, shape | {"towers": many}])
        assert [len(places["boxes"]) for places in (start, half, end)] == [16] * 3, "the finer division shows"
        assert (start["tower"], end["tower"]) == (256 / few * 9, 256 / many * 9)
        assert half["tower"] == (start["tower"] + end["tower"]) / 2
        together, apart = (start, end) if few < many else (end, start)
        assert all(w == 10 for _, w in together["boxes"]) and all(w < 10 for _, w in apart["boxes"])
    page.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"channels_in": 10}, r"value of slider 'channels_in' must be one of \[8, 12, .*\], got 10"),
        ({"towers": 0}, "'towers' must be one of"),
        ({"kernel": 1}, r"'kernel' must be one of \[3, 5, 7\], got 1"),
        ({"size": 13}, "'size' must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        towers.explorer(**arguments)
    assert not plt.get_fignums()
