import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude

LAYERS = ["0", "4", "6"]


def linear(weight, bias=False) -> nn.Sequential:
    """A model of one linear layer, "0", with the given weights."""
    weight = torch.as_tensor(weight, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=bias))
    model[0].weight = nn.Parameter(weight)
    return model


# --- against torch.nn.utils.prune -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.123456, 0.9, 0.999])
def test_global_masks_equal_torch(unchanged, sparsity):
    ours = masks.masks(magnitude.prune(unchanged, sparsity)[0])
    peer = copy.deepcopy(unchanged)
    pairs = [(peer.get_submodule(name), "weight") for name in LAYERS]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=float(sparsity))
    for name in LAYERS:
        assert torch.equal(ours[name], peer.get_submodule(name).weight_mask.bool()), name


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.123456, 0.9, 0.99])
def test_layer_masks_equal_torch(unchanged, sparsity):
    ours = masks.masks(magnitude.prune(unchanged, sparsity, scope="layer")[0])
    for name in LAYERS:
        peer = copy.deepcopy(unchanged.get_submodule(name))
        torch_prune.l1_unstructured(peer, "weight", amount=float(sparsity))
        assert torch.equal(ours[name], peer.weight_mask.bool()), name


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4),
    sparsity=st.floats(0, 0.999),
    seed=st.integers(0, 2**16),
)
def test_any_shapes_equal_torch_globally(shapes, sparsity, seed):
    torch.manual_seed(seed)
    model = nn.ModuleList(nn.Linear(columns, rows) for rows, columns in shapes)
    ours = masks.masks(magnitude.prune(model, sparsity)[0])
    peer = copy.deepcopy(model)
    torch_prune.global_unstructured([(m, "weight") for m in peer], torch_prune.L1Unstructured, amount=sparsity)
    for i, module in enumerate(peer):
        assert torch.equal(ours[str(i)], module.weight_mask.bool())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 4, 3),
        nn.Conv3d(1, 2, 2),
        nn.ConvTranspose1d(2, 3, 2),
        nn.ConvTranspose2d(2, 4, 3, groups=2),
        nn.ConvTranspose3d(1, 2, 2),
        nn.Conv2d(6, 6, 3, groups=6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_convolution(layer):
    pruned, report = magnitude.prune(nn.Sequential(layer), 0.5)
    peer = copy.deepcopy(layer)
    torch_prune.l1_unstructured(peer, "weight", amount=0.5)
    assert torch.equal(masks.masks(pruned)["0"], peer.weight_mask.bool())
    assert report.rows[0].kind == type(layer).__name__


# --- brute force and properties ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    sparsity=st.floats(0, 0.999),
)
def test_ties_go_in_order_of_index_and_the_count_is_exact(values, sparsity):
    pruned, report = magnitude.prune(linear([values]), sparsity)
    mask = masks.masks(pruned)["0"].flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: (abs(values[i]), i))
    removed = set(order[: round(sparsity * len(values))])
    assert mask == [i not in removed for i in range(len(values))]
    assert report.kept == len(values) - len(removed)


def test_ties_between_layers_go_in_order_of_the_network():
    model = nn.Sequential(*linear([[1.0, 1.0]]), *linear([[1.0], [1.0]]))
    found = masks.masks(magnitude.prune(model, 0.75)[0])
    assert found["0"].tolist() == [[False, False]]
    assert found["1"].tolist() == [[False], [True]]


def test_different_sparsity_per_layer(unchanged):
    pruned, report = magnitude.prune(unchanged, {"6": 0.25, "0": 0.5}, scope="layer")
    assert [(row.layer, row.kept) for row in report.rows] == [("0", 18), ("6", 150)]
    assert list(masks.masks(pruned)) == ["0", "6"]
    assert report.skipped["4.weight"] == "no value given"


