import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network import patches, watching
from compress_lib.network.batch_norm import recalibrate_batch_norm
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import reconstruction
from compress_lib.training import accuracy

ALL = 10**6  # positions: more than any map has


def network(seed=0, bias=True) -> nn.Sequential:
    """Readers of the channels of "0" and "3" are "3" and "6"."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2, padding=1, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 16, 4, bias=bias),
    ).eval()


IMAGES = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# --- patches ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_patches_equal_unfold(kernel, stride, padding, dilation):
    layer = nn.Conv2d(3, 2, kernel, stride, padding, dilation)
    x = torch.randn(2, 3, 7, 6)
    size = layer(x).shape[2:]
    columns = F.unfold(x, kernel, dilation, padding, stride)  # (N, C·K, positions)
    drawn = torch.stack([torch.randperm(size.numel()) for _ in x])
    rows = patches.extract(layer, x, drawn, size).view(2, size.numel(), -1)
    for n in range(2):
        assert torch.equal(rows[n], columns[n].T[drawn[n]])


LAYERS = [
    (nn.Conv1d(2, 4, 3, padding="same", dilation=2, padding_mode="circular"), (3, 2, 7)),
    (nn.Conv2d(2, 3, (2, 3), padding="same"), (2, 2, 6, 6)),
    (nn.Conv2d(2, 3, 3, padding="valid", padding_mode="reflect"), (2, 2, 6, 5)),
    (nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect", bias=False), (2, 2, 6, 5)),
    (nn.Conv3d(2, 3, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 2)), (2, 2, 4, 5, 6)),
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(6, 4, bias=False), (3, 2, 5, 6)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layer, shape", LAYERS, ids=lambda value: type(value).__name__)
def test_the_layer_is_linear_on_its_patches(layer, shape):
    x = torch.randn(shape)
    y = layer(x)
    sums = patches.moments(nn.Sequential(layer), "0", x, samples=ALL)
    assert sums.samples == y.numel() // len(layer.weight)
    assert sums.energy == pytest.approx(y.double().square().sum().item())
    assert sums.error(patches.theta(layer)) < 1e-12
    assert sums.error(torch.zeros_like(sums.cross)) == pytest.approx(1)


def explicit(layer, x, y):
    """Patches with a constant 1, and outputs, by position: numpy float64."""
    x, y = x.detach(), y.detach()
    rows = F.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride) if x.dim() == 4 else x[..., None]
    rows = rows.transpose(1, 2).flatten(0, 1)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    return rows.double().numpy(), y.flatten(2).transpose(1, 2).flatten(0, 1).double().numpy()


def test_moments_are_sums_over_all_positions_whatever_the_batch_size():
    model, layer = network(), network()[3]
    x = model[:3](IMAGES)
    rows, outputs = explicit(layer, x, layer(x))
    for batch_size in (7, 40, 1000):
        sums = patches.moments(model, "3", IMAGES, samples=ALL, batch_size=batch_size)
        np.testing.assert_allclose(sums.gram, rows.T @ rows, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(sums.cross, rows.T @ outputs, rtol=1e-5, atol=1e-4)
        assert sums.energy == pytest.approx((outputs**2).sum())
    some = patches.moments(model, "3", IMAGES, outputs=torch.tensor([4, 1]), samples=ALL)
    np.testing.assert_allclose(some.cross, (rows.T @ outputs)[:, [4, 1]], rtol=1e-5, atol=1e-4)


def test_positions_are_drawn_per_image_without_repetition_and_from_the_seed():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    ramps = torch.arange(1.0, 37).reshape(1, 1, 6, 6).repeat(50, 1, 1, 1)
    model = nn.Sequential(layer)
    first, again, other = (patches.moments(model, "0", ramps, samples=5, seed=seed) for seed in (0, 0, 1))
    assert first.samples == 250
    assert torch.equal(first.gram, again.gram)
    assert not torch.equal(first.gram, other.gram)
    assert first.gram[0, 1] / 250 == pytest.approx(18.5, abs=2.5)  # uniform over the map: standard error .66
    whole = patches.moments(model, "0", ramps, samples=36)
    assert whole.gram[0, 1] == 50 * ramps[0].sum()  # each position once


# --- the solution -----------------------------------------------------------------------------------------------------


def remove(model, removals):
    return surgery.remove(model, IMAGES[:2], removals)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_equal_lstsq(bias):
    model = network(bias=bias)
    pruned, removal = remove(model, {"0": [1, 4]})
    fitted, _ = reconstruction.least_squares(model, pruned, removal, IMAGES, samples=ALL, ridge=1e-12)
    rows, _ = explicit(pruned[3], pruned[:3](IMAGES), pruned[:4](IMAGES))
    _, targets = explicit(model[3], model[:3](IMAGES), model[:4](IMAGES))
    solution = np.linalg.lstsq(rows if bias else rows[:, :-1], targets, rcond=None)[0]
    np.testing.assert_allclose(fitted[3].weight.detach().flatten(1), solution[: rows.shape[1] - 1].T, atol=1e-4)
    if bias:
        np.testing.assert_allclose(fitted[3].bias.detach(), solution[-1], atol=1e-4)
    else:
        assert fitted[3].bias is None
    assert torch.equal(fitted[0].weight, pruned[0].weight)
    assert torch.equal(fitted[6].weight, pruned[6].weight)


def test_the_ridge_pulls_towards_the_weights_that_were_there():
    """(G + ρI)Δ = R − GΘ₀ is the least squares of [X; √ρ I] Δ on [Y − XΘ₀; 0], without a row for the bias."""
    model = network()
    pruned, removal = remove(model, {"0": [1, 4]})
    fitted, _ = reconstruction.least_squares(model, pruned, removal, IMAGES, samples=ALL, ridge=0.3)
    rows, outputs = explicit(pruned[3], pruned[:3](IMAGES), pruned[:4](IMAGES))
    _, targets = explicit(model[3], model[:3](IMAGES), model[:4](IMAGES))
    size = rows.shape[1]
    rho = 0.3 * (rows[:, :-1] ** 2).sum(0).mean()
    penalty = np.sqrt(rho) * np.eye(size)[:-1]
    residual = np.concatenate([targets - outputs, np.zeros((size - 1, 5))])
    change = np.linalg.lstsq(np.concatenate([rows, penalty]), residual, rcond=None)[0]
    found = (fitted[3].weight - pruned[3].weight).detach().flatten(1)
    np.testing.assert_allclose(found, change[:-1].T, atol=1e-5)
    np.testing.assert_allclose((fitted[3].bias - pruned[3].bias).detach(), change[-1], atol=1e-5)


def test_second_layer_reads_the_refitted_first_and_aims_at_the_original():
    model = network()
    pruned, removal = remove(model, {"0": [1, 4], "3": [0]})
    fitted, report = reconstruction.least_squares(model, pruned, removal, IMAGES, samples=ALL, ridge=1e-12)
    assert [row.layer for row in report.rows] == ["3", "6"]
    # Layer 3: its kept outputs in the original, from its inputs in the pruned network.
    rows, _ = explicit(pruned[3], pruned[:3](IMAGES), pruned[:4](IMAGES))
    _, targets = explicit(model[3], model[:3](IMAGES), model[:4](IMAGES))
    solution = np.linalg.lstsq(rows, targets[:, 1:], rcond=None)[0]
    np.testing.assert_allclose(fitted[3].weight.detach().flatten(1), solution[:-1].T, atol=1e-4)
    # Layer 6, underdetermined (65 unknowns, 40 images): the logits of the original are met exactly.
    torch.testing.assert_close(fitted(IMAGES), model(IMAGES), atol=1e-3, rtol=0)
    assert (pruned(IMAGES) - model(IMAGES)).abs().max() > 0.05
    assert "'6' has 40 positions for 65 unknowns" in report.warnings[0]


@pytest.mark.parametrize("bias", [True, False])
def test_removed_combinations_of_kept_channels_are_recovered_exactly(bias):
    """No activation function in between, so a combination of filters is a combination of channels."""
    torch.manual_seed(0)
    first, reader = nn.Conv2d(1, 6, 3, bias=False), nn.Conv2d(6, 5, 3, bias=bias)
    mixing = torch.randn(2, 4)
    first.weight.data[4:] = torch.einsum("rk,kcij->rcij", mixing, first.weight.data[:4])
    model = nn.Sequential(first, reader, nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 3)).eval()
    pruned, removal = remove(model, {"0": [4, 5]})
    fitted, report = reconstruction.least_squares(model, pruned, removal, IMAGES, samples=16, ridge=1e-10)
    assert report.rows[0].error_before > 0.05
    assert report.rows[0].error_after < 1e-9
    fresh = torch.randn(20, 1, 8, 8)
    torch.testing.assert_close(fitted(fresh), model(fresh), atol=1e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    ridge=st.floats(-9, 3).map(lambda power: 10.0**power),
    samples=st.integers(1, 16),
    images=st.integers(1, 12),
    bias=st.booleans(),
)
def test_the_error_never_grows(seed, ridge, samples, images, bias):
    model = network(seed, bias)
    pruned, removal = remove(model, {"0": [seed % 6], "3": [2]})
    _, report = reconstruction.least_squares(
        model, pruned, removal, IMAGES[:images], samples=samples, ridge=ridge, seed=seed
    )
    for row in report.rows:
        assert row.samples == images * (samples if row.layer == "3" else 1)
        assert row.error_after <= row.error_before * (1 + 1e-6) + 1e-9


def test_inputs_that_are_always_zero_leave_the_weights_alone():
    model = network()
    model[1].weight.data[:] = 0
    model[1].bias.data[:] = -1
    pruned, removal = remove(model, {"0": [1]})
    fitted, _ = reconstruction.least_squares(model, pruned, removal, IMAGES)
    assert torch.equal(fitted[3].weight, pruned[3].weight)


class Backwards(nn.Module):
    """Its layers run in the reverse of the order in which they are defined."""

    def __init__(self):
        super().__init__()
        self.c, self.b, self.a = nn.Linear(5, 3), nn.Linear(6, 5), nn.Linear(8, 6)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).relu())


def test_layers_are_refitted_in_the_order_in_which_they_run():
    torch.manual_seed(0)
    model, x = Backwards(), torch.randn(100, 8)
    pruned, removal = surgery.remove(model, x[:2], {"a": [0], "b": [1, 2]})
    fitted, report = reconstruction.least_squares(model, pruned, removal, x)
    assert [row.layer for row in report.rows] == ["b", "c"]
    assert [(row.weights, row.kept) for row in report.rows] == [(30, 15), (15, 9)]
    assert (fitted(x) - model(x)).square().sum() < (pruned(x) - model(x)).square().sum()


def test_grouped_convolutions_are_skipped_with_a_reason():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1)).eval()
    model = nn.Sequential(*model, nn.Flatten(), nn.Linear(64, 2))
    pruned, removal = remove(model, {"0": [3]})
    _, report = reconstruction.least_squares(model, pruned, removal, IMAGES)
    assert [row.layer for row in report.rows] == ["3"]
    assert report.skipped == {"2": "a convolution in 5 groups: no output reads all channels"}
    assert "Skipped (a convolution in 5 groups" in str(report)


class Auxiliary(nn.Module):
    """A second classifier that runs in training mode only."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.aux = nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_layers_that_run_in_training_only_are_skipped_with_a_reason():
    model, x = Auxiliary().eval(), torch.randn(50, 8)
    pruned, removal = surgery.remove(model, x[:2], {"stem": [1]})
    fitted, report = reconstruction.least_squares(model, pruned, removal, x)
    assert [row.layer for row in report.rows] == ["head"]
    assert report.skipped == {"aux": "it does not run in evaluation mode"}
    assert torch.equal(fitted.aux.weight, pruned.aux.weight)


