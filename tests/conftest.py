"""What all tests share: two threads at most, and no test may touch the committed results."""

import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session", autouse=True)
def _results_are_a_copy(tmp_path_factory):
    """Chapters and commands under test read and write a copy of ``results/``."""
    copy = tmp_path_factory.mktemp("results") / "results"
    shutil.copytree(ROOT / "results", copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESS_LIB_RESULTS", str(copy))
        yield copy


@pytest.fixture(scope="session")
def fashion():
    """A slice of the real data: 1,000 training images and their labels."""
    from compress_lib.data import fashion_mnist

    images, labels = fashion_mnist("train")
    return images[:1000], labels[:1000]
