"""What all tests share: one thread, seeded draws, and no test may touch the committed results."""

import os
import random
import re
import shutil
import tempfile
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
import tqdm  # noqa: F401 — it reads TQDM_DISABLE now, before that is set: two tests look at its bars
from torch import nn

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
    number = zlib.crc32(name.encode())
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
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):  # workers would inherit it
        os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two that wait for each other are slow on a busy machine
    torch.set_num_threads(1)


def pytest_unconfigure(config):
    config.results.cleanup()


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix == ".ipynb" or {"browser", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
        if PROFILE == "explore" and hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
            chosen = item.obj._hypothesis_internal_use_settings
            more = hypothesis.settings(chosen, max_examples=MORE * chosen.max_examples)
            item.obj._hypothesis_internal_use_settings = more
    items.sort(key=lambda item: _rank(item.path))


# Those that ask for the built site; the first of them builds it.
ASKING = re.compile(r"^def \w+\(.*\b(site|pages|soups|address)\b", re.MULTILINE)
SITE = tuple(
    path.name
    for path in sorted(Path(__file__).parent.glob("book/test_*.py"))
    if ASKING.search(path.read_text(encoding="utf-8"))
)
# Others than those follow upon the first, so that no worker waits for what another one builds.
LONG = (*SITE[:1], "test_exercises.py", "test_commands.py", "test_colab.py", "test_address.py", *SITE[1:])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file stays in one process: a chapter, for its kernel, or tests, for what they share.

    pytest-xdist has ``--dist=loadgroup`` for that, which does not group, without a word, with pytest 9.2 (xdist 3.8).
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # the order is that of _rank
    return ByFile(config, log)


def _rank(path: Path) -> int:
    """What takes long begins first, and the end is short; a sort leaves everything else as it is."""
    if path.name in LONG:
        return LONG.index(path.name)
    return len(LONG) + (path.suffix != ".ipynb")


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
