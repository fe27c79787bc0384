import math

import pytest
import torch

from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude, sensitivity


def score(model) -> float:
    """The sum over the layers of the fraction of weights they have left: 3 for the whole network."""
    kept = [int(model[i].weight.count_nonzero()) for i in (0, 4, 6)]
    return kept[0] / 36 + kept[1] / 2880 + kept[2] / 200


def test_one_layer_is_pruned_at_a_time(unchanged):
    scan = sensitivity.scan(unchanged, score, sparsities=(0.5, 0.25))
    assert scan.baseline == 3
    assert [(row.layer, row.sparsity) for row in scan.rows] == [(i, s) for i in "046" for s in (0.25, 0.5)]
    for row in scan.rows:
        assert row.score == pytest.approx(3 - row.sparsity, abs=0.01)


def test_models_scored_are_those_that_prune_makes(network):
    images = torch.randn(5, 1, 8, 8)
    scan = sensitivity.scan(network, lambda m: m.eval()(images).sum().item(), sparsities=[0.6], layers=["4"])
    expected = magnitude.prune(network, {"4": 0.6}, scope="layer")[0].eval()(images).sum().item()
    assert scan.rows == [sensitivity.ScanRow("4", 0.6, pytest.approx(expected))]


def test_models_scored_are_plain_and_their_changes_are_lost(unchanged):
    seen = []

    def spoil(model):
        seen.append(masks.masks(model))
        total = score(model)
        with torch.no_grad():
            model[4].weight.zero_()
        return total

    scan = sensitivity.scan(unchanged, spoil, sparsities=[0.5], layers=["4", "6"])
    assert seen == [{}, {}, {}]
    assert scan.baseline == 3
    assert [row.score for row in scan.rows] == pytest.approx([2.5, 2.5])


def test_on_a_masked_model_the_masks_stay(network):
    pruned, _ = magnitude.prune(network, 0.5, scope="layer")
    scan = sensitivity.scan(pruned, score, sparsities=[0.25, 0.75], layers=["6"])
    assert scan.baseline == pytest.approx(1.5)
    assert [row.score for row in scan.rows] == pytest.approx([1.5, 1.25])


def test_chosen_sparsities():
    rows = [
        sensitivity.ScanRow(layer, sparsity, result)
        for layer, results in {"a": (0.9, 0.89, 0.5), "b": (0.7, 0.6, 0.1), "c": (0.9, 0.85, 0.88)}.items()
        for sparsity, result in zip((0.3, 0.5, 0.9), results, strict=True)
    ]
    scan = sensitivity.Scan(rows, baseline=0.9)
    assert scan.sparsities(0.0) == {"a": 0.3, "b": 0.0, "c": 0.3}
    assert scan.sparsities(0.021) == {"a": 0.5, "b": 0.0, "c": 0.9}
    assert scan.sparsities(1) == {"a": 0.9, "b": 0.9, "c": 0.9}


def test_chosen_sparsities_go_straight_into_prune(network):
    chosen = sensitivity.scan(network, score, sparsities=(0.25, 0.5)).sparsities(0.3)
    _, report = magnitude.prune(network, chosen, scope="layer")
    assert [row.kept for row in report.rows] == [27, 2160, 150]


def test_it_renders(network):
    scan = sensitivity.scan(network, score, sparsities=(0.25, 0.5))
    lines = str(scan).splitlines()
    assert "unpruned: 3" in lines[0]
    assert lines[2].split() == ["layer", "0.25", "0.5"]
    assert lines[4].split() == ["0", "2.75", "2.5"]
    assert scan._repr_html_().count("<tr>") == 4


def test_bad_arguments_are_refused_before_any_evaluation(unchanged):
    def never(model):
        raise AssertionError("evaluated")

    for arguments, message in (
        ({"layers": ["fc9"]}, r"\['fc9'\]"),
        ({"layers": []}, "names no layer"),
        ({"sparsities": [0.5, 1.0]}, r"in \[0, 1\), got 1.0"),
        ({"sparsities": []}, "sparsities is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            sensitivity.scan(unchanged, never, **arguments)


def test_a_score_must_be_finite(unchanged):
    with pytest.raises(ValueError, match="evaluate returned nan for the model as given"):
        sensitivity.scan(unchanged, lambda model: math.nan)

    def infinite_once_pruned(model):
        return math.inf if model[4].weight.count_nonzero() < 2880 else 1.0

    with pytest.raises(ValueError, match="evaluate returned inf for '4' at sparsity 0.5"):
        sensitivity.scan(unchanged, infinite_once_pruned, sparsities=[0.5], layers=["4"])
