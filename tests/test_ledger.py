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
    "recipe": {"keep": {"fc1": 0.08}, "epochs": 5},
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
    ledger.record(ROW | {"recipe": ROW["recipe"] | {"epochs": 4}})
    assert len(ledger.read("02-pruning-weights")) == 3  # another recipe in the same words is another row
    ledger.record(ROW | {"accuracy_after": 0.4, "variant": "in other words"})
    assert {(row["chapter"], row["recipe"]["epochs"], row["seed"]): row["accuracy_after"] for row in ledger.read()} == {
        ("02-pruning-weights", 5, 0): 0.4,
        ("02-pruning-weights", 5, 1): 0.905,
        ("02-pruning-weights", 4, 0): 0.905,
        ("03-pruning-filters", 5, 0): 0.905,
    }
    assert len(ledger.read("02-pruning-weights")) == 3
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
        ({"recipe": "epochs 5"}, "recipe: 'epochs 5'"),
        ({"recipe": {"epochs": 1.5}}, "recipe.epochs: 1.5"),
        ({"recipe": {"lr": 0}}, "recipe.lr: 0"),
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


def test_rows_are_found_by_some_entries_of_their_recipe():
    found = [
        ledger.record(ROW | {"seed": seed, "recipe": {"keep": {"fc1": kept, "fc2": 0.5}, "epochs": epochs}})
        for kept, epochs, seed in ((0.08, 5, 0), (0.08, 5, 1), (0.08, 2, 0), (0.1, 5, 0))
    ]
    assert ledger.read(recipe={"keep": {"fc1": 0.08}}) == [found[0], found[2], found[1]]  # of a file: by seed
    assert ledger.select(found, recipe={"epochs": 5}) == [found[0], found[1], found[3]]
    assert ledger.select(found, recipe={"epochs": 5}, seed=1) == [found[1]]
    assert ledger.select(found, recipe={"keep": {"fc1": 0.08, "fc2": 0.5, "fc3": 0.5}}) == []
    assert ledger.select(found, recipe={"epochs": None}) == ledger.select(found, model="lenet") == []
    assert ledger.select(found) == found
    assert ledger.settings(found) == [found[:2], [found[2]], [found[3]]]


def test_reading_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from compress_lib import ledger; ledger.read(); ledger.headlines()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_committed_rows_follow_the_schema(monkeypatch):
    monkeypatch.delenv("COMPRESS_LIB_RESULTS")
    rows = ledger.read()
    keys = [json.dumps([row[field] for field in ledger.KEY], sort_keys=True) for row in rows]
    assert len(set(keys)) == len(rows) > 0
