"""The explorer of quantization grids against compress_lib.quantization.integer.affine, for every setting of "
"its controls."""

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of

from compress_lib.explore import grid_choice
from compress_lib.models import zoo
from compress_lib.quantization.integer import affine


def tensors():
    """Narrow, with outliers, as after a ReLU, of one sign, coarse enough for ties, and of one number only."""
    rng = np.random.default_rng(0)
    return {
        "normal": rng.normal(size=(30, 20)) * 0.05,
        "outliers": rng.standard_t(2, size=700),
        "activations": np.maximum(rng.normal(size=(2, 8, 5, 5)), 0) * 3,
        "negative": -rng.random(300) - 0.1,
        "ties": rng.integers(-40, 41, 400) / 32,
        "one": np.full(3, 0.3),
        "small": rng.normal(size=200) * 1e-12,
    }


@pytest.fixture(scope="module")
def widget():
    return grid_choice.explorer(tensors())


@pytest.fixture(scope="module")
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


@pytest.fixture(scope="module")
def answers(page, widget):
    """[(state, {sentence, words, results})] for all settings."""
    allowed = {control["name"]: control["values"] for control in widget.controls}
    states = [
        {"tensor": tensor, "grid": grid, "bits": bits, "percent": percent}
        for tensor in allowed["tensor"]
        for grid in allowed["grid"]
        for bits in allowed["bits"]
        for percent in allowed["percent"]
    ]
    body = """return argument.map((state) => {
        const { sentence, details, results } = module.compute(data, state, format);
        return { sentence, words: `${sentence} ${details}`, results };
    });"""
    return list(zip(states, inside(page, widget, body, states), strict=True))


def library(values, state):
    """Scale, rounded numbers, which of them have a gradient, and codes, from the library alone."""
    x = torch.tensor(np.asarray(values, dtype=np.float32)).flatten().requires_grad_()
    t = state["percent"] / 100 * x.abs().max().item()
    bits, form = state["bits"], {"signed": False}
    low, high = max(x.min().item(), -t), min(x.max().item(), t)
    low, high = min(low, 0), max(high, 0)
    scale, zero = affine.choose_qparams(low, high, bits, **form)
    if state["grid"] == "symmetric":
        form = {"signed": True, "narrow": True}
        scale, zero = affine.choose_qparams(-t, t, bits, symmetric=True, **form)
    rounded = affine.fake_quantize(x, scale, zero, bits, **form)
    rounded.sum().backward()
    return scale, rounded.detach(), x.grad == 1, affine.quantize(x, scale, zero, bits, **form)


def test_every_number_is_that_of_the_library(answers):
    given = tensors()
    assert len(answers) == 7 * 2 * 7 * 20
    for state, answer in answers:
        found, values = answer["results"], torch.tensor(np.float32(given[state["tensor"]])).flatten().double()
        scale, rounded, inside, codes = library(given[state["tensor"]], state)
        errors = (rounded.double() - values).square()
        assert found["scale"] == scale.item()
        assert found["levels"] == codes.unique().numel()
        assert found["clipped"] == (~inside).sum()
        assert found["rounding"] == pytest.approx((errors * inside).mean().item(), rel=1e-12)
        assert found["clipping"] == pytest.approx((errors * ~inside).mean().item(), rel=1e-12)
        assert found["mse"] == pytest.approx(errors.mean().item(), rel=1e-12)
        assert found["predicted"] == pytest.approx(inside.double().mean().item() * scale.item() ** 2 / 12)
        noise = errors.mean() / values.square().mean()
        assert found["sqnr"] == (None if noise == 0 else pytest.approx(-10 * noise.log10().item()))


def test_the_least_error_is_said_and_tabulated(page, widget, answers):
    at = {tuple(state[name] for name in ("tensor", "grid", "bits", "percent")): answer for state, answer in answers}
    for tensor in tensors():
        for grid in grid_choice.GRIDS:
            body = "return module.compute(data, argument, format).tables()[0].rows;"
            table = inside(page, widget, body, widget.state | {"tensor": tensor, "grid": grid})
            for bits, row in zip(grid_choice.BITS, table, strict=True):
                errors = {p: at[tensor, grid, bits, p]["results"]["mse"] for p in grid_choice.PERCENTS}
                best = max(p for p, error in errors.items() if error == min(errors.values()))
                decibels = [at[tensor, grid, bits, p]["results"]["sqnr"] for p in (100, best)]
                shown = ["–" if v is None else f"{v:.1f}".replace("-", "−") for v in decibels]
                assert row == [bits, 2**bits - (grid == "symmetric"), shown[0], f"{best}\u00a0%", shown[1]]
                for percent in grid_choice.PERCENTS:
                    said = at[tensor, grid, bits, percent]["words"]
                    words = "no other range" if percent == best else f"is at {best}\u00a0%."
                    assert words in said


