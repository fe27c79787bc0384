import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib.data import normalize
from compress_lib.models import zoo
from compress_lib.network.recording import record
from compress_lib.pruning.weights import magnitude


def settled(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, with statistics that make its normalizations do something."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return model.eval()


def outputs_of(model: nn.Module, names: list[str], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What hooks see leaving the named modules."""
    seen = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.__setitem__(name, output.detach().clone())
        )
        for name in names
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return seen


# --- where the way of a layer ends ----------------------------------------------------------------------------------


def test_a_plain_chain(network):
    settled(network)
    images = torch.randn(5, 1, 8, 8)
    found = record(network, images)
    assert list(found) == ["0", "4", "6"]
    for name, length in (("0", 3), ("4", 6), ("6", 7)):
        assert torch.equal(found[name].activations, network[:length](images)), name
        assert found[name].gradients is None
    assert found["0"].batch_norm is network[1]
    assert found["4"].batch_norm is found["6"].batch_norm is None


def test_residual_blocks_end_before_the_sum(fashion):
    model, images = zoo.load("resnet-20"), fashion[0][:4]
    found = record(model, images)
    blocks = [name for name, module in model.named_modules() if type(module).__name__ == "BasicBlock"]
    norms = outputs_of(model, [f"{b}.{bn}" for b in blocks for bn in ("bn1", "bn2")], normalize(images))
    for block in blocks:
        assert torch.allclose(found[f"{block}.conv1"].activations, norms[f"{block}.bn1"].relu(), atol=1e-5)
        assert torch.allclose(found[f"{block}.conv2"].activations, norms[f"{block}.bn2"], atol=1e-5)
        assert found[f"{block}.conv1"].batch_norm is model.get_submodule(f"{block}.bn1")
        assert found[f"{block}.conv2"].batch_norm is model.get_submodule(f"{block}.bn2")
    assert found["stage2.0.shortcut.0"].batch_norm is model.stage2[0].shortcut[1]
    assert set(found) == {n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


class Block(nn.Module):
    """One convolution, and ``after`` says what follows it."""

    def __init__(self, after):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn, self.bn2, self.prelu = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.PReLU(4)
        self.dropout, self.relu = nn.Dropout(), nn.ReLU(inplace=True)
        self.after = after

    def forward(self, x):
        return self.after(self, self.conv(x), x)


WAYS = {
    "function": (lambda m, y, x: F.relu(m.bn(y)), lambda m, y: F.relu(m.bn(y))),
    "torch function": (lambda m, y, x: torch.relu(y), lambda m, y: F.relu(y)),
    "method": (lambda m, y, x: m.bn(y).relu(), lambda m, y: F.relu(m.bn(y))),
    "in place": (lambda m, y, x: m.relu(m.bn(y)), lambda m, y: F.relu(m.bn(y))),
    "method in place": (lambda m, y, x: m.bn(y).relu_(), lambda m, y: F.relu(m.bn(y))),
    "dropout": (lambda m, y, x: m.dropout(m.bn(y).sigmoid()), lambda m, y: m.bn(y).sigmoid()),
    "functional dropout": (lambda m, y, x: F.dropout(m.bn(y), 0.5, m.training), lambda m, y: m.bn(y)),
    "relu6 by clamping": (lambda m, y, x: m.bn(y).clamp(0, 6), lambda m, y: m.bn(y).clamp(0, 6)),
    "prelu": (lambda m, y, x: m.prelu(m.bn(y)), lambda m, y: m.prelu(m.bn(y))),
    "normalization last": (lambda m, y, x: m.bn(y.relu()), lambda m, y: m.bn(y.relu())),
    "two normalizations": (lambda m, y, x: m.bn2(m.bn(y)), lambda m, y: m.bn2(m.bn(y))),
    "pool": (lambda m, y, x: F.max_pool2d(m.bn(y), 2).relu(), lambda m, y: m.bn(y)),
    "flatten": (lambda m, y, x: m.bn(y).flatten(1).relu(), lambda m, y: m.bn(y)),
    "softmax": (lambda m, y, x: m.bn(y).softmax(1), lambda m, y: m.bn(y)),
    "cat": (lambda m, y, x: torch.cat([m.bn(y), x], 1).relu(), lambda m, y: m.bn(y)),
    "sum": (lambda m, y, x: (m.bn(y) + x.sum(1, keepdim=True)).relu(), lambda m, y: m.bn(y)),
    "second reader": (lambda m, y, x: m.bn(y).relu() + y, lambda m, y: y),
    "second reader of the norm": (lambda m, y, x: (z := m.bn(y)).relu() * z, lambda m, y: m.bn(y)),
    "clamping by a tensor": (lambda m, y, x: m.bn(y).clamp(min=x.mean(1, keepdim=True)), lambda m, y: m.bn(y)),
    "number": (lambda m, y, x: (y * 2).relu(), lambda m, y: y),
}  # fmt: skip


@pytest.mark.parametrize("case", WAYS)
def test_what_a_way_passes(case):
    after, expected = WAYS[case]
    model = settled(Block(after))
    images = torch.randn(3, 2, 6, 6)
    found = record(model, images)["conv"]
    with torch.no_grad():
        assert torch.equal(found.activations, expected(model, model.conv(images)))
    has_norm = case not in ("torch function", "second reader", "number")
    assert found.batch_norm is (model.bn if has_norm else None)


def test_what_is_recorded_is_safe_from_operations_in_place():
    def after(model, y, x):
        y = model.bn(y)
        y += x.sum(1, keepdim=True)
        return y.relu_().mean((2, 3))

    model = settled(Block(after))
    images, labels = torch.randn(3, 2, 6, 6), torch.tensor([0, 3, 1])
    found = record(model, images, labels)["conv"]
    activations = model.bn(model.conv(images)).detach().requires_grad_()
    assert torch.equal(found.activations, activations)
    logits = (activations + images.sum(1, keepdim=True)).relu().mean((2, 3))
    F.cross_entropy(logits, labels, reduction="sum").backward()
    assert torch.allclose(found.gradients, activations.grad, atol=1e-7)


def test_features_of_a_linear_layer_come_second():
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))
    tokens = torch.randn(3, 6, 5)
    found = record(model, tokens)
    assert torch.equal(found["0"].activations, model[:2](tokens).detach().transpose(1, 2))
    assert found["2"].activations.shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), (3, 2, 9)),
        (nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), (3, 2, 4, 4, 4)),
        (nn.ConvTranspose2d(2, 4, 2), nn.BatchNorm2d(4), (3, 2, 5, 5)),
        (nn.Linear(6, 4), nn.BatchNorm1d(4), (3, 6)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_kinds_of_layers(layer, norm, shape):
    model = settled(nn.Sequential(layer, norm, nn.ReLU()))
    images = torch.randn(shape)
    found = record(model, images)["0"]
    assert torch.equal(found.activations, model(images).detach())
    assert found.batch_norm is norm


# --- values -----------------------------------------------------------------------------------------------------------


def test_uint8_images_are_normalized(fashion):
    model, images = zoo.load("lenet-5"), fashion[0][:3]
    found = record(model, images)["conv1"].activations
    assert torch.allclose(found, model.conv1((images / 255 - 0.2860) / 0.3530).detach(), atol=1e-5)
    assert torch.equal(found, record(model, normalize(images))["conv1"].activations)


def test_each_image_has_the_gradient_of_its_own_loss(network):
    settled(network)
    images, labels = torch.randn(7, 1, 8, 8), torch.arange(7)
    found = record(network, images, labels)
    for n in range(7):
        first = network[:3](images[n : n + 1]).detach().requires_grad_()
        second = network[3:6](first).detach().requires_grad_()
        logits = network[6](second).detach().requires_grad_()
        loss = -logits.log_softmax(1)[0, labels[n]]
        loss.backward()
        logits_gradient = logits.grad
        network[6](second).backward(logits_gradient)
        network[3:6](first).backward(second.grad)
        assert torch.allclose(found["6"].gradients[n], logits_gradient[0], atol=1e-7)
        assert torch.allclose(found["4"].gradients[n], second.grad[0], atol=1e-7)
        assert torch.allclose(found["0"].gradients[n], first.grad[0], atol=1e-7)


def test_gradients_predict_the_loss(network):
    """Finite differences in double precision, in a random direction."""
    model = settled(network).double()
    images, labels = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 0, 9, 4])
    found = record(model, images, labels)["0"]
    direction = torch.randn_like(found.activations)

    def losses(step):
        return F.cross_entropy(model[3:](found.activations + step * direction), labels, reduction="none")

    with torch.no_grad():
        slope = (losses(1e-6) - losses(-1e-6)) / 2e-6
    assert torch.allclose((found.gradients * direction).sum((1, 2, 3)), slope, rtol=1e-5, atol=1e-8)


def test_many_images_are_those_of_small_batches(network):
    settled(network)
    images, labels = torch.randn(230, 1, 8, 8), torch.randint(10, (230,))
    whole = record(network, images, labels)
    for start in (0, 90, 180):
        part = record(network, images[start : start + 50], labels[start : start + 50])
        for name in whole:
            for kind in ("activations", "gradients"):
                expected = getattr(whole[name], kind)[start : start + 50]
                assert torch.allclose(getattr(part[name], kind), expected, atol=1e-6)
    assert all(len(o.activations) == len(o.gradients) == 230 for o in whole.values())


def test_a_layer_that_the_loss_does_not_feel_has_no_gradient():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 5)

        def forward(self, x):
            self.idle(x)
            return self.used(x)

    model = Idle()
    found = record(model, torch.randn(2, 4), torch.tensor([0, 1]))
    assert torch.equal(found["idle"].gradients, torch.zeros(2, 5))
    assert found["used"].gradients.abs().sum() > 0


def test_frozen_weights_training_mode_and_disabled_gradients_do_not_matter(network):
    settled(network)
    images, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 2, 3])
    expected = record(network, images, labels)["4"]
    network.requires_grad_(False).train()
    with torch.no_grad():
        found = record(network, images, labels)["4"]
    assert network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert torch.equal(found.activations, expected.activations)
    assert torch.equal(found.gradients, expected.gradients)
    assert not (found.activations.requires_grad or found.gradients.requires_grad)


def test_it_leaves_no_gradients_behind(unchanged):
    record(unchanged, torch.randn(3, 1, 8, 8), torch.tensor([1, 2, 3]))
    assert all(p.grad is None and p.requires_grad for p in unchanged.parameters())


def test_masked_layers_are_observed(network):
    masked, _ = magnitude.prune(settled(network), 0.5)
    images = torch.randn(2, 1, 8, 8)
    found = record(masked, images)
    assert torch.equal(found["6"].activations, masked(images).detach())
    assert found["0"].batch_norm is masked[1]


# --- which layers ---------------------------------------------------------------------------------------------------


def test_without_images_only_the_normalisation_is_known(unchanged):
    found = record(unchanged)
    assert found["0"].batch_norm is unchanged[1]
    assert all(o.activations is o.gradients is None for o in found.values())


def test_chosen_layers_come_in_the_order_of_execution(unchanged):
    images = torch.randn(2, 1, 8, 8)
    assert list(record(unchanged, images, layers=["6", "0"])) == ["0", "6"]
    assert list(record(unchanged, images, layers=iter(["4"]))) == ["4"]
    assert record(unchanged, images, layers=[]) == {}


def test_layers_that_run_twice_or_never_are_not_observable():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.once, self.never = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 4)

        def forward(self, x):
            return self.once(self.twice(self.twice(x)))

    assert list(record(Odd(), torch.randn(2, 4))) == ["once"]
    for name in ("twice", "never"):
        with pytest.raises(ValueError, match=rf"layers names \['{name}'\].*run once are \['once'\]"):
            record(Odd(), layers=["once", name])


@pytest.mark.parametrize("name", ["fc9", "1", ""])
def test_unknown_layer(unchanged, name):
    with pytest.raises(ValueError, match=rf"layers names \['{name}'\].*\['0', '4', '6'\]"):
        record(unchanged, layers=["0", name])


# --- bad input
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1, 9, 9), (2, 3, 8, 8), (2, 8, 8), (2,), (2, 1, 8, 8, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_images_of_the_wrong_shape(unchanged, shape, dtype):
    message = rf"images of shape \({', '.join(map(str, shape))},?\) do not run through the model"
    with pytest.raises(ValueError, match=message):
        record(unchanged, torch.zeros(shape, dtype=dtype))


def test_images_without_the_axes_that_the_model_names():
    model = Block(lambda m, y, x: x.mean((2, 3)))
    with pytest.raises(ValueError, match=r"images of shape \(2, 6, 6\) do not run through the model"):
        record(model, torch.zeros(2, 6, 6))


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 8, 8), torch.tensor(1.0)])
def test_no_images(unchanged, images):
    with pytest.raises(ValueError, match="images must hold at least one image"):
        record(unchanged, images)


@pytest.mark.parametrize("images", [[[1.0]], torch.zeros(2, 1, 8, 8, dtype=torch.int64)])
def test_images_of_the_wrong_type(unchanged, images):
    with pytest.raises(TypeError, match="images must be a uint8 or float tensor, got"):
        record(unchanged, images)


def test_labels_that_do_not_fit(unchanged):
    images = torch.randn(3, 1, 8, 8)
    with pytest.raises(ValueError, match="without images"):
        record(unchanged, labels=torch.tensor([1]))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\) for 3 images"):
        record(unchanged, images, torch.tensor([1, 2]))
    with pytest.raises(TypeError, match="labels must be an int64 tensor, got torch.float32"):
        record(unchanged, images, torch.tensor([1.0, 2, 3]))
    with pytest.raises(TypeError, match="labels must be an int64 tensor, got list"):
        record(unchanged, images, [1, 2, 3])
    for wrong in (10, -1):
        with pytest.raises(ValueError, match=r"labels must be in \[0, 10\)"):
            record(unchanged, images, torch.tensor([1, 2, wrong]))


@pytest.mark.parametrize("after", [lambda m, y, x: y, lambda m, y, x: {"logits": y}, lambda m, y, x: y.mean((0, 2))])
def test_labels_need_logits(after):
    with pytest.raises(ValueError, match=r"returns logits \(N, classes\), got"):
        record(Block(after), torch.randn(2, 2, 4, 4), torch.tensor([0, 1]))


def test_a_model_that_is_none(unchanged):
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got dict"):
        record({})
    with pytest.raises(TypeError, match="single string '4'"):
        record(unchanged, layers="4")
