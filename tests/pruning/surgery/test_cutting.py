import copy
import pickle

import invariant
import pytest
import torch
import torchvision
from torch import nn

from compress_lib import files
from compress_lib.models import resnet, zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.surgery import cutting

IMAGE = torch.zeros(1, 3, 8, 8)


def mixed() -> nn.Sequential:
    """A convolution of each kind, each layer with per-channel parameters, and ties that must last."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.InstanceNorm2d(8, affine=True),
        nn.Conv2d(8, 16, 1, groups=8),
        nn.PReLU(),
        nn.Conv2d(16, 6, 1, groups=2, bias=False),
        nn.BatchNorm2d(6, affine=False),
        nn.Flatten(),
        nn.Linear(384, 10),
        nn.Linear(10, 10),
        nn.LayerNorm(10),
        nn.Linear(10, 2, bias=False),
    )
    return invariant.randomize_(model).float().eval()


def narrowed(model=None) -> tuple[nn.Module, nn.Module]:
    model = model or mixed()
    return model, surgery.remove(model, IMAGE, {"0": [1, 4], "7": [0], "10": [2, 3, 9]})[0]


def assert_same(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert tensor.dtype == b.state_dict()[name].dtype
        assert torch.equal(tensor, b.state_dict()[name]), name


# --- cutting and silencing --------------------------------------------------------------------------------------------


def test_cut_a_linear_layer():
    layer = nn.Linear(4, 3)
    whole = copy.deepcopy(layer)
    cutting.cut_(layer, torch.tensor([0, 2]), torch.tensor([1, 3]))
    assert torch.equal(layer.weight, whole.weight[[0, 2]][:, [1, 3]])
    assert torch.equal(layer.bias, whole.bias[[0, 2]])
    assert (layer.in_features, layer.out_features) == (2, 2)
    cutting.cut_(layer, None, torch.tensor([1]))
    assert torch.equal(layer.weight, whole.weight[[0, 2]][:, [3]])
    assert cutting.channel_counts(layer) == (1, 2)


def test_cut_whole_groups():
    layer = nn.Conv2d(6, 9, 3, groups=3)
    whole = copy.deepcopy(layer)
    cutting.cut_(layer, torch.tensor([0, 1, 2, 6, 7, 8]), torch.tensor([0, 1, 4, 5]))
    assert (layer.groups, cutting.channel_counts(layer), layer.weight.shape) == (2, (4, 6), (6, 2, 3, 3))
    x = torch.randn(1, 6, 4, 4)
    assert torch.equal(layer(x[:, [0, 1, 4, 5]]), whole(x)[:, [0, 1, 2, 6, 7, 8]])


def test_cut_the_same_channel_of_each_group():
    layer = nn.Conv1d(6, 4, 1, groups=2, bias=False)
    weight = layer.weight.detach().clone()
    cutting.cut_(layer, torch.tensor([1, 3]), torch.tensor([0, 2, 3, 5]))
    assert layer.groups == 2
    assert torch.equal(layer.weight, weight[[1, 3]][:, [0, 2]])


@pytest.mark.parametrize(
    ("outputs", "inputs"), [([0, 1, 2, 3], [0, 1, 4]), ([0, 1, 2], [0, 1, 2, 3, 4, 5]), ([0, 1], [0, 1, 2, 3, 4, 5])]
)
def test_groups_stay_equally_wide(outputs, inputs):
    layer = nn.Conv2d(6, 4, 1, groups=2)
    with pytest.raises(ValueError, match="the groups of a convolution would not stay equally wide"):
        cutting.cut_(layer, torch.tensor(outputs), torch.tensor(inputs))


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm1d(4), nn.InstanceNorm3d(4, affine=True), nn.BatchNorm2d(4, affine=False)]
)
def test_cut_a_normalization(layer):
    invariant.randomize_(nn.Sequential(layer)) if layer.affine else None
    before = copy.deepcopy(layer.state_dict())
    cutting.cut_(layer, torch.tensor([3, 1]), None)
    assert layer.num_features == 2
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name] if name == "num_batches_tracked" else before[name][[3, 1]])


def test_cut_keeps_what_is_frozen_frozen():
    layer = nn.PReLU(3).requires_grad_(False)
    cutting.cut_(layer, torch.tensor([0, 1]), None)
    assert layer.num_parameters == 2
    assert not layer.weight.requires_grad


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1, groups=2)])
def test_zero_other_inputs(layer):
    x = torch.randn(3, 6) if isinstance(layer, nn.Linear) else torch.randn(3, 6, 2, 2)
    blank = x.clone()
    blank[:, [1, 3, 4]] = 0
    expected = layer(blank)
    cutting.zero_other_inputs_(layer, torch.tensor([0, 2, 5]))
    torch.testing.assert_close(layer(x), expected)


# --- files ------------------------------------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    model, smaller = narrowed()
    path = tmp_path / "model.safetensors"
    cutting.save(smaller, path)
    other = mixed().train().requires_grad_(False)
    torch.nn.init.zeros_(other[0].weight)
    before = copy.deepcopy(other.state_dict())
    loaded = cutting.load(path, other)
    assert_same(loaded, smaller)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(loaded(x), smaller(x))
    assert [repr(layer) for layer in loaded] == [repr(layer) for layer in smaller]
    assert not any(layer.training for layer in loaded.modules())
    assert not any(p.requires_grad for p in loaded.parameters())
    # The argument is as it was.
    assert other.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    assert [repr(layer) for layer in other] == [repr(layer) for layer in model]
    # And what was loaded is a network like any other.
    surgery.remove(loaded, IMAGE, {"0": [0]})
    loaded.requires_grad_().train()(x).sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_round_trip_of_other_types(tmp_path, dtype):
    _, smaller = narrowed()
    cutting.save(smaller.to(dtype), tmp_path / "model")
    loaded = cutting.load(tmp_path / "model", mixed())
    assert_same(loaded, smaller)
    x = torch.randn(2, 3, 8, 8, dtype=dtype)
    assert torch.equal(loaded(x), smaller(x))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x1_0"])
def test_round_trip_of_architectures(tmp_path, name):
    model = torchvision.models.get_model(name, num_classes=3).eval()
    x = torch.randn(2, 3, 64, 64)
    smaller, _ = surgery.remove(model, x, invariant.some_units(surgery.groups(model, x), seed=0))
    cutting.save(smaller, tmp_path / "model")
    loaded = cutting.load(tmp_path / "model", torchvision.models.get_model(name, num_classes=3))
    with torch.no_grad():
        assert torch.equal(loaded(x), smaller(x))


def test_the_file_is_little_more_than_the_weights(tmp_path):
    model = zoo.load("vgg-small")
    cutting.save(model, tmp_path / "model")
    content = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert content < (tmp_path / "model").stat().st_size < content + 6000


def test_tied_and_aliased_layers_stay_so(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.hidden, self.last = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(4, 9, bias=False)
            self.last.weight = self.embed.weight
            self.again, self.back = self.hidden, nn.Linear(6, 4)

        def forward(self, x):
            return self.last(self.back(self.hidden(self.embed(x)).relu()))

    tokens = torch.randint(9, (2, 5))
    smaller, _ = surgery.remove(Tied(), tokens, {"hidden": [0, 1]})
    cutting.save(smaller, tmp_path / "model")
    loaded = cutting.load(tmp_path / "model", Tied())
    assert torch.equal(loaded(tokens), smaller(tokens))
    assert loaded.last.weight is loaded.embed.weight
    assert loaded.again is loaded.hidden


OTHERS = {
    "another layer": (lambda m: m.__setitem__(13, nn.Conv2d(10, 2, 1, bias=False)), r"\['13'\]"),
    "another kernel": (lambda m: m.__setitem__(7, nn.Conv2d(16, 6, 3, groups=2, bias=False)), r"\['7'\]"),
    "another stride": (lambda m: m.__setitem__(0, nn.Conv2d(3, 8, 3, 2, padding=1)), r"\['0'\]"),
    "another epsilon": (lambda m: m.__setitem__(1, nn.BatchNorm2d(8, eps=0.1)), r"\['1'\]"),
    "narrower": (lambda m: m.__setitem__(10, nn.Linear(200, 10)), r"\['10'\]"),
    "fewer groups": (lambda m: m.__setitem__(5, nn.Conv2d(8, 16, 1, groups=2)), r"\['5'\]"),
    "a layer more": (lambda m: m.append(nn.ReLU()), r"\['14'\]"),
    "a layer less": (lambda m: m.pop(13), r"\['13', '13.weight'\]"),
    "no bias": (lambda m: m.__setitem__(11, nn.Linear(10, 10, bias=False)), r"\['11.bias'\]"),
    "another size of what is not cut": (
        lambda m: m.__setitem__(12, nn.LayerNorm([1, 10])), r"\['12.weight', '12.bias'\]"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_another_architecture_is_refused(tmp_path, case):
    change, named = OTHERS[case]
    cutting.save(narrowed()[1], tmp_path / "model")
    other = mixed()
    change(other)
    with pytest.raises(ValueError, match=rf"was made from another architecture than model=Sequential: {named}"):
        cutting.load(tmp_path / "model", other)


def test_another_network_is_refused(tmp_path):
    cutting.save(zoo.load("resnet-20"), tmp_path / "model")
    with pytest.raises(ValueError, match=r"model was made from another architecture than model=VGG: \['bn1', "):
        cutting.load(tmp_path / "model", zoo.build("vgg-small"))
    with pytest.raises(ValueError, match=r"another architecture than model=ResNet: \['stage2.0.shortcut.0', "):
        cutting.load(tmp_path / "model", resnet.resnet_20(in_channels=1, shortcut="A"))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    model, smaller = narrowed()
    cutting.save(smaller, path)
    good = path.read_bytes()
    for i in range(0, len(good), 97):
        path.write_bytes(good[:i])
        with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
            cutting.load(path, model)
        path.write_bytes(good[:i] + bytes([good[i] ^ 4]) + good[i + 1 :])
        with pytest.raises(ValueError, match="model.safetensors"):
            cutting.load(path, model)
    torch.save(smaller.state_dict(), path)
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        cutting.load(path, model)
    path.write_bytes(pickle.dumps(smaller.state_dict()))
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        cutting.load(path, model)
    files.save_tensors(path, {}, "thing", {})
    with pytest.raises(ValueError, match="does not hold a narrowed model 1: its format is 'thing'"):
        cutting.load(path, model)


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return 3

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match=r"state that is no tensor and cannot be saved: \['0._extra_state'\]"):
        cutting.save(nn.Sequential(Counting(2, 2)), tmp_path / "model")
    assert not list(tmp_path.iterdir())
