import inspect
import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network.recording import LayerRecord, record
from compress_lib.pruning import criteria
from compress_lib.pruning.criteria import ENTROPY_BINS
from compress_lib.pruning.weights import magnitude

LAYERS = {
    "linear": (nn.Linear(9, 6), ()),
    "conv1d": (nn.Conv1d(4, 6, 3), (8,)),
    "conv2d": (nn.Conv2d(4, 6, 3, bias=False), (5, 7)),
    "conv3d": (nn.Conv3d(2, 6, 2), (3, 4, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (5, 5)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), (5, 5)),
}
NEEDS = {"apoz": "images", "entropy": "images", "hrank": "images", "taylor": "images and labels"}
EXACT = [name for name in criteria.ALL if name != "random"]


@pytest.fixture(params=LAYERS)
def observed(request):
    """A layer and an observation of 12 images after a ReLU, the last channel silent."""
    torch.manual_seed(0)
    layer, size = LAYERS[request.param]
    activations = torch.randn(12, 6, *size).relu()
    activations[:, -1] = 0
    norm = nn.BatchNorm2d(6)
    norm.weight.data = torch.tensor([0.5, -2.0, 1.0, 0.0, -0.25, 3.0])
    return layer, LayerRecord(activations, torch.randn_like(activations), norm)


def maps(values: torch.Tensor, channel: int) -> np.ndarray:
    """``(images, positions)`` of one channel."""
    return values[:, channel].numpy().astype(np.float64).reshape(len(values), -1)


def filter_rows(layer: nn.Module) -> np.ndarray:
    return layer.weight.detach().numpy().astype(np.float64).reshape(len(layer.weight), -1)


def close(scores: torch.Tensor, expected) -> bool:
    assert (scores.dtype, scores.shape, scores.requires_grad) == (torch.float32, (len(expected),), False)
    return np.allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-6)


# --- against other implementations ------------------------------------------------------------------------------------


def test_norms(observed):
    layer, _ = observed
    rows = filter_rows(layer)
    assert close(criteria.l1_norm(layer), [sum(abs(w) for w in row) for row in rows])
    assert close(criteria.l2_norm(layer), [math.sqrt(sum(w * w for w in row)) for row in rows])


def test_geometric_median(observed):
    layer, _ = observed
    distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(filter_rows(layer)))
    assert close(criteria.geometric_median(layer), distances.sum(1))


def test_the_lowest_filter_is_the_one_nearest_the_geometric_median():
    """The paper's argument, with the median found by Weiszfeld's iteration."""
    torch.manual_seed(3)
    layer = nn.Conv2d(3, 9, 3)
    rows = filter_rows(layer)
    rows[4] = rows.mean(0) + 1e-3  # one filter is much closer to the middle than the others
    layer.weight.data = torch.tensor(rows, dtype=torch.float32).view_as(layer.weight)
    median = rows.mean(0) + 1e-9
    for _ in range(500):
        weights = 1 / np.maximum(np.linalg.norm(rows - median, axis=1), 1e-12)
        median = weights @ rows / weights.sum()
    nearest = np.linalg.norm(rows - median, axis=1).argmin()
    assert criteria.geometric_median(layer).argmin() == nearest == 4


def test_equal_filters_are_no_distance_apart():
    layer = nn.Linear(50, 40)
    layer.weight.data[:] = layer.weight.data[0].clone()
    assert torch.equal(criteria.geometric_median(layer), torch.zeros(40))


def test_batch_norm_scale(observed):
    layer, data = observed
    assert close(criteria.batch_norm_scale(layer, data), [0.5, 2.0, 1.0, 0.0, 0.25, 3.0])


def test_apoz(observed):
    layer, data = observed
    expected = [1 - (maps(data.activations, c) == 0).mean() for c in range(6)]
    assert close(criteria.apoz(layer, data), expected)
    assert expected[-1] == 0 < expected[0] < 1


