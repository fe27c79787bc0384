import copy
import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib import data, training
from compress_lib.models import zoo
from compress_lib.pruning.neurons import dropneuron
from compress_lib.pruning.neurons.chains import find_chains


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()


HIDDEN = {"0": "2", "2": "4"}


# --- penalties and the proximal step ----------------------------------------------------------------------------------


def test_penalties_by_hand(mlp):
    first, second, third = (mlp[i].weight.detach().numpy() for i in (0, 2, 4))
    rows = sum(np.linalg.norm(w) for w in (*first, *second))
    columns = sum(np.linalg.norm(w) for w in (*second.T, *third.T))
    assert dropneuron.incoming_penalty(mlp, HIDDEN).item() == pytest.approx(rows)
    assert dropneuron.outgoing_penalty(mlp, HIDDEN).item() == pytest.approx(columns)
    dropneuron.outgoing_penalty(mlp, {"0": "2"}).backward()
    torch.testing.assert_close(mlp[2].weight.grad, mlp[2].weight.detach() / mlp[2].weight.detach().norm(dim=0))
    assert mlp[0].weight.grad is None and mlp[2].bias.grad is None


def test_the_gradient_at_a_dead_neuron_is_zero_not_nan(mlp):
    mlp[0].weight.data[1] = 0
    dropneuron.incoming_penalty(mlp, HIDDEN).backward()
    assert mlp[0].weight.grad.isfinite().all() and (mlp[0].weight.grad[1] == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), amount=st.floats(0.01, 3), dim=st.integers(0, 1))
def test_group_threshold_is_the_minimizer(seed, amount, dim):
    """Of ½‖u − w‖² + τ Σ‖u_g‖, found numerically from a smoothed norm, group by group."""
    torch.manual_seed(seed)
    weight = torch.randn(3, 4).double()
    found = dropneuron.shrunk(weight, amount, dim)
    for w, u in zip(weight, found, strict=True) if dim == 1 else zip(weight.T, found.T, strict=True):
        best = scipy.optimize.minimize(_objective, 0.5 * w.numpy(), (w.numpy(), amount), jac=True, tol=1e-10)
        np.testing.assert_allclose(u.numpy(), best.x, atol=1e-4)
        assert (u == 0).all() == (w.norm() <= amount)
        if (u != 0).any():
            assert (w.norm() - u.norm()).item() == pytest.approx(amount)


def _objective(u, w, amount):
    """The value and the gradient."""
    length = np.sqrt(u @ u + 1e-12)
    return 0.5 * ((u - w) ** 2).sum() + amount * length, u - w + amount * u / length


def test_nothing_to_shrink_by_and_nothing_to_shrink():
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(dropneuron.shrunk(weight, 0, 1), weight)
    assert dropneuron.shrunk(weight, 5, 1).count_nonzero() == 0
    torch.testing.assert_close(dropneuron.shrunk(weight, 2.5, 1), weight / 2)


def test_shrink_treats_rows_of_the_maker_and_columns_of_the_reader(mlp):
    before = [mlp[i].weight.detach().clone() for i in (0, 2, 4)]
    biases = [mlp[i].bias.detach().clone() for i in (0, 2, 4)]
    dropneuron.shrink_(mlp, HIDDEN, 0.3, 0.2)
    torch.testing.assert_close(mlp[0].weight.detach(), dropneuron.shrunk(before[0], 0.3, 1))
    middle = dropneuron.shrunk(dropneuron.shrunk(before[1], 0.2, 0), 0.3, 1)
    torch.testing.assert_close(mlp[2].weight.detach(), middle)
    torch.testing.assert_close(mlp[4].weight.detach(), dropneuron.shrunk(before[2], 0.2, 0))
    assert all(torch.equal(mlp[i].bias, b) for i, b in zip((0, 2, 4), biases, strict=True))


