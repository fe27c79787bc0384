import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import kmeans
from compress_lib.quantization.codebooks.kmeans import SharedWeights
from compress_lib.quantization.codebooks.sorted_weights import SortedWeights

INITS = ("linear", "density", "random")


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def start_of(weights, k, init):
    """Where k-means starts, as scikit-learn takes it."""
    if init == "linear":
        start = torch.linspace(weights.min(), weights.max(), k, dtype=weights.dtype)
    else:
        start = weights.sort().values[[len(weights) * (2 * i + 1) // (2 * k) for i in range(k)]]
    return start[:, None].numpy()


values = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-(2.0**100), 2.0**100, width=32)), min_size=1, max_size=40
).map(lambda numbers: torch.tensor(numbers, dtype=torch.float32))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 20), nn.ReLU(), nn.Linear(20, 10)
    )


# --- k-means ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    weights=values, data=st.data(), init=st.sampled_from(INITS), dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_the_result_is_a_fixed_point_by_brute_force(weights, data, init, dtype):
    weights = weights.to(dtype)
    k = data.draw(st.integers(1, len(weights.unique())))
    centroids, codes = kmeans.cluster(weights, k, init=init, seed=data.draw(st.integers(0, 9)))
    assert centroids.shape == (k,)
    assert centroids.dtype == dtype
    assert centroids.isfinite().all()
    assert (centroids.diff() > 0).all()
    assert codes.shape == weights.shape
    assert codes.unique().tolist() == list(range(k))
    distances = (weights.double()[:, None] - centroids.double()).abs()
    torch.testing.assert_close(
        distances.gather(1, codes.long()[:, None])[:, 0],
        distances.min(1).values,
        rtol=0,
        atol=1e-15 * weights.abs().max().item(),
    )
    median = weights.sort().values[len(weights) // 2].item()
    for index, centroid in enumerate(centroids):
        members = weights[codes == index].double()
        mean = members.mean().item()
        rounding = 1e-7 if dtype == torch.float32 else 1e-15
        far = (members - median).abs().max().item()  # the digits that sums of distances to the median keep
        assert abs(centroid.item() - mean) <= rounding * abs(mean) + 1e-13 * far + 1e-45  # half a subnormal step


@pytest.mark.parametrize(
    ("init", "k"), [("linear", 2), ("linear", 5), ("linear", 8), ("density", 2), ("density", 16), ("density", 300)]
)
def test_equal_to_scikit_learn_from_the_same_start(init, k):
    """Where no cluster is ever empty: scikit-learn has another rule for those."""
    weights = normal(3000, dtype=torch.float64)
    start = start_of(weights, k, init)
    peer = KMeans(k, init=start, n_init=1, tol=0, max_iter=10_000).fit(weights[:, None].numpy())
    centroids, codes = kmeans.cluster(weights, k, init=init)
    np.testing.assert_allclose(centroids.numpy(), peer.cluster_centers_[:, 0], rtol=0, atol=1e-12)
    assert np.array_equal(codes.numpy(), peer.labels_)
    assert kmeans.sse(weights, centroids, codes) <= peer.inertia_ * (1 + 1e-12)


@pytest.mark.parametrize("k", [4, 16])
def test_at_scikit_learns_default_tolerance_our_error_is_not_higher(k):
    weights = normal(20_000)
    peer = KMeans(k, init=start_of(weights, k, "linear"), n_init=1).fit(weights[:, None].numpy())
    assert kmeans.sse(weights, *kmeans.cluster(weights, k)) <= peer.inertia_ * (1 + 1e-6)


@pytest.mark.parametrize("init", INITS)
def test_scikit_learn_finds_nothing_to_improve(init):
    weights = normal(2000, seed=3, dtype=torch.float64)
    centroids, codes = kmeans.cluster(weights, 32, init=init)
    peer = KMeans(32, init=centroids[:, None].numpy(), n_init=1, tol=0).fit(weights[:, None].numpy())
    assert np.array_equal(peer.labels_, codes.numpy())
    assert kmeans.sse(weights, centroids, codes) == pytest.approx(peer.inertia_, rel=1e-9)


def test_one_step_from_each_start_by_hand():
    weights = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 30])
    # linear: 0, 15, 30; one step: the means of {0 … 6} less those nearer to 15 (none), which is split, and of {30}
    assert kmeans.cluster(weights, 2, max_iterations=1)[0].tolist() == [3, 30]
    assert kmeans.cluster(weights, 3, max_iterations=1)[0].tolist() == [1, 4.5, 30]
    # density: the weights at 1/4 and 3/4 of the eight, 2 and 6; parted at 4
    assert kmeans.cluster(weights, 2, init="density", max_iterations=1)[0].tolist() == [2, pytest.approx(41 / 3)]


