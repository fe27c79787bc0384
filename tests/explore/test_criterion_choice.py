"""The criterion explorer against the library, NumPy and SciPy."""

import json
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from compress_lib.explore import criterion_choice
from compress_lib.models import zoo
from compress_lib.network import recording
from compress_lib.pruning import criteria
from compress_lib.pruning.channels import filters

FRACTIONS = [0, 0.1, 0.29, 1 / 3, 0.5, 1 - 1e-12]  # 0.29 · 100 is 28.999…
RECOVERIES = ["none", "batch norm", "least squares"]


def arguments(scores):
    """Measured numbers of the right form for these criteria."""
    rng = np.random.default_rng(0)
    accuracy = {name: {recovery: rng.random(6).tolist() for recovery in RECOVERIES} for name in [*scores, "random"]}
    deviation = {recovery: rng.random(6) / 4 for recovery in RECOVERIES}
    return {"scores": scores, "accuracy": accuracy, "fractions": FRACTIONS, "layer": "conv", "deviation": deviation}


def states_of(widget, scores):
    percents = next(c["values"] for c in widget.controls if c["name"] == "percent")
    return [
        {"criterion": name, "percent": percent, "recovery": RECOVERIES[(i + j) % 3], "filter": (17 * i + j) % 100}
        for i, name in enumerate(scores)
        for j, percent in enumerate(percents)
    ]


@pytest.fixture(scope="module")
def scores():
    """With ties, negative numbers, and a criterion that ranks nothing."""
    rng = np.random.default_rng(0)
    l1 = rng.random(100)
    return {
        "L1 norm": l1,
        "alike": l1 + 0.2 * rng.random(100),
        "ties": rng.integers(1, 6, 100),
        "signed": rng.normal(size=100),
        "opposite": -l1,
        "constant": np.ones(100),
    }


def test_results_are_those_of_numpy_and_scipy(compute, scores):
    given = arguments(scores)
    widget = criterion_choice.explorer(**given)
    states = states_of(widget, scores)
    for state, answer in zip(states, compute(widget, states), strict=True):
        found, i = answer["results"], states.index(state) % 6
        removed = [0, 10, 29, 33, 50, 99][i]  # ⌊fraction · 100⌋, and never all
        gone, reference = (set(np.argsort(scores[n], kind="stable")[:removed]) for n in (state["criterion"], "L1 norm"))
        assert found["removed"] == removed
        assert found["overlap"] == len(gone & reference)
        if state["criterion"] == "constant":
            assert found["spearman"] is None
        else:
            rho = spearmanr(scores[state["criterion"]], scores["L1 norm"]).statistic
            assert found["spearman"] == pytest.approx(rho, abs=1e-12)
        own, chance = (given["accuracy"][name][state["recovery"]][i] for name in (state["criterion"], "random"))
        assert (found["accuracy"], found["random"], found["difference"]) == (own, chance, own - chance)
        slope, bars, _ = answer["charts"]
        marked = [int(j) for j in re.findall(r"filter (\d+): [−\d.e]+, removed", bars)]
        assert set(marked) == gone
        assert re.search('ex-off" d="([^"]*)', bars)[1].count("M") == removed
        told = dict(re.findall(r"(Removed by both|Only by L1): ([\d, ]+|none)", slope))
        numbers = {k: set() if v == "none" else {int(j) for j in v.split(",")} for k, v in told.items()}
        assert numbers == {"Removed by both": gone & reference, "Only by L1": reference - gone}
        fates = {"kept": 100 - len(gone | reference), "both": len(gone & reference)}
        fates |= {"left": len(reference - gone), "right": len(gone - reference)}
        drawn = {fate: re.search(f'ex-slope-{fate}" d="([^"]*)', slope)[1].count("M") for fate in fates}
        assert drawn == fates
        legend = [int(count) for count in re.findall(r"(?:keep|remove|removes): (\d+)<", slope)]
        assert legend == [fates[name] for name in ("kept", "both", "left", "right")]


def height(rank):
    """Of a hundred ranks, 2 pixels each: the picture is 246 high, its heads take 38 and its foot 8."""
    return 38 + (99.5 - rank) * 2