def test_every_move_of_a_slider_changes_the_sentence(answers):
    said = {}
    for state, answer in answers:
        said.setdefault((state["tensor"], state["grid"]), []).append(answer["sentence"])
    assert all(len(set(sentences)) == 7 * 20 for sentences in said.values())


def test_the_charts_hold_the_numbers_the_levels_and_the_errors(page, widget, answers):
    chosen = answers[::11]
    body = "return argument.map((state) => module.compute(data, state, format).charts);"
    drawn = inside(page, widget, body, [state for state, _ in chosen])
    given = tensors()
    for (state, answer), (histogram, curve, bars) in zip(chosen, drawn, strict=True):
        x = np.float32(given[state["tensor"]]).ravel()
        scale, rounded, inside_grid, codes = library(x, state)
        edges, values, off = (np.array(histogram[name]) for name in ("edges", "values", "off"))
        shown = x[x != 0] if (x == 0).mean() > 0.1 else x
        counts, _ = np.histogram(shown.astype(np.float64), edges[:121])
        assert np.abs(values[:120] - counts).sum() <= 4, "but for numbers at an edge"
        assert values[:120].sum() == len(shown)
        ticks = np.flatnonzero(values < 0)
        assert len(ticks) == 2 ** state["bits"] - (state["grid"] == "symmetric")
        levels = (edges[ticks] + edges[ticks + 1]) / 2
        assert np.diff(levels) == pytest.approx(np.full(len(ticks) - 1, scale.item()))
        lowest = -len(ticks) // 2 + 1 if state["grid"] == "symmetric" else 0  # of the codes
        assert levels[codes.long() - lowest] == pytest.approx(rounded.numpy(), rel=1e-6, abs=1e-9 * scale.item())
        assert edges[0] <= min(x.min(), levels[0]) and edges[120] >= max(x.max(), levels[-1]) - 1e-12
        centers = (edges[:120] + edges[1:121]) / 2
        beyond = np.maximum(levels[0] - centers, centers - levels[-1]) / scale.item() - 0.5
        assert (off == (beyond > 0))[np.abs(beyond) > 1e-6].all()
        assert off[counts > 0].any() <= (not inside_grid.all())
        assert bars["values"] == [answer["results"][name] for name in ("rounding", "predicted", "clipping")]
        together, least = curve["series"][0], curve["series"][3]
        assert curve["marker"]["x"] == state["percent"] / 100
        if answer["results"]["mse"]:
            assert curve["marker"]["y"] == [together["y"][together["x"].index(state["percent"] / 100)]]
            assert 10 ** curve["marker"]["y"][0] == pytest.approx(answer["results"]["mse"])
        exact = len(together["y"]) < len(grid_choice.PERCENTS)  # an error of 0 has no logarithm
        assert least["y"] == ([] if exact else [min(together["y"])])


def test_zeros_that_would_dwarf_the_rest_are_left_out_and_counted(compute, widget):
    states = [widget.state | {"tensor": name} for name in tensors()]
    titles = {
        state["tensor"]: answer["charts"][0] for state, answer in zip(states, compute(widget, states), strict=True)
    }
    share = (tensors()["activations"] == 0).mean()
    assert f"without the {100 * share:.1f}&nbsp;% that are 0" in titles["activations"]
    assert "that are 0" not in titles["normal"]


def test_charts_can_be_drawn(compute, widget):
    for answer in compute(widget, states_of(widget, 100)):
        assert [chart.count("<svg") > 0 for chart in answer["charts"]] == [True] * 3


def test_weights_of_a_real_layer(compute):
    weight = zoo.load("vgg-small").get_submodule("features.10").weight.detach()
    widget = grid_choice.explorer({"weights": weight.numpy()}, bits=3, percent=50)
    (answer,) = compute(widget, [widget.state])
    _, rounded, inside, _ = library(weight.numpy(), widget.state)
    errors = (rounded.double() - weight.flatten().double()).square()
    assert answer["results"]["mse"] == pytest.approx(errors.mean().item(), rel=1e-12)
    assert f"it clips {(~inside).sum():,} of 9,216 values" in answer["words"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensors": {}}, "at least one tensor"),
        ({"tensors": {"a": [1, np.nan]}}, r"tensors\['a'\] must be finite"),
        ({"tensors": {"a": [1e39]}}, r"tensors\['a'\] must be finite"),
        ({"tensors": {"a": []}}, r"tensors\['a'\] must hold a number other than 0, got 0 numbers"),
        ({"tensors": {"a": np.zeros(4)}}, "other than 0, got 4 numbers"),
        ({"tensors": {"a": np.random.default_rng(0).normal(size=200_000)}}, "data must take at most"),
        ({"bits": 9}, "value of slider 'bits' must be one of"),
        ({"percent": 61}, "value of slider 'percent' must be one of"),
        ({"grid": "uniform"}, "value of choice 'grid' must be one of"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=words):
        grid_choice.explorer(**{"tensors": {"a": [1, 2]}} | changes)
