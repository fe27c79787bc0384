import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import dcp
from compress_lib.training import accuracy

IMAGES = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(60) % 3


def network(seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
    ).eval()


def data(layer, x, weight=1.0, seed=0):
    """Losses of a layer whose targets are what it makes of x with other weights as well as its own."""
    torch.manual_seed(seed)
    targets = (layer(x) + torch.randn_like(layer(x)) / 3).detach()
    labels = torch.arange(len(x)) % 3
    return dcp.Losses(x, targets, labels, dcp.train_head(layer, targets, labels, steps=20), weight)


# --- the losses -------------------------------------------------------------------------------------------------------


def test_the_two_losses_by_hand():
    layer, x = nn.Conv2d(2, 3, 2, bias=False), torch.randn(12, 2, 4, 4)
    losses = data(layer, x, weight=0.3)
    index = torch.tensor([0, 5, 7])
    y, target = layer(x)[index], losses.targets
    part = ((y - target[index]) ** 2).sum() / 3 / ((target**2).sum() / 12)
    norm, linear = losses.head[0], losses.head[4]
    z = (y - norm.running_mean.view(1, 3, 1, 1)) / (norm.running_var.view(1, 3, 1, 1) + norm.eps).sqrt()
    z = (z * norm.weight.view(1, 3, 1, 1) + norm.bias.view(1, 3, 1, 1)).relu().mean((2, 3))
    expected = part + 0.3 * F.cross_entropy(z @ linear.weight.T + linear.bias, losses.labels[index])
    torch.testing.assert_close(losses(layer, index), expected)
    losses.weight = 0.0
    torch.testing.assert_close(losses(layer, index), part)


def test_the_classifier_learns_is_frozen_and_leaves_the_random_numbers_alone():
    torch.manual_seed(0)
    layer, labels = nn.Conv2d(1, 4, 1), torch.arange(300) % 3
    outputs = torch.randn(300, 4, 5, 5) + 3 * F.one_hot(labels, 4).view(300, 4, 1, 1)
    state = torch.get_rng_state()
    head = dcp.train_head(layer, outputs, labels, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (head(outputs.flatten(2)).argmax(1) == labels).float().mean() > 0.95
    assert not head.training
    assert not any(parameter.requires_grad for parameter in head.parameters())
    again = dcp.train_head(layer, outputs, labels, seed=3)
    assert torch.equal(head[4].weight, again[4].weight)


def test_features_of_a_linear_layer_are_its_channels():
    layer = nn.Linear(6, 4)
    head = dcp.train_head(layer, torch.randn(9, 7, 4), torch.arange(9) % 2, steps=1)
    assert head[0].num_features == 4
    assert dcp.train_head(layer, torch.randn(9, 4), torch.arange(9) % 2, steps=1)[0].num_features == 4


# --- the gradient -----------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), weight=st.sampled_from([0.0, 0.5, 2.0]))
def test_gradient_norms_equal_finite_differences(seed, weight):
    torch.manual_seed(seed)
    layer, x = nn.Linear(4, 3).double(), torch.randn(30, 4).double()
    losses = data(layer, x, weight)
    layer.weight.data += torch.randn_like(layer.weight) / 5
    units = torch.tensor([1, 0, 1, -1])
    found, loss = dcp.gradient_norms(layer, losses, units, 2)
    everything = torch.arange(30)
    assert loss == pytest.approx(losses(layer, everything).item())
    slopes, step = torch.zeros(3, 4), 1e-6
    for o in range(3):
        for i in range(4):
            values = []
            for sign in (1, -1):
                layer.weight.data[o, i] += sign * step
                values.append(losses(layer, everything).item())
                layer.weight.data[o, i] -= sign * step
            slopes[o, i] = (values[0] - values[1]) / (2 * step)
    expected = torch.stack([slopes[:, 1].norm(), slopes[:, [0, 2]].norm()])
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-7)


def test_gradient_of_more_images_than_one_batch_is_of_the_mean():
    layer, x = nn.Linear(4, 3), torch.randn(601, 4)
    losses = data(layer, x, 1.0)
    layer.weight.data *= 0.5
    found, loss = dcp.gradient_norms(layer, losses, torch.arange(4), 4)
    layer.zero_grad()
    whole = losses(layer, torch.arange(601))
    whole.backward()
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(found, layer.weight.grad.norm(dim=0), rtol=1e-4, atol=1e-6)


# --- the choice -------------------------------------------------------------------------------------------------------


