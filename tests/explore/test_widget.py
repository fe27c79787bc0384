"""The widget: its arguments, its state, and what a notebook stores of it."""

import base64
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt

from compress_lib.explore import Explorer, choice, network_cost, slider


@pytest.fixture(autouse=True)
def no_figures_of_other_tests():
    plt.close("all")


def make(**changes):
    arguments = {
        "controls": [slider("k", "threshold", [0, 0.5, 1], 0.5), choice("layer", "layer", ["fc1", "fc2"], "fc1")],
        "title": "Where to cut?",
        "fallback": plt.figure,
        "alt": "A histogram.",
    }
    return Explorer("weight_threshold", **(arguments | changes))


def test_state_starts_with_the_controls_values_and_takes_only_what_they_allow():
    explorer = make()
    assert explorer.state == {"k": 0.5, "layer": "fc1"}
    explorer.state = {"k": 1.0, "layer": "fc2"}
    for wrong, words in [
        ({"k": 0.7, "layer": "fc1"}, r"state\['k'\] must be one of \[0, 0.5, 1\], got 0.7"),
        ({"k": 0.5}, "must have the keys"),
        ({"k": 0.5, "layer": "fc1", "x": 1}, "must have the keys"),
    ]:
        with pytest.raises(ValueError, match=words):
            explorer.state = wrong
    assert explorer.state == {"k": 1.0, "layer": "fc2"}


def test_a_notebook_stores_a_figure_beside_the_view():
    explorer = make()
    data, metadata = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == "A histogram."
    assert "A histogram." in data["text/plain"]
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert not plt.get_fignums(), "the figure would be shown a second time"


def test_the_figure_of_one_explorer_is_always_the_same_bytes():
    assert network_cost.explorer()._fallback == network_cost.explorer()._fallback


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"alt": " "}, ValueError, "alt must not be empty"),
        ({"title": ""}, ValueError, "title and alt must not be empty"),
        ({"controls": []}, ValueError, "at least one"),
        ({"controls": [slider("k", "a", [0, 1], 0), slider("k", "b", [0, 1], 0)]}, ValueError, "different names"),
        ({"fallback": lambda: "figure.png"}, TypeError, "matplotlib figure, got str"),
        ({"data": {"x": np.zeros(300_000, np.uint8)}}, ValueError, "at most 300,000 bytes as JSON, got 4"),
        ({"data": {"x": object()}}, TypeError, r"data\['x'\]"),
    ],
)
def test_bad_arguments_are_named(changes, error, words):
    with pytest.raises(error, match=words):
        make(**changes)
    assert not plt.get_fignums(), "a refused explorer draws nothing, or a notebook would show it"


@pytest.mark.parametrize("module", ["nothing", "charts", "explorer", "../secrets"])
def test_only_computations_are_modules(module):
    with pytest.raises(ValueError, match=r"module must be one of \[.*'network_cost'"):
        Explorer(module, controls=[slider("k", "k", [0, 1], 0)], title="t", fallback=plt.figure, alt="a")
    assert not plt.get_fignums()


def test_controls_check_their_values():
    assert slider("k", "k", np.arange(0, 0.2, 0.05), 0.15)["values"] == [0, 0.05, 0.1, 0.15]
    with pytest.raises(ValueError, match="ascending"):
        slider("k", "k", [0, 2, 1], 0)
    with pytest.raises(ValueError, match="at least two"):
        slider("k", "k", [1], 1)
    with pytest.raises(ValueError, match=r"value of slider 'k' must be one of \[0, 1\], got 3"):
        slider("k", "k", [0, 1], 3)
    with pytest.raises(ValueError, match="value of choice 'c' must be one of"):
        choice("c", "c", ["a"], "b")
    with pytest.raises(ValueError, match="must not be empty"):
        choice("c", "c", [], "b")


def test_explorers_need_no_torch():
    code = (
        "import sys; from compress_lib.explore import network_cost, weight_threshold; "
        "network_cost.explorer(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
