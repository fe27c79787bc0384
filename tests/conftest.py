"""What all tests share: one thread, seeded draws, and no test may touch the committed results."""

import os
import random
import shutil
import tempfile
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]

# `make test` tries the same examples in every run; the weekly run, with HYPOTHESIS_PROFILE=explore, many others.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("explore", print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "same")
hypothesis.settings.load_profile(PROFILE)
MORE = 10  # times as many examples


class TorchRandom:
    """torch's generator in the form that hypothesis takes: every example begins with the same draws."""

    seed, getstate, setstate = torch.manual_seed, torch.get_rng_state, torch.set_rng_state


hypothesis.register_random(TorchRandom)


def seed(name: str) -> None:
    """What is drawn depends on who draws, not on what ran before."""
    number = zlib.crc32(name.partition("@")[0].encode())  # pytest-xdist appends @group
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    seed(collector.nodeid)  # a module may draw when it is imported
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    seed(f"{fixturedef.argname} of {request.node.nodeid}")
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    seed(item.nodeid)


def pytest_configure(config):
    """Chapters, commands and tests read and write a copy of ``results/``; nbval's kernels inherit what is set here."""
    config.results = tempfile.TemporaryDirectory(prefix="results-")
    shutil.copytree(ROOT / "results", config.results.name, dirs_exist_ok=True)
    os.environ["COMPRESS_LIB_RESULTS"] = config.results.name
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)  # two that wait for each other are slow on a busy machine


def pytest_unconfigure(config):
    config.results.cleanup()


def pytest_collection_modifyitems(items):
    """For pytest-xdist: what shares something dear stays in one process, and what takes long begins first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if item.path.suffix == ".ipynb" or {"browser", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if PROFILE == "explore" and hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            chosen = item.obj._hypothesis_internal_use_settings
            more = hypothesis.settings(chosen, max_examples=MORE * chosen.max_examples)
            item.obj._hypothesis_internal_use_settings = more
    items.sort(key=_rank)


def _group(item) -> str:
    """The built site and its browser, the explorers' browser, or the file, of whose chapter one kernel runs all cells."""
    needs = set(getattr(item, "fixturenames", ()))
    if "site" in needs:
        return "site"
    return "explorers" if "browser" in needs else item.path.name


def _rank(item) -> int:
    """The order in which groups begin; a sort leaves everything else as it is."""
    if "site" in getattr(item, "fixturenames", ()):
        return 0
    first = ("test_colab.py", "test_commands.py", "test_exercises.py")
    if item.path.name in first:
        return 1 + first.index(item.path.name)
    return 5 if item.path.suffix == ".ipynb" else 9


@pytest.fixture(scope="session")
def browser():
    """One Chromium a process."""
    from browsing import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def fashion():
    """A slice of the real data: 1,000 training images and their labels."""
    from compress_lib.data import fashion_mnist

    images, labels = fashion_mnist("train")
    return images[:1000], labels[:1000]
