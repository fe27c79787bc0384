import json
import subprocess
import sys

import pytest

from compress_lib import ledger

ROW = {
    "chapter": "02-pruning-weights",
    "method": "magnitude pruning",
    "model": "lenet-5",
    "data": "fashion-mnist",
    "variant": "",
    "seed": 0,
    "test_images": 10_000,
    "accuracy_before": 0.91,
    "accuracy_after": 0.905,
    "nbytes_before": 1_724_848,
    "nbytes_after": 200_000,
    "macs_before": 2_293_000,
    "macs_after": 400_000,
    "latency_ratio": {"median": 1.5, "low": 1.4, "high": 1.6, "batch": 1, "threads": 1},
    "command": "python -m compress_lib prune lenet-5",
}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    return tmp_path


def test_round_trip_completes_the_provenance():
    written = ledger.record(ROW)
    assert ledger.read() == [written]
    assert {**written, **ROW} == written
    assert {"hardware", "versions", "commit", "date"} <= set(written)


def test_a_row_says_what_was_not_counted():
    assert ledger.record(ROW | {"macs_uncounted": ["aten._fft_r2c"]}) == ledger.read()[0]
    with pytest.raises(ValueError, match="macs_uncounted"):
        ledger.record(ROW | {"macs_uncounted": []})


def test_same_key_replaces_and_other_keys_stay(results):
    ledger.record(ROW)
    ledger.record(ROW | {"seed": 1})
    ledger.record(ROW | {"accuracy_after": 0.5})
    ledger.record(ROW | {"chapter": "03-pruning-filters"})
    assert {(row["chapter"], row["seed"]): row["accuracy_after"] for row in ledger.read()} == {
        ("02-pruning-weights", 0): 0.5,
        ("02-pruning-weights", 1): 0.905,
        ("03-pruning-filters", 0): 0.905,
    }
    assert len(ledger.read("02-pruning-weights")) == 2
    assert len(ledger.read("02-pruning-weights", seed=1)) == 1
    assert sorted(path.name for path in (results / "ledger").iterdir()) == [
        "02-pruning-weights.json",
        "03-pruning-filters.json",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy_after": 90.5}, "accuracy_after: 90.5"),
        ({"test_images": 1000}, "test_images: 1000"),
        ({"nbytes_after": 0}, "nbytes_after: 0"),
        ({"chapter": "pruning"}, "chapter: 'pruning'"),
        ({"latency_ratio": 1.5}, "latency_ratio"),
        ({"speed": 3}, "'speed' was unexpected"),
        ({"command": ""}, "command"),
    ],
)
def test_bad_row_is_refused_by_field_and_nothing_is_written(change, message, results):
    with pytest.raises(ValueError, match=message):
        ledger.record(ROW | change)
    assert list(results.iterdir()) == []


def test_damaged_file_is_refused_by_name_and_kept(results):
    ledger.record(ROW)
    path = results / "ledger" / "02-pruning-weights.json"
    path.write_text(path.read_text()[:-20])
    damaged = path.read_bytes()
    for call in (ledger.read, lambda: ledger.record(ROW)):
        with pytest.raises(ValueError, match=r"02-pruning-weights\.json is not a JSON list"):
            call()
    assert path.read_bytes() == damaged


def test_failed_write_leaves_the_old_file(results, monkeypatch):
    ledger.record(ROW)
    before = (results / "ledger" / "02-pruning-weights.json").read_bytes()
    monkeypatch.setattr(ledger.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        ledger.record(ROW | {"seed": 7})
    assert [path.read_bytes() for path in (results / "ledger").iterdir()] == [before]


def test_headline_is_kept_for_the_landing_page(results):
    assert ledger.headlines() == {}
    shown = ledger.headline("02-pruning-weights", "12×", "fewer weights")
    assert shown.data == "**12×** — fewer weights"
    ledger.headline("01-what-a-network-costs", "9×", "slower")
    assert ledger.headlines()["02-pruning-weights"] == {"value": "12×", "label": "fewer weights"}
    assert len(json.loads((results / "headlines.json").read_text())) == 2


def compact_row(seed, *, ratio=0.5, recipe="epochs 6, images 20000, lr 0.1", **options):
    timed = [
        {"layout": layout, "seconds_after": 0.001 * batch, "ratio": {"median": ratio * factor, "batch": batch}}
        for layout, factor in (("contiguous_format", 1), ("channels_last", 2))
        for batch in (1, 32)
    ]
    everything = {"alpha": 1.0, "pointwise": True} | options
    details = {"architecture": "mobilenet-v1-small", "options": everything, "latency": timed}
    variant = ", ".join([*(f"{key} {value}" for key, value in options.items()), recipe])
    return ledger.record(ROW | {"chapter": "14-mobilenet", "variant": variant, "seed": seed, "details": details})


def test_rows_of_a_small_network_are_those_of_its_options_and_of_one_recipe():
    default, half = [compact_row(seed) for seed in range(3)], [compact_row(0, alpha=0.5)]
    compact_row(3, recipe="epochs 1, images 20000, lr 0.1")
    ledger.record(ROW)
    assert ledger.compact("mobilenet-v1-small") == default == ledger.compact("mobilenet-v1-small", alpha=1.0)
    assert ledger.compact("mobilenet-v1-small", alpha=0.5) == half
    with pytest.raises(ValueError, match="mobilenet-v1-small has no option 'beta'; it has alpha, pointwise"):
        ledger.compact("mobilenet-v1-small", beta=1)
    with pytest.raises(ValueError, match="nobody has measured mobilenet-v1-small with {'pointwise': False}"):
        ledger.compact("mobilenet-v1-small", pointwise=False)
    with pytest.raises(ValueError, match="'mobilenet' is not in the zoo"):
        ledger.compact("mobilenet")


def test_latency_is_the_median_of_the_seeds_in_one_layout_and_batch():
    rows = [compact_row(seed, ratio=ratio) for seed, ratio in enumerate((0.5, 0.75, 3.0))]
    assert ledger.latency(rows, 32, "contiguous") == (0.75, 0.032)
    assert ledger.latency(rows, 1, "channels-last") == (1.5, 0.001)


def test_reading_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from compress_lib import ledger; ledger.read(); ledger.headlines()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_committed_rows_follow_the_schema(monkeypatch):
    monkeypatch.delenv("COMPRESS_LIB_RESULTS")
    ledger.read()