def test_entropy(observed):
    layer, data = observed
    means = np.stack([maps(data.activations, c).mean(1) for c in range(6)])
    counts = [np.histogram(row, ENTROPY_BINS, (means.min(), means.max()))[0] for row in means]
    assert all(row.sum() == 12 for row in counts)
    assert close(criteria.entropy(layer, data), [scipy.stats.entropy(row) for row in counts])


def test_entropy_by_hand():
    """One channel in one bin, one in two, one in four bins equally, with the ends of the range occupied."""
    activations = torch.tensor([[5.0, 0, 0], [5, 0, 10], [5, 10, 3], [5, 10, 7]])
    found = criteria.entropy(nn.Linear(2, 3), LayerRecord(activations))
    assert close(found, [0, math.log(2), math.log(4)])
    assert not criteria.entropy(nn.Linear(2, 3), LayerRecord(torch.full((4, 3), 7.0))).any()


def test_hrank(observed):
    layer, data = observed
    values = data.activations.numpy()
    width = values.shape[-1] if values.ndim > 2 else 1
    expected = [np.mean([np.linalg.matrix_rank(m.reshape(-1, width)) for m in values[:, c]]) for c in range(6)]
    assert close(criteria.hrank(layer, data), expected)


def test_hrank_of_planted_ranks():
    torch.manual_seed(0)
    ranks = [[0, 3, 7], [1, 1, 1], [4, 2, 6]]  # of each image and channel
    activations = torch.stack(
        [torch.stack([torch.randn(9, r) @ torch.randn(r, 8) for r in channels]) for channels in ranks]
    )
    assert close(criteria.hrank(nn.Conv2d(2, 3, 3), LayerRecord(activations)), [5 / 3, 2, 14 / 3])


def test_on_a_linear_layer_rank_counts_what_apoz_counts():
    activations = torch.randn(20, 6).relu()
    layer, data = nn.Linear(3, 6), LayerRecord(activations)
    assert torch.allclose(criteria.hrank(layer, data), criteria.apoz(layer, data))


def test_taylor(observed):
    layer, data = observed
    expected = []
    for c in range(6):
        products = maps(data.activations, c) * maps(data.gradients, c)
        expected.append(np.mean([abs(sum(row) / len(row)) for row in products]))
    assert close(criteria.taylor(layer, data), expected)


# --- what Taylor's criterion means ------------------------------------------------------------------------------------


@pytest.fixture
def small():
    """Two convolutions with ReLU between them, no bias, and images with labels; double precision."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.ReLU(), nn.Conv2d(5, 3, 3, bias=False), nn.Flatten(), nn.Linear(48, 4)
    ).double()
    return model, torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


def test_taylor_by_the_weights(small):
    """By Euler's identity for ReLU and linear maps Σ_m a·∂ℓ/∂a = Σ w·∂ℓ/∂w, image by image."""
    model, images, labels = small
    expected = torch.zeros(5, dtype=torch.float64)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(image), label), [model[0].weight])
        expected += (model[0].weight * gradient).sum((1, 2, 3)).abs().detach() / 36 / 6
    assert close(criteria.taylor(model[0], record(model, images, labels)["0"]), expected.tolist())


