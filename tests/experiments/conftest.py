"""What the tests of chapter 12's commands share."""

import functools
import sys

import pytest

from compress_lib import data, training
from compress_lib.__main__ import main
from compress_lib.distillation import byot
from compress_lib.experiments import distillation, harness


@pytest.fixture
def few_images(tmp_path, monkeypatch):
    """384 training images, 250 test images that stand for 10,000, nothing timed well; results go to ``tmp_path``."""
    real, predict, early_exit = data.fashion_mnist, training.predict, byot.early_exit
    sizes = {"train": 384, "fit": 256, "held-out": 256, "test": 10_000}

    @functools.cache
    def fewer(split, root=None):
        return tuple(part[: sizes[split]].clone() for part in real(split, root))

    def repeated(model, images, **rest):
        if len(images) < 10_000:
            return predict(model, images, **rest)
        return predict(model, images[:250], **rest).repeat(40, 1)

    def left(model, images, threshold):
        logits, exits = early_exit(model, images[:250], threshold)
        return (logits, exits) if len(images) < 10_000 else (logits.repeat(40, 1), exits.repeat(40))

    monkeypatch.setattr(byot, "early_exit", left)
    monkeypatch.setattr(data, "fashion_mnist", fewer)
    monkeypatch.setattr(training, "predict", repeated)
    monkeypatch.setattr(harness, "ROUNDS", 1)
    monkeypatch.setattr(distillation, "LARGE", "lenet-300-100")
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    return sizes


@pytest.fixture
def call(few_images, tmp_path, monkeypatch):
    """Call a command; its work is in ``tmp_path / "work"``."""

    def calling(*arguments):
        monkeypatch.setattr(sys, "argv", ["compress_lib", *map(str, arguments), "--work", str(tmp_path / "work")])
        main()

    return calling
