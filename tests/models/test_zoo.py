"""Every shipped checkpoint is evaluated again, and a damaged one is refused."""

import hashlib
import json
import shutil

import pytest
import torch

from compress_lib import training
from compress_lib.data import fashion_mnist
from compress_lib.models import zoo

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", zoo.NAMES)
def test_card_says_what_the_checkpoint_does(name):
    card = zoo.card(name)
    model = zoo.load(name)
    assert not model.training
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["test_images"] == 10_000
    # Another processor may round a handful of near-ties differently.
    assert training.accuracy(model, *fashion_mnist("test")) == pytest.approx(card["accuracy"], abs=5e-4)
    content = (zoo.CHECKPOINTS / f"{name}.safetensors").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (card["nbytes"], card["sha256"])


def test_all_checkpoints_together_stay_small():
    assert sum(path.stat().st_size for path in zoo.CHECKPOINTS.glob("*.safetensors")) < 8e6


@pytest.mark.parametrize("damage", ["truncate", "alter"])
def test_damaged_checkpoint_is_refused_by_name(damage, tmp_path, monkeypatch):
    shutil.copytree(zoo.CHECKPOINTS, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(zoo, "CHECKPOINTS", tmp_path)
    path = tmp_path / "lenet-5.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        del content[-1:]
    else:
        content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lenet-5\.safetensors is damaged"):
        zoo.load("lenet-5")


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name='vgg-16' is not in the zoo; with trained weights it has lenet-300-100"):
        zoo.load("vgg-16")
    with pytest.raises(ValueError, match="name='vgg-16' is not in the zoo; it has lenet-300-100.*, xception-small"):
        zoo.build("vgg-16")


def test_the_names_are_those_of_the_cards():
    assert set(zoo.NAMES) == {path.stem for path in zoo.CHECKPOINTS.glob("*.json")}
    assert {"lenet-300-100", "lenet-5", "vgg-small", "resnet-20"} <= set(zoo.NAMES) < set(zoo.ARCHITECTURES)


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="name='block-cnn' has no trained weights; with trained weights it has lenet-"):
        zoo.load("block-cnn")


def test_loads_are_independent():
    a, b = zoo.load("lenet-300-100"), zoo.load("lenet-300-100")
    with torch.no_grad():
        a.fc1.weight.zero_()
    assert b.fc1.weight.count_nonzero() > 0


def test_cards_are_complete():
    for name in zoo.NAMES:
        card = zoo.card(name)
        for field in ("recipe", "seed", "command", "hardware", "versions", "commit", "date"):
            assert card[field] not in (None, ""), f"{name}: {field}"
        assert json.loads(json.dumps(card)) == card
