"""The explorer of MobileNet's multipliers against networks that are built and counted by the library."""

import functools
import itertools

import pytest
import torch
from browsing import new_page
from exploring import inside, states_of
from torch import nn

from compress_lib import cost
from compress_lib.explore import width_and_resolution
from compress_lib.models.mobilenet import mobilenet_v1

ANSWERS = """return argument.map((state) => {
    const { sentence, results, charts, tables } = module.compute(data, state, format);
    return { state, sentence, results, charts, tables };
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
        assert [1e6 * v for v in answer["charts"][2]["values"]] == pytest.approx([*macs, now.macs - sum(macs)])
        assert answer["charts"][3]["values"] == [*params, now.params - sum(params)]
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
    chart = answer["charts"][4]
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
        curves, bars = answer["charts"][:2]
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
        said, results, state = answer["sentence"], answer["results"], answer["state"]
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
        assert len(answer["charts"]) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 0.33}, "value of slider 'alpha' must be one of"),
        ({"size": 100}, "value of slider 'size' must be one of"),
        ({"convolutions": "grouped"}, "value of choice 'convolutions' must be one of"),
        ({"kernel": 7}, "value of choice 'kernel' must be one of"),
        ({"block": 14}, "value of choice 'block' must be one of"),
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
