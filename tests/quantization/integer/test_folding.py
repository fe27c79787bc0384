import copy

import pytest
import torch
from torch import nn

from compress_lib.models import zoo
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.integer.folding import fold

IMAGES = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def randomised(model: nn.Module, seed=0) -> nn.Module:
    """Every normalization does something: statistics and parameters drawn by lot. In training mode, as built."""
    torch.manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 2)
            if norm.affine:
                nn.init.normal_(norm.weight, 1, 0.3)
                nn.init.normal_(norm.bias, 0, 0.3)
    return model


def check(model: nn.Module, x: torch.Tensor):
    """Fold, and find the same function in float64 and the caller's model as it was."""
    state = copy.deepcopy(model.state_dict())
    training = [module.training for module in model.modules()]
    kinds = [type(module) for module in model.modules()]
    folded, report = fold(model, x)
    assert [module.training for module in model.modules()] == training
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in folded.modules())
    precise, _ = fold(copy.deepcopy(model).double(), x.double())
    with torch.no_grad():
        expected = copy.deepcopy(model).double().eval()(x.double())
        torch.testing.assert_close(precise(x.double()), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())
        found = folded(x).double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert norms.keys() == {row.layer for row in report.rows} | report.skipped.keys()
    for row in report.rows:
        assert type(folded.get_submodule(row.layer)) is nn.Identity
        assert type(folded.get_submodule(row.into)) is type(model.get_submodule(row.into))
    for name in report.skipped:
        assert type(folded.get_submodule(name)) is type(norms[name])
    sizes = [sum(t.numel() for t in [*m.parameters(), *m.buffers()] if t.is_floating_point()) for m in (model, folded)]
    assert sizes[0] - sizes[1] == report.weights - report.kept
    return folded, report


# --- whole networks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("resnet18", 20), ("mobilenet_v2", 52), ("densenet121", 59)])
def test_torchvision(name, count):
    models = pytest.importorskip("torchvision.models")
    model = randomised(models.get_model(name, weights=None))
    folded, report = check(model, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert len(report.rows) == count
    if name != "densenet121":  # there, a concatenation comes before most of them
        assert report.skipped == {}
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize(("name", "count"), [("vgg-small", None), ("resnet-20", None), ("lenet-5", 0)])
def test_the_zoo(name, count):
    model = randomised(zoo.build(name))
    _, report = check(model, IMAGES)
    norms = sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    assert len(report.rows) == (norms if count is None else count)
    assert (norms > 0) == (name != "lenet-5")
    assert report.skipped == {}


# --- the formula ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (lambda bias: nn.Linear(6, 4, bias=bias), nn.BatchNorm1d, (5, 6)), (lambda bias: nn.Conv1d(6, 4, 3, bias=bias),
        nn.BatchNorm1d, (5, 6, 9)), (lambda bias: nn.Conv2d(6, 4, 3, groups=2, padding=1, stride=2, bias=bias),
        nn.BatchNorm2d, (5, 6, 9, 9)), (lambda bias: nn.Conv2d(4, 4, 3, groups=4, padding_mode="reflect", padding=1,
        bias=bias), nn.BatchNorm2d, (2, 4, 9, 9)), (lambda bias: nn.Conv3d(2, 4, 2, dilation=2, bias=bias),
        nn.BatchNorm3d, (2, 2, 5, 5, 5)),
    ],
)  # fmt: skip
def test_kinds_of_layers(layer, norm, shape, bias, affine):
    model = randomised(nn.Sequential(layer(bias), norm(4, affine=affine, eps=0.01), nn.ReLU()))
    folded, report = check(model, torch.randn(shape))
    assert [(row.layer, row.into, row.channels) for row in report.rows] == [("1", "0", 4)]
    assert folded[0].bias.shape == (4,)


def test_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=1.0)).requires_grad_(False)
    for tensor, value in zip((*model[0].parameters(), *model[1].parameters()), (3.0, 5.0, 7.0, 11.0), strict=True):
        tensor.fill_(value)
    model[1].running_mean.fill_(13)
    model[1].running_var.fill_(3)  # with eps the square of 2
    folded, report = fold(model, torch.ones(1, 1, 2, 2))
    assert folded[0].weight.item() == 7 * 3 / 2
    assert folded[0].bias.item() == 11 + 7 * (5 - 13) / 2
    assert not folded[0].weight.requires_grad
    (row,) = report.rows
    assert (row.weights, row.kept) == (6, 2)
    assert "Folded batch normalizations" in str(report)


