"""The small networks of chapters 13 to 16: equal in cost, and at home in the rest of the library."""

import copy
import pickle

import pytest
import torch
from torch import fx, nn

from compress_lib import container, training
from compress_lib.cost import count
from compress_lib.data import fashion_mnist
from compress_lib.models import zoo

SMALL = (
    "plain-small",
    "squeezenet-small",
    "mobilenet-v1-small",
    "mobilenet-v2-small",
    "shufflenet-v1-small",
    "shufflenet-v2-small",
    "xception-small",
)
# Each with arguments that change its weights.
OTHERS = (
    ("plain-small", {"alpha": 0.5}),
    ("squeezenet-small", {"width": 32, "squeeze_ratio": 0.25, "bypass": True, "batch_norm": False}),
    ("mobilenet-v1-small", {"alpha": 0.5, "pointwise": False}),
    ("mobilenet-v2-small", {"alpha": 0.5, "linear_bottleneck": False}),
    *[("shufflenet-v1-small", {"groups": groups}) for groups in (1, 2, 4, 8)],
    ("shufflenet-v1-small", {"groups": 3, "scale": 0.5, "shuffle": False}),
    ("shufflenet-v2-small", {"scale": 0.5}),
    ("xception-small", {"width": 0.5, "between": "relu", "pointwise_first": True}),
)


def build(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return zoo.build(name, **options)


@pytest.mark.parametrize(
    ("name", "options"), [(name, {}) for name in SMALL] + [other for other in OTHERS if "groups" in other[1]][:4]
)
def test_all_cost_four_million_macs(name, options):
    cost = count(build(name, **options), (1, 28, 28))
    assert cost.macs == pytest.approx(4e6, rel=0.05)
    assert cost.uncounted == ()
    by_size = {}
    for layer in cost.layers:
        size = layer.output_shape[-1] if len(layer.output_shape) == 3 else 1
        by_size[size] = by_size.get(size, 0) + layer.macs
    assert by_size[14] + by_size[7] > 0.7 * cost.macs


@pytest.mark.parametrize(("name", "options"), [(name, {}) for name in SMALL] + list(OTHERS))
def test_a_file_names_the_architecture(name, options, tmp_path):
    network = build(name, **options).eval()
    container.save(network, tmp_path / "network.cnet", architecture=name, metadata={"options": options})
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(container.load(tmp_path / "network.cnet")(x), network(x))


def test_initial_weights_are_drawn_for_the_numbers_that_an_output_sums_over():
    """√(2 / inputs); for a depthwise convolution these are nine, however many channels there are."""
    for name in SMALL:
        network = build(name)
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module is not getattr(network, "scores", None):
                inputs = module.in_channels // module.groups * module.kernel_size[0] ** 2
                weights = module.weight.detach()
                # Five standard errors of the standard deviation of as many normal numbers.
                assert weights.std() == pytest.approx((2 / inputs) ** 0.5, rel=5 / (2 * weights.numel()) ** 0.5)
                assert module.bias is None or module.bias.count_nonzero() == 0
    assert build("squeezenet-small").scores.weight.detach().std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("name", SMALL)
def test_the_other_tools_take_it(name):
    network = build(name).eval()
    x = torch.randn(2, 1, 28, 28)
    expected = network(x)
    assert expected.shape == (2, 10)
    assert torch.equal(fx.symbolic_trace(network)(x), expected)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(x), expected)
        with pytest.raises(ValueError, match="images of 2×28 pixels are too small"):
            copied(x[:, :, :2])
    other = zoo.build(name, num_classes=3, in_channels=2).eval()
    assert other(torch.zeros(1, 2, 9, 9)).shape == (1, 3)


@pytest.mark.parametrize("name", SMALL)
def test_training_learns(name):
    images, labels = (tensor[:64] for tensor in fashion_mnist("train"))
    network = build(name)
    history = training.fit(network, images, labels, epochs=10, seed=0, batch_size=16, lr=0.05, progress=False)
    assert history[-1]["loss"] < 0.85 * history[0]["loss"]
