"""The explorer of the temperature against the library's loss and its gradients by autograd, SciPy and definitions."""

import re

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of
from scipy import stats
from torch.nn import functional as F

from compress_lib.distillation import logits
from compress_lib.explore.temperature import LOSSES, MATCHED, SMOOTHING, TEMPERATURES, Surface, explorer

NBSP = "\u00a0"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
KINDS = ["ordinary", "teacher is wrong", "alike", "far apart", "equal logits", "certain"]


def given():
    """An ordinary image, one with a wrong teacher, equal networks, a huge disagreement, ties, a certain teacher."""
    rng = np.random.default_rng(0)
    teacher, student = 2 * rng.normal(size=(2, 6, 5))
    teacher[1] = [0, 1, 3, 9, 2]
    student[2] = teacher[2]
    teacher[3], student[3] = [-3000, 0, 2, 2000, 1], [900, 0, 3, -900, 1]
    teacher[4], student[4] = [1, 2, 2, 1, 2], 0
    teacher[5], student[5] = [0, 0, 40, 0, 0], [0.5, 0, 12, 0, 1]
    labels = [int(teacher[0].argmax()), 2, 0, 1, 4, 2]
    images = {kind: rng.random((6, 7)) for kind in KINDS}
    return images, labels, np.float32(teacher), np.float32(student)


SURFACE = Surface([1, 2.5, 8, 30], [0, 0.9], [[0.8, 0.81], [0.8, 0.83], [0.8, 0.79], [0.8, 0.7]], 0.002)


@pytest.fixture(scope="module")
def widget():
    return explorer(*given(), CLASSES, surface=SURFACE)


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


def computed(page, widget, states):
    """The answers with their charts as described, not as drawn."""
    body = """return argument.map((state) => {
        const answer = module.compute(data, state, format);
        return { ...answer, tables: answer.tables() };
    });"""
    return inside(page, widget, body, states)


def expected(state):
    """Rows in the teacher's order: probabilities and gradients in float64, the gradients by autograd of the library."""
    _, labels, teacher, student = given()
    at, t = KINDS.index(state["image"]), state["temperature"]
    v = torch.tensor(teacher[at : at + 1]).double()
    z = torch.tensor(student[at : at + 1]).double().requires_grad_()
    loss = logits.distillation_loss(z, v, temperature=t)
    squared = torch.autograd.grad(loss, z)[0]
    p, q = ((x / t).softmax(1) for x in (v, z.detach()))
    matched = (1 - p.max().item()) * len(CLASSES) / (len(CLASSES) - 1)
    strength = matched if state["smoothing"] == MATCHED else float(state["smoothing"])
    smooth_loss = F.cross_entropy(z, torch.tensor([labels[at]]), label_smoothing=strength)
    smooth = torch.autograd.grad(smooth_loss, z)[0]
    order = sorted(range(len(CLASSES)), key=lambda i: -v[0, i].item())
    return {
        "order": order,
        "strength": strength,
        "loss": loss.item(),
        **{
            name: values[0, order].numpy()
            for name, values in {"v": v, "z": z.detach(), "p": p, "q": q, "squared": squared, "smooth": smooth}.items()
        },
    }


def test_every_number_is_the_librarys(page, widget):
    states = states_of(widget, 300)
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        found, right, t = answer["results"], expected(state), state["temperature"]
        p, q = right["p"], right["q"]
        gradient = right["squared"] if state["loss"] == LOSSES[0] else right["squared"] / t**2
        near = lambda value: pytest.approx(value, rel=1e-9, abs=1e-12)
        assert [found["first"], found["second"]] == near(p[:2])
        assert [found["student_first"], found["student_second"]] == near(q[:2])
        assert found["teacher_entropy"] == near(stats.entropy(p, base=2))
        assert found["student_entropy"] == near(stats.entropy(q, base=2))
        assert found["kl"] == near(right["loss"] / t**2)
        assert found["loss"] == near(right["loss"] if state["loss"] == LOSSES[0] else right["loss"] / t**2)
        assert abs(found["largest"]) == near(np.abs(gradient).max())
        assert np.abs(gradient - found["largest"]).min() < 1e-9, "with its sign"
        assert found["norm"] == near(np.linalg.norm(gradient))
        assert found["smoothing"] == near(right["strength"])
        assert found["smoothing_norm"] == near(np.linalg.norm(right["smooth"]))


