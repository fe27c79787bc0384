"""Counts against published tables, torchvision's own figures, and PyTorch's memory profiler."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torchvision.models import get_model, get_model_weights

from compress_lib.cost import count


def build(name: str, **options) -> nn.Module:
    """A torchvision or timm architecture without memory for its weights, which counting does not need."""
    with torch.device("meta"):
        return get_model(name, **options) if hasattr(torchvision.models, name) else timm.create_model(name)


# name, options, image size, parameters, millions of MACs as printed.
TABLE = [
    ("alexnet", {}, 224, 61_100_840, "714.19"),
    ("vgg16", {}, 224, 138_357_544, "15470.3"),
    ("vgg16_bn", {}, 224, 138_365_992, "15470.3"),
    ("vgg19", {}, 224, 143_667_240, "19632.1"),
    ("resnet18", {}, 224, 11_689_512, "1814.1"),
    ("resnet34", {}, 224, 21_797_672, "3663.8"),
    ("resnet50", {}, 224, 25_557_032, "4089.2"),
    ("resnet101", {}, 224, 44_549_160, "7801.4"),
    ("resnet152", {}, 224, 60_192_808, "11513.6"),
    ("squeezenet1_0", {}, 224, 1_248_424, "818.92"),
    ("squeezenet1_1", {}, 224, 1_235_496, "349.15"),
    ("mobilenetv1_100", {}, 224, 4_231_976, "568.74"),
    ("mobilenetv1_100", {}, 192, 4_231_976, "418.12"),
    ("mobilenetv1_100", {}, 160, 4_231_976, "290.68"),
    ("mobilenetv1_100", {}, 128, 4_231_976, "186.40"),
    ("mobilenet_v2", {}, 224, 3_504_872, "300.77"),
    ("mobilenet_v2", {"width_mult": 1.4}, 224, 6_108_776, "582.20"),
    ("mobilenetv2_140", {}, 224, 6_108_776, "582.20"),
    ("mobilenet_v2", {"width_mult": 0.75}, 224, 2_636_424, "209.07"),
    ("mobilenet_v2", {"width_mult": 0.5}, 224, 1_968_680, "97.13"),
    ("mobilenet_v2", {"width_mult": 0.35}, 224, 1_677_128, "59.29"),
    ("shufflenet_v2_x0_5", {}, 224, 1_366_792, "40.48"),
    ("shufflenet_v2_x1_0", {}, 224, 2_278_604, "144.91"),
    ("shufflenet_v2_x1_5", {}, 224, 3_503_624, "295.76"),
    ("shufflenet_v2_x2_0", {}, 224, 7_393_996, "583.25"),
    ("legacy_xception", {}, 299, 22_855_952, "8357.4"),
    ("googlenet", {"init_weights": False}, 224, 13_004_888, "1498.4"),
    ("inception_v3", {"init_weights": False}, 299, 27_161_264, "5713.2"),
    ("densenet121", {}, 224, 7_978_856, "2834.2"),
]


@pytest.mark.parametrize(("name", "options", "size", "params", "millions"), TABLE)
def test_the_table_of_architectures(name, options, size, params, millions):
    cost = count(build(name, **options), (3, size, size))
    decimals = len(millions.partition(".")[2])
    assert cost.params == params
    assert f"{cost.macs / 1e6:.{decimals}f}" == millions
    assert sum(layer.macs for layer in cost.layers) == cost.macs
    assert sum(layer.params for layer in cost.layers) == cost.params
    assert cost.uncounted == ()


def test_convolutions_and_linear_layers_of_vgg16_apart():
    layers = count(build("vgg16"), (3, 224, 224)).layers
    macs = {kind: sum(x.macs for x in layers if x.kind == kind) for kind in ("Conv2d", "Linear")}
    assert round(macs["Conv2d"] / 1e6, 1) == 15_346.6
    assert macs["Linear"] == 123_633_664


# Families that the table lacks: attention, squeeze-and-excite, grouped and depthwise convolutions of other sizes.
@pytest.mark.parametrize(
    "name",
    ["vit_b_32", "swin_t", "convnext_tiny", "efficientnet_b0", "mobilenet_v3_large", "resnext50_32x4d", "mnasnet0_5"],
)
def test_torchvision_publishes_the_same(name):
    published = get_model_weights(name).IMAGENET1K_V1
    size = published.transforms().crop_size[0]
    cost = count(build(name), (3, size, size))
    assert cost.params == published.meta["num_params"]
    assert round(cost.macs / 1e9, 3) == published.meta["_ops"]


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))]
)
def test_attention_costs_the_same_on_every_device(device):
    """Each has kernels of its own; weights without values are enough to reach them."""
    published = get_model_weights("vit_b_16").IMAGENET1K_V1
    cost = count(build("vit_b_16").to_empty(device=device), (3, 224, 224))
    assert round(cost.macs / 1e9, 3) == published.meta["_ops"] == 17.564
    assert cost.uncounted == ()


class Mixer(nn.Module):
    """Skips, concatenation, views, in-place steps and pooling, all by kernels that need no workspace of their own."""

    def __init__(self, width: int):
        super().__init__()
        self.tokens = nn.Sequential(nn.Linear(64, width), nn.ReLU(inplace=True), nn.Linear(width, 64))
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(2 * 3 * 16, 10)

    def forward(self, x):
        x = self.norm(x)
        x = x + self.tokens(x.flatten(2)).view_as(x)
        pooled = torch.cat([nn.functional.max_pool2d(x, 2), nn.functional.avg_pool2d(x, 2)], dim=1)
        return self.head(pooled.sigmoid().flatten(1)).softmax(dim=1)


def profiled_peak_nbytes(model: nn.Module, x: torch.Tensor) -> int:
    """The most memory that PyTorch's allocator held at once during a real forward pass, with the input."""
    with torch.no_grad():
        model(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            model(x)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = x.nbytes
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("width", [8, 300])
def test_peak_activations_are_those_of_a_real_forward_pass(width):
    model = Mixer(width).eval()
    assert count(model, (3, 8, 8)).peak_activation_nbytes == profiled_peak_nbytes(model, torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "shufflenet_v2_x1_0"])
def test_convolution_kernels_only_add_their_workspace(name):
    model = get_model(name).eval()
    counted = count(model, (3, 64, 64)).peak_activation_nbytes
    assert counted <= profiled_peak_nbytes(model, torch.randn(1, 3, 64, 64)) < 2 * counted
