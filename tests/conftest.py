"""What all tests share: one thread, and no test may touch the committed results."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]


def pytest_configure(config):
    """Chapters, commands and tests read and write a copy of ``results/``; nbval's kernels inherit the variable."""
    config.results = tempfile.TemporaryDirectory(prefix="results-")
    shutil.copytree(ROOT / "results", config.results.name, dirs_exist_ok=True)
    os.environ["COMPRESS_LIB_RESULTS"] = config.results.name
    os.environ["TQDM_DISABLE"] = "1"


def pytest_unconfigure(config):
    config.results.cleanup()


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(1)  # two that wait for each other are slow on a busy machine


@pytest.fixture(scope="session")
def fashion():
    """A slice of the real data: 1,000 training images and their labels."""
    from compress_lib.data import fashion_mnist

    images, labels = fashion_mnist("train")
    return images[:1000], labels[:1000]


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
