import copy

import pytest
import torch
from students import equal_states
from torch import nn

from compress_lib import training
from compress_lib.distillation import attention_transfer, moonshine
from compress_lib.models.resnet import ResNet
from compress_lib.models.zoo import build


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def network():
    """One convolution from 16 to 32 channels, behind the one that stays."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False))


@pytest.mark.parametrize(
    ("block", "channels", "groups", "parameters"),
    [
        # two groups of 8: 16 · 8 · 9, BN 2 · 16, 1×1 16 · 32
        ("G8", 16, 2, 1152 + 32 + 512),
        # 1×1 16 · 16, BN 2 · 16, 3×3 16 · 16 · 9, BN 2 · 16, 1×1 16 · 32
        ("B2", 16, 1, 256 + 32 + 2304 + 32 + 512),
        # 1×1 16 · 16, BN, two groups of 8: 16 · 8 · 9, BN, 1×1 16 · 32
        ("G8B2", 16, 2, 256 + 32 + 1152 + 32 + 512),
        # eight groups of 2: 16 · 2 · 9
        ("A8B2", 16, 8, 256 + 32 + 288 + 32 + 512),
        # depthwise: 16 · 9
        ("G1", 16, 16, 144 + 32 + 512),
        ("A4", 16, 4, 16 * 4 * 9 + 32 + 512),
        # 1×1 16 · 8, BN 2 · 8, two groups of 4: 8 · 4 · 9, BN 2 · 8, 1×1 8 · 32
        ("G4B4", 8, 2, 128 + 16 + 288 + 16 + 256),
    ],
)
def test_parameters_by_hand(block, channels, groups, parameters):
    model = network()
    student, report = moonshine.convert(model, block)
    (row,) = report.rows
    assert (row.layer, row.weights, row.kept) == ("1", 4608, parameters)
    assert row.inside == f"{channels} channels in {groups} groups"
    assert count(student[1]) == parameters and count(student) == parameters + count(model[0])
    assert report.skipped == {"0": "the first convolution, which reads the image"}
    (spatial,) = (m for m in student[1] if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    assert (spatial.in_channels, spatial.out_channels, spatial.groups) == (channels, channels, groups)


def test_the_orders_of_the_blocks():
    kinds = {block: [type(m).__name__ for m in moonshine.convert(network(), block)[0][1]] for block in ("G8", "G8B2")}
    assert kinds["G8"] == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert kinds["G8B2"] == ["Conv2d", "BatchNorm2d", "ReLU", *kinds["G8"]]


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"stride": (1, 3), "padding": (0, 2), "dilation": 2, "bias": False},
        {"padding": "same", "padding_mode": "reflect"},
    ],
)
@pytest.mark.parametrize("block", ["G4", "B2", "A2B2"])
def test_the_shape_of_the_output_and_the_bias_are_kept(options, block):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, (3, 5), **options)).double().eval()
    student, _ = moonshine.convert(model, block)
    x = torch.randn(2, 1, 19, 23, dtype=torch.float64)
    assert student(x).shape == model(x).shape and student(x).dtype == torch.float64
    spatial = next(m for m in student[1] if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 5))
    for kept in ("stride", "padding", "dilation", "padding_mode"):
        assert getattr(spatial, kept) == getattr(model[1], kept)
    biases = [m.bias is not None for m in student[1] if isinstance(m, nn.Conv2d)]
    assert biases[-1] == options.get("bias", True) and not any(biases[:-1])
    assert not any(module.training for module in student.modules())


def test_a_residual_network_by_the_formula_and_what_was_left_alone():
    torch.manual_seed(0)
    model = ResNet(20, in_channels=1)
    before = copy.deepcopy(model)
    student, report = moonshine.convert(model, "G8B2")
    assert equal_states(model, before)
    change = 0
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)):
        i, o = layer.in_channels, layer.out_channels
        if i > 1:
            m = o // 2
            change += i * m + 2 * m + m * 8 * 9 + 2 * m + m * o - 9 * i * o
    assert len(report.rows) == 18 and count(student) == count(model) + change
    assert report.kept - report.weights == change
    assert set(report.skipped) == {"conv1", "stage2.0.shortcut.0", "stage3.0.shortcut.0"}
    assert report.skipped["stage2.0.shortcut.0"] == "1 × 1 already"
    assert torch.equal(student.fc.weight, model.fc.weight) and torch.equal(student.conv1.weight, model.conv1.weight)
    assert student(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    assert "G8B2 blocks" in str(report) and "Skipped (1 × 1 already)" in str(report)


def test_what_cannot_be_replaced_is_reported_and_what_grows_is_warned_of():
    class Scaled(nn.Conv2d):
        pass

    model = nn.Sequential(
        *(nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 16, 1), Scaled(16, 16, 3)),
        *(nn.Conv2d(16, 30, 3), nn.Conv2d(30, 16, 3), nn.Conv2d(16, 16, 3)),
    )
    _, report = moonshine.convert(model, "G8B2")
    assert report.skipped == {
        "0": "the first convolution, which reads the image",
        "1": "in groups already",
        "2": "1 × 1 already",
        "3": "Scaled is no ordinary convolution",
        "4": "15 channels do not divide by 8",
    }
    assert [row.layer for row in report.rows] == ["5", "6"] and not report.warnings
    _, report = moonshine.convert(model, "B4")
    assert report.skipped["4"] == "30 output channels do not divide by 4"
    _, report = moonshine.convert(model, "A1")
    assert report.warnings == ["A1 is no smaller than the convolution it replaces in 5, 6"]


def test_a_convolution_in_two_places_stays_one():
    shared = nn.Conv2d(8, 8, 3, padding=1)
    student, report = moonshine.convert(nn.Sequential(nn.Conv2d(1, 8, 3), shared, nn.ReLU(), shared), "G4")
    assert student[1] is student[3] and isinstance(student[1], nn.Sequential) and len(report.rows) == 1


@pytest.mark.parametrize("name", ["lenet-5", "plain-small", "squeezenet-small", "vgg-small"])
def test_any_network_of_the_zoo_still_runs(name):
    torch.manual_seed(0)
    student, report = moonshine.convert(build(name).eval(), "B2")
    assert student(torch.randn(2, 1, 28, 28)).shape == (2, 10) and report.rows


def test_it_learns_by_attention_transfer_from_what_it_was(fashion):
    torch.manual_seed(0)
    teacher = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
    )
    run = {"epochs": 3, "seed": 0, "batch_size": 50, "progress": False}
    training.fit(teacher, *fashion, **run)
    student, report = moonshine.convert(teacher, "G4")
    assert report.kept < 0.6 * report.weights
    loss = attention_transfer.objective(teacher, {"5": "5"})
    history = training.fit(student, *fashion, **run, objective=loss)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"] and training.accuracy(student, *fashion) > 0.6


def test_bad_arguments():
    for block in ("", "G", "8G", "B0", "B2G8", "g8", "X8", 8):
        with pytest.raises(ValueError, match=f"block must be like .*, got {block!r}"):
            moonshine.convert(network(), block)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got dict"):
        moonshine.convert({}, "G8")
    with pytest.raises(ValueError, match="no convolution of this Sequential can become 'G8': .*reads the image"):
        moonshine.convert(nn.Sequential(nn.Conv2d(1, 8, 3)), "G8")
    with pytest.raises(ValueError, match="no convolution of this Xception can become 'B2': .*in groups already"):
        moonshine.convert(build("xception-small"), "B2")
