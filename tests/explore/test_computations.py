"""Each explorer's JavaScript against the library: same numbers for the same settings, away from any page."""

import itertools
import re

import numpy as np
import pytest
import torch
from exploring import states_of
from torch import nn

from compress_lib import cost
from compress_lib.explore import network_cost, weight_threshold
from compress_lib.pruning.weights import csr, magnitude


def test_network_cost_is_that_of_a_real_convolution(compute):
    widget = network_cost.explorer()
    states = [
        s
        for s in states_of(widget, 4000)
        if s["channels_in"] * s["channels_out"] * s["kernel"] ** 2 < 2e5 and s["size"] < 65
    ]
    valid = refused = 0
    for state, answer in zip(states, compute(widget, states), strict=True):
        found = answer["results"]
        padding = state["kernel"] // 2 if state["padding"] == "same" else state["padding"]
        arguments = (state["channels_in"], state["channels_out"], state["kernel"], state["stride"], padding)
        shape = (state["channels_in"], state["size"], state["size"])
        try:
            layer = nn.Conv2d(*arguments, groups=state["groups"], bias=state["bias"] == "yes")
            out = layer(torch.empty(1, *shape).normal_())
        except (ValueError, RuntimeError):  # torch finds no such layer either
            assert set(found.values()) == {None} and "no such layer" in answer["sentence"]
            refused += 1
            continue
        valid += 1
        counted = cost.count(layer, shape)
        assert found["output"] == out.shape[-1]
        assert found["params"] == counted.params == sum(p.numel() for p in layer.parameters())
        assert found["macs"] == counted.macs
        assert found["weight_bytes"] == counted.nbytes
        assert found["activation_bytes"] == 4 * (np.prod(shape) + out.numel())
        assert found["intensity"] == pytest.approx(counted.macs / (found["activation_bytes"] + counted.nbytes))
        assert found["saving"] == state["groups"]
        if valid == 150:
            break
    assert valid >= 100 and refused >= 20


def test_the_description_of_the_cost_names_what_is_wrong(compute):
    widget = network_cost.explorer(channels_in=10, channels_out=16, groups=4)
    (answer,) = compute(widget, [widget.state])
    assert "4 groups do not divide 10 input channels" in answer["sentence"] and "16" not in answer["sentence"]
    widget = network_cost.explorer(size=7, kernel=11, padding=1)
    (answer,) = compute(widget, [widget.state])
    assert "11 × 11 kernel does not fit into a 7 × 7 image padded by 1" in answer["sentence"]


ROOF = cost.Roofline(50e9, 20e9, threads=1)  # any machine


def test_the_roofline_bounds_the_layer_as_the_library_says(compute):
    widget = network_cost.explorer(roofline=ROOF)
    states = [
        widget.state | change for change in ({}, {"groups": 16}, {"size": 7, "channels_out": 1024}, {"kernel": 1})
    ]
    for answer in compute(widget, states):
        found, picture = answer["results"], answer["charts"][1]
        attainable = ROOF.attainable(found["intensity"])
        assert found["bound_ms"] == pytest.approx(1000 * found["macs"] / attainable)
        below = found["intensity"] < ROOF.ridge
        assert ("waits for memory" in answer["sentence"]) == below != ("arithmetic limits" in answer["sentence"])
        corners = [tuple(map(float, p.split(","))) for p in re.search(r'ex-roof" points="([^"]*)"', picture)[1].split()]
        (low, bottom), (ridge, top), (high, end) = corners
        assert top == end and low < ridge < high
        across = (high - low) / 5  # pixels for a factor of ten: the axis goes from 0.01 to 1000
        up = (bottom - top) / np.log10(ROOF.peak_macs_per_s / ROOF.attainable(0.01))
        assert ridge == pytest.approx(low + across * (np.log10(ROOF.ridge) + 2), abs=0.1)
        x, y = map(float, re.search(r'ex-roof-here" cx="([\d.]+)" cy="([\d.]+)"', picture).groups())
        assert x == pytest.approx(low + across * (np.log10(found["intensity"]) + 2), abs=0.1)
        assert y == pytest.approx(top + up * np.log10(ROOF.peak_macs_per_s / attainable), abs=0.1)


def test_without_a_roofline_nothing_is_bounded(compute):
    widget = network_cost.explorer()
    (answer,) = compute(widget, [widget.state])
    assert answer["results"]["bound_ms"] is None and not any("ex-roof" in chart for chart in answer["charts"])
    with pytest.raises(ValueError, match="roofline must have limits above 0"):
        network_cost.explorer(roofline=cost.Roofline(0.0, 20e9, threads=1))


PAINT = r'style="fill:url\(#explorer-layer-\d+-(\w+)\)'
FACE = r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)" ' + PAINT
TOP = r'l([\d.]+) [-\d.]+h[-\d.]+l[-\d.]+ [\d.]+z" ' + PAINT


