import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib.models.resnet import ResNet
from compress_lib.models.zoo import build
from compress_lib.network.splitting import split


def run(parts, x):
    for part in parts:
        x = part(x)
    return x


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def resnet():
    torch.manual_seed(0)
    return ResNet(8, in_channels=1)


IMAGES = torch.randn(4, 1, 28, 28)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [[], ["stage2"], ["bn1", "stage1.0", "stage3"], ["fc"]])
def test_the_parts_compute_what_the_model_computes_and_move_its_statistics(layers, training):
    model = resnet()
    before = copy.deepcopy(model.state_dict())
    parts = [part.train(training) for part in split(model, layers)]
    assert len(parts) == len(layers) + 1
    assert equal(before, model.state_dict())
    expected = model.train(training)(IMAGES)
    assert torch.equal(run(parts, IMAGES), expected)
    state = {name: tensor for part in parts for name, tensor in part.state_dict().items()}
    assert state.keys() == model.state_dict().keys() and equal(state, model.state_dict())


def test_a_part_ends_with_what_its_layer_returns():
    model = resnet().eval()
    first, second, _ = split(model, ["stage1", "stage2"])
    x = model.stage1(model.bn1(model.conv1(IMAGES)).relu())
    assert torch.equal(first.eval()(IMAGES), x) and torch.equal(second.eval()(x), model.stage2(x))


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5", "squeezenet-small", "mobilenet-v2-small"])
def test_the_classifier_is_the_last_part(name):
    torch.manual_seed(0)
    model = build(name).eval()
    images = torch.randn(2, 1, 28, 28)
    trunk, head = split(model, [], classifier=True)
    features = trunk.eval()(images)
    assert torch.equal(head.eval()(features), model(images))
    weights = [module for module in head.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(weights) == 1 and weights[0].weight.shape[1] == features.shape[1]


def test_dropout_before_the_classifier_is_no_feature():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    trunk, head = split(model, [], classifier=True)
    x = torch.randn(5, 3)
    assert torch.equal(trunk.train()(x), model[0](x)) and len(list(head.modules())) > 2


class Shared(nn.Module):
    """A parameter that is read before and behind the cut."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.first(x * self.scale)) * self.scale


def test_a_parameter_of_two_parts_stays_one():
    model = Shared()
    parts = nn.ModuleList(split(model, ["first"]))
    x = torch.randn(2, 3)
    assert torch.equal(run(parts, x), model(x))
    run(parts, x).sum().backward()
    model(x).sum().backward()
    assert parts[0].scale is parts[1].scale
    torch.testing.assert_close(parts[0].scale.grad, model.scale.grad)


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class Adding(nn.Module):
    def __init__(self, write):
        super().__init__()
        self.first, self.write = nn.Linear(3, 3), write

    def forward(self, x):
        x = self.first(x)
        return self.write(x)


@pytest.mark.parametrize("write", [torch.relu_, lambda x: x.relu_(), lambda x: F.relu(x, inplace=True)])
def test_a_part_may_not_write_into_what_it_is_given(write):
    with pytest.raises(ValueError, match="the output of 'first' is changed in place; name the layer that changes it"):
        split(Adding(write), ["first"])
    split(Adding(lambda x: F.relu(x) + 1), ["first"])


def test_a_layer_may_not_write_into_what_its_part_is_given():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="the output of '_0' is changed in place"):
        split(model, ["0"])
    assert len(split(model, ["1"])) == 2


def test_what_cannot_be_cut_is_said():
    model = resnet()
    with pytest.raises(ValueError, match="cannot be cut behind 'stage2_0_conv1': .* is read behind it too"):
        split(model, ["stage2.0.conv1"])
    with pytest.raises(ValueError, match="ResNet has no layer 'stage4'; the names most like it are"):
        split(model, ["stage4"])
    with pytest.raises(ValueError, match="different and in the order in which they run"):
        split(model, ["stage2", "stage1"])
    with pytest.raises(ValueError, match="different and in the order"):
        split(model, ["stage1", "stage1"])
    with pytest.raises(TypeError, match="single string 'stage1'"):
        split(model, "stage1")
    model.unused = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="layer 'unused' is not called"):
        split(model, ["unused"])
    layer = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="layer '0' must run once and return one tensor, but 2 values leave it"):
        split(nn.Sequential(layer, nn.ReLU(), layer), ["0"])
    with pytest.raises(ValueError, match="its forward itself depends on the mode"):
        split(nn.Sequential(nn.Linear(3, 3), FunctionalDropout()), ["0"])
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        split(nn.Sequential(nn.Flatten(), nn.ReLU()), [], classifier=True)