def proximal_of_the_sum(weight, rows, columns):
    """argmin ½‖U − W‖² + rows Σ‖row‖ + columns Σ‖column‖, by alternating projections in the dual."""

    def onto_balls(v, radius, dim):
        return v * (radius / v.norm(dim=dim, keepdim=True).clamp_min(1e-300)).clamp_max(1)

    p, q = torch.zeros_like(weight), torch.zeros_like(weight)
    for _ in range(2000):
        p = onto_balls(weight - q, rows, 1)
        q = onto_balls(weight - p, columns, 0)
    return weight - p - q


def test_composition_misses_the_proximal_step_of_the_sum_by_the_square_of_the_amount():
    torch.manual_seed(0)
    weight = torch.randn(6, 5).double()
    errors = []
    for amount in (0.2, 0.1, 0.05, 0.025):
        composed = dropneuron.shrunk(dropneuron.shrunk(weight, amount, 0), amount, 1)
        errors.append((composed - proximal_of_the_sum(weight, amount, amount)).norm().item())
    assert errors[0] > 1e-4  # they do differ
    for larger, smaller in itertools.pairwise(errors):
        assert 3.5 < larger / smaller < 4.6


@pytest.mark.parametrize(("incoming", "outgoing"), [(-1, 0), (0, -1), (float("nan"), 0), (0, float("inf"))])
def test_bad_amounts(mlp, incoming, outgoing):
    name = "incoming" if incoming != 0 else "outgoing"
    with pytest.raises(ValueError, match=f"{name} must be finite and at least 0"):
        dropneuron.shrink_(mlp, HIDDEN, incoming, outgoing)


# --- training ---------------------------------------------------------------------------------------------------------


def test_proximal_training_reaches_exact_zeros_and_sub_gradients_do_not(fashion):
    images, labels = fashion
    run = {"epochs": 25, "seed": 0, "batch_size": 100, "weight_decay": 0, "momentum": 0.9, "progress": False}

    def plain(model, images, labels):
        return F.cross_entropy(model(images.flatten(1)), labels)

    def penalized(model, images, labels):
        penalty = dropneuron.incoming_penalty(model, HIDDEN) + dropneuron.outgoing_penalty(model, HIDDEN)
        return plain(model, images, labels) + 0.02 * penalty

    def shrink(model, lr):
        strength = 0.02 / (1 - 0.9)  # momentum makes the steps along the gradient ten times as long
        dropneuron.shrink_(model, HIDDEN, lr * strength, lr * strength)

    torch.manual_seed(0)
    by_gradient = nn.Sequential(nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10))
    by_prox = copy.deepcopy(by_gradient)
    training.fit(by_gradient, images, labels, **run, objective=penalized)
    training.fit(by_prox, images, labels, **run, objective=plain, after_step=shrink)
    smallest = by_gradient[0].weight.norm(dim=1).min()
    assert 0 < smallest < 1e-6  # close, and no closer than the last step was long
    assert all((by_gradient[i].weight != 0).any(dim=1).all() for i in (0, 2))
    dead = [(by_prox[i].weight == 0).all(dim=1).sum() for i in (0, 2)]
    assert dead[0] >= 10 and dead[1] >= 5
    smaller, _ = dropneuron.prune(by_prox, images[:2].flatten(1).float())
    assert smaller[0].out_features <= 20 and smaller[2].out_features <= 15
    # Both minimize the same objective, so the strength is the right one.
    x = data.normalize(images)
    a, b = (penalized(model, x, labels).item() for model in (by_gradient, by_prox))
    assert b == pytest.approx(a, rel=0.02)