def test_models_are_left_alone_and_the_result_is_in_evaluation_mode():
    model = network().train()
    pruned, removal = remove(model, {"0": [1, 4]})
    before, pruned_before = state(model), state(pruned)
    fitted, _ = reconstruction.least_squares(model, pruned, removal, IMAGES)
    assert same(model, before)
    assert same(pruned, pruned_before)
    assert model.training
    assert pruned.training
    assert not any(module.training for module in fitted.modules())
    assert not model[3]._forward_hooks


def test_bad_arguments_are_refused():
    model = network()
    pruned, removal = remove(model, {"0": [1]})
    for options, message in [
        ({"ridge": 0}, "ridge must be positive and finite, got 0"),
        ({"ridge": float("nan")}, "ridge must be positive and finite, got nan"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            reconstruction.least_squares(model, pruned, removal, IMAGES, **options)
    with pytest.raises(ValueError, match="images is empty"):
        reconstruction.least_squares(model, pruned, removal, IMAGES[:0])
    with pytest.raises(ValueError, match="'0' is not called"):
        watching.calls(Uncalled(), "0", IMAGES)


class Uncalled(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 2))

    def forward(self, x):
        return x


def test_half_of_a_layer_of_the_real_network(fashion):
    """L1 selection of half of the third block's input, then least squares from 400 images without labels."""
    images, labels = fashion
    model = zoo.load("vgg-small")
    norms = model.get_submodule("features.10").weight.abs().sum((1, 2, 3))
    pruned, removal = surgery.remove(model, torch.zeros(1, 1, 28, 28), {"features.10": norms.argsort()[:16]})
    fitted, report = reconstruction.least_squares(model, pruned, removal, images[:400])
    (row,) = report.rows
    assert row.layer == "features.14"
    assert row.error_after < 0.25 * row.error_before
    unseen = images[400:], labels[400:]
    assert accuracy(pruned, *unseen) < 0.85
    assert accuracy(fitted, *unseen) > 0.9


# --- batch normalization ----------------------------------------------------------------------------------------------


def test_batch_norm_statistics_are_averages_over_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    before = state(model)
    found = recalibrate_batch_norm(model, IMAGES, batch_size=15)  # two batches; ten images are left out
    first, second = [], []
    for batch in IMAGES[:15], IMAGES[15:30]:
        x = model[0](batch)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        first.append((mean, x.var((0, 2, 3))))
        x = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + model[1].eps).sqrt()
        y = model[3](x)  # no dropout
        second.append((y.mean((0, 2, 3)), y.var((0, 2, 3))))
    for norm, batches in ((found[1], first), (found[4], second)):
        torch.testing.assert_close(norm.running_mean, sum(mean for mean, _ in batches) / 2)
        torch.testing.assert_close(norm.running_var, sum(var for _, var in batches) / 2)
        assert norm.momentum == 0.1
    assert same(model, before)
    assert model.training
    assert not any(module.training for module in found.modules())


def test_few_images_make_one_batch():
    model = network()
    found = recalibrate_batch_norm(model, IMAGES, batch_size=1000)
    torch.testing.assert_close(found[1].running_mean, model[0](IMAGES).mean((0, 2, 3)))


def test_recalibration_repairs_statistics_that_are_wrong(fashion):
    images, labels = fashion
    model = zoo.load("vgg-small")
    broken = copy.deepcopy(model)
    for module in broken.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 1
    assert accuracy(broken, images, labels) < 0.5
    assert accuracy(recalibrate_batch_norm(broken, images[:500]), images, labels) > 0.9


def test_recalibration_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="Sequential has no batch normalization"):
        recalibrate_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)), IMAGES)
    with pytest.raises(ValueError, match="images is empty"):
        recalibrate_batch_norm(network(), IMAGES[:0])
