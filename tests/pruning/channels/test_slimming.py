import copy

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress_lib import training
from compress_lib.models import zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import selection, slimming


def randomized(model, seed=0):
    """Scales of both signs, and statistics unlike the initial ones."""
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return model.eval()


# --- the penalty and the proximal step --------------------------------------------------------------------------------


def test_penalty_is_the_sum_of_scales_and_its_gradient_the_sign(network):
    randomized(network)
    found = slimming.penalty(network)
    assert found.item() == pytest.approx(np.abs(network[1].weight.detach().numpy()).sum())
    (0.3 * found).backward()
    assert torch.equal(network[1].weight.grad, 0.3 * network[1].weight.detach().sign())
    assert network[0].weight.grad is None and network[1].bias.grad is None


def test_all_normalizations_count():
    model = zoo.build("resnet-20")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert slimming.penalty(model).item() == sum(layer.num_features for layer in layers)
    mixed = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm2d(4, affine=False), nn.BatchNorm3d(5), nn.InstanceNorm2d(6))
    assert slimming.penalty(mixed).item() == 8


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(-3, 3, width=32), amount=st.floats(0, 2))
def test_soft_threshold_is_the_minimizer(scale, amount):
    """Of ½(u − γ)² + τ|u|, which lies between 0 and γ."""
    layer = nn.BatchNorm1d(1)
    layer.weight.data.fill_(scale)
    slimming.soft_threshold_(layer, amount)
    found = layer.weight.item()
    low, high = sorted([-1e-9, scale])
    best = scipy.optimize.minimize_scalar(
        lambda u: 0.5 * (u - scale) ** 2 + amount * abs(u), bounds=(low, high + 2e-9), method="bounded"
    )
    assert found == pytest.approx(best.x, abs=1e-4)
    if abs(scale) <= amount * 0.999:
        assert found == 0


def test_soft_threshold_touches_scales_only(network):
    randomized(network)
    before = copy.deepcopy(network.state_dict())
    slimming.soft_threshold_(network, 0.5)
    changed = [name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)]
    assert changed == ["1.weight"]


def test_training_with_the_proximal_step_reaches_exact_zeros_and_the_penalty_does_not(fashion):
    run = {"epochs": 6, "seed": 0, "batch_size": 50, "weight_decay": 0.0, "progress": False}
    torch.manual_seed(0)
    by_gradient = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
    )
    by_prox = copy.deepcopy(by_gradient)

    def penalized(model, images, labels):
        return training.cross_entropy(model, images, labels) + 0.2 * slimming.penalty(model)

    training.fit(by_gradient, *fashion, **run, objective=penalized)
    training.fit(by_prox, *fashion, **run, after_step=lambda model, lr: slimming.soft_threshold_(model, lr * 2))
    assert 0 < by_gradient[1].weight.abs().min() < 1e-4
    zeros = int((by_prox[1].weight == 0).sum())
    assert 5 <= zeros < 16
    smaller, report = slimming.prune(by_prox, fashion[0][:2].float(), zeros / 16)
    assert smaller[0].out_channels == 16 - zeros
    assert report.kept_outputs["0"].tolist() == by_prox[1].weight.nonzero().flatten().tolist()


# --- one threshold for the whole network ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=4),
    fraction=st.floats(0, 1),
)
def test_units_below_one_threshold_by_brute_force(scores, fraction):
    pooled = [(score, g, i) for g, group in enumerate(scores) for i, score in enumerate(group)]
    expected = {(g, i) for _, g, i in sorted(pooled)[: round(fraction * len(pooled))]}
    vectors = [torch.tensor(group).float() for group in scores]
    counts = selection.counts_below_threshold(vectors, fraction)
    assert counts == [sum(g == own for own, _ in expected) for g in range(len(scores))]
    for g, (vector, count) in enumerate(zip(vectors, counts, strict=True)):
        group = surgery.Group(len(vector), {"layer": torch.arange(len(vector))}, {}, {})
        if count < group.size:
            assert set(selection._lowest(group, vector, count)) == {i for own, i in expected if own == g}
        else:
            assert selection._lowest(group, vector, count) == [
                i for i in vector.argsort(stable=True).tolist() if i != vector.tolist().index(vector.max())
            ]


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.4, 0.7])
def test_vgg_keeps_what_a_global_percentile_keeps(fraction):
    model = randomized(zoo.build("vgg-small"))
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 1, 28, 28)
    smaller, report = slimming.prune(model, x, fraction)
    pairs = [(f"features.{i}", model.features[i + 1]) for i in (0, 3, 7, 10, 14, 17, 20)]
    pooled = np.sort(np.concatenate([np.abs(norm.weight.detach().numpy()) for _, norm in pairs]))
    threshold = pooled[round(fraction * len(pooled))]  # the smallest that stays
    for name, norm in pairs:
        stays = np.flatnonzero(np.abs(norm.weight.detach().numpy()) >= threshold)
        kept = report.kept_outputs.get(name, torch.arange(norm.num_features))
        assert kept.tolist() == stays.tolist(), name
        assert smaller.get_submodule(name).out_channels == len(stays)
    assert report.skipped["classifier.1"] == "no batch normalization"
    assert "output" in report.skipped["classifier.3"]
    assert report.warnings == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_channels_that_a_residual_stage_adds_up_go_only_if_all_their_scales_are_small():
    model = randomized(zoo.build("resnet-20"))
    norms = dict(model.named_modules())
    stream = ["bn1", "stage1.0.bn2", "stage1.1.bn2", "stage1.2.bn2"]
    with torch.no_grad():
        for name in stream:
            norms[name].weight[:5] = 1e-4
        norms["stage1.1.bn2"].weight[3] = -2.0  # channel 3 speaks once
        norms["stage2.1.bn1"].weight[7] = 0.0
    x = torch.randn(2, 1, 28, 28)
    n = 16 + 3 * 16 + 32 + 3 * 32 + 64 + 3 * 64
    smaller, report = slimming.prune(model, x, 5 / n)
    assert report.kept_outputs["conv1"].tolist() == [3, *range(5, 16)]
    assert report.kept_outputs["stage1.2.conv2"].tolist() == [3, *range(5, 16)]
    assert report.kept_outputs["stage2.1.conv1"].tolist() == [i for i in range(32) if i != 7]
    assert smaller(x).shape == (2, 10)


