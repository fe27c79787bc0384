import pytest

from compress_lib import ledger
from compress_lib.experiments import compact_networks


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))


def record(seed, *, ratio=0.5, epochs=6, **options):
    timed = [
        {"layout": layout, "seconds_after": 0.001 * batch, "ratio": {"median": ratio * factor, "batch": batch}}
        for layout, factor in (("contiguous_format", 1), ("channels_last", 2))
        for batch in (1, 32)
    ]
    everything = {"alpha": 1.0, "pointwise": True} | options
    length = {"epochs": epochs, "images": 20_000, "lr": 0.1}
    return ledger.record(
        {
            "chapter": "14-mobilenet",
            "method": "MobileNetV1",
            "model": "plain-small",
            "data": "fashion-mnist",
            "variant": "",
            "recipe": {"architecture": "mobilenet-v1-small", "options": everything, **length, "split": "train"},
            "seed": seed,
            "test_images": 10_000,
            "accuracy_before": 0.9,
            "accuracy_after": 0.91,
            "nbytes_before": 2000,
            "nbytes_after": 1000,
            "macs_before": 2000,
            "macs_after": 1000,
            "latency_ratio": None,
            "details": {"latency": timed},
            "command": "python -m compress_lib compact mobilenet-v1-small",
        }
    )


def test_rows_of_a_small_network_are_those_of_its_options_and_of_one_recipe():
    default, half = [record(seed) for seed in range(3)], [record(0, alpha=0.5)]
    record(3, epochs=1)
    assert compact_networks.rows("mobilenet-v1-small") == default
    assert compact_networks.rows("mobilenet-v1-small", alpha=1.0) == default
    assert compact_networks.rows("mobilenet-v1-small", alpha=0.5) == half
    with pytest.raises(ValueError, match="mobilenet-v1-small has no option 'beta'; it has alpha, pointwise"):
        compact_networks.rows("mobilenet-v1-small", beta=1)
    with pytest.raises(ValueError, match="nobody has measured mobilenet-v1-small with {'pointwise': False}"):
        compact_networks.rows("mobilenet-v1-small", pointwise=False)
    with pytest.raises(ValueError, match="'mobilenet' is not in the zoo"):
        compact_networks.rows("mobilenet")


def test_latency_is_the_median_of_the_seeds_in_one_layout_and_batch():
    rows = [record(seed, ratio=ratio) for seed, ratio in enumerate((0.5, 0.75, 3.0))]
    assert compact_networks.latency(rows, 32, "contiguous") == (0.75, 0.032)
    assert compact_networks.latency(rows, 1, "channels-last") == (1.5, 0.001)
