"""Train one of the book's baselines on all of Fashion-MNIST and write its checkpoint and card.

On several GPUs or machines: ``accelerate launch -m compress_lib train NAME``; on several CPU processes:
``torchrun --nproc_per_node 2 -m compress_lib train NAME``.
"""

import argparse
import hashlib
import json
from pathlib import Path

from compress_lib import files
from compress_lib.experiments.compact_networks import FAMILIES
from compress_lib.models.zoo import CHECKPOINTS, build

# One plain recipe; only what must differ between the networks differs.
RECIPES = {
    "lenet-300-100": {"epochs": 30, "lr": 0.05, "augment": False},
    "lenet-5": {"epochs": 20, "lr": 0.05, "augment": False},
    **{name: {"epochs": 24, "lr": 0.1, "augment": True} for name in ("vgg-small", "resnet-20")},
    **{name: {"epochs": 12, "lr": 0.1, "augment": True} for name in FAMILIES},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--lr", type=float, help="peak learning rate (default: the recipe's)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: mixed precision")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")
    parser.add_argument("--out", type=Path, default=CHECKPOINTS, help="directory for NAME.safetensors and NAME.json")
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")


def run(arguments: argparse.Namespace) -> None:
    import torch
    from accelerate import PartialState
    from safetensors.torch import save as to_bytes

    from compress_lib import data, ledger, training

    recipe = RECIPES[arguments.name] | {"batch_size": 128, "weight_decay": 5e-4, "precision": arguments.precision}
    recipe |= {key: value for key in ("epochs", "lr") if (value := getattr(arguments, key)) is not None}
    images, labels = data.fashion_mnist("train", arguments.data)
    test_images, test_labels = data.fashion_mnist("test", arguments.data)

    torch.manual_seed(arguments.seed)  # the initial weights
    model = build(arguments.name).to(memory_format=torch.channels_last)  # trains faster
    checkpoint = arguments.work / f"{arguments.name}-seed{arguments.seed}.pt"
    history = training.fit(
        model,
        images,
        labels,
        seed=arguments.seed,
        **recipe,
        checkpoint=checkpoint,
        after_epoch=lambda epoch, model: {"accuracy": training.accuracy(model, test_images, test_labels)},
    )
    if not PartialState().is_main_process:
        return

    model.to(memory_format=torch.contiguous_format)
    content = to_bytes(model.state_dict())
    card = {
        "name": arguments.name,
        "accuracy": training.accuracy(model, test_images, test_labels),
        "test_images": len(test_images),
        "data": "fashion-mnist",
        "parameters": sum(p.numel() for p in model.parameters()),
        "nbytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seed": arguments.seed,
        "recipe": recipe | {"optimizer": "SGD, Nesterov momentum 0.9", "schedule": "10 % linear warm-up, cosine to 0"},
        "seconds": round(sum(entry["seconds"] for entry in history)),
        **ledger.provenance(f"python -m compress_lib train {arguments.name} --seed {arguments.seed}"
                            + (f" --precision {arguments.precision}" if arguments.precision != "fp32" else "")),
    }  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    files.write(arguments.out / f"{arguments.name}.safetensors", content)
    files.write(arguments.out / f"{arguments.name}.json", (json.dumps(card, indent=2) + "\n").encode())
    print(f"{arguments.name}: {card['accuracy']:.2%} of {len(test_images):,} test images, {len(content):,} bytes")
