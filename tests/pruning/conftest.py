"""Small networks for the pruning tests."""

import pytest
import torch
from torch import nn


@pytest.fixture
def network() -> nn.Sequential:
    """Prunable are the layers "0" (36 weights), "4" (2,880) and "6" (200)."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 20),
        nn.ReLU(),
        nn.Linear(20, 10, bias=False),
    )


@pytest.fixture
def unchanged(network):
    """Fails the test if it changed ``network``: its modules' types, its state or its output."""
    images = torch.randn(3, 1, 8, 8)
    types = [type(module) for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    yield network
    assert [type(module) for module in network.modules()] == types
    now = network.state_dict()
    assert list(now) == list(state)
    assert all(torch.equal(now[name], state[name]) for name in state)
    network.eval()(images)
