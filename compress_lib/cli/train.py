"""Train one of the book's baselines on Fashion-MNIST and write its checkpoint and card.

On several GPUs or machines: ``accelerate launch -m compress_lib train NAME``; on several CPU processes:
``torchrun --nproc_per_node 2 -m compress_lib train NAME``.
"""

import argparse
from pathlib import Path

from compress_lib.experiments import baselines
from compress_lib.models import zoo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=baselines.RECIPES)
    parser.add_argument(
        "--split",
        choices=baselines.SPLITS,
        default="train",
        help="train: all 60,000 training images (default); fit: 55,000, so that something can be chosen on the others",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--lr", type=float, help="peak learning rate (default: the recipe's)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="bf16: mixed precision (default: the recipe's)")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")
    parser.add_argument(
        "--out",
        type=Path,
        help="directory for NAME.safetensors and NAME.json (default: the package's; of fit, the user's cache)",
    )
    parser.add_argument(
        "--work", type=Path, help="directory for the resumable state (default: checkpoints; of fit, the user's cache)"
    )


def run(arguments: argparse.Namespace) -> None:
    name, split, seed = arguments.name, arguments.split, arguments.seed
    cache = baselines.directory(name, split, seed)
    out, work = (zoo.CHECKPOINTS, Path("checkpoints")) if split == "train" else (cache, cache)
    changes = {key: getattr(arguments, key) for key in ("epochs", "lr", "precision")}
    card = baselines.train(
        name,
        split=split,
        seed=seed,
        out=arguments.out or out,
        work=arguments.work or work,
        root=arguments.data,
        **{key: value for key, value in changes.items() if value is not None},
    )
    if card is not None:
        print(f"{name}: {card['accuracy']:.2%} of {card['test_images']:,} test images, {card['nbytes']:,} bytes")
