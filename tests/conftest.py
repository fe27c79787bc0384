"""What all tests share: one thread, and no test may touch the committed results."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

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
