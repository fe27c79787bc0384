import math

import pytest
from torch import nn

from compress_lib.cost import compare, count, nbytes_on_disk


@pytest.fixture
def models():
    return {
        "dense": nn.Sequential(nn.Linear(100, 100, bias=False), nn.ReLU()),
        "low rank": nn.Sequential(nn.Linear(100, 10, bias=False), nn.Linear(10, 100, bias=False), nn.ReLU()),
    }


def test_each_model_has_its_own_costs(models):
    comparison = compare(models, (100,))
    assert list(comparison.costs) == ["dense", "low rank"]
    for name, model in models.items():
        row, cost = comparison.costs[name], count(model, (100,))
        assert (row.params, row.macs, row.nbytes) == (cost.params, cost.macs, cost.nbytes)
        assert row.peak_activation_nbytes == cost.peak_activation_nbytes
        assert row.nbytes_on_disk == nbytes_on_disk(model)


def test_ratios_are_to_the_first_and_above_one_for_smaller(models):
    comparison = compare(models, (100,))
    assert comparison.ratio("dense", "params") == 1
    assert comparison.ratio("low rank", "params") == 10_000 / 2_000
    assert comparison.ratio("low rank", "macs") == 5
    reversed_order = compare(dict(reversed(models.items())), (100,))
    assert reversed_order.ratio("dense", "params") == 1 / 5


def test_ratios_to_nothing(models):
    comparison = compare({"dense": models["dense"], "none": nn.ReLU()}, (100,))
    assert comparison.ratio("none", "macs") == math.inf
    comparison = compare({"a": nn.ReLU(), "b": nn.Tanh()}, (100,))
    assert math.isnan(comparison.ratio("b", "macs"))
    assert "nan" in str(comparison)


def test_the_table_shows_both_models(models):
    comparison = compare(models, (100,))
    for text in (str(comparison), repr(comparison), comparison._repr_html_()):
        for shown in ("dense", "low rank", "10,000", "2,000", "5.00", f"{nbytes_on_disk(models['dense']):,}"):
            assert shown in text
        assert "color" not in text


def test_bad_arguments(models):
    with pytest.raises(ValueError, match="models must hold at least one"):
        compare({}, (100,))
    with pytest.raises(TypeError, match="models must map"):
        compare(list(models.values()), (100,))
    with pytest.raises(ValueError, match=r"input_shape=\(3,\)"):
        compare(models, (3,))
    comparison = compare(models, (100,))
    with pytest.raises(ValueError, match="'sparse' must be one of"):
        comparison.ratio("sparse", "params")
    with pytest.raises(ValueError, match="'flops' must be one of"):
        comparison.ratio("dense", "flops")