def test_taylor_is_the_slope_of_closing_a_gate(small):
    model, images, labels = small
    data = record(model, images, labels)["0"]

    def losses(channel, gate):
        gates = torch.ones(5, 1, 1, dtype=torch.float64)
        gates[channel] = gate
        return F.cross_entropy(model[2:](data.activations * gates), labels, reduction="none")

    with torch.no_grad():
        slopes = [(losses(c, 1 + 1e-6) - losses(c, 1 - 1e-6)) / 2e-6 for c in range(5)]
    assert close(criteria.taylor(model[0], data), [s.abs().mean().item() / 36 for s in slopes])


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["linear", "conv1d", "conv2d"]), seed=st.integers(0, 2**16), name=st.sampled_from(EXACT))
def test_permuted_channels_have_permuted_scores(kind, seed, name):
    torch.manual_seed(seed)
    layer, size = LAYERS[kind]
    activations, order = torch.randn(8, 6, *size).relu(), torch.randperm(6)
    data = LayerRecord(activations, torch.randn_like(activations), nn.BatchNorm2d(6))
    nn.init.normal_(data.batch_norm.weight)
    permuted_norm = nn.BatchNorm2d(6)
    permuted_norm.weight.data = data.batch_norm.weight.data[order]
    permuted = type(layer)(*(9, 6) if kind == "linear" else (4, 6, 3))
    permuted.weight.data = layer.weight.data[order]
    permuted_data = LayerRecord(activations[:, order], data.gradients[:, order], permuted_norm)
    scores = criteria.ALL[name](layer, data)
    assert torch.allclose(criteria.ALL[name](permuted, permuted_data), scores[order], atol=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_images_may_come_in_any_order(observed, name):
    layer, data = observed
    order = torch.randperm(12)
    shuffled = LayerRecord(data.activations[order], data.gradients[order], data.batch_norm)
    assert torch.allclose(criteria.ALL[name](layer, shuffled), criteria.ALL[name](layer, data), atol=1e-6)


@pytest.mark.parametrize("name", ["l1_norm", "l2_norm", "geometric_median"])
def test_weights_of_twice_the_size_score_twice(observed, name):
    layer, _ = observed
    doubled = nn.Linear(9, 6)
    doubled.weight.data = -2 * layer.weight.data
    assert torch.allclose(criteria.ALL[name](doubled), 2 * criteria.ALL[name](layer))


def test_only_the_geometric_median_ignores_a_common_shift(observed):
    layer, _ = observed
    shifted = nn.Linear(9, 6)
    shifted.weight.data = layer.weight.data + torch.randn_like(layer.weight[0])
    assert torch.allclose(criteria.geometric_median(shifted), criteria.geometric_median(layer), atol=1e-5)
    assert not torch.allclose(criteria.l2_norm(shifted), criteria.l2_norm(layer), atol=1e-2)


def test_a_channel_that_is_scaled_and_scaled_back_later_keeps_its_score(observed):
    """a → c·a with g → g/c is the same function, but not for the entropy, which measures the swing of a channel."""
    layer, data = observed
    scale = torch.tensor([1.0, 2, 4, 0.5, 0.25, 8]).view(6, *[1] * (data.activations.dim() - 2))
    scaled = LayerRecord(data.activations * scale, data.gradients / scale)
    for name in ("apoz", "hrank", "taylor"):
        assert torch.allclose(criteria.ALL[name](layer, scaled), criteria.ALL[name](layer, data), atol=1e-6), name
    assert not torch.allclose(criteria.entropy(layer, scaled), criteria.entropy(layer, data), atol=1e-2)
    moved = LayerRecord(data.activations * 4 + 8)
    assert torch.allclose(criteria.entropy(layer, moved), criteria.entropy(layer, data), atol=1e-6)


@pytest.mark.parametrize("name", NEEDS)
def test_a_silent_channel_scores_nothing(observed, name):
    layer, data = observed
    scores = criteria.ALL[name](layer, data)
    assert scores[-1] == 0
    assert (scores[:-1] > 0).all()


def test_random_scores_follow_the_global_seed(observed):
    layer, _ = observed
    torch.manual_seed(5)
    first, second = criteria.random(layer), criteria.random(layer)
    torch.manual_seed(5)
    assert torch.equal(criteria.random(layer), first)
    assert not torch.equal(first, second)
    assert first.shape == (6,)
    assert ((first >= 0) & (first < 1)).all()


def test_removed_weights_do_not_count(network):
    masked, _ = magnitude.prune(network, 0.5)
    rows = masked[4].weight.detach().flatten(1)
    assert close(criteria.l1_norm(masked[4]), rows.abs().sum(1).tolist())
    assert (criteria.l1_norm(masked[4]) < criteria.l1_norm(network[4])).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    layer = nn.Linear(5000, 3).to(dtype)
    for name, order in (("l1_norm", 1), ("l2_norm", 2)):
        assert close(criteria.ALL[name](layer), np.linalg.norm(layer.weight.detach().double().numpy(), order, axis=1))


def test_all_holds_every_criterion_by_its_name():
    public = {name: item for name, item in vars(criteria).items() if inspect.isfunction(item) and name[0] != "_"}
    assert criteria.ALL == public


# --- on the real networks ---------------------------------------------------------------------------------------------


def test_norms_of_trained_filters_rank_alike_and_data_driven_ranks_are_stable(fashion):
    """Huang et al. 2021 for the norms; Lin et al. 2020 for the ranks from few images."""
    model, (images, _) = zoo.load("vgg-small"), fashion
    convolution = model.features[17]
    first, second = (record(model, images[i : i + 100], layers=["features.17"])["features.17"] for i in (0, 100))

    def alike(x, y):
        return scipy.stats.spearmanr(x.numpy(), y.numpy()).statistic

    assert alike(criteria.l1_norm(convolution), criteria.l2_norm(convolution)) > 0.95
    assert alike(criteria.l2_norm(convolution), criteria.geometric_median(convolution)) > 0.95
    assert alike(criteria.l1_norm(convolution), criteria.hrank(convolution, first)) < 0.5
    for name, least in (("apoz", 0.95), ("entropy", 0.75), ("hrank", 0.95)):
        function = criteria.ALL[name]
        assert alike(function(convolution, first), function(convolution, second)) > least, name


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "needs"), NEEDS.items())
@pytest.mark.parametrize("data", [None, LayerRecord()])
def test_missing_data(name, needs, data):
    with pytest.raises(ValueError, match=rf"{name} needs the layer's .*: pass data from recording.record with"):
        criteria.ALL[name](nn.Linear(2, 3), data)
    if name == "taylor":
        with pytest.raises(ValueError, match=f"taylor needs the layer's gradients: .* with {needs}"):
            criteria.taylor(nn.Linear(2, 3), LayerRecord(torch.randn(4, 3)))