def test_excluded_layers_are_whole_and_do_not_count(unchanged):
    pruned, report = magnitude.prune(unchanged, 0.5, exclude=["6"])
    assert list(masks.masks(pruned)) == ["0", "4"]
    assert report.weights == 36 + 2880
    assert report.kept == 36 + 2880 - round(0.5 * (36 + 2880))
    assert report.skipped["6.weight"] == "excluded"


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_pruning_further_is_nested_and_pruning_less_changes_nothing(network, scope):
    once, _ = magnitude.prune(network, 0.5, scope=scope)
    further, report = magnitude.prune(once, 0.8, scope=scope)
    less, less_report = magnitude.prune(further, 0.2, scope=scope)
    direct, _ = magnitude.prune(network, 0.8, scope=scope)
    assert masks.sparsity(further) == pytest.approx(0.8, abs=1e-3) == report.sparsity
    assert less_report.rows == report.rows
    a, b, c, d = (masks.masks(m) for m in (once, further, less, direct))
    for name in LAYERS:
        assert not (b[name] & ~a[name]).any()
        assert torch.equal(b[name], c[name])
        assert torch.equal(b[name], d[name])  # untrained in between, two steps are one


def test_a_kept_weight_that_is_zero_does_not_displace_a_removed_one():
    once, _ = magnitude.prune(linear([[3.0, 1.0, 2.0, 4.0]]), 0.5)
    with torch.no_grad():
        once[0].parametrizations.weight.original[0, 0] = 0.0
    twice, report = magnitude.prune(once, 0.5)
    assert masks.masks(twice)["0"].tolist() == [[True, False, False, True]]
    assert report.kept == 2


def test_pruning_ranks_the_trained_weights_not_the_hidden_originals():
    once, _ = magnitude.prune(linear([[3.0, 1.0, 2.0, 4.0]]), 0.25)
    with torch.no_grad():
        once[0].parametrizations.weight.original[0, 1] = 100.0
    assert masks.masks(magnitude.prune(once, 0.5)[0])["0"].tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(network, dtype):
    pruned, report = magnitude.prune(network.to(dtype), 0.9)
    assert report.kept == 3116 - round(0.9 * 3116)
    assert pruned[4].weight.dtype == dtype


# --- threshold --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_pruning_by_the_reported_threshold_gives_the_same_masks(network, scope):
    pruned, report = magnitude.prune(network, 0.7, scope=scope)
    thresholds = {row.layer: row.threshold for row in report.rows}
    again, _ = magnitude.prune_by_threshold(network, thresholds)
    expected, found = masks.masks(pruned), masks.masks(again)
    assert all(torch.equal(found[name], expected[name]) for name in LAYERS)


def test_threshold_removes_what_is_below_and_keeps_what_is_equal():
    model = linear([[-0.5, 0.25, 0.5, -1.0, 0.0]])
    pruned, report = magnitude.prune_by_threshold(model, 0.5)
    assert pruned[0].weight.tolist() == [[-0.5, 0, 0.5, -1.0, 0]]
    assert (report.rows[0].threshold, report.kept) == (0.5, 3)
    assert magnitude.prune_by_threshold(model, 0)[1].kept == 5


def test_threshold_per_layer(unchanged):
    pruned, report = magnitude.prune_by_threshold(unchanged, {"4": 0.03, "6": 0.1})
    for name, threshold in (("4", 0.03), ("6", 0.1)):
        expected = np.abs(unchanged.get_submodule(name).weight.detach().numpy()) >= threshold
        assert np.array_equal(masks.masks(pruned)[name].numpy(), expected)
    assert report.skipped["0.weight"] == "no value given"


# --- standard deviations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 0.5, 1, 2.5])
def test_sigma_by_hand(unchanged, k):
    about_mean, mean_report = magnitude.prune_by_sigma(unchanged, k)
    about_zero, zero_report = magnitude.prune_by_sigma(unchanged, k, center="zero")
    for i, name in enumerate(LAYERS):
        weight = unchanged.get_submodule(name).weight.detach().numpy().astype(np.float64)
        sigma = np.sqrt(((weight - weight.mean()) ** 2).mean())
        assert np.array_equal(masks.masks(about_mean)[name].numpy(), np.abs(weight - weight.mean()) > k * sigma)
        assert np.array_equal(masks.masks(about_zero)[name].numpy(), np.abs(weight) >= k * sigma)
        assert mean_report.rows[i].threshold == pytest.approx(k * sigma)
        assert zero_report.rows[i].threshold == pytest.approx(k * sigma)


def test_sigma_of_half_precision_weights_is_computed_in_double():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 100, bias=False)).half()
    weight = model[0].weight.detach().numpy().astype(np.float64)
    for k in (0.5, 1, 1.5):
        mask = masks.masks(magnitude.prune_by_sigma(model, k, center="zero")[0])["0"]
        assert np.array_equal(mask.numpy(), np.abs(weight) >= k * weight.std())


