import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib import data, training
from compress_lib.models import zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.neurons import data_free


def by_hand(weight, bias, next_weight, count):
    """The algorithm of the paper, pair by pair; a dict of neurons that are left, and the steps."""
    norms = [np.linalg.norm(w) or 1.0 for w in weight]
    incoming = {i: np.append(w, b) / norms[i] for i, (w, b) in enumerate(zip(weight, bias, strict=True))}
    outgoing = {i: next_weight[:, i] * norms[i] for i in range(len(weight))}
    steps = []
    for _ in range(count):
        saliency = {
            (i, j): (outgoing[j] ** 2).mean() * ((incoming[i] - incoming[j]) ** 2).sum()
            for i in outgoing
            for j in outgoing
            if i != j
        }
        i, j = min(saliency, key=saliency.get)
        outgoing[i] = outgoing[i] + outgoing.pop(j)
        steps.append((j, i, saliency[i, j]))
    return {i: a / norms[i] for i, a in outgoing.items()}, steps


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    size=st.integers(1, 9),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 4),
    data=st.data(),
)
def test_every_step_equals_brute_force(seed, size, inputs, outputs, data):
    count = data.draw(st.integers(0, size - 1))
    dead = data.draw(st.sampled_from([None, *range(size)]))
    generator = np.random.default_rng(seed)
    weight, bias, following = (generator.normal(size=s) for s in ((size, inputs), size, (outputs, size)))
    if dead is not None:
        weight[dead] = 0
    left, steps = by_hand(weight, bias, following, count)
    found, merged = data_free.merge_order(*(torch.tensor(t) for t in (weight, bias, following)), count)
    assert [step[:2] for step in found] == [step[:2] for step in steps]
    np.testing.assert_allclose([step.saliency for step in found], [s for *_, s in steps], rtol=1e-6, atol=1e-12)
    for j in range(size):
        np.testing.assert_allclose(merged[:, j], left.get(j, 0 * following[:, j]), rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_saliency_bounds_what_one_merge_does(seed):
    torch.manual_seed(seed)
    weight, bias, following = torch.randn(6, 3).double(), torch.randn(6).double(), torch.randn(4, 6).double()
    (step,), merged = data_free.merge_order(weight, bias, following, 1)
    x = torch.randn(20, 3).double()
    hidden = (x @ weight.T + bias).relu()
    change = (hidden @ following.T - hidden @ merged.T).square().mean(dim=1)
    assert (change <= step.saliency * (x.square().sum(dim=1) + 1) * (1 + 1e-9)).all()


def with_copies(scales, bias=True, dtype=torch.float64):
    """Neurons 0 and 1, and copies of them with positive factors; their outgoing weights are random."""
    torch.manual_seed(1)
    first, second = nn.Linear(5, 2 + len(scales), bias), nn.Linear(2 + len(scales), 3)
    with torch.no_grad():
        for i, scale in enumerate(scales):
            first.weight[2 + i] = scale * first.weight[i % 2]
            if bias:
                first.bias[2 + i] = scale * first.bias[i % 2]
    return nn.Sequential(first, nn.ReLU(), second).to(dtype)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scales", [[1, 1, 1], [0.5, 3, 1e-3, 40]])
def test_scaled_copies_merge_exactly(scales, bias):
    model = with_copies(scales, bias)
    x = torch.randn(50, 5).double()
    smaller, report = data_free.prune(model, x[:2], {"0": len(scales)})
    assert smaller[0].out_features == smaller[2].in_features == 2
    torch.testing.assert_close(smaller(x), model(x))
    assert report.kept_outputs["0"].shape == (2,)
    unmerged, _ = data_free.prune(model, x[:2], {"0": len(scales)}, merge=False)
    assert (unmerged(x) - model(x)).abs().max() > 0.05


@pytest.mark.parametrize("change", ["bias", "sign"])
def test_a_copy_with_another_bias_or_a_negative_factor_is_not_exact(change):
    model = with_copies([2.0])
    with torch.no_grad():
        if change == "bias":
            model[0].bias[2] = -model[0].bias[0]
        else:
            model[0].weight[2] *= -1
            model[0].bias[2] *= -1
    step = data_free.merge_order(model[0].weight, model[0].bias, model[2].weight, 1)[0][0]
    assert step.saliency > 1e-5


def test_unnormalised_distance_would_miss_the_copy():
    """Neuron 2 is 10 times neuron 0; neuron 1 is nearer to 0, but points elsewhere."""
    weight = torch.tensor([[1.0, 0.0], [0.9, 0.5], [10.0, 0.0]])
    (step,), _ = data_free.merge_order(weight, None, torch.ones(1, 3), 1)
    assert {step.removed, step.into} == {0, 2}
    assert step.saliency == 0


def test_tiny_neurons_with_large_biases_keep_their_precision():
    """b/‖w‖ is 1e9 here: squared and subtracted, it would drown the angle between two directions."""
    angles = torch.tensor([0.0, 1e-3, 1.5], dtype=torch.float64)
    weight = 1e-9 * torch.stack([angles.cos(), angles.sin()], dim=1)
    bias = torch.tensor([1, 1 + 1e-13, 1], dtype=torch.float64)
    (step,), _ = data_free.merge_order(weight, bias, torch.ones(1, 3), 1)
    assert {step.removed, step.into} == {0, 1}
    assert step.saliency == pytest.approx(1e-18 * (1e-6 + 1e-8), rel=2e-3, abs=0)


def test_prune_equals_merging_then_cutting_by_hand():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 2)
    ).double()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(30, 9).double()
    smaller, report = data_free.prune(model, x[:2], {"3": 2, "1": 3})  # treated in the network's order
    left1, steps1 = by_hand(*(t.detach().numpy() for t in (model[1].weight, model[1].bias, model[3].weight)), 3)
    keep1 = sorted(left1)
    weight = torch.tensor(np.stack([left1[i] for i in keep1], axis=1))
    left3, _ = by_hand(weight.numpy(), model[3].bias.detach().numpy(), model[5].weight.detach().numpy(), 2)
    keep3 = sorted(left3)
    hidden = (x @ model[1].weight[keep1].T + model[1].bias[keep1]).relu()
    hidden = (hidden @ weight[keep3].T + model[3].bias[keep3]).relu()
    expected = hidden @ torch.tensor(np.stack([left3[i] for i in keep3], axis=1)).T + model[5].bias
    torch.testing.assert_close(smaller(x), expected)
    assert report.kept_outputs["1"].tolist() == keep1
    assert report.kept_outputs["3"].tolist() == keep3
    unmerged, same = data_free.prune(model, x[:2], {"3": 2, "1": 3}, merge=False)
    assert same.kept_outputs["3"].tolist() == keep3
    cut, _ = surgery.remove(model, x[:2], {"1": [step[0] for step in steps1], "3": sorted({*range(6)} - {*keep3})})
    one, other = cut.state_dict().values(), unmerged.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_real_network_with_planted_copies_shrinks_back(fashion):
    """Split every fc1 neuron of a trained network into two scaled ones: merging finds all 300 pairs."""
    model = zoo.load("lenet-300-100")
    wide = copy.deepcopy(model)
    scale = torch.rand(300, generator=torch.Generator().manual_seed(0)) + 0.5
    wide.fc1 = nn.Linear(784, 600)
    wide.fc2 = nn.Linear(600, 100)
    with torch.no_grad():
        wide.fc1.weight.copy_(torch.cat([model.fc1.weight, model.fc1.weight * scale[:, None]]))
        wide.fc1.bias.copy_(torch.cat([model.fc1.bias, model.fc1.bias * scale]))
        wide.fc2.weight.copy_(torch.cat([0.3 * model.fc2.weight, 0.7 * model.fc2.weight / scale], dim=1))
        wide.fc2.bias.copy_(model.fc2.bias)
    steps, _ = data_free.merge_order(wide.fc1.weight, wide.fc1.bias, wide.fc2.weight, 300)
    assert all(0 <= step.saliency < 1e-9 and step.removed % 300 == step.into % 300 for step in steps)
    x = data.normalize(fashion[0])
    smaller, report = data_free.prune(wide, x[:2], {"fc1": 300})
    assert sorted((report.kept_outputs["fc1"] % 300).tolist()) == list(range(300))
    torch.testing.assert_close(smaller(x), model(x), rtol=1e-4, atol=1e-4)


