import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso, lars_path_gram
from torch import nn

from compress_lib.models import zoo
from compress_lib.network import watching
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import channel_lasso, consumers, reconstruction
from compress_lib.training import accuracy

ALL = 10**6
IMAGES = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def network(seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 1, bias=False),
        nn.Flatten(),
        nn.Linear(20, 4),
    ).eval()


def problem(seed, channels, samples=50, mixing=1.0):
    """Correlated channels and a noisy combination of them."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(samples, channels))
    z = z @ (np.eye(channels) + mixing * generator.normal(size=(channels, channels)))
    y = z @ generator.normal(size=channels) + generator.normal(size=samples)
    return z, y


def sums(z, y):
    return torch.from_numpy(z.T @ z), torch.from_numpy(z.T @ y)


def path(z, y):
    penalties, betas = zip(*channel_lasso.path(*sums(z, y)), strict=True)
    return np.array(penalties), torch.stack(betas).numpy()


# --- the path ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.integers(1, 12))
def test_the_path_equals_scikit_learn_where_it_bends(seed, channels):
    z, y = problem(seed, channels)
    penalties, betas = path(z, y)
    alphas, _, expected = lars_path_gram(z.T @ y, z.T @ z, n_samples=len(y), method="lasso")
    assert len(penalties) == len(alphas)
    np.testing.assert_allclose(penalties / len(y), alphas, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(betas, expected.T, rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.integers(2, 10), at=st.floats(0.01, 0.99))
def test_between_two_bends_the_line_is_the_lasso(seed, channels, at):
    z, y = problem(seed, channels)
    penalties, betas = path(z, y)
    index = seed % (len(penalties) - 1)
    penalty = (1 - at) * penalties[index] + at * penalties[index + 1]
    beta = (1 - at) * betas[index] + at * betas[index + 1]
    peer = Lasso(penalty / len(y), fit_intercept=False, tol=1e-12, max_iter=10**6).fit(z, y)
    np.testing.assert_allclose(beta, peer.coef_, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.integers(1, 15), samples=st.integers(1, 20))
def test_optimality_also_with_fewer_samples_than_channels(seed, channels, samples):
    """``r − Gβ`` is μ sign(β) where β is not zero, and within ±μ where it is: the subgradient contains zero."""
    z, y = problem(seed, channels, samples)
    penalties, betas = path(z, y)
    assert (np.diff(penalties) <= 0).all()
    assert penalties[-1] == 0
    scale = penalties[0]
    for penalty, beta in zip(penalties, betas, strict=True):
        correlation = z.T @ (y - z @ beta)
        assert (abs(correlation) <= penalty + 1e-6 * scale).all()
        used = beta != 0
        np.testing.assert_allclose(correlation[used], penalty * np.sign(beta[used]), atol=1e-6 * scale)


def test_a_channel_can_leave_again():
    for seed in range(200):
        _, betas = path(*problem(seed, 6, mixing=2.0))
        sizes = (betas != 0).sum(1)
        if (np.diff(sizes) < 0).any():
            break
    z, y = problem(seed, 6, mixing=2.0)
    _, betas = path(z, y)
    assert (np.diff((betas != 0).sum(1)) < 0).any(), "no example found"
    np.testing.assert_allclose(betas[-1], np.linalg.lstsq(z, y, rcond=None)[0], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_of_two_equal_channels_one_is_used(scale):
    z, y = problem(0, 5)
    z = scale * np.concatenate([z, z[:, 2:3], -z[:, 3:4]], 1)
    _, betas = path(z, y)
    used = (betas != 0).any(0)
    assert used[[2, 5]].sum() == 1
    assert used[[3, 6]].sum() == 1
    np.testing.assert_allclose(z @ betas[-1], z @ np.linalg.lstsq(z, y, rcond=None)[0], rtol=1e-5)


def test_orthogonal_channels_enter_in_the_order_of_their_correlations_ties_included():
    gram = torch.eye(5, dtype=torch.float64)
    correlation = torch.tensor([1.0, -3.0, 2.0, 2.0, 0.5], dtype=torch.float64)
    for count, expected in enumerate([[1], [1, 2], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4]], 1):
        assert channel_lasso.select(gram, correlation, count).tolist() == expected


# --- the choice -------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_the_choice_is_what_raising_the_penalty_leaves(seed, data):
    """The paper's search: the penalty rises until at most ``count`` channels are in use."""
    z, y = problem(seed, 8, mixing=0.3)
    count = data.draw(st.integers(1, 7))
    found = channel_lasso.select(*sums(z, y), count).tolist()
    sizes = (path(z, y)[1] != 0).sum(1)
    peer = Lasso(abs(z.T @ y).max() / len(y), fit_intercept=False, tol=1e-10, max_iter=10**5)
    low, high = 0.0, peer.alpha
    for _ in range(30):
        peer.alpha = (low + high) / 2
        crowded = np.count_nonzero(peer.fit(z, y).coef_) > count
        low, high = (peer.alpha, high) if crowded else (low, peer.alpha)
    peer.alpha = high
    used = np.flatnonzero(peer.fit(z, y).coef_)
    if (np.diff(sizes) == 1).all():  # no channel leaves, so that there is one answer
        assert used.tolist() == found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), samples=st.integers(1, 12), count=st.integers(1, 8))
def test_exactly_as_many_as_asked_for(seed, samples, count):
    found = channel_lasso.select(*sums(*problem(seed, 8, samples)), count)
    assert len(found.unique()) == count
    assert torch.equal(found, found.sort().values)


