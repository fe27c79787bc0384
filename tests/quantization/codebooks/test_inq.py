import copy
import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib import training
from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import inq
from compress_lib.quantization.codebooks.inq import FrozenWeights

finite = st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda w: w == 0 or abs(w) > 2.0**-50)
layers = st.lists(finite, min_size=1, max_size=30).filter(any)
bit_widths = st.integers(2, 5)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def images(count=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def power(n):
    return Fraction(2) ** n


def by_the_rule(weight, n1, n2):
    """Equation 4 of the paper in exact arithmetic: the adjacent levels are searched, one pair after the other."""
    w = Fraction(weight)
    ascending = [Fraction(0)] + [power(n) for n in range(n2, n1 + 1)]
    for alpha, beta in itertools.pairwise(ascending):
        if (alpha + beta) / 2 <= abs(w) < 3 * beta / 2:
            return float(beta if w > 0 else -beta)
    return 0.0


# --- levels -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(weights=layers, bits=bit_widths)
def test_exponents_by_the_definition_in_exact_arithmetic(weights, bits):
    n1, n2 = inq.exponents(torch.tensor(weights), bits)
    bound = Fraction(4, 3) * max(abs(Fraction(w)) for w in weights)
    assert power(n1) <= bound < power(n1 + 1)
    assert n2 == n1 + 1 - 2 ** (bits - 1) // 2


def test_the_papers_example():
    weights = torch.tensor([-0.5, 0.2])
    assert inq.exponents(weights, 3) == (-1, -2)
    assert inq.levels(weights, 3).tolist() == [-0.5, -0.25, 0, 0.25, 0.5]


@pytest.mark.parametrize(("bits", "count"), [(2, 3), (3, 5), (4, 9), (5, 17)])
def test_one_bit_is_spent_on_zero(bits, count):
    assert len(inq.levels(torch.tensor([1.0]), bits)) == count == 2 ** (bits - 1) + 1


@pytest.mark.parametrize("exponent", [-40, -3, 0, 1, 29, 100])
def test_the_logarithm_is_exact_at_its_jumps(exponent):
    jump = torch.tensor([0.75 * 2.0**exponent])
    assert inq.exponents(jump, 2)[0] == exponent
    assert inq.exponents(jump.nextafter(torch.tensor(0.0)), 2)[0] == exponent - 1


@settings(deadline=None)
@given(weights=layers, bits=bit_widths, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_weights_go_where_the_rule_says(weights, bits, dtype):
    weights = torch.tensor(weights, dtype=dtype)
    n1, n2 = inq.exponents(weights, bits)
    found = inq.to_levels(weights, n1, n2)
    assert found.dtype == dtype
    assert found.tolist() == [by_the_rule(w, n1, n2) for w in weights.tolist()]
    assert set(found.tolist()) <= set(inq.levels(weights, bits).tolist())
    assert found[weights.abs().argmax()].abs() == 2.0**n1


def test_ties_and_edges():
    # n1 = 0, n2 = −1: the levels 0, ½ and 1 part at ¼ and ¾, and from 1½ on the largest is the nearest all the same
    below = [math.nextafter(edge, 0) for edge in (0.25, 0.75, 1.5)]
    weights = torch.tensor([0.25, 0.75, 1.5, 7.0, *below], dtype=torch.float64)
    expected = torch.tensor([0.5, 1, 1, 1, 0, 0.5, 1], dtype=torch.float64)
    assert torch.equal(inq.to_levels(weights, 0, -1), expected)
    assert torch.equal(inq.to_levels(-weights, 0, -1), -expected)


@given(weights=layers, bits=bit_widths)
def test_levels_are_the_nearest_ones(weights, bits):
    weights = torch.tensor(weights, dtype=torch.float64)
    found = inq.to_levels(weights, *inq.exponents(weights, bits))
    distances = (weights[:, None] - inq.levels(weights, bits)).abs()
    assert torch.equal((weights - found).abs(), distances.min(1).values)


@pytest.mark.parametrize(
    ("weights", "bits", "error", "message"),
    [
        (torch.zeros(3), 3, ValueError, "not all zero"),
        (torch.tensor([]), 3, ValueError, "not all zero"),
        (torch.tensor([1.0, math.nan]), 3, ValueError, "must be finite"),
        (torch.tensor([1.0, math.inf]), 3, ValueError, "must be finite"),
        (torch.tensor([1]), 3, TypeError, "floating-point"),
        (torch.ones(1), 1, ValueError, "bits must be from 2 to 8, got 1"),
        (torch.ones(1), 9, ValueError, "bits must be from 2 to 8, got 9"),
        (torch.ones(1), 2.0, TypeError, "bits must be an integer, got float"),
        (torch.ones(1).half(), 8, ValueError, "cannot hold"),
    ],
)
def test_what_has_no_levels(weights, bits, error, message):
    with pytest.raises(error, match=message):
        inq.levels(weights, bits)


# --- steps ------------------------------------------------------------------------------------------------------------


def state(model, name="4"):
    return model.get_submodule(name).parametrizations.weight[0]


@pytest.mark.parametrize("order", ["largest", "random"])
@pytest.mark.parametrize("portion", [0.001, 0.3, 0.5, 1])
def test_a_step_freezes_its_portion_of_every_layer(order, portion):
    model = network()
    stepped, report = inq.freeze(model, 3, portion, order=order)
    for name, row in zip(("0", "4"), report.rows, strict=True):
        weight, found = model.get_submodule(name).weight, state(stepped, name)
        assert row.layer == name
        assert row.frozen == found.frozen.sum() == round(portion * weight.numel())
        expected = torch.where(found.frozen, inq.to_levels(weight, row.n1, row.n2), weight)
        assert torch.equal(stepped.get_submodule(name).weight, expected)
        assert (row.n1, row.n2) == inq.exponents(weight, 3)
        assert row.kept == expected.count_nonzero()
        change = (expected - weight).double()[found.frozen]
        assert row.rmse == (pytest.approx(change.square().mean().sqrt().item()) if row.frozen else 0)
    assert type(model[4]) is nn.Linear


def test_the_largest_go_first():
    model = network()
    stepped, _ = inq.freeze(model, 5, 0.3)
    frozen, magnitudes = state(stepped).frozen, model[4].weight.abs()
    assert magnitudes[frozen].min() >= magnitudes[~frozen].max()


def test_a_random_draw_depends_on_the_seed_alone():
    model = network()
    draws = [state(inq.freeze(model, 5, 0.5, order="random", seed=seed)[0]).frozen for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    magnitudes = model[4].weight.detach().abs()
    assert magnitudes[draws[0]].mean() == pytest.approx(magnitudes.mean().item(), rel=0.05)


@pytest.mark.parametrize("order", ["largest", "random"])
def test_training_moves_the_free_weights_and_no_frozen_one(order):
    model, frozen_before = network(), None
    first = inq.exponents(model[4].weight, 3)
    for portion in inq.SCHEDULES["3 bits"]:
        model, report = inq.freeze(model, 3, portion, order=order)
        assert (report.rows[1].n1, report.rows[1].n2) == first
        frozen, before = state(model).frozen.clone(), model[4].weight.detach().clone()
        if frozen_before is not None:
            assert (frozen >= frozen_before[0]).all()
            assert torch.equal(before[frozen_before[0]], frozen_before[1][frozen_before[0]])
        # a large rate, momentum and weight decay: anything that could leak would
        training.fit(model, *images(), epochs=2, seed=0, batch_size=16, lr=0.5, momentum=0.9, weight_decay=0.1)
        after = model[4].weight.detach()
        assert torch.equal(after[frozen], before[frozen])
        assert (after[~frozen] != before[~frozen]).all()
        frozen_before = frozen, after.clone()
    plain = inq.deploy(model)
    assert type(plain[4]) is nn.Linear
    assert torch.equal(plain[4].weight, frozen_before[1])


def test_frozen_weights_have_no_gradient():
    model, _ = inq.freeze(network(), 4, 0.5)
    x, labels = images()
    training.cross_entropy(model, x, labels).backward()
    gradient = model[4].parametrizations.weight.original.grad
    frozen = state(model).frozen
    assert not gradient[frozen].any()
    assert gradient[~frozen].all()


def test_the_end_holds_powers_of_two_and_zeros_under_the_old_names():
    model = network()
    before = copy.deepcopy(model.state_dict())
    plain, report = inq.quantize(model, 4)
    assert list(plain.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for row in report.rows:
        weight = plain.get_submodule(row.layer).weight
        mantissa, exponent = torch.frexp(weight[weight != 0])
        assert (mantissa.abs() == 0.5).all()
        assert exponent.min() - 1 >= row.n2
        assert exponent.max() - 1 == row.n1
        assert torch.equal(weight, inq.to_levels(model.get_submodule(row.layer).weight, row.n1, row.n2))
    plain(images()[0])


def test_the_steps_without_training_end_where_the_single_one_does():
    model = stepped = network()
    for portion in inq.SCHEDULES["4 bits"]:
        stepped, _ = inq.freeze(stepped, 4, portion)
    single = inq.quantize(model, 4)[0].state_dict()
    assert all(torch.equal(t, single[name]) for name, t in inq.deploy(stepped).state_dict().items())


def test_pruned_weights_stay_zero_and_count_for_no_portion():
    pruned, _ = magnitude.prune(network(), {"4": 0.8}, scope="layer")
    stepped, report = inq.freeze(pruned, 5, 0.5)
    zero = ~masks.masks(pruned)["4"]
    kept = zero.numel() - int(zero.sum())
    assert report.rows[1].frozen == int(zero.sum()) + round(0.5 * kept)
    training.fit(stepped, *images(), epochs=1, seed=0, batch_size=16, lr=0.1)
    assert not stepped[4].weight[zero].any()
    assert not inq.quantize(stepped, 5)[0][4].weight[zero].any()


def test_a_mask_put_on_between_the_steps_is_respected():
    stepped, _ = inq.freeze(network(), 5, 0.5)
    pruned, _ = magnitude.prune(stepped, {"4": 0.7}, scope="layer")
    removed = ~masks.masks(pruned)["4"]
    further, _ = inq.freeze(pruned, 5, 0.6)
    kept = state(stepped).frozen & ~removed
    assert torch.equal(further[4].weight[kept], stepped[4].weight[kept])
    assert not further[4].weight[removed].any()
    assert state(further).frozen[removed].all()


def test_levels_stay_when_a_weight_outgrows_them():
    stepped, report = inq.freeze(network(), 3, 0.5)
    place = (~state(stepped).frozen).nonzero()[0]
    with torch.no_grad():
        stepped[4].parametrizations.weight.original[tuple(place)] = 100.0
    finished, _ = inq.quantize(stepped, 3)
    assert finished[4].weight[tuple(place)] == 2.0 ** report.rows[1].n1


def test_layers_by_name_and_what_is_skipped():
    model = network()
    stepped, report = inq.freeze(model, {"4": 3}, 0.5)
    assert [row.layer for row in report.rows] == ["4"]
    assert report.skipped["0.weight"] == "no bits given"
    assert report.skipped["4.bias"] == "biases are not quantized"
    assert torch.equal(stepped[0].weight, model[0].weight)
    with torch.no_grad():
        model[0].weight.zero_()
    assert inq.freeze(model, 3, 0.5)[1].skipped["0.weight"] == "all its weights are zero"
    bare, report = inq.quantize(model[4], 3)
    assert report.rows[0].layer == ""
    assert len(bare.weight.unique()) <= 5


def test_a_saved_state_goes_into_a_model_of_the_same_steps():
    stepped, _ = inq.freeze(network(), 3, 0.5)
    training.fit(stepped, *images(), epochs=1, seed=0, batch_size=16)
    other, _ = inq.freeze(network(seed=1), 3, 0.5)
    other.load_state_dict(stepped.state_dict())
    x, _ = images()
    assert torch.equal(other.eval()(x), stepped(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 0), ValueError, "portion must be in"),
        ((3, 1.5), ValueError, "portion must be in"),
        ((3, "half"), TypeError, "portion must be a number"),
        ((3, 0.25), ValueError, "at least the 0.5 of the steps before, got 0.25"),
        ((4, 1), ValueError, "bits must stay 3, as in the steps before, got 4"),
        (({"0": 3}, 1), ValueError, r"leaves out \['4'\]"),
        (({"0": 3, "4": 3, "9": 3}, 1), ValueError, r"bits names \['9'\]"),
        ((9, 1), ValueError, "bits must"),
    ],
)
def test_what_a_further_step_refuses(arguments, error, message):
    stepped, _ = inq.freeze(network(), 3, 0.5)
    before = copy.deepcopy(stepped.state_dict())
    with pytest.raises(error, match=message):
        inq.freeze(stepped, *arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in stepped.state_dict().items())


def test_an_unknown_order_bad_weights_and_an_early_end_are_refused():
    model = network()
    with pytest.raises(ValueError, match="order must be 'largest' or 'random', got 'smallest'"):
        inq.freeze(model, 3, 0.5, order="smallest")
    stepped, _ = inq.freeze(model, 3, 0.5)
    with pytest.raises(ValueError, match=r"\['0', '4'\] have weights that are not frozen"):
        inq.deploy(stepped)
    with torch.no_grad():
        stepped[4].parametrizations.weight.original.fill_(math.nan)
    with pytest.raises(ValueError, match="layer '4': weights must be finite"):
        inq.freeze(stepped, 3, 1)


def test_the_schedules_rise_to_all():
    for schedule in inq.SCHEDULES.values():
        assert list(schedule) == sorted(set(schedule))
        assert schedule[0] > 0
        assert schedule[-1] == 1


def test_the_parametrization_selects():
    frozen = torch.tensor([True, False])
    module = FrozenWeights(frozen, torch.tensor([0.5, 0.0]), 3, -1, -2, 0)
    assert module(torch.tensor([math.nan, 7.0])).tolist() == [0.5, 7.0]
