import pytest
import torch
from torch import nn

from compress_lib.cost import LayerCost, Roofline, arithmetic_intensity, count, roofline, roofline_model


def layer(**changes) -> LayerCost:
    fields = {
        "name": "fc",
        "kind": "Linear",
        "output_shape": (10,),
        "params": 0,
        "macs": 0,
        "nbytes": 0,
        "input_nbytes": 0,
        "activation_nbytes": 0,
    }
    return LayerCost(**{**fields, **changes})


def test_attainable_is_the_lower_of_the_two_limits():
    roof = Roofline(peak_macs_per_s=100e9, bandwidth_bytes_per_s=20e9, threads=1)
    assert roof.ridge == 5
    assert roof.attainable(0) == 0
    assert roof.attainable(2) == 40e9
    assert roof.attainable(5) == 100e9
    assert roof.attainable(50) == 100e9
    assert str(roof) == "peak 100 GMAC/s, memory 20 GB/s, ridge at 5 MACs per byte (threads: 1)"


@pytest.mark.parametrize("intensity", [-1, float("nan")])
def test_an_impossible_intensity(intensity):
    with pytest.raises(ValueError, match="intensity=.* at least 0"):
        Roofline(1e9, 1e9, 1).attainable(intensity)


def test_intensity_of_a_linear_layer_by_hand():
    (linear,) = count(nn.Linear(300, 100, bias=False), (300,)).layers
    assert arithmetic_intensity(linear) == 30_000 / (4 * (30_000 + 300 + 100))


def test_intensity_of_a_convolution_by_hand():
    (conv,) = count(nn.Conv2d(16, 32, 3, padding=1), (16, 14, 14)).layers
    moved = 4 * (32 * 16 * 9 + 32 + 16 * 14 * 14 + 32 * 14 * 14)
    assert arithmetic_intensity(conv) == 32 * 16 * 9 * 14 * 14 / moved


def test_a_layer_without_products_has_intensity_zero():
    assert arithmetic_intensity(count(nn.ReLU(), (10,)).layers[0]) == 0


def test_a_layer_that_never_ran_has_none():
    with pytest.raises(ValueError, match="'fc' .*never called"):
        arithmetic_intensity(layer(output_shape=None, nbytes=40))


def test_layers_are_placed_on_either_side_of_the_ridge():
    roof = Roofline(peak_macs_per_s=100e9, bandwidth_bytes_per_s=20e9, threads=1)
    assert roof.place(layer(macs=499, nbytes=60, input_nbytes=30, activation_nbytes=10)) == "memory"
    assert roof.place(layer(macs=501, nbytes=60, input_nbytes=30, activation_nbytes=10)) == "compute"


def test_what_is_measured_is_divided_by_the_seconds_it_took(monkeypatch):
    before, threads = torch.get_num_threads(), set()
    monkeypatch.setattr(roofline_model, "_best_seconds", lambda fn: threads.add(torch.get_num_threads()) or 0.5)
    monkeypatch.setattr(roofline_model, "_GEMM_SIZES", (16, 32))
    monkeypatch.setattr(roofline_model, "_BUFFER_NBYTES", 2**20)
    roof = roofline(threads=before + 1)
    assert threads == {before + 1}
    assert torch.get_num_threads() == before
    assert roof.peak_macs_per_s == 2 * 32**3
    assert roof.bandwidth_bytes_per_s == 2 * 3 * 2**20  # the triad reads two buffers and writes one


def test_a_quick_measurement(monkeypatch):
    monkeypatch.setattr(roofline_model, "_SECONDS_PER_TRIAL", 0.01)
    monkeypatch.setattr(roofline_model, "_GEMM_SIZES", (64,))
    monkeypatch.setattr(roofline_model, "_BUFFER_NBYTES", 2**20)
    roof = roofline()
    assert 0 < roof.peak_macs_per_s < float("inf")
    assert 0 < roof.bandwidth_bytes_per_s < float("inf")
    assert roof.threads == 1


def test_the_buffer_is_larger_than_caches():
    assert roofline_model._BUFFER_NBYTES >= 256 * 2**20


def test_bad_threads():
    with pytest.raises(ValueError, match="threads=0"):
        roofline(threads=0)
