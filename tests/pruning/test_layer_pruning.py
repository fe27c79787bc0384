import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F

from compress_lib import data, training
from compress_lib.distillation.logits import distillation_loss
from compress_lib.models import zoo
from compress_lib.models.resnet import BasicBlock
from compress_lib.pruning import layer_pruning

BLOCKS = [f"stage{stage}.{i}" for stage in (1, 2, 3) for i in range(3)]
X = torch.zeros(2, 1, 28, 28)


@pytest.fixture(scope="module")
def resnet():
    """The trained network; a test that changes it would break the others."""
    model = zoo.load("resnet-20")
    before = copy.deepcopy(model.state_dict())
    yield model
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


# --- the probe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_logistic_regression_equals_scikit_learn(l2):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 5)) * [1, 2, 0.5, 1, 1]
    labels = (features @ generator.normal(size=(5, 4)) + generator.normal(size=(200, 4))).argmax(1)
    peer = LogisticRegression(C=1 / (l2 * 200), tol=1e-9, max_iter=10_000).fit(features, labels)
    weight, bias = layer_pruning.logistic_regression(torch.tensor(features), torch.tensor(labels), l2)
    np.testing.assert_allclose(weight.numpy(), peer.coef_, atol=1e-4)
    np.testing.assert_allclose((bias - bias.mean()).numpy(), peer.intercept_ - peer.intercept_.mean(), atol=1e-4)


def test_logistic_regression_is_at_the_minimum_for_poorly_scaled_features():
    torch.manual_seed(0)
    features = torch.randn(300, 20).double() * torch.logspace(-2, 1, 20).double()
    labels = torch.randint(0, 6, (300,))
    weight, bias = (t.requires_grad_() for t in layer_pruning.logistic_regression(features, labels, 1e-3))
    loss = F.cross_entropy(features @ weight.T + bias, labels) + 1e-3 / 2 * weight.square().sum()
    assert all(g.abs().max() < 1e-5 for g in torch.autograd.grad(loss, (weight, bias)))


def test_probe_by_hand(fashion):
    """Features taken by splitting the network by hand, classified by scikit-learn."""
    images, labels = fashion[0][:400], fashion[1][:400]
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(1, 6, 5, stride=2), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 100, 5))
    model = nn.Sequential(first, second, head)
    found = layer_pruning.probe(model, ["0", "1", "2"], images[:300], labels[:300], images[300:], labels[300:], l2=0.01)
    x = data.normalize(images)
    with torch.no_grad():
        features = {"0": first(x).mean((2, 3)), "1": second(first(x)).mean((2, 3)), "2": model(x)}
    assert list(found) == ["0", "1", "2"]
    for name, f in features.items():
        f = ((f - f[:300].mean(0)) / f[:300].std(0, correction=0)).double().numpy()
        peer = LogisticRegression(C=1 / (0.01 * 300), tol=1e-9, max_iter=10_000).fit(f[:300], labels[:300])
        assert found[name] == pytest.approx(peer.score(f[300:], labels[300:]), abs=0.011)  # one image in a hundred


def test_probe_is_deterministic_and_leaves_the_model_alone(resnet, fashion):
    images, labels = fashion
    split = images[:200], labels[:200], images[200:400], labels[200:400]
    resnet.train()
    found = layer_pruning.probe(resnet, ["bn1", "stage1.2", "stage3.2"], *split)
    assert resnet.training
    resnet.eval()
    assert layer_pruning.probe(resnet, ["bn1", "stage1.2", "stage3.2"], *split) == found
    assert found["bn1"] < found["stage1.2"] < found["stage3.2"]


def test_a_constant_feature_does_no_harm(fashion):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 26 * 26, 10))
    with torch.no_grad():
        model[0].bias[0] = -1e6  # never above zero
    images, labels = fashion[0][:200], fashion[1][:200]
    found = layer_pruning.probe(model, ["1"], images[:100], labels[:100], images[100:], labels[100:])
    assert 0.15 < found["1"] < 1


def test_hooks_are_gone_after_a_failure(resnet, fashion):
    with pytest.raises(RuntimeError):
        layer_pruning.probe(resnet, ["bn1"], fashion[0][:4, :, :, :1].repeat(1, 3, 1, 1), fashion[1][:4], *fashion)
    assert not any(module._forward_hooks for module in resnet.modules())


# --- the selection ----------------------------------------------------------------------------------------------------

ACCURACIES = {"stem": 0.4, "a": 0.5, "b": 0.505, "c": 0.7, "d": 0.69, "e": 0.705}


def test_select_by_threshold_and_by_count():
    assert layer_pruning.select(ACCURACIES, threshold=0.01) == ["b", "d"]
    assert layer_pruning.select(ACCURACIES, threshold=0.0) == ["d"]
    assert layer_pruning.select(ACCURACIES, threshold=-0.1) == []
    assert layer_pruning.select(ACCURACIES, count=0) == []
    assert layer_pruning.select(ACCURACIES, count=1) == ["d"]
    assert layer_pruning.select(ACCURACIES, count=3) == ["b", "d", "e"]
    assert layer_pruning.select(ACCURACIES, count=5) == ["a", "b", "c", "d", "e"]


def test_select_among_some_compares_with_all():
    assert layer_pruning.select(ACCURACIES, count=1, among=["a", "b", "c"]) == ["b"]
    assert layer_pruning.select(ACCURACIES, threshold=0.15, among={"a", "e", "c"}) == ["a", "e"]
    assert layer_pruning.select(ACCURACIES, threshold=1.0, among=[]) == []


def test_the_first_of_equals_is_selected():
    assert layer_pruning.select({"stem": 0.25, "a": 0.5, "b": 0.75, "c": 1.0}, count=2) == ["a", "b"]


