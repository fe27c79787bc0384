"""Starting networks: trained on the images that they may see, cached, resumed, and refused if they are others."""

import json

import pytest
import torch

from compress_lib import data, training
from compress_lib.experiments import baselines
from compress_lib.models import zoo

NAME = "lenet-300-100"


@pytest.fixture
def few(monkeypatch, tmp_path):
    """1,000 images of each split, two epochs, an empty cache."""
    real = data.fashion_mnist
    monkeypatch.setattr(
        data, "fashion_mnist", lambda split, root=None: tuple(part[:1000] for part in real(split, root))
    )
    monkeypatch.setitem(baselines.RECIPES, NAME, baselines.RECIPES[NAME] | {"epochs": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_recipes_are_those_of_the_shipped_networks():
    for name in zoo.NAMES:
        shipped = zoo.card(name)["recipe"]
        assert baselines.RECIPES[name].items() <= shipped.items()


def test_a_network_on_the_fit_split_is_trained_once_and_is_what_fit_gives(few, monkeypatch):
    model = baselines.trained(NAME, split="fit", seed=7)
    torch.manual_seed(7)
    expected = zoo.build(NAME)
    training.fit(expected, *data.fashion_mnist("fit"), epochs=2, lr=0.05, seed=7, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    card = json.loads((baselines.directory(NAME, "fit", 7) / f"{NAME}.json").read_text())
    assert card["recipe"]["split"] == "fit" and card["seed"] == 7
    assert card["accuracy"] == training.accuracy(model, *data.fashion_mnist("test"))
    assert card["accuracy_held_out"] == training.accuracy(model, *data.fashion_mnist("held-out"))
    assert card["command"] == f"python -m compress_lib train {NAME} --seed 7 --split fit"
    monkeypatch.setattr(training, "fit", None)  # whoever trains now, fails
    again = baselines.trained(NAME, split="fit", seed=7)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert not again.training


def test_the_global_generator_is_left_alone(few):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    baselines.train(NAME, split="fit", seed=0, out=few, work=few)
    assert torch.equal(torch.rand(3), expected)


def test_an_interrupted_training_goes_on(few, monkeypatch):
    real, seen = training.accuracy, []

    def interrupt(*arguments):
        seen.append(None)
        if len(seen) == 2:  # after the second epoch, before it is saved
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "accuracy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        baselines.trained(NAME, seed=7)
    epochs = []
    batches = training._batches
    monkeypatch.setattr(training, "accuracy", real)
    monkeypatch.setattr(training, "_batches", lambda *rest: epochs.append(rest[4]) or batches(*rest))
    resumed = baselines.trained(NAME, seed=7)
    assert epochs == [1]  # the first is not trained again
    torch.manual_seed(7)
    whole = zoo.build(NAME)
    training.fit(whole, *data.fashion_mnist("fit"), epochs=2, lr=0.05, seed=7, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_all_training_images_and_seed_0_are_the_shipped_network(few, monkeypatch):
    monkeypatch.setattr(training, "fit", None)
    shipped = zoo.load(NAME).state_dict().values()
    found = baselines.trained(NAME, split="train", seed=0).state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(found, shipped, strict=True))


def test_what_is_not_what_was_asked_for_is_refused(few, monkeypatch):
    with pytest.raises(ValueError, match="name='lenet-7' has no recipe; lenet-300-100, lenet-5"):
        baselines.trained("lenet-7")
    for split in ("held-out", "test", "validation"):
        with pytest.raises(ValueError, match=f"split='{split}' is not one to train on; those are 'train' and 'fit'"):
            baselines.trained(NAME, split=split)
    baselines.trained(NAME, seed=7)
    folder = baselines.directory(NAME, "fit", 7)
    monkeypatch.setitem(baselines.RECIPES, NAME, baselines.RECIPES[NAME] | {"lr": 0.1})
    with pytest.raises(ValueError, match=r"another recipe.*'lr': \(0.05, 0.1\).*delete it"):
        baselines.trained(NAME, seed=7)
    monkeypatch.undo()
    path = folder / f"{NAME}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="is damaged: .* delete it and train it again"):
        zoo.load(NAME, folder)
