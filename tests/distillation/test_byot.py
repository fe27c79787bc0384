import copy

import pytest
import torch
from students import assert_resumes, convolutional, equal_states, mlp, some
from torch import nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import byot
from compress_lib.models.resnet import ResNet
from compress_lib.models.zoo import build

IMAGE = torch.zeros(1, 1, 28, 28)


def multi_exit(seed=0):
    network = convolutional(seed)
    return byot.attach(network, ["2", "5"], IMAGE)


def test_the_loss_by_hand():
    torch.manual_seed(0)
    logits = list(torch.randn(3, 5, 4, dtype=torch.float64).requires_grad_())
    features = list(torch.randn(3, 5, 6, dtype=torch.float64))
    labels = torch.randint(4, (5,))
    p = F.softmax(logits[2].detach() / 2, 1)
    expected = F.cross_entropy(logits[2], labels)
    for z, f in zip(logits[:2], features[:2], strict=True):
        divergence = (p * (p.log() - F.log_softmax(z / 2, 1))).sum(1).mean()
        expected = expected + 0.7 * F.cross_entropy(z, labels) + 0.3 * 4 * divergence
        expected = expected + 0.01 * ((f - features[2]) ** 2).sum() / 5
    found = byot.loss(logits, features, labels, alpha=0.3, feature_weight=0.01, temperature=2.0)
    torch.testing.assert_close(found, expected)


def test_the_deepest_exit_is_taught_by_the_labels_alone_and_the_others_by_finite_differences():
    torch.manual_seed(0)
    logits = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    features = [torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    labels = torch.randint(4, (5,))
    byot.loss(logits, features, labels, alpha=0.9, feature_weight=1.0).backward()
    (plain,) = torch.autograd.grad(F.cross_entropy(logits[1], labels), logits[1])
    torch.testing.assert_close(logits[1].grad, plain)
    assert features[1].grad is None and features[0].grad.norm() > 0
    deepest, target = logits[1].detach(), features[1].detach()
    assert torch.autograd.gradcheck(
        lambda z, f: byot.loss([z, deepest], [f, target], labels, feature_weight=0.1), (logits[0], features[0])
    )


def test_with_one_exit_it_is_plain_training_bit_for_bit(fashion):
    run = {"epochs": 2, "seed": 0, "batch_size": 100, "augment": True, "progress": False}
    alone, plain = byot.attach(convolutional(), [], IMAGE), convolutional()
    training.fit(alone, *some(fashion), **run, objective=byot.objective(feature_weight=0.0))
    training.fit(plain, *some(fashion), **run)
    assert equal_states(byot.deploy(alone), plain)


@pytest.mark.parametrize(
    ("network", "layers", "features"),
    [
        (lambda: ResNet(8, in_channels=1), ["stage1", "stage2"], 64),
        (lambda: build("squeezenet-small"), [], None),
        (lambda: build("lenet-5"), ["conv1", "conv2"], 500),
        (mlp, ["1"], 16),
    ],
)
def test_exits_of_any_network(network, layers, features):
    torch.manual_seed(0)
    plain = network().train()
    before = copy.deepcopy(plain)
    model = byot.attach(plain, layers, IMAGE).eval()
    assert equal_states(plain, before) and plain.training
    images = torch.randn(6, 1, 28, 28)
    assert torch.equal(model(images), plain.eval()(images))
    logits, found = model(images, all_exits=True)
    assert len(logits) == len(found) == len(layers) + 1 and torch.equal(logits[-1], model(images))
    assert {each.shape for each in logits} == {(6, 10)}
    assert len({each.shape for each in found}) == 1 and features in (None, found[0].shape[1])
    assert equal_states(byot.deploy(model), plain) and type(byot.deploy(model)) is type(plain)
    for number in range(len(layers)):
        torch.testing.assert_close(byot.deploy(model, number)(images), logits[number])


def test_the_bottleneck_brings_maps_to_the_size_of_the_deepest_ones():
    model = byot.attach(ResNet(8, in_channels=1), ["stage1", "stage2"], IMAGE)
    maps = [
        exit.bottleneck(torch.zeros(2, *shape))
        for exit, shape in zip(model.exits, [(16, 28, 28), (32, 14, 14)], strict=True)
    ]
    assert {each.shape for each in maps} == {(2, 64, 7, 7)}


def test_it_trains_all_exits_and_resumes_bit_for_bit(fashion, tmp_path):
    def train(model, images=fashion[0], labels=fashion[1], **options):
        return training.fit(model, images, labels, objective=byot.objective(), **options)

    assert_resumes(lambda model, **options: train(model, *some(fashion), **options), multi_exit, tmp_path)
    model = multi_exit()
    train(model, epochs=3, seed=0, batch_size=50, progress=False)
    for exit in (0, 1, None):
        assert training.accuracy(byot.deploy(model, exit), *fashion) > 0.5


def test_images_leave_at_the_first_exit_that_is_sure_and_are_not_computed_further():
    model = multi_exit(3).train()
    model.exits[0].eval()  # modes may be mixed
    images = torch.randn(37, 1, 28, 28)
    quiet = copy.deepcopy(model).eval()
    with torch.no_grad():  # exits that tell the images apart, each as decided as the other; fresh weights are not
        for number, outputs in enumerate(quiet(images, all_exits=True)[0][:2]):
            for classifier in (model.exits[number].classifier, quiet.exits[number].classifier):
                factor = 2 / (outputs - outputs.mean(0)).std()
                classifier.weight *= factor
                classifier.bias.copy_((classifier.bias - outputs.mean(0)) * factor)
    modes = [module.training for module in model.modules()]
    every = torch.stack(quiet(images, all_exits=True)[0], 1)
    sure = every[:, :2].softmax(2).amax(2)
    threshold = sure.quantile(0.6).item()
    expected = [next((i for i in range(2) if row[i] > threshold), 2) for row in sure]
    reached = []
    hook = model.parts[2].register_forward_hook(lambda _, inputs, __: reached.append(len(inputs[0])))
    logits, exits = byot.early_exit(model, images, threshold, batch_size=10)
    hook.remove()
    assert exits.tolist() == expected and set(expected) == {0, 1, 2}
    torch.testing.assert_close(logits, every[torch.arange(37), exits])
    assert sum(reached) == expected.count(2)
    assert [module.training for module in model.modules()] == modes
    for threshold, exit in ((0.0, 0), (1.0, 2)):
        logits, exits = byot.early_exit(model, images, threshold)
        assert exits.tolist() == [exit] * 37
        torch.testing.assert_close(logits, every[:, exit])


def test_bad_arguments(fashion):
    model = multi_exit()
    with pytest.raises(ValueError, match="has no layer 'stage1'"):
        byot.attach(convolutional(), ["stage1"], IMAGE)
    with pytest.raises(ValueError, match=r"exit must be in \[0, 2\) or None for the deepest, got 2"):
        byot.deploy(model, 2)
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\]"):
        byot.early_exit(model, fashion[0][:5], 1.5)
    with pytest.raises(ValueError, match="images is empty"):
        byot.early_exit(model, fashion[0][:0], 0.5)
    for wrong, message in (({"alpha": 2}, "alpha must be in"), ({"feature_weight": -1}, "feature_weight must be")):
        with pytest.raises(ValueError, match=message):
            training.fit(model, *fashion, epochs=1, seed=0, objective=byot.objective(**wrong), progress=False)
    rows = nn.Sequential(nn.Flatten(2), nn.Linear(784, 5), nn.Flatten(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"layer '1' must give \(N, C, H, W\) or \(N, C\), got \(1, 1, 5\)"):
        byot.attach(rows, ["1"], IMAGE)
