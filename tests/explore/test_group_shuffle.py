"""The shuffle explorer against torch: who depends on whom, what the layers cost, and what the diagram shows."""

import itertools
import re

import numpy as np
import pytest
import torch
from browsing import new_page, unlock
from exploring import inside, standalone
from matplotlib import pyplot as plt
from torch import nn

from compress_lib import cost
from compress_lib.explore import group_shuffle
from compress_lib.models.shuffle_units import channel_shuffle

CHANNELS, GROUPS, LAYERS = group_shuffle.CHANNELS, group_shuffle.GROUPS, group_shuffle.LAYERS
SETTINGS = [
    (channels, groups, layers, shuffle)
    for channels, layers, shuffle in itertools.product(CHANNELS, LAYERS, ("off", "on"))
    for groups in GROUPS
    if channels % groups == 0
]


class Shuffle(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        return channel_shuffle(x, self.groups)


def stacked(channels, groups, layers, shuffle):
    """Pairs of a shuffle (nothing before the first layer) and a convolution with all weights 1, in which "
    "nothing cancels."""
    pairs = []
    for layer in range(layers):
        between = Shuffle(groups) if layer and shuffle == "on" else nn.Identity()
        convolution = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        nn.init.ones_(convolution.weight)
        pairs += [between, convolution]
    return nn.Sequential(*pairs)


def dependencies(model, channels):
    """Outputs by inputs: whether the output changes with the input."""
    with torch.no_grad():
        return model(torch.eye(channels)[:, :, None, None])[:, :, 0, 0].T.numpy() > 0


def computed(page, widget, states, body="return answer"):
    """For each state the answer, or of it what the body says."""
    code = f"""return argument.map((state) => {{
        const answer = module.compute(data, state, format);
        Object.assign(answer, {{ tables: answer.tables(), words: `${{answer.sentence}} ${{answer.details}}` }});
        {body};
    }});"""
    return inside(page, widget, code, states)


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


def as_state(channels, groups, layers, shuffle, output=0):
    return {"channels": channels, "groups": groups, "layers": layers, "shuffle": shuffle, "output": output}


def test_every_output_sees_the_inputs_that_it_depends_on(page):
    """All settings and all outputs; on the way, the places that each layer reads and the outputs that it writes."""
    widget = group_shuffle.explorer()
    states = [as_state(*setting, output) for setting in SETTINGS for output in range(setting[0])]
    body = """const { output, steps, description } = answer.charts[0];
        return [answer.sentence, answer.results, { output, steps, description }]"""
    answers = iter(computed(page, widget, states, body))
    for setting in SETTINGS:
        channels, groups, layers, _ = setting
        model = stacked(*setting)
        sees = dependencies(model, channels)
        # Of the last outputs on the places that a layer reads, and on what it writes.
        reads = [dependencies(model[2 * layer + 1 :], channels) for layer in range(layers)]
        writes = [dependencies(model[2 * layer + 2 :], channels) for layer in range(layers)]
        for output in range(channels):
            sentence, found, wiring = next(answers)
            assert found["seen"] == sees[output].sum()
            assert (found["fewest"], found["complete"]) == (sees.sum(1).min(), sees.all(1).sum())
            assert found["groups"] == groups and wiring["output"] == output
            assert sentence.startswith(f"Output {output} sees {found['seen']} of {channels} inputs through")
            for step, read, written in zip(wiring["steps"], reads, writes, strict=True):
                assert step["reads"] == np.flatnonzero(read[output]).tolist()
                assert step["writes"] == np.flatnonzero(written[output]).tolist()
            told = re.search(r"layer 1 reads inputs (?:all (\d+)|([\d–, ]+))\.", wiring["description"])
            assert (
                (int(told[1]) == channels) if told[1] else (numbers(told[2]) == np.flatnonzero(sees[output]).tolist())
            )


def numbers(text):
    """[0, 1, 2, 5] of "0–2, 5"."""
    runs = [[int(n) for n in run.split("–")] for run in text.split(", ")]
    return [n for run in runs for n in range(run[0], run[-1] + 1)]


def test_one_shuffle_mixes_fully_only_if_a_group_has_a_place_for_every_group(page):
    """The sentence, the curve and the table, for two layers and for more."""
    widget = group_shuffle.explorer()
    settings = [setting for setting in SETTINGS if setting[3] == "on"]
    for setting, answer in zip(settings, computed(page, widget, [as_state(*s) for s in settings]), strict=True):
        channels, groups, layers, _ = setting
        size = channels // groups
        if groups > 1 and layers > 1:
            assert ("one shuffle mixes fully" in answer["words"]) == (size >= groups)
            assert (f"one shuffle reaches (c/g)² = {size**2} of" in answer["words"]) == (size < groups)
        sees = {
            shuffle: [dependencies(stacked(channels, groups, depth, shuffle), channels).sum(1) for depth in LAYERS]
            for shuffle in ("on", "off")
        }
        curves = answer["charts"][1]
        assert [series["y"] for series in curves["series"]] == [[n[0] for n in sees["on"]], [n[0] for n in sees["off"]]]
        assert curves["marker"]["x"] == layers and curves["marker"]["y"] == [answer["results"]["seen"]]
        rows = {int(str(row[0]).removesuffix(", here")): row for row in answer["tables"][0]["rows"]}
        assert list(rows) == [g for g in range(1, channels + 1) if channels % g == 0]
        assert [g for g, row in rows.items() if str(row[0]).endswith(", here")] == [groups]
        fewest = [n.min() for n in sees["on"]]
        assert rows[groups][1:] == [size, "yes" if size >= groups else "no", *fewest]
        assert fewest[1] == min(channels, size**2)


def test_the_layers_cost_what_the_library_counts(compute):
    for size in (7, 28):
        widget = group_shuffle.explorer(size=size)
        settings = SETTINGS[::7]
        for setting, answer in zip(settings, compute(widget, [as_state(*s) for s in settings]), strict=True):
            channels, _, layers, shuffle = setting
            found = answer["results"]
            for counted, name in (
                (cost.count(stacked(*setting), (channels, size, size)), ""),
                (cost.count(stacked(channels, 1, layers, shuffle), (channels, size, size)), "_one_group"),
            ):
                assert (found[f"params{name}"], found[f"macs{name}"]) == (counted.params, counted.macs)
                for total in (counted.params, counted.macs):
                    assert any(f"{total:,}" in row for row in answer["tables"][1]["rows"])


def test_what_does_not_exist_is_replaced_in_words(page):
    widget = group_shuffle.explorer(channels=24, groups=8, output=23)
    states = [as_state(channels, groups, 2, "on", 23) for channels in CHANNELS for groups in GROUPS]
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        channels = state["channels"]
        groups = max(g for g in range(1, state["groups"] + 1) if channels % g == 0)
        there = {"groups": groups, "output": min(23, channels - 1)}
        (same,) = computed(page, widget, [state | there])
        assert answer["results"] == same["results"] and answer["words"].endswith(same["words"])
        said = f"{channels} channels have no {state['groups']} equal groups; this is {groups}."
        assert (said in answer["words"]) == (groups != state["groups"])
        assert (f"There is no output 23; the last is {channels - 1}." in answer["words"]) == (channels < 24)


LINES = """(all) => all.map((path) => {
    const style = path.getAttribute("style");
    return [style.includes("--ex-0") ? "strong" : "faint", path.getAttribute("d").split("M").length - 1];
})"""


@pytest.mark.parametrize("setting", [(24, 8, 3, "on"), (12, 3, 2, "off"), (8, 1, 4, "on"), (16, 16, 2, "on")])
def test_the_diagram_has_a_line_for_every_connection(page, setting):
    channels, groups, layers, shuffle = setting
    widget = group_shuffle.explorer(
        channels=channels, groups=groups, layers=layers, shuffle=shuffle == "on", output=channels - 1
    )
    page.set_content(standalone(widget))
    page.locator("[data-live]").wait_for()
    svg = page.locator("[data-live] .ex-chart").first.locator("svg[role=img]")
    model = stacked(*setting)
    size, output = channels // groups, channels - 1
    writes = [dependencies(model[2 * layer + 2 :], channels)[output].sum() for layer in range(layers)]
    reads = [dependencies(model[2 * layer + 1 :], channels)[output].sum() for layer in range(layers)]
    lines = {"strong": 0, "faint": 0}
    for kind, count in svg.locator("path:not(.ex-grip)").evaluate_all(LINES):
        lines[kind] += count
    wires = sum(writes[:-1])  # between the layers
    assert lines["strong"] == size * sum(writes) + wires
    assert sum(lines.values()) == layers * channels * size + (layers - 1) * channels
    filled = svg.locator("circle[style*='fill:var(--ex-0)']").count()
    assert filled == sum(writes) + sum(reads)
    assert svg.locator("rect").count() == layers * groups
    assert svg.locator("circle.ex-here").count() == 1


@pytest.mark.parametrize("control", ["shuffle", "groups"])
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_the_diagram_moves_unless_the_reader_wants_none(browser, motion, control):
    page = new_page(browser, reduced_motion=motion)
    page.clock.install()
    page.set_content(standalone(group_shuffle.explorer(shuffle=control == "groups")))
    page.locator("[data-live]").wait_for()
    unlock(page)
    wires = page.locator("[data-live] .ex-chart").first.locator("svg[role=img] path").first
    before = wires.get_attribute("d")
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    if control == "shuffle":
        page.locator("select[name=shuffle]").select_option("on")
    else:
        page.locator("input[name=groups]").press("ArrowRight")
    drawn = [wires.get_attribute("d")]
    for _ in range(40):
        page.clock.run_for(20)
        drawn.append(wires.get_attribute("d"))
    assert drawn[0] == drawn[-1] == drawn[-2] != before, "it ends as it is drawn at once"
    assert len(set(drawn)) > 10 if motion == "no-preference" else len(set(drawn)) == 1
    page.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"channels": 10}, r"value of slider 'channels' must be one of \[8, 12, 16, 24\], got 10"),
        ({"groups": 5}, r"groups must divide channels=12, one of \[1, 2, 3, 4, 6, 12\], got 5"),
        ({"channels": 24, "groups": 16}, "groups must divide channels=24"),
        ({"layers": 5}, "'layers' must be one of"),
        ({"output": 12}, "output must be from 0 to 11 for channels=12, got 12"),
        ({"size": 0}, "size must be positive, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        group_shuffle.explorer(**arguments)
    assert not plt.get_fignums()


def test_the_figure_says_in_words_what_it_shows():
    for setting in [(24, 8, 2, "on"), (24, 8, 3, "on"), (12, 3, 2, "off")]:
        channels, groups, layers, shuffle = setting
        widget = group_shuffle.explorer(channels=channels, groups=groups, layers=layers, shuffle=shuffle == "on")
        seen = dependencies(stacked(*setting), channels)[5].sum()
        assert widget.alt.endswith(f"come from {seen} of the {channels} inputs.")
        assert f"{'a' if shuffle == 'on' else 'no'} shuffle between" in widget.alt