def test_random_starts_are_distinct_weights_and_follow_the_seed():
    weights = torch.tensor([0.0] * 50 + [1, 2, 3, 4])
    for seed in range(5):
        centroids, _ = kmeans.cluster(weights, 5, init="random", seed=seed)
        assert centroids.tolist() == [0, 1, 2, 3, 4]
    weights = normal(500)
    found = [kmeans.cluster(weights, 8, init="random", seed=seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(found[0], found[1])
    assert any(not torch.equal(found[0], other) for other in found[2:])


def test_every_distinct_weight_its_own_centroid():
    weights = torch.tensor([[2.0, -1, 2], [0.5, 0, -1]])
    for init in INITS:
        centroids, codes = kmeans.cluster(weights, 4, init=init)
        assert centroids.tolist() == [-1, 0, 0.5, 2]
        assert torch.equal(kmeans.reconstruct(centroids, codes), weights)
        assert kmeans.sse(weights, centroids, codes) == 0


def test_constant_weights_and_one_cluster():
    assert kmeans.cluster(torch.full((3, 2), 0.1), 1)[0].tolist() == [torch.tensor(0.1).item()]
    weights = normal(1000, dtype=torch.float64)
    centroids, codes = kmeans.cluster(weights, 1)
    assert centroids.item() == pytest.approx(weights.mean().item(), abs=1e-14)
    assert kmeans.sse(weights, centroids, codes) == pytest.approx(weights.var(correction=0).item() * 1000)


def test_a_far_outlier_does_not_blur_the_others():
    weights = torch.cat([normal(1000, dtype=torch.float64), torch.tensor([1e15, -1e15], dtype=torch.float64)])
    centroids, codes = kmeans.cluster(weights, 4)
    assert centroids[[0, 3]].tolist() == [-1e15, 1e15]
    for code in (1, 2):
        assert centroids[code].item() == pytest.approx(weights[codes == code].mean().item(), rel=1e-12)


def test_runs_without_empty_ones_cut_the_worst_first():
    line = SortedWeights(torch.tensor([0.0, 1, 10, 20, 40, 41]), 4)
    # the runs {}, {0, 1}, {}, {10, 20, 40, 41}: the errors are ½ and 700.75; the mean of the second is 27.75
    assert line.without_empty(np.array([0, 0, 2, 2, 6])).tolist() == [0, 1, 2, 4, 6]
    assert line.without_empty(np.array([0, 0, 2, 6])).tolist() == [0, 2, 4, 6]
    assert line.errors(np.array([0, 2, 6])).tolist() == pytest.approx([0.5, 700.75])


def test_runs_of_one_weight_are_exact_and_neighboring_numbers_can_be_parted():
    line = SortedWeights(normal(101, dtype=torch.float64) / 3, 2)
    assert np.array_equal(line.means(np.arange(102)), line.values)
    line = SortedWeights(torch.tensor([1, np.nextafter(1, 2)], dtype=torch.float64), 2)
    assert line.means(np.array([0, 2])) == 1  # their mean is not a number in between
    assert line.without_empty(np.array([0, 0, 2])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("k", "dtype"), [(256, torch.uint8), (257, torch.int16), (32768, torch.int16), (32769, torch.int32)]
)
def test_codes_have_the_narrowest_type_and_are_right_in_it(k, dtype):
    weights = torch.arange(40_000, dtype=torch.float32)[torch.randperm(40_000)].view(200, 200)
    centroids, codes = kmeans.cluster(weights, k, max_iterations=3)
    assert codes.dtype == dtype
    error = (kmeans.reconstruct(centroids, codes) - weights).abs()
    assert error.max() <= 40_000 / k


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    weights = normal(30, 20).to(dtype)
    centroids, codes = kmeans.cluster(weights, 8)
    expected = kmeans.cluster(weights.float(), 8)
    assert torch.equal(centroids, expected[0])
    assert torch.equal(codes, expected[1])


def test_shapes_strides_and_gradients_do_not_matter():
    weights = normal(6, 5, 4)
    _, codes = kmeans.cluster(weights, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        turned = kmeans.cluster(nn.Parameter(weights.permute(2, 0, 1)), 5)
    assert torch.equal(turned[1], codes.permute(2, 0, 1))
    assert not turned[0].requires_grad


@settings(max_examples=100, deadline=None)
@given(weights=values, data=st.data())
def test_a_tie_goes_to_the_lower_centroid_and_rounding_breaks_none(weights, data):
    centroids = data.draw(values).unique()
    codes = kmeans.nearest(weights, centroids)
    c = centroids.double()
    expected = (weights.double()[:, None] > (c[1:] + c[:-1]) / 2).sum(1)
    assert torch.equal(codes.long(), expected)
    assert kmeans.nearest(torch.tensor([1.0]), torch.tensor([0.0, 2.0])).item() == 0
    step = 2.0**-23  # the midpoint of these two is no float32, and the nearest that is one is the upper of them
    neighbors = torch.tensor([1 + step, 1 + 2 * step])
    assert kmeans.nearest(neighbors, neighbors).tolist() == [0, 1]


def test_bad_weights_and_arguments_are_refused():
    weights = torch.tensor([0.0, 1, 1, 2])
    with pytest.raises(ValueError, match=r"weights must not be empty, got shape \(0, 3\)"):
        kmeans.cluster(torch.empty(0, 3), 1)
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="weights must be finite"):
            kmeans.cluster(torch.tensor([1.0, bad, 2.0]), 2)
    for k in (0, -1, 4):
        with pytest.raises(ValueError, match=rf"k must be from 1 to 3, the number of distinct weights, got {k}"):
            kmeans.cluster(weights, k)
    with pytest.raises(TypeError, match="k must be an integer, got float"):
        kmeans.cluster(weights, 2.0)
    with pytest.raises(TypeError, match="weights must be a floating-point tensor, got torch.int64"):
        kmeans.cluster(torch.arange(4), 2)
    with pytest.raises(ValueError, match="init must be 'linear', 'density' or 'random', got 'kmeans"):
        kmeans.cluster(weights, 2, init="kmeans++")
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        kmeans.cluster(weights, 2, max_iterations=0)


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def test_gradient_of_a_centroid_is_the_sum_over_its_weights():
    model = network().double()
    pruned, _ = magnitude.prune(model, 0.5)
    shared, _ = kmeans.convert(pruned, 5)
    images, labels = normal(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    dense = kmeans.deploy(shared)
    for net in (shared, dense):
        F.cross_entropy(net(images), labels).backward()
    for i in (0, 4, 6):
        sharing = shared[i].parametrizations.weight[0]
        gradient = shared[i].parametrizations.weight.original.grad
        for code in range(5):
            mine = (sharing.codes == code) & sharing.mask
            torch.testing.assert_close(gradient[code], dense[i].weight.grad[mine].sum())


def test_gradient_by_finite_differences():
    shared, _ = kmeans.convert(nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)).double(), 4)
    images = normal(3, 2, 3, 3, dtype=torch.float64)
    names = [name for name, _ in shared.named_parameters() if name.endswith("original")]
    codebooks = tuple(shared.get_parameter(name).detach().clone().requires_grad_() for name in names)

    def loss(*books):
        return torch.func.functional_call(shared, dict(zip(names, books, strict=True)), images).square().sum()

    assert torch.autograd.gradcheck(loss, codebooks)


def test_the_codebook_is_the_parameter_and_training_it_keeps_codes_and_zeros():
    pruned, _ = magnitude.prune(network(), 0.8)
    removed = {name: ~mask for name, mask in masks.masks(pruned).items()}
    shared, _ = kmeans.convert(pruned, {"0": 3, "4": 16, "6": 8})
    assert [tuple(shared[i].parametrizations.weight.original.shape) for i in (0, 4, 6)] == [(3,), (16,), (8,)]
    before = {i: shared[int(i)].weight.detach().clone() for i in removed}
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    losses = []
    images, labels = normal(40, 1, 8, 8), torch.arange(40) % 10
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(shared(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for i, zero in removed.items():
        after = shared[int(i)].weight.detach()
        assert (after[zero] == 0).all()
        assert len(after[~zero].unique()) <= shared[int(i)].parametrizations.weight[0].k
        assert (after != before[i]).any()


def test_share_takes_what_kmeans_finds_of_the_weights_left():
    pruned, _ = magnitude.prune(network().double(), 0.6)  # double, where a mean taken otherwise differs
    state = {name: tensor.clone() for name, tensor in pruned.state_dict().items()}
    shared, report = kmeans.convert(pruned, {"0": 4, "6": 7}, init="density")
    for i, k in ((0, 4), (6, 7)):
        weight = pruned[i].weight.detach()
        expected, left = torch.zeros_like(weight), weight != 0
        centroids, codes = kmeans.cluster(weight[left], k, init="density")
        expected[left] = kmeans.reconstruct(centroids, codes)
        assert torch.equal(shared[i].weight, expected)
        (row,) = [row for row in report.rows if row.layer == str(i)]
        assert (row.weights, row.kept, row.centroids) == (weight.numel(), int(left.sum()), k)
        assert row.rmse == pytest.approx((expected - weight)[left].square().mean().sqrt().item(), rel=1e-5)
    assert report.skipped["4.weight"] == "no k given"
    assert list(masks.masks(shared)) == ["4"]  # a layer left alone keeps its mask
    assert report.skipped["0.bias"] == "biases are not clustered"
    assert report.skipped["1.weight"] == "BatchNorm2d parameters are not clustered"
    assert "Shared weights" in str(report)
    assert list(pruned.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in pruned.state_dict().items())
    assert list(masks.masks(pruned)) == ["0", "4", "6"]


def test_zeros_may_be_clustered_too():
    model = nn.Linear(10, 10)
    with torch.no_grad():
        model.weight[:, :7] = 0
    kept, row = kmeans.convert(model, 4)
    assert (kept.weight[:, :7] == 0).all()
    assert row.rows[0].kept == 30
    assert row.rows[0].sparsity == pytest.approx(0.7)
    clustered, row = kmeans.convert(model, 4, keep_zeros=False)
    assert row.rows[0].kept == 100
    assert (clustered.weight[:, :7] != 0).all()
    assert len(clustered.weight.unique()) == 4


def test_deploy_gives_back_an_ordinary_network_and_leaves_the_shared_one_working():
    model = network().eval()
    masked, _ = magnitude.prune(model, 0.5)
    shared, _ = kmeans.convert(masked, 8)
    images = normal(3, 1, 8, 8)
    output = shared(images)
    plain = kmeans.deploy(shared)
    again = kmeans.deploy(shared)
    torch.testing.assert_close(plain(images), output)
    assert torch.equal(shared(images), output)
    assert torch.equal(plain[4].weight, shared[4].weight)
    assert torch.equal(again[4].weight, plain[4].weight)
    assert [type(m) for m in plain.modules()] == [type(m) for m in model.modules()]
    assert list(plain.state_dict()) == list(model.state_dict())
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert not plain.training
    assert isinstance(plain[4].weight, nn.Parameter)
    # the network with masks, from which the shared one came, works, too
    masked(images)
    assert list(masks.masks(masked)) == ["0", "4", "6"]


def test_sharing_again_and_other_parametrizations():
    model = network()
    parametrizations.weight_norm(model[4])
    once, _ = kmeans.convert(model, {"4": 16, "6": 8})
    twice, _ = kmeans.convert(once, {"4": 4})
    assert [len(twice[i].parametrizations.weight) for i in (4, 6)] == [1, 1]
    assert [len(twice[i].weight.unique()) for i in (4, 6)] == [4, 8]
    assert len(once[4].weight.unique()) == 16
    assert len(model[4].parametrizations.weight) == 1
    model(normal(2, 1, 8, 8))


def test_modules_used_twice_alone_frozen_or_copied():
    linear = nn.Linear(6, 6)
    linear.weight.requires_grad_(False)
    masked, _ = magnitude.prune(nn.Sequential(linear, nn.ReLU(), linear), 0.5)
    shared, _ = kmeans.convert(masked, 3)
    assert shared[0] is shared[2]
    assert not shared[0].parametrizations.weight.original.requires_grad
    plain = kmeans.deploy(copy.deepcopy(shared))
    assert plain[0] is plain[2]
    assert type(plain[0]) is nn.Linear
    assert not plain[0].weight.requires_grad
    shared(normal(2, 6))
    alone, report = kmeans.convert(nn.Linear(6, 6), 3)
    assert [row.layer for row in report.rows] == [""]
    assert len(kmeans.deploy(alone).weight.unique()) == 3
    shared.load_state_dict(shared.state_dict())


def test_assigning_a_weight_gives_the_mean_of_each_code():
    codes, mask = torch.tensor([[0, 1, 1], [0, 2, 0]]), torch.tensor([[True, True, True], [True, True, False]])
    sharing = SharedWeights(codes.to(torch.uint8), mask, 4)
    assert sharing.right_inverse(torch.tensor([[1.0, 5, 7], [2, 9, 100]])).tolist() == [1.5, 6, 9, 0]
    shared, _ = kmeans.convert(nn.Linear(9, 9), 4)
    before = shared.weight.detach().clone()
    shared.weight = before
    torch.testing.assert_close(shared.weight, before)


def test_a_layer_without_weights_left_is_skipped_and_a_bad_one_named():
    model = network()
    with torch.no_grad():
        model[6].weight.zero_()
    _, report = kmeans.convert(model, 4)
    assert [row.layer for row in report.rows] == ["0", "4"]
    assert report.skipped["6.weight"] == "all its weights are zero"
    with pytest.raises(ValueError, match=r"layer '0': k must be from 1 to 36, the number of distinct weights, got 64"):
        kmeans.convert(model, 64)
    with pytest.raises(ValueError, match=r"k names \['5'\], which are not among .*\['0', '4', '6'\]"):
        kmeans.convert(model, {"5": 4})
    with pytest.raises(TypeError, match="layer '0': k must be an integer, got str"):
        kmeans.convert(model, "4")
    with torch.no_grad():
        model[4].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer '4': weights must be finite"):
        kmeans.convert(model, 4)


def test_at_the_rate_a_value_moves_by_the_mean_of_its_weights_gradients():
    """Of one layer whose values are equally common; a step of plain SGD."""
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1, 1, 2], [2, 2, 0, 0]]))  # the zeros take no part
    shared, _ = kmeans.convert(layer, 2)
    x = normal(5, 4)
    before = shared.weight.detach().clone()
    optimizer = torch.optim.SGD(shared.parameters(), kmeans.learning_rate(shared))
    shared(x).square().sum().backward()
    optimizer.step()
    gradient = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
    for value in (1, 2):
        where = before == value
        torch.testing.assert_close(shared.weight[where], value - gradient[where].mean().expand(3))
    with pytest.raises(ValueError, match="shared weights"):
        kmeans.learning_rate(layer)