# --- removal ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_removal_leaves_the_function_unchanged(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    constant, unread = (torch.rand(n) < 0.4 for n in (5, 4)), (torch.rand(n) < 0.3 for n in (5, 4))
    with torch.no_grad():
        for i, rows, columns in zip((0, 2), constant, unread, strict=True):
            model[i].weight[rows] = 0
            model[i + 2].weight[:, columns] = 0
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(20, 6).double()
    smaller, report = dropneuron.prune(model, x[:2])
    torch.testing.assert_close(smaller(x), model(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for i in (0, 2):  # nothing that could go is left, save one neuron per layer
        dead = (smaller[i].weight == 0).all(dim=1) | (smaller[i + 2].weight == 0).all(dim=0)
        assert not dead.any() or len(dead) == 1
    assert list(report.skipped) == ["4"]


def test_a_silent_neuron_hands_its_constant_on(mlp):
    with torch.no_grad():
        mlp[0].weight[[1, 3]] = 0
        mlp[0].bias[1], mlp[0].bias[3] = 0.7, -0.4  # one emits 0.7, the other nothing
    expected = mlp[2].bias + 0.7 * mlp[2].weight[:, 1]
    smaller, report = dropneuron.prune(mlp, torch.randn(2, 6).double())
    assert report.kept_outputs["0"].tolist() == [0, 2, 4]
    torch.testing.assert_close(smaller[2].bias, expected)


def test_without_a_bias_to_take_it_a_constant_stays(mlp):
    bare = nn.Sequential(mlp[0], nn.ReLU(), nn.Linear(5, 3, bias=False).double())
    with torch.no_grad():
        bare[0].weight[[1, 3]] = 0
        bare[0].bias[1], bare[0].bias[3] = 0.7, -0.4
    x = torch.randn(9, 6).double()
    smaller, report = dropneuron.prune(bare, x)
    assert report.kept_outputs["0"].tolist() == [0, 1, 2, 4]
    assert report.skipped["0"] == "constant neurons stay (1): '2' has no bias to take what they emit"
    torch.testing.assert_close(smaller(x), bare(x))


def test_layers_without_bias():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    model[0].weight.data[2] = 0
    x = torch.randn(5, 3)
    smaller, _ = dropneuron.prune(model, x)
    assert smaller[0].out_features == 3
    torch.testing.assert_close(smaller(x), model(x))


def test_one_removal_leads_to_another_in_both_directions(mlp):
    with torch.no_grad():
        mlp[2].weight.fill_(0)
        mlp[2].weight[0, 0] = mlp[2].weight[1, 1] = mlp[2].weight[2, 2:] = mlp[2].weight[3, 2:] = 1.0
        mlp[4].weight[:, 0] = 0  # neuron 0 of "2" is unread, and with it neuron 0 of "0"
        mlp[0].weight[1] = 0  # neuron 1 of "0" is silent, and with it neuron 1 of "2"
    smaller, report = dropneuron.prune(mlp, torch.randn(2, 6).double())
    assert report.kept_outputs["0"].tolist() == [2, 3, 4]
    assert report.kept_outputs["2"].tolist() == [2, 3]
    x = torch.randn(9, 6).double()
    torch.testing.assert_close(smaller(x), mlp(x))


def test_a_layer_that_vanishes_keeps_one_idle_neuron(mlp):
    mlp[0].weight.data.fill_(0)
    x = torch.randn(9, 6).double()
    smaller, report = dropneuron.prune(mlp, x)
    assert (smaller[0].out_features, smaller[2].out_features) == (1, 1)
    torch.testing.assert_close(smaller(x), mlp(x))
    assert report.warnings[0] == "every neuron of layer '0' vanished; one is kept, which does nothing"


def test_nothing_to_remove(mlp):
    smaller, report = dropneuron.prune(mlp, torch.randn(2, 6).double())
    assert report.rows == [] and smaller is not mlp
    assert all(torch.equal(a, b) for a, b in zip(smaller.state_dict().values(), mlp.state_dict().values(), strict=True))


def test_hidden_neurons_are_what_chains_finds():
    hidden, _ = find_chains(zoo.build("lenet-300-100"))
    assert hidden == {"fc1": "fc2", "fc2": "fc3"}
