"""The filter explorer against real surgery: what it says is left is what `cost.count` finds in the smaller network."""

import random
import re
from functools import partial

import numpy as np
import pytest
import torch
from browsing import new_page, unlock
from exploring import standalone
from torch import nn

from compress_lib import cost
from compress_lib.explore import filter_surgery
from compress_lib.models import zoo
from compress_lib.pruning import surgery

SHAPE = (1, 28, 28)
ORDERS = {"first to last": list(range(16)), "by lot": random.Random(0).sample(range(16), 16)}


def arguments(n, orders):
    """Data of the right form for n filters."""
    rng = np.random.default_rng(0)
    curves = {name: rng.random(n).tolist() for name in orders}
    return {
        "maps": rng.random((2, n, 3, 4)),
        "orders": orders,
        "accuracy": curves,
        "images": {"shoe": rng.random((5, 5)), "bag": rng.random((5, 5))},
        "norms": ("L1 norm", rng.random(n)),
        "recovered": ("after repair", {name: curve[::-1] for name, curve in curves.items()}),
    }


def network(model):
    return {"costs": cost.count(model, SHAPE), "shapes": {name: p.shape for name, p in model.named_parameters()}}


def with_biases():
    """A strided, biased convolution of 16 filters, read by a linear layer."""
    return nn.Sequential(nn.Conv2d(1, 16, (3, 5), stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 13 * 12, 10))


@pytest.mark.parametrize(
    ("build", "layer", "batch_norm", "reader"),
    [
        (partial(zoo.load, "vgg-small"), "features.3", "features.4", "features.7"),
        (partial(zoo.load, "resnet-20"), "stage1.1.conv1", "stage1.1.bn1", "stage1.1.conv2"),
        (with_biases, "0", "", "3"),
    ],
)
def test_what_is_left_is_what_surgery_leaves(compute, build, layer, batch_norm, reader):
    model = build()
    names = {"layer": layer, "batch_norm": batch_norm, "reader": reader}
    widget = filter_surgery.explorer(**arguments(16, ORDERS), **network(model), **names)
    states = [
        {"removed": r, "order": order, "image": "bag"}
        for r, order in [(0, "by lot"), (1, "by lot"), (7, "first to last"), (15, "by lot")]
    ]
    for state, answer in zip(states, compute(widget, states), strict=True):
        gone = ORDERS[state["order"]][: state["removed"]]
        smaller, _ = surgery.remove(model, torch.zeros(1, *SHAPE), {layer: gone})
        counted = cost.count(smaller, SHAPE)
        rows, found = {row.name: row for row in counted.layers}, answer["results"]
        assert (found["params"], found["macs"]) == (counted.params, counted.macs)
        assert (found["layer_params"], found["layer_macs"]) == (rows[layer].params, rows[layer].macs)
        assert (found["reader_params"], found["reader_macs"]) == (rows[reader].params, rows[reader].macs)
        assert found["nbytes"] == 4 * sum(p.numel() for p in smaller.parameters())
        shapes = [" × ".join(map(str, smaller.get_submodule(name).weight.shape)) for name in (layer, reader)]
        told = [row[0] for row in answer["tables"][0]["rows"]]
        assert [f"{layer}, {shapes[0]}", f"{reader}, {shapes[1]}"] == [told[0], told[-2]]
        if batch_norm:
            assert answer["tables"][0]["rows"][1][2] == f"{rows[batch_norm].params}"


@pytest.fixture(scope="module")
def vgg():
    return network(zoo.load("vgg-small")) | {"layer": "features.3", "batch_norm": "features.4", "reader": "features.7"}


def test_accuracies_are_those_measured_and_removed_filters_are_marked(compute, vgg):
    given = arguments(16, ORDERS)
    widget = filter_surgery.explorer(**given, **vgg)
    states = [{"removed": r, "order": name, "image": "shoe"} for name in ORDERS for r in range(16)]
    for state, answer in zip(states, compute(widget, states), strict=True):
        removed, order = state["removed"], state["order"]
        assert answer["results"]["accuracy"] == given["accuracy"][order][removed]
        assert answer["results"]["recovered"] == given["recovered"][1][order][removed]
        grid, bars, _ = answer["charts"]
        assert grid.count("ex-cell-off") == removed
        gone = sorted(ORDERS[order][:removed])
        assert ("crossed out: " + ", ".join(map(str, gone)) if gone else "none is crossed out") in grid
        marked = [int(j) for j in re.findall(r"(\d+): [\d.]+, removed", bars)]
        assert marked == gone
        assert re.search('ex-off" d="([^"]*)', bars)[1].count("M") == removed


