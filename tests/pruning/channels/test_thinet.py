import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network import watching
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import consumers, thinet
from compress_lib.training import accuracy

ALL = 10**6
IMAGES = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def network(seed=0) -> nn.Sequential:
    """ "0" is read by a convolution, "3" by a linear layer that reads 4 features of each of its channels."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()


class Branches(nn.Module):
    """The channels of "stem" are read by "left" beside those of "other", and by "right"."""

    def __init__(self):
        super().__init__()
        self.stem, self.other = nn.Conv2d(1, 5, 3), nn.Conv2d(1, 3, 3)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(5, 2, 3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        stem = self.stem(x).relu()
        left = self.left(torch.cat([self.other(x).relu(), stem], 1)).relu().mean((2, 3))
        return self.fc(torch.cat([left, self.right(stem).relu().mean((2, 3))], 1))


def samples_of(seed, channels, count=40):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, channels)) @ generator.normal(size=(channels, channels))


def cost(x, removed):
    return (x[:, removed].sum(1) ** 2).sum()


# --- the greedy core --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.integers(1, 9), data=st.data())
def test_every_step_keeps_the_sum_of_the_removed_contributions_lowest(seed, channels, data):
    """Algorithm 1 of the paper, on the samples themselves."""
    x = samples_of(seed, channels)
    count = data.draw(st.integers(0, channels))
    found = thinet.greedy(torch.from_numpy(x.T @ x), count).tolist()
    removed = []
    for _ in range(count):
        rest = [c for c in range(channels) if c not in removed]
        removed.append(min(rest, key=lambda c: cost(x, [*removed, c])))
    assert found == removed


def test_channels_that_cancel_go_first_however_large():
    generator = np.random.default_rng(0)
    large, small = generator.normal(
        size=(2, 50, 1)
    ).round()  # whole numbers: their sums are exact, and equals are equal
    x = np.concatenate([3 * large, 0.1 * small, -3 * large], 1)
    gram = torch.from_numpy(x.T @ x)
    assert thinet.greedy(gram, 1).tolist() == [1]
    x = np.concatenate([3 * large, 3.1 * small, -3 * large], 1)
    assert thinet.greedy(torch.from_numpy(x.T @ x), 2).tolist() == [0, 2]


def test_equals_go_in_order_of_index_and_the_gram_matrix_is_left_alone():
    gram = torch.eye(5, dtype=torch.float64)
    assert thinet.greedy(gram, 5).tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(gram, torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=f"count must be from 0 to 3, got {count}"):
        thinet.greedy(torch.eye(3), count)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_scales_equal_lstsq(seed, data):
    x = samples_of(seed, 6)
    kept = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    target = x.sum(1) + np.random.default_rng(seed).normal(size=40)
    expected = np.linalg.lstsq(x[:, kept], target, rcond=None)[0]
    gram, correlation = torch.from_numpy(x.T @ x), torch.from_numpy(x.T @ target)
    found = thinet.channel_scales(gram, correlation, torch.tensor(kept), ridge=1e-14)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


def test_scales_of_channels_that_contribute_nothing_are_one():
    gram = torch.zeros(3, 3, dtype=torch.float64)
    assert thinet.channel_scales(gram, gram.sum(1), torch.tensor([0, 2])).tolist() == [1, 1]


# --- contributions ----------------------------------------------------------------------------------------------------


def single_outputs(layer, x, units, size):
    """The contribution of each unit to all outputs: the layer on the input with all other channels zero, no bias."""
    found = []
    for unit in range(size):
        own = x * (units == unit).view(1, -1, *[1] * (x.dim() - 2))
        y = (
            F.linear(own, layer.weight)
            if isinstance(layer, nn.Linear)
            else F.conv2d(own, layer.weight, None, layer.stride, layer.padding)
        )
        found.append(y.detach().flatten())
    return torch.stack(found).double()


@pytest.mark.parametrize("layer", ["0", "3"])
def test_gram_matrix_is_of_the_contributions(layer):
    model = network()
    (candidate,), _ = consumers.candidates(surgery.Coupling(model, IMAGES[:2]), [layer])
    ((consumer, units),) = candidate.consumers.items()
    ((x, y),) = watching.calls(model, consumer, IMAGES)
    z = single_outputs(model.get_submodule(consumer), x, units, candidate.size)
    gram, correlation = consumers.measure(model, candidate, IMAGES, samples=ALL)
    torch.testing.assert_close(gram, z @ z.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(correlation, gram.sum(1))  # without a reference the target is the sum of all
    bias = model.get_submodule(consumer).bias.view(1, -1, *[1] * (y.dim() - 2))
    torch.testing.assert_close(z.sum(0), (y - bias).detach().flatten().double(), rtol=1e-4, atol=1e-5)


def test_several_consumers_stack_and_other_channels_are_the_rest():
    torch.manual_seed(0)
    model, reference = Branches().eval(), Branches().eval()
    (candidate,), _ = consumers.candidates(surgery.Coupling(model, IMAGES[:2]), ["stem"])
    assert list(candidate.consumers) == ["left", "right"]
    stacked, targets = [], []
    for consumer, units in candidate.consumers.items():
        layer = model.get_submodule(consumer)
        ((x, _),) = watching.calls(model, consumer, IMAGES)
        ((_, y),) = watching.calls(reference, consumer, IMAGES)
        stacked.append(single_outputs(layer, x, units, 5))
        rest = layer(x * (units == -1).view(1, -1, 1, 1))
        targets.append((y - rest).detach().flatten().double())
    z, target = torch.cat(stacked, 1), torch.cat(targets)
    gram, correlation = consumers.measure(model, candidate, IMAGES, reference=reference, samples=ALL)
    torch.testing.assert_close(gram, z @ z.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(correlation, z @ target, rtol=1e-5, atol=1e-4)


# --- the method -------------------------------------------------------------------------------------------------------


def masked_consumers(model, removals):
    """The invariant of surgery: the model with zeros for the weights that read the removed channels, by hand."""
    wide = network()
    wide.load_state_dict(model.state_dict())
    wide[3].weight.data[:, removals.get("0", [])] = 0
    for channel in removals.get("3", []):
        wide[6].weight.data[:, 4 * channel : 4 * channel + 4] = 0
    return wide


def gone(report, layer, size):
    return [c for c in range(size) if c not in report.kept_outputs[layer].tolist()]


def test_layers_are_chosen_in_turn_each_in_the_network_that_the_earlier_ones_left():
    model = network()
    pruned, report = thinet.prune(model, IMAGES[:2], {"3": 0.5, "0": 0.5}, IMAGES, rescale=False, samples=ALL)
    wide, removed = model, {}
    for layer, consumer, size, count in (("0", 3, 8, 4), ("3", 6, 6, 3)):
        ((x, _),) = watching.calls(wide, str(consumer), IMAGES)
        units = torch.arange(size).repeat_interleave(4 if consumer == 6 else 1)
        z = single_outputs(wide[consumer], x, units, size)
        removed[layer] = thinet.greedy(z @ z.T, count).sort().values.tolist()
        assert gone(report, layer, size) == removed[layer]
        wide = masked_consumers(model, removed)
    torch.testing.assert_close(pruned(IMAGES), wide(IMAGES))
    assert pruned[3].weight.shape == (3, 4, 3, 3)
    assert report.title == "ThiNet"
    assert report.skipped == {"6": "not named"}


def test_scales_are_multiplied_into_the_weights_that_read():
    model = network()
    plain, report = thinet.prune(model, IMAGES[:2], {"3": 0.5}, IMAGES, rescale=False, samples=ALL)
    scaled, again = thinet.prune(model, IMAGES[:2], {"3": 0.5}, IMAGES, samples=ALL)
    assert torch.equal(report.kept_outputs["3"], again.kept_outputs["3"])
    kept = report.kept_outputs["3"].tolist()
    ((x, _),) = watching.calls(model, "6", IMAGES)
    z = single_outputs(model[6], x, torch.arange(6).repeat_interleave(4), 6).numpy()
    expected = np.linalg.lstsq(z[kept].T, z.sum(0), rcond=None)[0]
    ratio = (scaled[6].weight / plain[6].weight).detach().view(4, 3, 4)
    np.testing.assert_allclose(ratio, np.broadcast_to(expected[:, None], (4, 3, 4)), rtol=1e-3)
    torch.testing.assert_close(scaled[6].bias, model[6].bias)
    difference = [(pruned(IMAGES) - model(IMAGES)).square().sum() for pruned in (plain, scaled)]
    assert difference[1] < difference[0]


def test_all_consumers_of_a_layer_count_and_are_scaled():
    torch.manual_seed(0)
    model = Branches().eval()
    model.stem.weight.data[3] *= 1e-3
    model.stem.bias.data[3] = 0
    pruned, report = thinet.prune(model, IMAGES[:2], {"stem": 0.2}, IMAGES)
    assert gone(report, "stem", 5) == [3]
    assert report.kept_inputs["left"].tolist() == [0, 1, 2, 3, 4, 5, 7]
    torch.testing.assert_close(pruned(IMAGES), model(IMAGES), atol=1e-2, rtol=0)
    assert torch.equal(pruned.left.weight[:, :3], model.left.weight[:, :3])  # of the other branch


def test_one_fraction_for_all_layers_and_reasons_for_the_rest():
    model = nn.Sequential(*network()[:6], nn.Linear(24, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
    pruned, report = thinet.prune(model, IMAGES[:2], 0.3, IMAGES)
    assert [len(layer.weight) for layer in (pruned[0], pruned[3], pruned[6])] == [6, 5, 2]
    assert report.skipped == {"6": "0.3 of 2 units is less than one", "8": "the output of the model"}
    assert [len(layer.weight) for layer in thinet.prune(model, IMAGES[:2], 0.99, IMAGES)[0][::3]] == [1, 1, 1]


def test_grouped_consumers_are_skipped_or_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(64, 2))
    reason = "it is read by '2', a convolution in 4 groups"
    _, skipped = consumers.candidates(surgery.Coupling(model, IMAGES[:2]))
    assert skipped["0"].startswith(reason)
    with pytest.raises(ValueError, match=f"layer '0' cannot lose channels: {reason}"):
        thinet.prune(model, IMAGES[:2], {"0": 0.5}, IMAGES)


def test_a_residual_group_is_one_candidate():
    model = zoo.build("resnet-20")
    found, _ = consumers.candidates(
        surgery.Coupling(model, torch.zeros(1, 1, 28, 28)), ["stage1.0.conv2", "stage1.2.conv2"]
    )
    (candidate,) = found
    assert candidate.layer == "stage1.0.conv2"
    assert {"conv1", "stage1.0.conv2", "stage1.1.conv2", "stage1.2.conv2"} == candidate.group.outputs.keys()
    assert {"stage1.0.conv1", "stage2.0.conv1", "stage2.0.shortcut.0"} <= candidate.consumers.keys()


@pytest.mark.parametrize(
    "fraction, error, message",
    [
        ({"0": 1}, ValueError, r"fraction\['0'\] must be in \[0, 1\), got 1"),
        (-0.1, ValueError, r"fraction must be in \[0, 1\), got -0.1"),
        ({"0": "half"}, TypeError, r"fraction\['0'\] must be a number, got str"),
        ({"1": 0.5}, ValueError, r"layers \['1'\] are not among those that make channels: \['0', '3', '6'\]"),
        ({"6": 0.5}, ValueError, "layer '6' cannot lose channels: the output of the model"),
        ({"stage1.0.conv2": 0.5, "conv1": 0.25}, ValueError, "different values to layers that are pruned together"),
    ],
)
def test_bad_fractions_are_refused(fraction, error, message):
    model = zoo.build("resnet-20") if "conv1" in str(fraction) else network()
    with pytest.raises(error, match=message):
        thinet.prune(model, IMAGES[:2], fraction, IMAGES)


def test_the_model_is_left_alone():
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned, _ = thinet.prune(model, IMAGES[:2], 0.5, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not pruned.training


def test_half_of_a_layer_of_the_real_network(fashion):
    """Far better than the smallest L1 norms, before any repair."""
    images, labels = fashion
    model, example = zoo.load("vgg-small"), torch.zeros(1, 1, 28, 28)
    pruned, report = thinet.prune(model, example, {"features.10": 0.5}, images[:300])
    assert len(report.kept_outputs["features.10"]) == 16
    norms = model.get_submodule("features.10").weight.abs().sum((1, 2, 3))
    smallest, _ = surgery.remove(model, example, {"features.10": norms.argsort()[:16]})
    unseen = images[300:], labels[300:]
    assert accuracy(pruned, *unseen) > accuracy(smallest, *unseen) + 0.05