@pytest.mark.parametrize("data", [None, LayerRecord(), LayerRecord(batch_norm=nn.BatchNorm2d(3, affine=False))])
def test_missing_normalization(data):
    with pytest.raises(ValueError, match="batch_norm_scale needs a batch normalization with scales"):
        criteria.batch_norm_scale(nn.Linear(2, 3), data)


def test_data_of_another_layer():
    with pytest.raises(ValueError, match="batch_norm has 4 scales; the layer has 3 output channels"):
        criteria.batch_norm_scale(nn.Linear(2, 3), LayerRecord(batch_norm=nn.BatchNorm1d(4)))
    for shape in ((5, 4), (5, 4, 3), (3,)):
        with pytest.raises(ValueError, match=r"data.activations has shape .*; the layer has 3 output channels"):
            criteria.apoz(nn.Linear(2, 3), LayerRecord(torch.randn(shape)))
    with pytest.raises(ValueError, match=r"data.gradients has shape \(2, 3\), data.activations \(4, 3\)"):
        criteria.taylor(nn.Linear(2, 3), LayerRecord(torch.randn(4, 3), torch.randn(2, 3)))


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_are_not_finite(name, value):
    values = torch.randn(4, 3, 2, 2)
    values[1, 2, 0, 0] = value
    with pytest.raises(ValueError, match=f"NaN or infinite values; {name} cannot rank"):
        criteria.ALL[name](nn.Conv2d(1, 3, 2), LayerRecord(values, torch.randn_like(values)))
    if name == "taylor":
        with pytest.raises(ValueError, match="data.gradients holds NaN"):
            criteria.taylor(nn.Conv2d(1, 3, 2), LayerRecord(torch.randn_like(values), values))


@pytest.mark.parametrize("name", criteria.ALL)
@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 2), "conv1"], ids=str)
def test_other_layers_are_refused(name, layer):
    data = LayerRecord(torch.randn(4, 3), torch.randn(4, 3), nn.BatchNorm1d(3))
    kind = layer.__class__.__name__
    with pytest.raises(TypeError, match=f"layer must be one of Linear, Conv1d, Conv2d, Conv3d, got {kind}"):
        criteria.ALL[name](layer, data)