def test_a_layer_keeps_its_largest_channel():
    model = randomized(zoo.build("vgg-small"))
    with torch.no_grad():
        model.features[4].weight.mul_(1e-6)
    strongest = int(model.features[4].weight.abs().argmax())
    smaller, report = slimming.prune(model, torch.randn(2, 1, 28, 28), 0.3)
    assert report.kept_outputs["features.3"].tolist() == [strongest]
    assert smaller.features[3].out_channels == 1
    assert len(report.warnings) == 1 and "features.3" in report.warnings[0]
    widths = [smaller.features[i].out_channels for i in (0, 3, 7, 10, 14, 17, 20)]
    assert sum(widths) == 288 - round(0.3 * 288) + 1


def test_excluded_groups_do_not_count():
    model = randomized(zoo.build("vgg-small"))
    smaller, report = slimming.prune(model, torch.randn(2, 1, 28, 28), 0.5, exclude=["features.0", "features.20"])
    assert smaller.features[0].out_channels == 16 and smaller.features[20].out_channels == 64
    assert sum(smaller.features[i].out_channels for i in (3, 7, 10, 14, 17)) == (288 - 80) // 2
    assert report.skipped["features.0"] == report.skipped["features.20"] == "excluded"


def test_a_normalization_without_scales_cannot_be_ranked():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
    model = nn.Sequential(*layers, nn.Conv2d(6, 2, 1))
    nn.init.normal_(model[3].weight)
    smaller, report = slimming.prune(model, torch.randn(2, 1, 8, 8), 0.5)
    assert (smaller[0].out_channels, smaller[2].out_channels) == (4, 3)
    assert report.skipped["0"] == "no batch normalization"


def test_a_channel_with_zero_scale_still_emits_its_shift():
    model = randomized(zoo.build("vgg-small"))
    with torch.no_grad():
        model.features[4].weight[2] = 0
        model.features[4].bias[2] = 3.0
    x = torch.randn(2, 1, 28, 28)
    smaller, report = slimming.prune(model, x, 1 / 288)
    assert report.kept_outputs["features.3"].tolist() == [0, 1, *range(3, 16)]
    assert (smaller(x) - model(x)).abs().max() > 1e-3
    with torch.no_grad():
        model.features[4].bias[2] = -3.0  # below zero the ReLU silences it
    smaller, _ = slimming.prune(model, x, 1 / 288)
    torch.testing.assert_close(smaller(x), model(x), rtol=1e-4, atol=1e-4)


def test_bad_arguments(network):
    x = torch.randn(2, 1, 8, 8)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\)"):
            slimming.prune(network, x, fraction)
    with pytest.raises(ValueError, match=r"exclude names \['9'\]"):
        slimming.prune(network, x, 0.5, exclude=["9"])
    with pytest.raises(TypeError, match="single string '0'"):
        slimming.prune(network, x, 0.5, exclude="0")
    with pytest.raises(ValueError, match="nothing to prune in this Sequential.*excluded"):
        slimming.prune(network, x, 0.5, exclude=["0"])
    for amount in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="amount must be finite and at least 0"):
            slimming.soft_threshold_(network, amount)
    for function in (slimming.penalty, lambda model: slimming.soft_threshold_(model, 0.1)):
        with pytest.raises(ValueError, match="has no batch normalization with scales"):
            function(nn.Sequential(nn.Linear(2, 2)))