# --- removal ----------------------------------------------------------------------------------------------------------


def test_shapes(resnet):
    found = layer_pruning.shapes(resnet, X, BLOCKS)
    assert found["stage1.1"] == ((2, 16, 28, 28), (2, 16, 28, 28))
    assert found["stage2.0"] == ((2, 16, 28, 28), (2, 32, 14, 14))
    assert [name for name, (a, b) in found.items() if a != b] == ["stage2.0", "stage3.0"]


def test_removed_blocks_are_skipped(resnet, fashion):
    x = data.normalize(fashion[0][:8])
    shallow = layer_pruning.remove(resnet, x[:1], ["stage1.1", "stage3.2"])
    assert isinstance(shallow.stage1[1], nn.Identity) and isinstance(resnet.stage1[1], BasicBlock)
    y = resnet.bn1(resnet.conv1(x)).relu()
    for name in BLOCKS:
        y = y if name in ("stage1.1", "stage3.2") else resnet.get_submodule(name)(y)
    torch.testing.assert_close(shallow(x), resnet.fc(y.mean((2, 3))))
    gone = sum(p.numel() for name in ("stage1.1", "stage3.2") for p in resnet.get_submodule(name).parameters())
    assert sum(p.numel() for p in shallow.parameters()) == sum(p.numel() for p in resnet.parameters()) - gone


def test_a_block_and_what_is_inside_it(resnet):
    shallow = layer_pruning.remove(resnet, X, ["stage1.1", "stage1.1.bn2", "stage1.0.bn2"])
    assert isinstance(shallow.stage1[1], nn.Identity) and isinstance(shallow.stage1[0].bn2, nn.Identity)
    assert shallow(X).shape == (2, 10)


def test_probe_finds_the_block_that_does_nothing(fashion):
    """Two blocks are planted into a trained network: one is the identity, the other scrambles."""
    model = zoo.load("resnet-20")
    nn.init.zeros_(model.stage2[1].bn2.weight)
    nn.init.zeros_(model.stage2[1].bn2.bias)
    images, labels = fashion
    found = layer_pruning.probe(model, BLOCKS[3:6], images[:300], labels[:300], images[300:600], labels[300:600])
    assert found["stage2.1"] == found["stage2.0"]
    assert layer_pruning.select(found, count=1) == ["stage2.1"]
    x = data.normalize(images[:50])
    torch.testing.assert_close(layer_pruning.remove(model, x, ["stage2.1"])(x), model(x))


def test_distillation_brings_accuracy_back(resnet, fashion):
    images, labels = fashion
    shallow = layer_pruning.remove(resnet, X, ["stage1.2"])
    before = training.accuracy(shallow, images[800:], labels[800:])

    def objective(model, images, labels):
        with torch.no_grad():
            target = resnet(images)
        return distillation_loss(model(images), target)

    run = {"epochs": 1, "seed": 0, "batch_size": 50, "lr": 0.01, "progress": False}
    training.fit(shallow, images[:800], labels[:800], **run, objective=objective)
    assert training.accuracy(shallow, images[800:], labels[800:]) > before + 0.02


# --- bad input --------------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.pair = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Bilinear(4, 4, 4)

    def forward(self, x):
        x = self.conv(self.conv(x))
        return self.pair(x.flatten(1), x.flatten(1))


def test_blocks_that_cannot_be_removed(resnet):
    with pytest.raises(ValueError, match=r"'stage2.0' cannot go: it turns \(2, 16, 28, 28\) into \(2, 32, 14, 14\)"):
        layer_pruning.remove(resnet, X, ["stage1.1", "stage2.0"])
    with pytest.raises(ValueError, match="no block 'stage9'"):
        layer_pruning.remove(resnet, X, ["stage9"])
    with pytest.raises(TypeError, match="single string 'stage1.1'"):
        layer_pruning.remove(resnet, X, "stage1.1")
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="'conv' runs 2 times per forward pass"):
        layer_pruning.remove(Twice(), x, ["conv"])
    with pytest.raises(ValueError, match="'unused' runs 0 times per forward pass"):
        layer_pruning.remove(Twice(), x, ["unused"])
    with pytest.raises(ValueError, match="'pair' does not take one tensor"):
        layer_pruning.remove(Twice(), x, ["pair"])


def test_bad_arguments_of_probe_and_select(resnet, fashion):
    images, labels = fashion[0][:6], fashion[1][:6]
    with pytest.raises(ValueError, match="labels has 5 entries for 6 images"):
        layer_pruning.probe(resnet, ["bn1"], images, labels[:5], images, labels)
    with pytest.raises(ValueError, match="held_out_labels has 5 entries for 6 images"):
        layer_pruning.probe(resnet, ["bn1"], images, labels, images, labels[:5])
    for l2 in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="l2 must be positive and finite"):
            layer_pruning.probe(resnet, ["bn1"], images, labels, images, labels, l2=l2)
    with pytest.raises(ValueError, match="no block 'bn9'"):
        layer_pruning.probe(resnet, ["bn9"], images, labels, images, labels)
    for options in ({}, {"threshold": 0.1, "count": 1}):
        with pytest.raises(ValueError, match="give either threshold or count"):
            layer_pruning.select(ACCURACIES, **options)
    for count in (-1, 6):
        with pytest.raises(ValueError, match=f"count must be from 0 to 5, got {count}"):
            layer_pruning.select(ACCURACIES, count=count)
    with pytest.raises(ValueError, match=r"among names \['stem', 'z'\]"):
        layer_pruning.select(ACCURACIES, count=1, among=["stem", "z", "a"])