def test_the_two_centers_differ_where_the_mean_is_not_zero():
    model = linear([[9.0, 10.0, 11.0, 10.0, 10.0]])
    assert masks.masks(magnitude.prune_by_sigma(model, 1)[0])["0"].tolist() == [[True, False, True, False, False]]
    assert masks.masks(magnitude.prune_by_sigma(model, 1, center="zero")[0])["0"].all()


# The fraction beyond k standard deviations, in closed form: erfc(k/√2) for a Gaussian; a Laplace distribution of scale
# b has σ = b√2, hence exp(−k√2).
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(
    ("distribution", "kept"),
    [
        (torch.distributions.Normal(0.01, 0.05), lambda k: math.erfc(k / math.sqrt(2))),
        (torch.distributions.Laplace(-0.02, 0.05), lambda k: math.exp(-k * math.sqrt(2))),
    ],
    ids=["gaussian", "laplace"],
)
def test_fraction_beyond_k_sigma(distribution, kept, k):
    torch.manual_seed(k)
    samples = 1_000_000
    _, report = magnitude.prune_by_sigma(linear(distribution.sample((1000, samples // 1000))), k)
    p = kept(k)
    assert abs(report.kept / samples - p) < 5 * math.sqrt(p * (1 - p) / samples) + 1e-4 * p
    if k == 3:
        assert round(100 * p, 2) == {"Normal": 0.27, "Laplace": 1.44}[type(distribution).__name__]


def test_sigma_is_of_the_weights_that_are_left():
    weight = torch.tensor([[0.1, -0.1, 5.0, -6.0, 7.0, -9.0]])
    once, _ = magnitude.prune_by_threshold(linear(weight), 1)
    _, report = magnitude.prune_by_sigma(once, 1, center="zero")
    assert report.rows[0].threshold == pytest.approx(np.std([5.0, -6.0, 7.0, -9.0]))


def test_a_layer_that_loses_all_its_weights_is_reported_and_not_mended():
    model = nn.Sequential(*linear([[1.0, 2.0, 3.0, 4.0]]), *linear([[0.1], [0.2]], bias=True))
    pruned, report = magnitude.prune(model, 0.5)
    assert not masks.masks(pruned)["1"].any()
    assert report.warnings == ["layer '1' loses all its 2 weights, so only its bias is left"]
    assert "Warning: layer '1'" in str(report)
    constant, report = magnitude.prune_by_sigma(linear([[1.0, 1.0]]), 3)
    assert masks.sparsity(constant) == 1
    assert len(report.warnings) == 1


def test_nothing_left_has_an_infinite_threshold():
    _, report = magnitude.prune(linear([[1.0]]), 0.9)
    assert report.kept == 0
    assert report.rows[0].threshold == math.inf


# --- the report -------------------------------------------------------------------------------------------------------


def test_report_accounts_for_every_parameter(unchanged):
    pruned, report = magnitude.prune(unchanged, 0.9, exclude=["0"])
    treated = {f"{row.layer}.weight" for row in report.rows}
    assert treated.isdisjoint(report.skipped)
    assert treated | set(report.skipped) == {name for name, _ in unchanged.named_parameters()}
    assert report.skipped["1.weight"] == report.skipped["1.bias"] == "BatchNorm2d parameters are not pruned"
    assert report.skipped["4.bias"] == "biases are not pruned"
    for row in report.rows:
        mask = masks.masks(pruned)[row.layer]
        assert (row.weights, row.kept) == (mask.numel(), mask.sum())
        assert row.sparsity == pytest.approx(1 - row.kept / row.weights)
    assert report.sparsity == pytest.approx(1 - report.kept / report.weights)
    assert magnitude.prune(pruned, 0.95, exclude=["0"])[1].skipped == report.skipped


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_sparsity_out_of_range(unchanged, sparsity, scope):
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), got"):
        magnitude.prune(unchanged, sparsity, scope=scope)


def test_sparsity_of_a_layer_out_of_range(unchanged):
    with pytest.raises(ValueError, match=r"sparsity\['4'\] must be in \[0, 1\), got 1.0"):
        magnitude.prune(unchanged, {"4": 1.0}, scope="layer")


@pytest.mark.parametrize("sparsity", ["0.5", None, [0.5], torch.tensor(0.5)])
def test_sparsity_of_the_wrong_type(unchanged, sparsity):
    with pytest.raises(TypeError, match="sparsity must be a number"):
        magnitude.prune(unchanged, sparsity)


def test_sparsity_per_layer_needs_layer_scope(unchanged):
    with pytest.raises(ValueError, match='scope="layer"'):
        magnitude.prune(unchanged, {"4": 0.5})


def test_unknown_scope(unchanged):
    with pytest.raises(ValueError, match="'global' or 'layer', got 'row'"):
        magnitude.prune(unchanged, 0.5, scope="row")


PRUNERS = {
    "prune": lambda model, **kw: magnitude.prune(model, 0.5, **kw),
    "threshold": lambda model, **kw: magnitude.prune_by_threshold(model, 0.01, **kw),
    "sigma": lambda model, **kw: magnitude.prune_by_sigma(model, 1, **kw),
}


@pytest.mark.parametrize("pruner", PRUNERS.values(), ids=PRUNERS)
class TestBadInput:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_weights_that_are_not_finite(self, pruner, network, value):
        with torch.no_grad():
            network[4].weight[3, 5] = value
        with pytest.raises(ValueError, match="layer '4' has NaN or infinite weights"):
            pruner(network)
        assert masks.masks(pruner(network, exclude=["4"])[0]).keys() == {"0", "6"}

    def test_unknown_layer(self, pruner, unchanged):
        with pytest.raises(ValueError, match=r"\['fc9'\].*\['0', '4', '6'\]"):
            pruner(unchanged, exclude=["fc9", "4"])

    def test_a_layer_that_is_not_prunable(self, pruner, unchanged):
        with pytest.raises(ValueError, match=r"\['1'\], which are not prunable"):
            pruner(unchanged, exclude=["1"])

    def test_a_single_string(self, pruner, unchanged):
        with pytest.raises(TypeError, match="single string '4'"):
            pruner(unchanged, exclude="4")

    @pytest.mark.parametrize("model", [nn.Sequential(), nn.Sequential(nn.BatchNorm2d(3), nn.Embedding(4, 2))])
    def test_nothing_to_prune(self, pruner, model):
        with pytest.raises(ValueError, match="nothing to prune"):
            pruner(model)

    def test_everything_excluded(self, pruner, unchanged):
        with pytest.raises(ValueError, match="nothing to prune"):
            pruner(unchanged, exclude=LAYERS)

    def test_no_module(self, pruner):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got dict"):
            pruner({})

    def test_lazy_layer(self, pruner):
        with pytest.raises(ValueError, match="'0' is lazy"):
            pruner(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_thresholds_and_k_must_be_finite_and_not_negative(unchanged, value):
    with pytest.raises(ValueError, match="thresholds must be finite and at least 0"):
        magnitude.prune_by_threshold(unchanged, value)
    with pytest.raises(ValueError, match=r"k\['4'\] must be finite and at least 0"):
        magnitude.prune_by_sigma(unchanged, {"4": value})


def test_layers_named_by_a_mapping_must_exist(unchanged):
    for call in (
        lambda values: magnitude.prune(unchanged, values, scope="layer"),
        lambda values: magnitude.prune_by_threshold(unchanged, values),
        lambda values: magnitude.prune_by_sigma(unchanged, values),
    ):
        with pytest.raises(ValueError, match=r"\['fc9'\].*\['0', '4', '6'\]"):
            call({"fc9": 0.5})
        with pytest.raises(ValueError, match="names no layer"):
            call({})
    with pytest.raises(ValueError, match=r"names \['4'\]"):
        magnitude.prune(unchanged, {"4": 0.5}, scope="layer", exclude=["4"])


def test_unknown_center(unchanged):
    with pytest.raises(ValueError, match="'mean' or 'zero', got 'median'"):
        magnitude.prune_by_sigma(unchanged, 1, center="median")


def test_shared_weights_are_left_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.hidden, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)
            self.head.weight = self.embedding.weight

    pruned, report = magnitude.prune(Tied(), 0.5)
    assert list(masks.masks(pruned)) == ["hidden"]
    assert report.skipped["head.weight"] == "shared with another layer"
    assert pruned.head.weight is pruned.embedding.weight