def test_channels_that_the_fit_does_not_need_come_last_the_larger_first():
    z, y = problem(0, 3)
    z = np.concatenate([z, 0.5 * z[:, :1], np.zeros((50, 1))], 1)
    gram, correlation = sums(z, y)
    assert set(channel_lasso.select(gram, correlation, 3).tolist()) <= {0, 1, 2, 3}
    assert channel_lasso.select(gram, correlation, 4).tolist() == [0, 1, 2, 3]
    silent = torch.zeros(4, dtype=torch.float64)
    assert channel_lasso.select(torch.diag(torch.tensor([1.0, 3, 2, 0]).double()), silent, 2).tolist() == [1, 2]


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=f"count must be from 1 to 3, got {count}"):
        channel_lasso.select(torch.eye(3).double(), torch.ones(3).double(), count)


# --- the method -------------------------------------------------------------------------------------------------------


def contributions(model, reference, name, seen=None):
    """Z_c of a convolution for W_c of norm 1, and its target without the bias, by position and output."""
    layer = model.get_submodule(name)
    ((x, _),), ((_, y),) = watching.calls(model, name, IMAGES), watching.calls(reference, name, IMAGES)
    columns = []
    for c in range(x.shape[1]):
        weight = layer.weight[:, c : c + 1]
        z = nn.functional.conv2d(x[:, c : c + 1], weight / (weight.norm() or 1), None, layer.stride, layer.padding)
        columns.append(z.detach().flatten().double())
    bias = 0 if layer.bias is None else layer.bias.view(1, -1, 1, 1)
    return torch.stack(columns, 1).numpy(), (y - bias).detach().flatten().double().numpy()


def test_filters_count_with_norm_one():
    model = network()
    model[3].weight.data *= torch.logspace(-1, 1, 8).view(1, -1, 1, 1)
    z, y = contributions(model, model, "3")
    expected = channel_lasso.select(*sums(z, y), 4)
    _, report = channel_lasso.prune(model, IMAGES[:2], {"0": 0.5}, IMAGES, samples=ALL)
    assert torch.equal(report.kept_outputs["0"], expected)
    scaled = z * model[3].weight.detach().transpose(0, 1).flatten(1).norm(dim=1).numpy()
    assert not torch.equal(channel_lasso.select(*sums(scaled, y), 4), expected)


def test_without_reconstruction_the_weights_stay():
    model = network()
    pruned, report = channel_lasso.prune(model, IMAGES[:2], {"0": 0.5}, IMAGES, reconstruct=False)
    gone = [c for c in range(8) if c not in report.kept_outputs["0"].tolist()]
    plain, _ = surgery.remove(model, IMAGES[:2], {"0": gone})
    assert torch.equal(pruned[3].weight, plain[3].weight)
    assert report.title == "Channel pruning by LASSO"


def test_layers_in_turn_with_least_squares_in_between():
    """The second choice reads the network with the first refit, and aims at the outputs of the original."""
    model = network()
    pruned, report = channel_lasso.prune(model, IMAGES[:2], {"3": 0.5, "0": 0.5}, IMAGES, samples=ALL, ridge=1e-10)
    z, y = contributions(model, model, "3")
    kept = channel_lasso.select(*sums(z, y), 4)
    assert torch.equal(report.kept_outputs["0"], kept)
    gone = [c for c in range(8) if c not in kept.tolist()]
    smaller, removal = surgery.remove(model, IMAGES[:2], {"0": gone})
    fitted, _ = reconstruction.least_squares(model, smaller, removal, IMAGES, samples=ALL, ridge=1e-10)
    z, y = contributions(fitted, model, "6")
    kept = channel_lasso.select(*sums(z, y), 3)
    assert torch.equal(report.kept_outputs["3"], kept)
    torch.testing.assert_close(pruned[3].weight, fitted[3].weight[kept], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(pruned[3].bias, fitted[3].bias[kept], atol=1e-4, rtol=1e-3)
    rows = torch.stack([pruned[:6](IMAGES)[:, c].flatten() for c in range(3)], 1).detach().double().numpy()
    targets = model[:7](IMAGES).transpose(0, 1).flatten(1).T.detach().double().numpy()
    solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(pruned[6].weight.detach().flatten(1), solution.T, rtol=1e-3, atol=1e-4)
    assert report.skipped == {"6": "not named", "8": "not named"}


def test_norms_are_over_all_consumers_and_one_where_nothing_reads():
    left, right = nn.Conv2d(3, 2, 2), nn.Linear(8, 5)
    left.weight.data[:, 1] = 0
    right.weight.data[:, 2:4] = 0
    units = {"0": torch.tensor([0, 1, -1]), "1": torch.tensor([0, 0, 1, 1, 2, 2, -1, -1])}
    candidate = consumers.Candidate("x", surgery.Group(3, {}, units, {}))
    norms = channel_lasso._norms(nn.Sequential(left, right), candidate)
    first = left.weight[:, 0].square().sum() + right.weight[:, :2].square().sum()
    expected = torch.stack([first.sqrt(), torch.tensor(1.0), right.weight[:, 4:6].norm()])
    torch.testing.assert_close(norms, expected.detach().double())


def test_the_model_is_left_alone():
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned, _ = channel_lasso.prune(model, IMAGES[:2], 0.5, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not pruned.training


@pytest.mark.parametrize(
    "options, message", [({"fraction": 1.0}, r"fraction must be in \[0, 1\), got 1.0"), ({"ridge": 0}, "ridge must be")]
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        channel_lasso.prune(network(), IMAGES[:2], **({"fraction": 0.5, "images": IMAGES} | options))


def test_half_of_a_layer_of_the_real_network(fashion):
    images, labels = fashion
    model, example = zoo.load("vgg-small"), torch.zeros(1, 1, 28, 28)
    pruned, report = channel_lasso.prune(model, example, {"features.10": 0.5}, images[:400])
    assert len(report.kept_outputs["features.10"]) == 16
    assert accuracy(pruned, images[400:], labels[400:]) > 0.88