def test_charts_and_tables_show_the_same_numbers(page, widget):
    states = states_of(widget, 60, seed=1)
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        right, t = expected(state), state["temperature"]
        soft, pulls, _ = answer["charts"]
        assert soft["classes"] == pulls["classes"] == [CLASSES[i] for i in right["order"]]
        assert soft["teacher"] == pytest.approx(right["p"]) and soft["student"] == pytest.approx(right["q"])
        assert soft["classes"][soft["label"]] == CLASSES[given()[1][KINDS.index(state["image"])]]
        both = [right["squared"], right["squared"] / t**2]
        chosen, other = both if state["loss"] == LOSSES[0] else both[::-1]
        assert pulls["values"] == pytest.approx(chosen, abs=1e-12)
        assert pulls["others"] == pytest.approx(other, abs=1e-12)
        assert pulls["points"] == pytest.approx(right["smooth"], abs=1e-12)
        probabilities, gradients = ([row[0] for row in table["rows"]] for table in answer["tables"])
        assert probabilities == gradients == soft["classes"]
        pulled = pulls["classes"][int(np.abs(chosen).argmax())]
        if np.abs(chosen).max() > 1e-6:
            assert f"the logit of {pulled}" in answer["sentence"]
            assert ("raises" in answer["sentence"]) == (chosen[int(np.abs(chosen).argmax())] < 0)


def test_the_curves_are_those_of_every_temperature(page, widget):
    states = [widget.state | {"image": kind} for kind in KINDS]
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        soft = answer["charts"][0]
        assert soft["temperatures"] == TEMPERATURES
        every = [expected(state | {"temperature": t}) for t in TEMPERATURES]
        assert soft["first"] == pytest.approx([one["p"][0] for one in every])
        for curve, name in zip(soft["entropies"], "pq", strict=True):
            assert curve == pytest.approx([stats.entropy(one[name], base=2) for one in every], abs=1e-12)
            assert max(curve) <= np.log2(len(CLASSES)) + 1e-12


REACHED = """return argument.map((states) => {
    const charts = states.map((state) => module.compute(data, state, format).charts[1]);
    const all = charts.flatMap(({ values, others, points }) => [...values, ...others, ...points]);
    return [Math.max(...all.map(Math.abs)), ...new Set(charts.map(({ reach }) => reach))];
});"""


def test_the_axis_of_the_gradients_has_room_for_every_setting_and_no_more(page, widget):
    settings = [{"temperature": t, "loss": LOSSES[0], "smoothing": s} for t in TEMPERATURES for s in SMOOTHING]
    states = [[{"image": kind, **setting} for setting in settings] for kind in KINDS]
    for most, *reach in inside(page, widget, REACHED, states):
        assert reach == [pytest.approx(most)]


def test_matched_smoothing_is_as_sure_as_the_teacher(page, widget):
    states = [widget.state | {"image": kind, "temperature": 3, "smoothing": MATCHED} for kind in KINDS]
    for state, answer in zip(states, computed(page, widget, states), strict=True):
        right = expected(state)
        label = right["order"].index(given()[1][KINDS.index(state["image"])])
        target = torch.tensor(right["z"]).softmax(0).numpy() - answer["charts"][1]["points"]
        assert target[label] == pytest.approx(right["p"].max())
        assert np.delete(target, label) == pytest.approx((1 - right["p"].max()) / (len(CLASSES) - 1))


def test_it_says_what_is_seen(compute, widget):
    state = widget.state | {"image": "teacher is wrong", "temperature": 4}
    (answer,) = compute(widget, [state])
    p = np.exp(np.array([9, 3, 2, 1, 0]) / 4)
    assert answer["sentence"].startswith(f"At T = 4 the teacher gives Pullover {100 * (p / p.sum())[1]:.1f}{NBSP}%")
    assert "The teacher is wrong here: the label is Pullover." in answer["details"]
    assert "16 times smaller" in answer["details"]
    (answer,) = compute(widget, [state | {"image": "ordinary", "temperature": 1}])
    assert "The teacher's first class is the label." in answer["details"] and "the same at T = 1" in answer["details"]
    (answer,) = compute(widget, [state | {"image": "alike"}])
    assert "the student agrees, so no logit moves" in answer["sentence"] and answer["results"]["largest"] == 0


