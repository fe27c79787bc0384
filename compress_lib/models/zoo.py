"""The book's networks for 28×28 images by name: all can be built, and some have trained weights in the package.

Each checkpoint is a safetensors file beside a card (JSON): the recipe, the seed, the test accuracy and the SHA-256 of
the file. ``python -m compress_lib train NAME`` makes both. Chapter 01.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from compress_lib.models.block_cnn import block_cnn
from compress_lib.models.lenet import lenet_5, lenet_300_100
from compress_lib.models.mobilenet import mobilenet_v1_small, mobilenet_v2_small, plain_small
from compress_lib.models.resnet import resnet_20
from compress_lib.models.shufflenet import shufflenet_v1_small, shufflenet_v2_small
from compress_lib.models.squeezenet import squeezenet_small
from compress_lib.models.vgg import vgg_small
from compress_lib.models.xception import xception_small

__all__ = ["ARCHITECTURES", "NAMES", "build", "card", "load", "options"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "lenet-300-100": lenet_300_100,
    "lenet-5": lenet_5,
    "vgg-small": vgg_small,
    "resnet-20": lambda **options: resnet_20(**{"in_channels": 1} | options),
    "block-cnn": block_cnn,
    "plain-small": plain_small,
    "squeezenet-small": squeezenet_small,
    "mobilenet-v1-small": mobilenet_v1_small,
    "mobilenet-v2-small": mobilenet_v2_small,
    "shufflenet-v1-small": shufflenet_v1_small,
    "shufflenet-v2-small": shufflenet_v2_small,
    "xception-small": xception_small,
}
ARCHITECTURES = tuple(_BUILDERS)
NAMES = tuple(name for name in ARCHITECTURES if (CHECKPOINTS / f"{name}.json").exists())  # with trained weights


def build(name: str, **options: Any) -> nn.Module:
    """The network ``name`` with fresh weights, for 28×28 images with one channel unless ``options`` say otherwise."""
    if name not in _BUILDERS:
        raise ValueError(f"name={name!r} is not in the zoo; it has {', '.join(ARCHITECTURES)}")
    return _BUILDERS[name](**options)


def options(name: str) -> dict[str, bool | int | float | str]:
    """The options of the architecture ``name`` with their defaults: the keyword-only arguments of its builder."""
    if name not in _BUILDERS:
        raise ValueError(f"name={name!r} is not in the zoo; it has {', '.join(ARCHITECTURES)}")
    arguments = inspect.signature(_BUILDERS[name]).parameters.values()
    return {argument.name: argument.default for argument in arguments if argument.kind is argument.KEYWORD_ONLY}


def card(name: str, folder: Path | None = None) -> dict:
    """The card of a checkpoint: ``recipe``, ``seed``, ``accuracy``, ``sha256``, ``nbytes``, hardware and versions.

    Parameters
    ----------
    name : one of `NAMES`, or of what is in ``folder``.
    folder : directory with the checkpoint and its card; without it, the package's.

    Raises
    ------
    ValueError : an unknown name, or a network that has no trained weights.
    """
    if folder is None and name not in NAMES:
        known = "has no trained weights" if name in ARCHITECTURES else "is not in the zoo"
        raise ValueError(f"name={name!r} {known}; with trained weights it has {', '.join(NAMES)}")
    return json.loads(((folder or CHECKPOINTS) / f"{name}.json").read_text(encoding="utf-8"))


def load(name: str, folder: Path | None = None) -> nn.Module:
    """The trained network ``name`` in evaluation mode.

    Parameters
    ----------
    name, folder : as for `card`.

    Raises
    ------
    ValueError : as `card`, or a file that does not match the SHA-256 on its card.
    """
    from safetensors.torch import load as load_bytes

    expected = card(name, folder)["sha256"]
    path = (folder or CHECKPOINTS) / f"{name}.safetensors"
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found}, its card says {expected}; "
            + ("install the package again" if folder is None else "delete it and train it again")
        )
    model = build(name)
    model.load_state_dict(load_bytes(content))
    return model.eval()