def test_lines_join_the_ranks_of_each_filter_and_cross_where_the_orders_differ(compute, scores):
    widget = criterion_choice.explorer(**arguments(scores))
    followed = zip(scores, (0, 3, 99, 41, 7, 5), strict=True)
    states = [widget.state | {"criterion": name, "filter": j} for name, j in followed]
    for state, answer in zip(states, compute(widget, states), strict=True):
        slope = answer["charts"][0]
        left, right = (np.argsort(np.argsort(scores[n], kind="stable")) for n in ("L1 norm", state["criterion"]))
        paths = re.findall(r'ex-slope-\w+" d="([^"]*)', slope)
        ends = [found for path in paths for found in re.findall(r"M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)", path)]
        lines = [tuple(map(float, pair)) for pair in ends]
        expected = sorted((round(height(a), 1), round(height(b), 1)) for a, b in zip(left, right, strict=True))
        assert np.array(sorted(lines)) == pytest.approx(np.array(expected), abs=0.06)
        crossed = sum((left[i] - left[j]) * (right[i] - right[j]) < 0 for i in range(100) for j in range(i))
        assert f"{crossed:,} of 4,950 pairs of lines cross" in slope
        j = state["filter"]
        assert f"Filter {j}: number {left[j] + 1} from below under L1, {right[j] + 1} here." in answer["sentence"]
        followed = re.search(r'ex-followed" d="M[\d.]+ ([\d.]+)L[\d.]+ ([\d.]+)"', slope)
        assert [float(y) for y in followed.groups()] == pytest.approx([height(left[j]), height(right[j])], abs=0.06)
        assert re.findall(r'class="ex-note" text-anchor="(?:end|start)"[^>]*>(\d+)<', slope) == [
            str(left[j] + 1),
            str(right[j] + 1),
        ]


def test_dragging_the_cut_or_a_ranking_leads_to_what_lies_there(compute, scores):
    widget = criterion_choice.explorer(**arguments(scores))
    (answer,) = compute(widget, [widget.state | {"criterion": "ties"}])
    grips = re.findall(r'data-drag="(\w+)" data-axis="y" data-places="([^"]*)"', answer["charts"][0])
    assert [name for name, _ in grips] == ["percent", "filter", "filter"]
    cuts, left, right = (np.array(json.loads(places)) for _, places in grips)
    removed = [0, 10, 29, 33, 50, 99]
    assert cuts == pytest.approx([height(count - 0.5) for count in removed], abs=0.06)
    for places, name in ((left, "L1 norm"), (right, "ties")):
        ranks = np.argsort(np.argsort(scores[name], kind="stable"))
        assert places == pytest.approx(height(ranks), abs=0.06)


def test_pages_that_were_stored_without_a_filter_to_follow_have_none(compute, scores):
    widget = criterion_choice.explorer(**arguments(scores))
    stored = {name: value for name, value in widget.state.items() if name != "filter"}
    (answer,) = compute(widget, [stored])
    assert "ex-followed" not in answer["charts"][0] and "Filter" not in answer["sentence"]
    assert 'data-drag="percent"' in answer["charts"][0] and 'data-drag="filter"' not in answer["charts"][0]


def test_the_filter_followed_at_the_start_is_one_that_moves_most(scores):
    widget = criterion_choice.explorer(**arguments(scores), criterion="opposite")
    assert widget.state["filter"] in (np.argmin(scores["L1 norm"]), np.argmax(scores["L1 norm"]))
    assert criterion_choice.explorer(**arguments(scores), followed=12).state["filter"] == 12


@pytest.mark.parametrize("criterion", ["l1_norm", "batch_norm_scale", "geometric_median"])
def test_the_filters_removed_are_those_the_library_removes(compute, criterion):
    model = zoo.load("vgg-small")
    function = criteria.ALL[criterion]
    observed = recording.record(model, layers=["features.3"])["features.3"]
    ranked = {
        n: f(model.get_submodule("features.3"), observed).numpy()
        for n, f in [("L1 norm", criteria.l1_norm), ("this", function)]
    }
    widget = criterion_choice.explorer(**arguments(ranked))
    percents = next(c["values"] for c in widget.controls if c["name"] == "percent")
    states = [widget.state | {"criterion": "this", "percent": p} for p in percents]
    for fraction, answer in list(zip(FRACTIONS, compute(widget, states), strict=True))[2::2]:
        _, report = filters.prune(model, torch.zeros(1, 1, 28, 28), {"features.3": fraction}, criterion=function)
        kept = report.kept_outputs["features.3"].tolist()
        marked = [int(j) for j in re.findall(r"filter (\d+): [−\d.e]+, removed", answer["charts"][1])]
        assert sorted(marked) == sorted(set(range(16)) - set(kept))
        assert answer["results"]["removed"] == 16 - len(kept)


