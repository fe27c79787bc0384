"""The networks that everything starts from: trained by one plain recipe on all training images, or on the fit split.

The shipped ones (`compress_lib.models.zoo`) saw all 60,000 training images. Whatever *chooses* something, a threshold,
a rank, an architecture, must choose on images that its network has not seen: so it starts from a network that `trained`
trains on the 55,000 images of the split "fit", and chooses on "held-out". What ``python -m compress_lib train`` runs.
Chapter 01.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from compress_lib import data, files, ledger, training
from compress_lib._data_files import cache_directory
from compress_lib.experiments import harness
from compress_lib.experiments.compact_networks import FAMILIES
from compress_lib.models import zoo

# One plain recipe; only what must differ between the networks differs.
_COMMON: dict[str, Any] = harness.TRAINING | {"weight_decay": 5e-4}
RECIPES = {
    "lenet-300-100": _COMMON | {"epochs": 30, "lr": 0.05},
    "lenet-5": _COMMON | {"epochs": 20, "lr": 0.05, "precision": "bf16"},
    "vgg-small": _COMMON | {"epochs": 24, "lr": 0.1, "augment": True, "precision": "bf16"},
    "resnet-20": _COMMON | {"epochs": 24, "lr": 0.1, "augment": True, "precision": "bf16"},
    **{name: _COMMON | {"epochs": 12, "lr": 0.1, "augment": True} for name in FAMILIES},
}
SPLITS = ("train", "fit")


def trained(name: str, *, split: str = "fit", seed: int = 0, root: harness.Directory = None) -> nn.Module:
    """A starting network in evaluation mode, on the CPU: read from the user's cache, and before that trained into it.

    The first call takes minutes to an hour and shows a bar; if it is interrupted, the next one goes on where it
    stopped.

    Parameters
    ----------
    name : one of `RECIPES`.
    split : "fit", or "train" for all training images; of these and seed 0 it is the network that is shipped.
    seed : of the first weights and of the order of the images.
    root : directory with Fashion-MNIST, if not where it is found by itself.

    Raises
    ------
    ValueError : an unknown name or split; a network in the cache that is damaged, or was trained by another recipe.
    """
    recipe = _recipe(name, split)
    if (split, seed) == ("train", 0):
        return zoo.load(name)
    folder = directory(name, split, seed)
    if not (folder / f"{name}.json").exists():
        train(name, split=split, seed=seed, out=folder, work=folder, root=root)
    found = zoo.card(name, folder)["recipe"]
    if changed := {key: (found.get(key), value) for key, value in recipe.items() if found.get(key) != value}:
        raise ValueError(f"{folder} has a {name} of another recipe; (found, asked for): {changed}; delete it")
    return zoo.load(name, folder)


def directory(name: str, split: str, seed: int) -> Path:
    """Where in the user's cache `trained` keeps a network."""
    return cache_directory("networks") / f"{name}-{split}-seed{seed}"


def train(
    name: str, *, split: str, seed: int, out: Path, work: Path, root: harness.Directory = None, **changes: Any
) -> dict | None:
    """Train a starting network and write ``NAME.safetensors`` and its card, ``NAME.json``.

    Parameters
    ----------
    name, split, seed, root : as for `trained`.
    out : directory for the two files.
    work : directory for the resumable state.
    changes : of the recipe: epochs, lr, precision.

    Returns
    -------
    The card; None in all processes but the first, where there are several.
    """
    from accelerate import PartialState

    recipe = _recipe(name, split) | changes
    images, labels = data.fashion_mnist(split, root)
    test = data.fashion_mnist("test", root)
    held_out = data.fashion_mnist("held-out", root) if split == "fit" else None
    watched = held_out or test
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = zoo.build(name)
    history = training.fit(
        model,
        images,
        labels,
        seed=seed,
        weight_decay=recipe["weight_decay"],
        **harness.fit_settings(recipe),
        checkpoint=work / (f"{name}-seed{seed}.pt" if split == "train" else f"{name}-{split}-seed{seed}.pt"),
        after_epoch=lambda epoch, model: {"accuracy": training.accuracy(model, *watched)},
    )
    card = None
    if PartialState().is_main_process:
        content = to_bytes(model.state_dict())
        asked = {"seed": seed} | ({"split": split} if split != "train" else {}) | _changed(name, changes)
        card = {
            "name": name,
            "accuracy": training.accuracy(model, *test),
            "test_images": len(test[0]),
            **({"accuracy_held_out": training.accuracy(model, *held_out)} if held_out else {}),
            "data": "fashion-mnist",
            "parameters": sum(p.numel() for p in model.parameters()),
            "nbytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "seed": seed,
            "recipe": recipe
            | {"optimizer": "SGD, Nesterov momentum 0.9", "schedule": "10 % linear warm-up, cosine to 0"},
            "seconds": round(sum(entry["seconds"] for entry in history)),
            **ledger.provenance(f"python -m compress_lib train {name} {harness.flags(asked)}"),
        }
        out.mkdir(parents=True, exist_ok=True)
        files.write(out / f"{name}.safetensors", content)
        files.write(out / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
    PartialState().wait_for_everyone()
    return card


def _recipe(name: str, split: str) -> dict:
    if name not in RECIPES:
        raise ValueError(f"name={name!r} has no recipe; {', '.join(RECIPES)} have one")
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one to train on; those are {' and '.join(map(repr, SPLITS))}")
    return RECIPES[name] | {"split": split}


def _changed(name: str, changes: dict) -> dict:
    return {key: value for key, value in changes.items() if value != RECIPES[name][key]}
