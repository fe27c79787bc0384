import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.neurons.chains import find_chains


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet-300-100", {"fc1": "fc2", "fc2": "fc3"}),
        ("lenet-5", {"fc1": "fc2"}),
        ("vgg-small", {"classifier.1": "classifier.3"}),
        ("resnet-20", {}),
    ],
)
def test_chains_of_the_zoo(name, expected):
    model = zoo.build(name)
    found, refused = find_chains(model)
    assert found == expected
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    assert sorted([*found, *refused]) == sorted(linear)


def test_the_relu_may_be_a_layer_a_function_or_a_method_with_dropout_around():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))
            self.relu, self.drop, self.identity = nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Identity()

        def forward(self, x):
            x = self.drop(self.relu(self.identity(self.a(x))))
            x = F.relu(self.b(x))
            x = torch.relu(self.drop(self.c(x)).relu_())
            return self.e(self.d(x).relu())

    found, refused = find_chains(Net())
    assert found == {"a": "b", "b": "c", "c": "d", "d": "e"}
    assert list(refused) == ["e"]


class Odd(nn.Module):
    """``forward`` is given from outside; x is (N, 4)."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.tanh, self.norm = nn.Tanh(), nn.BatchNorm1d(4)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda m, x: m.b(m.a(x)), "Linear 'b' follows it"),
        (lambda m, x: m.b(m.tanh(m.a(x))), "Tanh 'tanh' follows it"),
        (lambda m, x: m.b(m.norm(m.a(x)).relu()), "BatchNorm1d 'norm' follows it"),
        (lambda m, x: m.b(m.a(x).relu() + 1), "the operation 'add' follows it"),
        (lambda m, x: m.a(x).relu(), "the output follows it"),
        (lambda m, x: m.b(h := m.a(x).relu()) + m.c(h), "2 operations read what leaves the operation 'relu'"),
        (lambda m, x: m.b((h := m.a(x)).relu()) + h, "2 operations read what leaves Linear 'a'"),
        (lambda m, x: m.b(m.a(m.a(x).relu()).relu()), "it is called 2 times"),
        (lambda m, x: m.b(m.b(m.a(x).relu()).relu()), "'b', which reads it, is called 2 times"),
    ],
)
def test_anything_else_is_refused_with_its_reason(forward, reason):
    found, refused = find_chains(Odd(forward))
    assert "a" not in found
    assert reason in refused["a"]


def test_a_masked_layer_is_refused():
    model = zoo.build("lenet-300-100")
    masked = masks.apply(model, {"fc2": torch.ones(100, 300, dtype=torch.bool)})
    found, refused = find_chains(masked)
    assert found == {}
    assert "masked or computed" in refused["fc2"]
    assert "fc2" in refused["fc1"]
    with pytest.raises(TypeError, match="must be a torch.nn.Module"):
        find_chains("lenet")
