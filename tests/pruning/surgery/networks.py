"""Small networks with layers by name, and what a test must find unchanged."""

import torch
from torch import nn

IMAGE = torch.zeros(2, 3, 6, 6)


def conv(read: int, made: int, size: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(read, made, size, padding=size // 2, **options)


class Net(nn.Module):
    """Layers by name and a forward that is a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 5), nn.Flatten(), nn.Linear(180, 2))


def snapshot(model: nn.Module) -> list:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules = [(name, type(m), m.training, dict(vars(m)).keys()) for name, m in model.named_modules()]
    return [state, modules, [p.requires_grad for p in model.parameters()], [id(p) for p in model.parameters()]]


def assert_unchanged(model: nn.Module, before: list) -> None:
    state, *rest = snapshot(model)
    assert rest == before[1:]
    assert all(torch.equal(state[name], before[0][name]) for name in before[0])