def test_every_move_of_the_slider_changes_the_sentence(compute, widget):
    for kind in ("ordinary", "certain"):
        states = [widget.state | {"image": kind, "temperature": t} for t in TEMPERATURES]
        assert len({answer["sentence"] for answer in compute(widget, states)}) == len(TEMPERATURES)


def test_a_sentence_has_room_for_the_longest_names(compute):
    names = [12 * letter for letter in "abcdefghij"]
    rng = np.random.default_rng(1)
    v, z = rng.normal(size=(2, 3, 10))
    images = {kind: np.ones((2, 2)) for kind in ("far", "near", "nearer")}
    widget = explorer(images, [0, 1, 2], v, v + [[5], [1e-3], [1e-7]] * z, names)
    compute(widget, states_of(widget, 60))


BAR = r'ex-soft-{who}" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"'


def test_bars_are_as_long_as_the_probabilities_and_stay_inside(compute, widget):
    states = states_of(widget, 40, seed=2)
    for state, answer in zip(states, compute(widget, states), strict=True):
        right, (soft, pulls, _) = expected(state), answer["charts"]
        for who, name in (("teacher", "p"), ("student", "q")):
            bars = np.array(re.findall(BAR.format(who=who), soft), dtype=float)
            whole = 320 - 2 * 52 - 6 - 94
            assert bars[:, 1] == pytest.approx(whole * right[name], abs=0.06)
        wide = np.array(re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', pulls), dtype=float)
        assert wide.min() >= 0 and wide.sum(1).max() <= 320
        for drawn in answer["charts"]:
            (size,) = re.findall(r'viewBox="0 0 320 (\d+)"', drawn)
            assert int(size) < 340


def test_the_surface_marks_the_chosen_temperature(compute, widget):
    states = [widget.state | {"temperature": t} for t in (1, 2.4, 4.5, 8, 20)]
    drawn = [answer["charts"][2] for answer in compute(widget, states)]
    assert all(chart.count("ex-measured") == 8 for chart in drawn)
    assert [chart.count("stroke-width:2") for chart in drawn] == [1, 0, 0, 1, 0], "a column of this temperature"
    wide = (320 - 40 - 4) / 4
    places = [float(re.search(r'ex-surface-here" d="M([\d.]+)', chart)[1]) for chart in drawn]
    middles = [40 + (i + 0.5) * wide for i in range(4)]
    right = np.interp(np.log([1, 2.4, 4.5, 8, 20]), np.log(SURFACE.temperatures), middles)
    assert places == pytest.approx(right, abs=0.06)
    assert re.findall(r'data-value="([\d.]+)"', drawn[0]) == ["1", "8"], "2.5 and 30 are not on the slider"
    assert "%&nbsp;±&nbsp;0.2" in drawn[0]
    assert re.findall(r">(\d\d\.\d)<", drawn[0]) == ["80.0", "81.0", "80.0", "83.0", "80.0", "79.0", "80.0", "70.0"]


def test_without_a_surface_there_is_no_chart_of_it(compute):
    widget = explorer(*given(), CLASSES)
    (answer,) = compute(widget, [widget.state])
    assert len(answer["charts"]) == 2
    flat = explorer(*given(), CLASSES, surface=Surface([4], [1], [[0.8]]))
    (answer,) = compute(flat, [flat.state | {"temperature": 2}])
    assert "80.0" in answer["charts"][2] and "ex-surface-here" not in answer["charts"][2], "2 is not measured"


def test_the_question_is_answered_by_the_teacher(page, widget):
    asked = inside(page, widget, "return module.predict(data, format);")
    assert asked["show"] == {"temperature": 4, "image": "ordinary"} and len(asked["question"]) <= 120
    (answer,) = computed(page, widget, [widget.state | asked["show"]])
    right = expected(widget.state | asked["show"])
    assert f"second class, {CLASSES[right['order'][1]]}?" in asked["question"]
    assert answer["results"][asked["result"]] == pytest.approx(right["p"][1])
    assert widget.state["temperature"] == 1, "where it is not yet seen"


def arguments(**changes):
    images, labels, teacher, student = given()
    usual = {
        "images": images,
        "labels": labels,
        "teacher_logits": teacher,
        "student_logits": student,
        "classes": CLASSES,
    }
    return usual | changes


NAN = np.full((6, 5), np.nan)
GRID = np.full((2, 2), 0.9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": {}}, r"images must name one to 12 pictures, got \[\]"),
        ({"images": {str(i): np.ones((2, 2)) for i in range(13)}}, "images must name one to 12"),
        ({"images": dict.fromkeys(KINDS, np.ones(4))}, r"images\['ordinary'\] must have the shape .*, got \(4,\)"),
        ({"images": dict.fromkeys(KINDS, np.ones((0, 4)))}, r"got \(0, 4\)"),
        ({"images": dict.fromkeys(KINDS, -np.ones((2, 2)))}, r"images\['ordinary'\] must be finite and at least 0"),
        ({"images": dict.fromkeys(KINDS, np.full((2, 2), np.nan))}, "must be finite and at least 0"),
        ({"labels": [0, 1]}, r"labels must be 6 indices of the 5 classes, got \[0, 1\]"),
        ({"labels": [0, 1, 2, 3, 4, 5]}, r"labels must be 6 indices of the 5 classes"),
        ({"labels": [0, 1, 2, 3, 4, -1]}, r"labels must be 6 indices of the 5 classes"),
        ({"teacher_logits": np.ones((6, 4))}, r"teacher_logits must have the shape .* here \(6, 5\), got \(6, 4\)"),
        ({"student_logits": np.ones((5, 5))}, r"student_logits must have the shape .* here \(6, 5\), got \(5, 5\)"),
        ({"teacher_logits": NAN}, "teacher_logits must be finite, got NaN"),
        ({"student_logits": np.full((6, 5), 1e39)}, "student_logits must be finite, got NaN or infinity"),
        ({"classes": CLASSES[:4]}, r"teacher_logits must have the shape .* here \(6, 4\), got \(6, 5\)"),
        ({"classes": ["Coat"] * 5}, "classes must be two to 10 different names"),
        ({"classes": [str(i) for i in range(11)]}, "classes must be two to 10 different names"),
        ({"classes": [*CLASSES[:4], "thirteen char"]}, r"at most 12 letters, got \['thirteen char'\]"),
        ({"classes": [*CLASSES[:4], " "]}, r"at most 12 letters, got \[' '\]"),
        ({"surface": Surface([0, 1], [0, 1], GRID)}, "surface.temperatures must be positive and finite, got 0"),
        ({"surface": Surface([1, np.nan], [0, 1], GRID)}, "surface.temperatures must be positive and finite, got nan"),
        (
            {"surface": Surface([2, 1], [0, 1], GRID)},
            r"temperatures must be .* ascending numbers, got \[2, 1\]",
        ),
        ({"surface": Surface([], [0, 1], [])}, "surface.temperatures must be one to 8"),
        ({"surface": Surface([1, 2], [0, 1.5], GRID)}, r"surface.weights must be in \[0, 1\], got 1.5"),
        ({"surface": Surface([1, 2], [0.5, 0.5], GRID)}, r"surface.weights must be .* ascending numbers"),
        ({"surface": Surface([1, 2, 3], [0, 1], GRID)}, "surface.accuracies must have 3 rows, got 2"),
        ({"surface": Surface([1, 2], [0, 0.5, 1], GRID)}, r"surface.accuracies\[0\] must hold 3 values, got 2"),
        ({"surface": Surface([1, 2], [0, 1], 100 * GRID)}, r"surface.accuracies\[0\] must lie in \[0, 1\]"),
        ({"surface": Surface([1, 2], [0, 1], GRID, -1.0)}, "surface.standard_error must be finite and at least 0"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        explorer(**arguments(**changes))
