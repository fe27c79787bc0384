"""Small networks, and the question whether a run that was interrupted ends as one that was not."""

import pytest
import torch
from torch import nn


def convolutional(seed=0, classes=10):
    """Everything that could break a resumed run: batch statistics, dropout, momentum. Maps of 8 and of 4 on a side."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, classes)),
    )


def mlp(seed=0, classes=10):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, classes))


def some(fashion):
    """Enough images for a few steps."""
    images, labels = fashion
    return images[:400], labels[:400]


def equal_states(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def assert_resumes(train, build, tmp_path):
    """``train(model, **options)`` with options of ``training.fit``; ``build(seed)`` a network with fresh weights."""
    run = {"epochs": 3, "seed": 5, "progress": False}
    whole = build(0)
    expected = train(whole, **run)

    def interrupt(epoch, model):
        if epoch > 1:
            raise KeyboardInterrupt
        return {}

    run["checkpoint"] = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(build(0), **run, after_epoch=interrupt)
    resumed = build(99)  # the checkpoint decides, not what the new process starts with
    history = train(resumed, **run)
    assert equal_states(whole, resumed)
    assert [entry["loss"] for entry in history] == [entry["loss"] for entry in expected]
