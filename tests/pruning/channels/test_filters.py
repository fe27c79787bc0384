import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from compress_lib import cost
from compress_lib.models import zoo
from compress_lib.network.recording import record
from compress_lib.pruning import criteria
from compress_lib.pruning.channels import filters
from compress_lib.pruning.weights import magnitude
from compress_lib.training import predict

IMAGE = torch.randn(2, 1, 8, 8)


def kept(report, layer: str) -> list[int]:
    return report.kept_outputs[layer].tolist()


def by_values(values):
    """A criterion that gives each layer, told by its number of channels, its scores."""
    return lambda layer, data: torch.tensor(values[len(layer.weight)])


# --- the arithmetic of the paper --------------------------------------------------------------------------------------


def test_vgg_16_a():
    """Li et al., Table 1: VGG-16-pruned-A has half the filters of the layers 1 and 8 to 13: −64.0 %, −34.2 %."""
    widths = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    layers, channels = [], 3
    for number, width in enumerate(widths, 1):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number in (2, 4, 7, 10, 13) else []
        channels = width
    model = nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 10)
    )
    convolutions = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    half = {name: 0.5 for number, name in enumerate(convolutions, 1) if number == 1 or number >= 8}
    pruned, report = filters.prune(model, torch.randn(1, 3, 32, 32), half)
    before, after = cost.count(model, (3, 32, 32)), cost.count(pruned, (3, 32, 32))
    assert (before.params, after.params) == (14_991_946, 5_399_690)
    assert (before.macs, after.macs) == (313_463_808, 206_279_680)
    assert round(100 * (1 - after.params / before.params), 2) == 63.98
    assert round(100 * (1 - after.macs / before.macs), 2) == 34.19
    assert report.kept_outputs.keys() >= half.keys()
    assert report.skipped == {name: "no fraction given" for name in [*convolutions[1:7], "45"]} | {
        "48": "the output of the model"
    }


# --- which channels go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("criterion", "norm"), [(criteria.l1_norm, 1), (criteria.l2_norm, 2)])
def test_one_layer_loses_what_torch_would_mask(unchanged, criterion, norm):
    _, report = filters.prune(unchanged, IMAGE, {"4": 0.4}, criterion=criterion)
    peer = nn.Linear(144, 20)
    peer.weight.data = unchanged[4].weight.data.clone()
    torch_prune.ln_structured(peer, "weight", amount=8, n=norm, dim=0)
    assert kept(report, "4") == peer.weight_mask.any(1).nonzero().flatten().tolist()
    assert len(kept(report, "4")) == 12