def test_without_recovery_there_is_no_number(compute, vgg):
    widget = filter_surgery.explorer(**arguments(16, ORDERS) | {"recovered": None}, **vgg)
    (answer,) = compute(widget, [widget.state])
    assert answer["results"]["recovered"] is None and "repair" not in answer["words"]


def test_the_maps_on_the_page_are_the_maps(browser, vgg):
    """Pixels of the chosen image: what is positive in one color, by its share of what is drawn in full color."""
    given = arguments(16, ORDERS)
    given["maps"] = np.random.default_rng(1).normal(size=(2, 16, 3, 4))
    widget = filter_surgery.explorer(**given, **vgg)
    page = new_page(browser)
    page.set_content(standalone(widget))
    page.locator("[data-live]").wait_for()
    unlock(page)
    page.locator("[data-live] select[name=image]").select_option("bag")
    read = "(all) => all.map((c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data))"
    drawn = np.array(page.locator("canvas").evaluate_all(read)[1:]).reshape(16, 3, 4, 4)
    page.close()
    maps = given["maps"]
    reach = maps.max() - maps.min()
    peak = np.quantile(np.abs(maps), 0.99)  # full color
    assert np.abs(drawn[..., 3] / 255 * peak - np.abs(maps[1]).clip(max=peak)).max() <= 2 * reach / 255
    blue = drawn[..., 2] > drawn[..., 0]  # the color of plus
    clear = drawn[..., 3] > 10
    assert (blue == (maps[1] > 0))[clear].all() and clear.mean() > 0.8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"maps": np.zeros((2, 16, 3))}, r"maps must be finite, .* got shape \(2, 16, 3\)"),
        ({"maps": np.full((2, 16, 3, 3), np.nan)}, "maps must be finite"),
        ({"images": {"shoe": np.zeros((5, 5))}}, r"images must name 2 arrays \(H, W\)"),
        ({"images": {"a": np.zeros((5, 5)), "b": np.zeros((4, 5))}}, "of one shape"),
        ({"orders": {}}, "orders must be one to three"),
        ({"orders": {"a": [0] * 16}}, r"orders\['a'\] must be a permutation of 0 to 15"),
        ({"accuracy": {"by lot": [1] * 16}}, r"accuracy must have the keys \['first to last', 'by lot'\]"),
        ({"accuracy": dict.fromkeys(ORDERS, [1] * 15)}, r"accuracy\['first to last'\] must hold 16 values, got 15"),
        ({"accuracy": dict.fromkeys(ORDERS, [93.1] * 16)}, r"must lie in \[0, 1\]"),
        ({"recovered": ("x", {"a": [1] * 16})}, "recovered must have the keys"),
        ({"norms": ("L1 norm", [1] * 15)}, r"norms must hold 16 numbers, got shape \(15,\)"),
        ({"layer": "features.33"}, r"layer must be one of the layers \['features.0', .*got 'features.33'"),
        ({"layer": "features.7"}, r"layer='features.7' must have a weight with 16 channels along axis 0"),
        ({"reader": "features.14"}, r"reader='features.14' must have a weight with 16 channels along axis 1"),
        ({"reader": "features.4"}, r"reader='features.4' must have a weight"),
        ({"batch_norm": "features.5"}, "batch_norm must be one of the layers"),
        ({"batch_norm": "features.3"}, "batch_norm='features.3' must have a weight for each of 16 filters"),
        ({"images": dict.fromkeys("ab", np.full((5, 5), np.inf))}, "images must be finite"),
        ({"removed": 16}, "value of slider 'removed' must be one of"),
    ],
)
def test_bad_data_are_named(vgg, changes, words):
    with pytest.raises(ValueError, match=words):
        filter_surgery.explorer(**arguments(16, ORDERS) | vgg | changes)
