"""Each explorer's JavaScript against the library: same numbers for the same settings, away from any page."""

import itertools

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