def test_layers_are_ranked_by_themselves(unchanged):
    pruned, report = filters.prune(unchanged, IMAGE, 0.5)
    assert [len(kept(report, name)) for name in ("0", "4")] == [2, 10]
    for name in ("0", "4"):
        norms = np.abs(unchanged.get_submodule(name).weight.detach().numpy()).reshape(
            len(unchanged[int(name)].weight), -1
        )
        assert kept(report, name) == sorted(norms.sum(1).argsort()[len(norms) // 2 :].tolist())
    assert torch.equal(pruned[0].weight, unchanged[0].weight[report.kept_outputs["0"]])
    assert report.skipped == {"6": "the output of the model"}
    assert report.title == "Filter pruning by l1_norm"


def test_residual_stages_are_scored_together(fashion):
    """Li's rule: the last convolution of a block can only lose what the shortcut loses; the first is free."""
    model = zoo.load("resnet-20")
    _, report = filters.prune(model, torch.randn(1, 1, 28, 28), 0.25)

    def scaled_norms(name):
        norms = np.abs(model.get_submodule(name).weight.detach().numpy()).sum((1, 2, 3)).astype(np.float64)
        return norms / norms.mean()

    stages = {
        16: ["conv1", *(f"stage1.{b}.conv2" for b in range(3))],
        32: ["stage2.0.shortcut.0", *(f"stage2.{b}.conv2" for b in range(3))],
        64: ["stage3.0.shortcut.0", *(f"stage3.{b}.conv2" for b in range(3))],
    }
    for width, coupled in stages.items():
        scores = np.mean([scaled_norms(name) for name in coupled], 0)
        expected = sorted(scores.argsort()[width // 4 :].tolist())
        for name in coupled:
            assert kept(report, name) == expected, name
    for name in (f"stage{s}.{b}.conv1" for s in (1, 2, 3) for b in range(3)):
        norms = scaled_norms(name)
        assert kept(report, name) == sorted(norms.argsort()[len(norms) // 4 :].tolist()), name


def test_a_unit_counts_the_layers_that_make_it():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.both, self.last = nn.Linear(3, 2), nn.Linear(3, 4), nn.Linear(3, 6), nn.Linear(6, 2)
            self.c = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(torch.cat([self.a(x) + self.c(x), self.b(x)], 1) + self.both(x))

    scores = by_values({2: [3.0, 1], 4: [1.2, 0.9, 1, 0.9], 6: [1.0, 1.4, 1.2, 0.8, 0.8, 0.8]})
    # Relative: a and c 1.5, .5; the others as they are. Means of three layers 1.33, .8, then of two 1.2, .85, .9, .85.
    _, report = filters.prune(Joined(), torch.randn(2, 3), 1 / 6, criterion=scores)
    assert kept(report, "both") == [0, 2, 3, 4, 5]
    _, report = filters.prune(Joined(), torch.randn(2, 3), 0.5, criterion=scores)
    assert kept(report, "both") == [0, 2, 4]
    assert kept(report, "a") == kept(report, "c") == [0]
    assert kept(report, "b") == [0, 2]
    _, report = filters.prune(Joined(), torch.randn(2, 3), 5 / 6, criterion=scores)
    assert kept(report, "both") == [0, 2]  # the last channel of a stays
    assert report.warnings == ["['a', 'c', 'b', 'both'] lose 4 units, not 5: each layer keeps a channel"]


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_equal_scores_lose_the_first_units(fraction):
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    _, report = filters.prune(model, torch.randn(1, 3), fraction, criterion=lambda layer, data: torch.zeros(8))
    assert kept(report, "0") == list(range(int(8 * fraction), 8))


def test_negative_scores_keep_their_order():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    scores = by_values({4: [-5.0, -1.0, -7.0, 2.0]})
    assert kept(filters.prune(model, torch.randn(1, 3), 0.5, criterion=scores)[1], "0") == [1, 3]


class Coupled(nn.Module):
    """Two layers whose channels meet in a sum, then a depthwise convolution, then a grouped one."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.depthwise(self.left(x) + self.right(x))).mean((2, 3))


def test_layers_of_different_scale_count_alike_and_depthwise_ones_do_not():
    model = Coupled()
    scores = {
        id(model.left): [1.0, 2, 3, 4],
        id(model.right): [0.02, 0.09, 0.01, 0.08],
        id(model.depthwise): [9.0, 0, 0, 0],
    }

    def criterion(layer, data):
        return torch.tensor(scores[id(layer)])

    # Relative to their means: (.4, .8, 1.2, 1.6) and (.4, 1.8, .2, 1.6); sums .8, 2.6, 1.4, 3.2.
    _, report = filters.prune(model, IMAGE, 0.5, criterion=criterion)
    for name in ("left", "right", "depthwise"):
        assert kept(report, name) == [1, 3]
    scores[id(model.left)] = [0.0] * 4  # a layer without any score leaves the choice to the others
    assert kept(filters.prune(model, IMAGE, 0.5, criterion=criterion)[1], "left") == [1, 3]


def test_the_channels_of_a_unit_are_averaged():
    """A grouped convolution loses the same channel of each group."""

    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.make, self.grouped, self.last = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 4, 1, groups=2), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.grouped(self.make(x))).mean((2, 3))

    scores = by_values({8: [1.0, 5, 0, 3, 2, 1, 9, 2], 4: [4.0, 1, 7, 1]})
    _, report = filters.prune(Grouped(), IMAGE, 0.5, criterion=scores)
    # Channels c and c + 4 go together: means 1.5, 3, 4.5, 2.5.  Of the grouped one, c and c + 2: 5.5, 1.
    assert kept(report, "make") == [1, 2, 5, 6]
    assert kept(report, "grouped") == [0, 2]  # scored, since no other layer makes its channels


def test_layers_with_more_channels_per_unit_do_not_count_more():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.plain, self.last = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(2, 2)

        def forward(self, x):
            value, gate = self.pair(x).chunk(2, 1)
            return self.last(value * gate.sigmoid() + self.plain(x))

    scores = by_values(
        {4: [1.2, 0.8, 1.2, 0.8], 2: [0.7, 1.3]}
    )  # means 1.2 and .8 of the pair, .7 and 1.3 of the other
    _, report = filters.prune(Gated(), torch.randn(2, 3), 0.5, criterion=scores)
    assert kept(report, "plain") == [1]
    assert kept(report, "pair") == [1, 3]


def test_a_grouped_convolution_beside_a_dense_one_is_not_scored():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.make, self.last = nn.Conv2d(1, 8, 1), nn.Conv2d(4, 2, 1)
            self.dense, self.grouped = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1, groups=2)

        def forward(self, x):
            x = self.make(x)
            return self.last(self.dense(x) + self.grouped(x)).mean((2, 3))

    model = Beside()

    def criterion(layer, data):
        return torch.tensor([1.0, 2, 1, 2] if layer is model.dense else [9.0, 0, 9, 0])

    _, report = filters.prune(model, IMAGE, {"dense": 0.5}, criterion=criterion)
    assert kept(report, "dense") == kept(report, "grouped") == [1, 3]


def test_a_layer_that_runs_twice_is_ranked_by_its_weights_only():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.twice, self.last = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.twice(self.twice(self.first(x)).relu()).relu())

    model, x = Twice(), torch.randn(4, 3)
    pruned, report = filters.prune(model, x, 0.5)
    assert pruned.twice.weight.shape == (3, 3)
    assert kept(report, "first") == kept(report, "twice")
    with pytest.raises(ValueError, match="layer 'twice' .it does not run exactly once.*: apoz needs"):
        filters.prune(model, x, 0.5, criterion=criteria.apoz, data=x)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["apoz", "hrank", "entropy", "taylor", "batch_norm_scale"])
def test_criteria_get_the_data_they_need(fashion, name):
    model, (images, labels) = zoo.load("vgg-small"), fashion
    images, labels = images[:40], labels[:40]
    data = {"taylor": (images, labels), "batch_norm_scale": None}.get(name, images)
    pruned, report = filters.prune(
        model, torch.randn(1, 1, 28, 28), {"features.7": 0.25}, criterion=criteria.ALL[name], data=data
    )
    layer = model.features[7]
    scores = criteria.ALL[name](layer, record(model, images, labels)["features.7"])
    assert kept(report, "features.7") == sorted(scores.double().argsort(stable=True)[8:].tolist())
    assert predict(pruned, images).shape == (40, 10)
    assert report.title == f"Filter pruning by {name}"


def test_missing_data_name_layer_and_criterion(unchanged):
    with pytest.raises(ValueError, match="layer '0': taylor needs the layer's gradients"):
        filters.prune(unchanged, IMAGE, 0.5, criterion=criteria.taylor, data=IMAGE)
    with pytest.raises(ValueError, match="layer '0': apoz needs the layer's activations"):
        filters.prune(unchanged, IMAGE, 0.5, criterion=criteria.apoz)
    with pytest.raises(ValueError, match="layer '4': batch_norm_scale needs"):
        filters.prune(unchanged, IMAGE, 0.5, criterion=criteria.batch_norm_scale)
    _, report = filters.prune(unchanged, IMAGE, 0.5, criterion=criteria.batch_norm_scale, exclude=["4"])
    assert report.skipped["4"] == "excluded"


# --- how many ---------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 120), permille=st.integers(0, 999))
@example(size=100, permille=290)  # 0.29 * 100 is 28.999… in floating point
def test_the_count_is_the_floor_and_never_all(size, permille):
    model = nn.Sequential(nn.Linear(1, size), nn.ReLU(), nn.Linear(size, 1))
    pruned, report = filters.prune(model, torch.randn(1, 1), permille / 1000)
    removed = math.floor(Fraction(permille, 1000) * size)
    assert pruned[0].out_features == size - removed >= 1
    assert ("0" in report.skipped) == (removed == 0)


def test_almost_one_leaves_one():
    model = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1))
    assert filters.prune(model, torch.randn(1, 1), 1 - 1e-12)[0][0].out_features == 1


def test_nothing_to_remove_is_said(unchanged):
    pruned, report = filters.prune(unchanged, IMAGE, 0.05, exclude=["4"])
    assert report.rows == []
    assert report.skipped == {
        "0": "0.05 of 4 units is less than one",
        "4": "excluded",
        "6": "the output of the model",
    }
    assert torch.equal(pruned.eval()(IMAGE), unchanged.eval()(IMAGE))


def test_fractions_of_chosen_layers(unchanged):
    pruned, report = filters.prune(unchanged, IMAGE, {"4": 0.25, "0": 0.5})
    assert (pruned[0].out_channels, pruned[4].out_features) == (2, 15)
    pruned, report = filters.prune(unchanged, IMAGE, {"4": 0.25})
    assert report.skipped["0"] == "no fraction given"
    assert "0" not in report.kept_outputs


def test_the_fraction_of_one_layer_holds_for_its_group():
    model = Coupled()
    for names in (["left"], ["right"], ["depthwise"], ["left", "right"]):
        pruned, _ = filters.prune(model, IMAGE, dict.fromkeys(names, 0.5))
        assert pruned.left.out_channels == pruned.right.out_channels == pruned.depthwise.groups == 2
    with pytest.raises(ValueError, match=r"different values .*\{'left': 0.5, 'right': 0.25\}"):
        filters.prune(model, IMAGE, {"left": 0.5, "right": 0.25})


def test_an_excluded_layer_protects_what_is_coupled_to_it():
    _, report = filters.prune(Coupled(), IMAGE, 0.5, exclude=["right"])
    assert report.rows == []
    assert report.skipped == {
        "left": "coupled to 'right', which is excluded",
        "right": "excluded",
        "depthwise": "coupled to 'right', which is excluded",
        "last": "the output of the model",
    }


def test_masked_layers_are_left_alone(unchanged):
    masked, _ = magnitude.prune(unchanged, 0.5, scope="layer", exclude=["0", "6"])
    _, report = filters.prune(masked, IMAGE, 0.5, exclude=["4"])
    assert report.rows == []  # the masked layer cannot lose inputs either
    assert report.skipped["4"].startswith("its channels cannot be followed (masked")
    assert "mask" in report.skipped["0"]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, math.nan, math.inf])
def test_fraction_out_of_range(unchanged, fraction):
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\), got"):
        filters.prune(unchanged, IMAGE, fraction)
    with pytest.raises(ValueError, match=r"fraction\['4'\] must be in \[0, 1\), got"):
        filters.prune(unchanged, IMAGE, {"4": fraction})


@pytest.mark.parametrize("fraction", ["0.5", None, [0.5]])
def test_fraction_of_the_wrong_type(unchanged, fraction):
    with pytest.raises(TypeError, match="fraction must be a number"):
        filters.prune(unchanged, IMAGE, fraction)


def test_layers_that_cannot_be_named(unchanged):
    with pytest.raises(ValueError, match=r"exclude names \['fc9'\].*\['0', '4', '6'\]"):
        filters.prune(unchanged, IMAGE, 0.5, exclude=["fc9", "4"])
    with pytest.raises(TypeError, match="single string '4'"):
        filters.prune(unchanged, IMAGE, 0.5, exclude="4")
    with pytest.raises(ValueError, match=r"fraction names \['1', 'fc9'\].*\['0', '4'\]"):
        filters.prune(unchanged, IMAGE, {"fc9": 0.5, "1": 0.5})
    with pytest.raises(ValueError, match="fraction names '6', which cannot lose channels: the output of the model"):
        filters.prune(unchanged, IMAGE, {"6": 0.5})
    with pytest.raises(ValueError, match="fraction names '4', which cannot lose channels: excluded"):
        filters.prune(unchanged, IMAGE, {"4": 0.5}, exclude=["4"])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.tensor([1.0, 2.0]), r"must return a tensor of 4 scores, got shape \(2,\)"),
        (torch.ones(4, 1), r"must return a tensor of 4 scores, got shape \(4, 1\)"),
        ([1.0, 2.0, 3.0, 4.0], "must return a tensor of 4 scores, got list"),
        (torch.tensor([1.0, math.nan, 2.0, 3.0]), "returned NaN or infinite scores"),
        (torch.tensor([1.0, math.inf, 2.0, 3.0]), "returned NaN or infinite scores"),
    ],
)
def test_criteria_that_return_something_else(unchanged, returned, message):
    def odd(layer, data):
        return returned

    with pytest.raises(ValueError, match=f"criterion odd on layer '0' {message}"):
        filters.prune(unchanged, IMAGE, {"0": 0.5}, criterion=odd)


def test_weights_that_are_not_finite(network):
    network[4].weight.data[3, 5] = math.nan
    with pytest.raises(ValueError, match="criterion l1_norm on layer '4' returned NaN"):
        filters.prune(network, IMAGE, {"4": 0.5})