def test_two_normalizations_one_after_the_other():
    model = randomised(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)))
    _, report = check(model, IMAGES)
    assert [(row.layer, row.into) for row in report.rows] == [("1", "0"), ("2", "0")]


def test_a_weight_that_is_trained_stays_trained_and_the_copy_shares_no_memory():
    model = randomised(nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3)))
    folded, _ = fold(model, torch.randn(2, 4))
    assert folded[0].weight.requires_grad
    assert folded[0].bias.requires_grad
    before = model[0].weight.clone()
    with torch.no_grad():
        folded[0].weight.zero_()
    assert torch.equal(model[0].weight, before)


# --- what stays -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """One convolution and one normalization, wired by a function."""

    def __init__(self, wiring, **layers):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.wiring = wiring
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.wiring(self, x)


def kept(model, x=IMAGES):
    _, report = check(randomised(model), x)
    assert report.rows == []
    return report.skipped


@pytest.mark.parametrize(
    ("wiring", "reason"),
    [
        (lambda m, x: m.conv(m.norm(x)), "it reads x, not a convolution or linear layer"),
        (lambda m, x: m.norm(m.conv(x).relu()), "it reads relu, not a convolution or linear layer"),
        (lambda m, x: m.norm(m.conv(x) + x), "it reads add, not a convolution or linear layer"),
        (lambda m, x: m.norm(nn.functional.conv2d(x, m.conv.weight)), "it reads conv2d, not a convolution"),
        (lambda m, x: (y := m.conv(x)) + m.norm(y), "the output of conv has another reader"),
        (lambda m, x: m.norm(m.conv(m.conv(x))), "conv runs more than once, or shares its parameters"),
        (lambda m, x: m.norm(m.norm(m.conv(x))), "it runs more than once, or shares its parameters"),
        (lambda m, x: m.norm(m.conv(x)) + m.conv.weight.sum(), "conv runs more than once, or shares its parameters"),
        (lambda m, x: m.norm(m.conv(x)) + m.norm.running_mean, "it runs more than once, or shares its parameters"),
        (lambda m, x: m.conv(x), "it does not run as a layer in evaluation mode"),
    ],
)
def test_wirings_that_cannot_be_folded(wiring, reason):
    skipped = kept(Net(wiring))
    assert list(skipped) == ["norm"]
    assert skipped["norm"].startswith(reason)


def test_layers_that_cannot_be_folded():
    transposed = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.BatchNorm2d(2))
    assert kept(transposed) == {"1": "it reads ConvTranspose2d, not a convolution or linear layer"}
    statistics = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    assert kept(statistics) == {"1": "it has no running statistics"}
    sequence = nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7))  # the axis of the features is not that of the channels
    assert kept(sequence, torch.randn(2, 7, 4)) == {"1": "its channels are not those of 0"}
    unbatched = nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5))
    assert kept(unbatched, torch.randn(3, 5)) == {"1": "its channels are not those of 0"}
    other = nn.Conv2d(1, 1, 3, padding=1)
    tied = Net(lambda m, x: m.norm(m.conv(x)) + m.other(x), other=other)
    tied.conv.weight = other.weight
    assert "shares its parameters" in kept(tied)["norm"]
    hooked = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    hooked[0].register_forward_hook(lambda module, args, output: 2 * output)
    assert kept(hooked) == {"1": "it or 0 has hooks"}


def test_a_masked_layer_is_left_alone():
    masked, _ = magnitude.prune(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)), 0.5)
    _, report = fold(masked, IMAGES)
    assert report.skipped == {"1": "it reads ParametrizedConv2d, not a convolution or linear layer"}


def test_a_normalization_under_two_names():
    net = Net(lambda m, x: m.norm(m.conv(x)))
    net.alias = net.norm
    folded, _ = check(randomised(net), IMAGES)
    assert type(folded.alias) is nn.Identity


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input(capfd):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(TypeError, match="example_input must be a tensor, got list"):
        fold(model, [1.0])
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got str"):
        fold("model", IMAGES)
    with pytest.raises(ValueError, match=r"example_input \(3, 2, 9, 9\) does not run through the model"):
        fold(model, torch.ones(3, 2, 9, 9))
    for buffer, value in (("running_var", -1.0), ("running_mean", torch.nan)):
        broken = copy.deepcopy(model)
        broken[1].get_buffer(buffer).fill_(value)
        with pytest.raises(ValueError, match="'1' folded into '0' makes weights that are NaN or infinite"):
            fold(broken, IMAGES)
    assert capfd.readouterr() == ("", "")


def test_the_report_of_nothing():
    _, report = fold(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2))
    assert (report.rows, report.skipped) == ([], {})
    assert "Folded batch normalizations" in str(report)
