"""The invariant of surgery on every architecture: see `invariant`."""

import copy

import invariant
import pytest
import torch
import torchvision
from torch import nn

from compress_lib.data import normalize
from compress_lib.models import resnet, zoo
from compress_lib.pruning import surgery

# Name, image size: the smallest that leaves more than one pixel, or one for the widest.
ARCHITECTURES = [
    ("alexnet", 64), ("vgg11_bn", 32), ("resnet18", 64), ("resnet50", 32), ("resnext50_32x4d", 32),
    ("wide_resnet50_2", 32), ("densenet121", 32), ("googlenet", 64), ("squeezenet1_0", 64), ("mobilenet_v2", 64),
    ("mobilenet_v3_small", 64), ("mobilenet_v3_large", 64), ("shufflenet_v2_x1_0", 64), ("mnasnet1_0", 64),
    ("efficientnet_b0", 64), ("regnet_x_400mf", 64), ("regnet_y_400mf", 64),
]  # fmt: skip


def architecture(name: str) -> nn.Module:
    """With 10 classes and random weights, which are not worth an initialization."""
    options = {"init_weights": False} if name in ("googlenet", "vgg11_bn") else {}
    model = torchvision.models.get_model(name, num_classes=10, **options)
    if name in ("alexnet", "vgg11_bn"):  # 4,096 hidden units take seconds and show no more than 64
        layers = [i for i, layer in enumerate(model.classifier) if isinstance(layer, nn.Linear)]
        sizes = [(model.classifier[layers[0]].in_features, 64), (64, 64), (64, 10)]
        for i, (read, made) in zip(layers, sizes, strict=True):
            model.classifier[i] = nn.Linear(read, made)
    return invariant.randomize_(model.eval())


@pytest.mark.parametrize(("name", "size"), ARCHITECTURES)
def test_of_torchvision(name, size):
    model, x = architecture(name), torch.zeros(2, 3, size, size, dtype=torch.float64)
    removals = invariant.some_units(surgery.groups(model, x), seed=size)
    smaller, report = invariant.check(model, x, removals)
    assert len(removals) > 4
    assert type(smaller) is type(model)
    assert report.kept < report.weights


def test_of_googlenet_in_training_mode():
    """Where its auxiliary classifiers run, too."""
    model, x = architecture("googlenet"), torch.zeros(3, 3, 64, 64, dtype=torch.float64)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    removals = invariant.some_units(surgery.groups(model, x), seed=1)
    auxiliary = {"aux1.conv.conv": [0, 5], "aux1.fc1": list(range(1000)), "aux2.conv.conv": [1], "aux2.fc1": [7]}
    _, report = invariant.check(model.train(), x, removals | auxiliary)
    assert {"aux1.fc1", "aux1.fc2", "aux2.conv.bn"} & report.kept_inputs.keys() == {"aux1.fc1", "aux1.fc2"}


@pytest.mark.parametrize("name", zoo.NAMES)
@pytest.mark.parametrize("seed", range(2))
def test_of_the_zoo(name, seed):
    model, x = invariant.randomize_(zoo.build(name).eval()), torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    invariant.check(model, x, invariant.some_units(surgery.groups(model, x), seed=seed))


def test_of_resnet_with_zero_padding():
    """Its shortcuts put channels at fixed places: only what lies inside the blocks can go."""
    model, x = (
        invariant.randomize_(resnet.resnet_20(shortcut="A").eval()),
        torch.zeros(1, 3, 32, 32, dtype=torch.float64),
    )
    found = surgery.groups(model, x)
    free = {layer for group in found if not group.fixed for layer in group.outputs}
    assert free == {f"stage{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)}
    invariant.check(model, x, invariant.some_units(found, seed=0))
    with pytest.raises(ValueError, match=r"'stage1.0.conv2' cannot lose channels: pad of stage2.0.shortcut"):
        surgery.remove(model, x, {"stage1.0.conv2": [0]})


def test_of_trained_networks(fashion):
    """Real weights in float32, a real batch."""
    images = normalize(fashion[0][:50])
    for name in ("vgg-small", "resnet-20"):
        model = zoo.load(name)
        smaller, report = surgery.remove(model, images, invariant.some_units(surgery.groups(model, images), seed=3))
        masked = copy.deepcopy(model)
        for layer, kept in report.kept_inputs.items():
            masked.get_submodule(layer).register_forward_pre_hook(invariant.blank(kept))
        with torch.no_grad():
            torch.testing.assert_close(smaller(images), masked(images), rtol=1e-4, atol=1e-4)