def test_orthonormal_channels_join_in_the_order_of_their_weights():
    """With XᵀX = I and λ = 0 the gradient at channel j is −2 W_j / ‖O‖², whatever has joined: matching pursuit."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    x = torch.linalg.qr(torch.randn(50, 6))[0]  # orthonormal columns
    losses = dcp.Losses(x, layer(x).detach(), torch.zeros(50, dtype=torch.long), None, 0.0)
    norms = layer.weight.detach().norm(dim=0)
    original = layer.weight.detach().clone()
    found = dcp.select_(layer, losses, torch.arange(6), 6, 4, steps=0)
    assert found == norms.argsort(descending=True)[:4].tolist()
    kept = torch.zeros(6, dtype=torch.bool)
    kept[found] = True
    assert torch.equal(layer.weight, original * kept)


def test_a_weak_channel_that_tells_the_classes_apart_joins_first_if_classes_count():
    torch.manual_seed(0)
    labels = torch.arange(200) % 2
    x = torch.stack([3 * torch.randn(200), 2 * torch.randn(200), (2.0 * labels - 1) / 2], 1)
    layer = nn.Linear(3, 3, bias=False)
    layer.weight.data = torch.eye(3)
    head = dcp.train_head(layer, layer(x).detach(), labels)
    for weight, expected in ((0.0, [0]), (10.0, [2])):
        layer.weight.data = torch.eye(3)
        losses = dcp.Losses(x, x, labels, head, weight)
        assert dcp.select_(layer, losses, torch.arange(3), 3, 1, steps=0) == expected


def test_training_lowers_the_loss_and_moves_only_the_weights_of_the_chosen():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(5, 3, 2), torch.randn(120, 5, 4, 4)
    x[:, 3] = x[:, 1] + x[:, 2]
    losses = data(layer, x, 0.1)
    original, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    units = torch.tensor([0, 1, 2, 3, -1])
    trained, plain = nn.Conv2d(5, 3, 2), nn.Conv2d(5, 3, 2)
    for copy, steps in ((trained, 60), (plain, 0)):
        copy.load_state_dict(layer.state_dict())
        chosen = dcp.select_(copy, losses, units, 4, 2, steps=steps, lr=0.01)
        gone = [c for c in range(4) if c not in chosen]
        assert (copy.weight[:, gone] == 0).all()
        assert torch.equal(copy.bias, bias)
    assert torch.equal(plain.weight[:, 4], original[:, 4])  # of no unit: always there
    assert not torch.equal(trained.weight[:, 4], original[:, 4])
    index = torch.arange(120)
    assert losses(trained, index) < losses(plain, index)


def test_it_stops_when_the_loss_no_longer_changes():
    """Channels 2 to 5 carry nothing: after two choices the loss is zero and stays there."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(100, 6)
    layer.weight.data[:, 2:] = 0
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    losses = dcp.Losses(x, layer(x).detach(), torch.zeros(100, dtype=torch.long), None, 0.0)
    lengths = []
    for epsilon in (0.0, 1e-3, 0.99):
        layer.load_state_dict(state)
        chosen = dcp.select_(layer, losses, torch.arange(6), 6, 5, epsilon=epsilon, steps=0)
        lengths.append(len(chosen))
        assert set(chosen[:2]) <= {0, 1}
    assert lengths == [5, 3, 1]


# --- the method -------------------------------------------------------------------------------------------------------


def test_the_pruned_network_is_the_one_with_the_chosen_weights():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned, report = dcp.prune(model, IMAGES[:2], {"0": 0.5, "2": 0.4}, IMAGES, LABELS, steps=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in [*pruned.parameters(), *model.parameters()])
    assert [tuple(pruned[i].weight.shape) for i in (0, 2, 5)] == [(3, 1, 3, 3), (3, 3, 3, 3), (3, 48)]
    assert torch.equal(pruned[0].weight, model[0].weight[report.kept_outputs["0"]])
    own = model[2].weight[report.kept_outputs["2"]][:, report.kept_outputs["0"]]
    assert 0 < (pruned[2].weight - own).abs().max() < 0.05  # refitted, from the original weights
    assert report.title == "Discrimination-aware channel pruning"
    assert report.skipped == {"5": "not named"}


def test_later_layers_read_the_pruned_network_and_aim_at_the_original():
    model, seen = network(), []
    made = dcp.Losses

    class Spy(made):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcp, "Losses", Spy)
        _, report = dcp.prune(model, IMAGES[:2], {"0": 0.5, "2": 0.4}, IMAGES, LABELS, steps=0)
    gone = [c for c in range(6) if c not in report.kept_outputs["0"].tolist()]
    smaller, _ = surgery.remove(model, IMAGES[:2], {"0": gone})
    torch.testing.assert_close(seen[1].inputs, smaller[:5](IMAGES))
    torch.testing.assert_close(seen[1].targets, model(IMAGES))
    torch.testing.assert_close(seen[0].inputs, model[:2](IMAGES))


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x).relu()
        return self.b(x) + self.c(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.b(self.a(x).relu()) + self.b(self.a(x).tanh())


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"'a' is read by \['b', 'c'\]; DCP judges by one consumer"):
        dcp.prune(Fork(), torch.zeros(1, 4), {"a": 0.5}, torch.randn(9, 4), torch.zeros(9).long())
    with pytest.raises(ValueError, match="'b' is called 2 times in one run"):
        dcp.prune(Twice(), torch.zeros(1, 4), {"a": 0.5}, torch.randn(9, 4), torch.zeros(9).long())
    for labels, options, message in [
        (LABELS[:9], {}, "labels has 9 entries for 60 images"),
        (LABELS, {"weight": -1}, "weight must be at least 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            dcp.prune(network(), IMAGES[:2], 0.5, IMAGES, labels, **options)


def test_half_of_a_layer_of_the_real_network(fashion):
    """The bar is what the smallest L1 norms reach without repair, 0.75 here."""
    images, labels = fashion
    model = zoo.load("vgg-small")
    pruned, report = dcp.prune(
        model, torch.zeros(1, 1, 28, 28), {"features.14": 0.5}, images[:200], labels[:200], steps=3
    )
    assert len(report.kept_outputs["features.14"]) == 32
    assert accuracy(pruned, images[500:], labels[500:]) > 0.85