def test_trained_network_survives_better_than_at_random(fashion):
    model = zoo.load("lenet-300-100")
    x = data.normalize(fashion[0][:2])
    smaller, report = data_free.prune(model, x, {"fc1": 150})
    assert smaller.fc1.out_features == 150
    assert report.skipped["fc2"] == "no count given"
    assert "output" in report.skipped["fc3"]
    picked = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:150]
    random, _ = surgery.remove(model, x, {"fc1": picked})
    assert training.accuracy(smaller, *fashion) > training.accuracy(random, *fashion) + 0.01


def test_bad_arguments():
    model = zoo.build("lenet-300-100")
    x = torch.randn(2, 784)
    with pytest.raises(ValueError, match="counts names 'fc3': the output follows it"):
        data_free.prune(model, x, {"fc3": 1})
    with pytest.raises(ValueError, match=r"counts names 'fc9'.*\['fc1', 'fc2'\]"):
        data_free.prune(model, x, {"fc9": 1})
    with pytest.raises(ValueError, match="layer 'fc2': count must be from 0 to 99, got 100"):
        data_free.prune(model, x, {"fc2": 100})
    with pytest.raises(ValueError, match="count must be from 0 to 299, got -1"):
        data_free.prune(model, x, {"fc1": -1})
    weight, bias, following = torch.randn(4, 3), torch.randn(4), torch.randn(2, 4)
    with pytest.raises(ValueError, match=r"got \(4, 3\), \(4,\) and \(4, 2\)"):
        data_free.merge_order(weight, bias, following.T, 1)
    with pytest.raises(ValueError, match=r"got \(4, 3\), \(3,\)"):
        data_free.merge_order(weight, bias[:3], following, 1)
    for broken in (weight, bias, following):
        broken.view(-1)[0] = torch.nan
        with pytest.raises(ValueError, match="NaN or infinite"):
            data_free.merge_order(weight, bias, following, 1)
        broken.view(-1)[0] = 0.0