def test_the_blocks_of_a_layer_are_in_proportion(compute):
    widget = network_cost.explorer()
    changes = [{}, {"stride": 2}, {"size": 56, "kernel": 7, "padding": 0}, {"channels_out": 64, "groups": 8}]
    states = [widget.state | change for change in changes]
    for state, answer in zip(states, compute(widget, states), strict=True):
        picture, found = answer["charts"][0], answer["results"]
        faces = {part: tuple(map(float, box)) for *box, part in re.findall(FACE, picture)}
        depths = {part: float(depth) for depth, part in re.findall(TOP, picture)}
        spans = {"input": state["size"], "weights": state["kernel"], "output": found["output"]}
        inputs = state["channels_in"]
        channels = {"input": inputs, "weights": inputs / state["groups"], "output": state["channels_out"]}
        unit, channel = faces["output"][0] / spans["output"], depths["output"] / channels["output"]
        for part, span in spans.items():
            assert faces[part][0] == faces[part][1] == pytest.approx(max(1.5, unit * span), abs=0.11)
            assert depths[part] == pytest.approx(max(1.5, channel * channels[part]), abs=0.11)
        shares = [float(w) for w in re.findall(r'ex-part-\w+" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', picture)]
        share = found["weight_bytes"] / (found["weight_bytes"] + found["activation_bytes"])
        assert shares[1] / sum(shares) == pytest.approx(share, abs=0.002)
        assert f">{found['macs']:,}<" in picture


def test_a_layer_that_cannot_be_is_drawn_as_one(compute):
    widget = network_cost.explorer(channels_in=10, channels_out=16, groups=4)
    (answer,) = compute(widget, [widget.state])
    assert "no such layer" in answer["charts"][0] and "nothing is moved" in answer["charts"][0]
    assert len(answer["charts"]) == 2, "as many as of a layer that there is"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(50, 30), nn.Linear(30, 10))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.distributions.Laplace(0.001, 0.05).sample(parameter.shape))
    return model


def test_weight_threshold_removes_what_the_library_removes(compute, network):
    weights = {name: m.weight.detach() for name, m in network.named_modules() if hasattr(m, "weight")}
    curve = ([0, 0.25, 0.5, 1], [0.9, 0.8, 0.7, 0.1], [0.9, 0.9, 0.8, 0.2])
    widget = weight_threshold.explorer(
        {n: w.numpy() for n, w in weights.items()}, {"all layers": curve, "2": curve[:2]}, k_max=6
    )
    thresholds = next(c["values"] for c in widget.controls if c["name"] == "k")
    names = ["all layers", *weights]
    states = [{"k": k, "layer": name} for k, name in itertools.product(thresholds, names)]
    for state, answer in zip(states, compute(widget, states), strict=True):
        pruned, report = magnitude.prune_by_sigma(network, state["k"], center="zero")
        rows = [row for row in report.rows if state["layer"] in ("all layers", row.layer)]
        found, kept, total = answer["results"], sum(r.kept for r in rows), sum(r.weights for r in rows)
        assert found["kept"] == kept
        assert found["sparsity"] == pytest.approx(1 - kept / total)
        masked = [pruned.get_submodule(row.layer).weight for row in rows]
        assert found["dense_bytes"] == 4 * total
        assert found["csr_bytes"] == sum(csr.nbytes(weight) for weight in masked)
        assert found["bitmask_bytes"] == sum(len(np.packbits(w.detach().numpy() != 0)) for w in masked) + 4 * kept
        measured = {"all layers": (curve[1], curve[2]), "2": (curve[1], None)}.get(state["layer"], (None, None))
        for name, values in zip(("accuracy", "retrained"), measured, strict=True):
            expected = None if values is None else pytest.approx(np.interp(found["sparsity"], curve[0], values))
            assert found[name] == expected


def test_a_weight_at_the_threshold_stays(compute):
    widget = weight_threshold.explorer({"fc": np.array([[1.0, -1.0], [1.0, -1.0]])}, {})  # σ = 1
    states = [{"k": k, "layer": "fc"} for k in (0.95, 1, 1.05)]
    assert [answer["results"]["kept"] for answer in compute(widget, states)] == [4, 4, 0]


def test_nothing_is_extrapolated(compute):
    weights = {"fc": np.random.default_rng(0).normal(size=(20, 20))}
    widget = weight_threshold.explorer(weights, {"fc": ([0.2, 0.4], [0.9, 0.8])})
    states = [{"k": k, "layer": "fc"} for k in (0, 0.4, 3)]
    assert [a["results"]["accuracy"] is None for a in compute(widget, states)] == [True, False, True]


def test_images_show_what_is_left(compute):
    weights = {"fc": np.random.default_rng(0).normal(size=(4, 9))}
    widget = weight_threshold.explorer(weights, {}, images=("fc", weights["fc"].reshape(4, 3, 3)))
    (answer,) = compute(widget, [{"k": 1, "layer": "fc"}])
    assert answer["charts"][-1].count("<canvas") == 4


@pytest.mark.parametrize(
    ("weights", "curves", "words"),
    [
        ({}, {}, "at least one layer"),
        ({"fc": np.ones(3)}, {}, "at least two axes"),
        ({"fc": np.ones((2, 2))}, {}, "all equal"),
        ({"fc": np.array([[1, np.nan]])}, {}, "finite"),
        ({"fc": np.eye(2)}, {"conv": ([0], [1])}, "'conv' is not among the layers"),
        ({"fc": np.eye(2)}, {"fc": ([0, 1], [1])}, "one length"),
        ({"fc": np.eye(2)}, {"fc": ([0.5, 0.1], [1, 1])}, "must ascend"),
        ({"fc": np.eye(2)}, {"fc": ([0, 1], [0.9, 90])}, r"lie in \[0, 1\]"),
    ],
)
def test_bad_weights_and_curves_are_named(weights, curves, words):
    with pytest.raises(ValueError, match=words):
        weight_threshold.explorer(weights, curves)