def test_bars_start_at_zero_also_where_scores_are_negative(compute, scores):
    widget = criterion_choice.explorer(**arguments(scores), criterion="signed")
    (answer,) = compute(widget, [widget.state])
    low, high = scores["signed"].min(), scores["signed"].max()
    zero = 208 + low / (high - low) * 178  # the frame is 178 high and ends at 208
    paths = re.findall(r'(?:ex-off|ex-on)" d="([^"]*)', answer["charts"][1])
    starts = [float(y) for path in paths for y in re.findall(r"M[\d.]+ ([\d.]+)", path)]
    assert starts == pytest.approx([zero] * 100, abs=0.1)


def test_the_band_is_one_deviation_and_stays_in_range(compute, scores):
    given = arguments(scores) | {"deviation": dict.fromkeys(RECOVERIES, [0.1] * 6)}
    given["accuracy"]["random"] = dict.fromkeys(RECOVERIES, [0.5] * 5 + [0.95])
    (answer,) = compute(widget := criterion_choice.explorer(**given), [criterion_choice.explorer(**given).state])
    points = [
        tuple(map(float, p.split(","))) for p in re.search(r'ex-band" points="([^"]+)', answer["charts"][2])[1].split()
    ]
    heights = [y for _, y in points]
    assert len(points) == 2 * len(FRACTIONS) == 2 * len(widget.data["fractions"])
    top, bottom = 30, 250 - 42  # of the frame: accuracy 1 and 0
    values = [(bottom - y) / (bottom - top) for y in heights]
    assert values == pytest.approx([0.4] * 5 + [0.85] + [1.0] + [0.6] * 5, abs=1e-3)


def test_without_deviation_there_is_no_band(compute, scores):
    widget = criterion_choice.explorer(**arguments(scores) | {"deviation": None})
    (answer,) = compute(widget, [widget.state])
    assert "ex-band" not in answer["charts"][2] and "±" not in answer["words"]


def test_all_criteria_are_compared_in_the_table(compute, scores):
    given = arguments(scores)
    widget = criterion_choice.explorer(**given, criterion="ties", fraction=0.5)
    (answer,) = compute(widget, [widget.state])
    rows = {row[0]: row for row in answer["tables"][0]["rows"]}
    assert list(rows) == [*scores, "random"]
    assert rows["L1 norm"][1:3] == [50, "1.00"] and rows["opposite"][1:3] == [0, "−1.00"]
    assert rows["constant"][2] == "–"
    assert [row[3] for row in rows.values()] == [f"{100 * given['accuracy'][n]['none'][4]:.1f}\u00a0%" for n in rows]


def both(curves):
    return {"L1 norm": curves, "random": curves}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": {"L2 norm": [1, 2]}}, "scores must have 'L1 norm' and not 'random'"),
        ({"scores": {"L1 norm": [1, 2], "random": [1, 2]}}, "and not 'random'"),
        (
            {"scores": {"L1 norm": [1, 2], "L2 norm": [1]}},
            r"scores\['L2 norm'\] must be 2 finite numbers, got shape \(1,\)",
        ),
        ({"scores": {"L1 norm": [1, np.nan]}}, "finite"),
        ({"scores": {"L1 norm": [1]}}, "must be 2 finite numbers"),
        ({"fractions": [0, 0.5, 1]}, r"fractions must lie in \[0, 1\)"),
        ({"fractions": [0.5, 0.25]}, "ascending"),
        ({"accuracy": {"L1 norm": {}}}, "accuracy must have the keys"),
        ({"accuracy": both({})}, "recoveries must be one to three"),
        (
            {"accuracy": {"L1 norm": {"none": [1, 1]}, "random": {"all": [1, 1]}}},
            r"accuracy\['L1 norm'\] must have the keys \['all'\]",
        ),
        ({"accuracy": both({"none": [1]})}, r"accuracy\['L1 norm'\]\['none'\] must hold 2 values"),
        ({"accuracy": both({"none": [1, 2]})}, r"lie in \[0, 1\]"),
        ({"deviation": {"none": [0.1]}}, "hold 2 values"),
        ({"criterion": "HRank"}, "value of choice 'criterion' must be one of"),
        ({"fraction": 0.3}, "value of slider 'percent' must be one of"),
        ({"followed": 2}, "value of slider 'filter' must be one of"),
    ],
)  # fmt: skip
def test_bad_data_are_named(changes, words):
    good = {
        "scores": {"L1 norm": [1, 2]},
        "accuracy": both({"none": [0.9, 0.5]}),
        "fractions": [0, 0.5],
        "layer": "conv",
    }
    with pytest.raises(ValueError, match=words):
        criterion_choice.explorer(**good | changes)
