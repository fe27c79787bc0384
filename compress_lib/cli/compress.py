"""Compress a baseline into one small file, read the file back, and write its row of the ledger.

Deep compression (Han et al., arXiv 1510.00149): magnitude pruning in rounds with retraining, survivors that share a few
values, training of these values, Huffman-coded indices and gaps. Each layer keeps the fraction that it keeps in the
paper.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from compress_lib.experiments import deep_compression
from compress_lib.experiments.pruning_weights import PAPER_KEEP, keep_fractions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, choices=sorted(PAPER_KEEP))
    parser.add_argument("--method", choices=["deep-compression"], default="deep-compression")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write")
    parser.add_argument("--keep", nargs="+", metavar="LAYER=FRACTION", help="of the weights (default: the paper's)")
    parser.add_argument(
        "--k", nargs="+", default=["16"], metavar="K", help="values per layer, one number or LAYER=K … (default 16)"
    )
    parser.add_argument("--rounds", type=int, default=4, help="prune–retrain rounds (default 4)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of retraining per round (default 6)")
    parser.add_argument("--lr", type=float, default=0.05, help="peak learning rate of retraining (default 0.05)")
    parser.add_argument("--share-epochs", type=int, default=2, help="epochs for the shared values (default 2)")
    parser.add_argument("--share-lr", type=float, help="their peak learning rate (default: values ÷ weights)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    keep = keep_fractions(arguments.model, arguments.keep)
    k = _values(arguments.k, keep)
    row, budget = deep_compression.measure(
        arguments.model, keep, k, arguments.rounds, arguments.epochs, arguments.lr, arguments.share_epochs,
        arguments.seed, arguments.out, arguments.work, arguments.data, arguments.share_lr,
    )  # fmt: skip
    print(budget)
    print(
        f"{arguments.out}: {row['nbytes_before']:,} → {row['nbytes_after']:,} bytes, "
        f"{row['nbytes_before'] / row['nbytes_after']:.1f}×, "
        f"{row['accuracy_before']:.2%} → {row['accuracy_after']:.2%} of {row['test_images']:,} test images"
    )


def _values(given: list[str], layers: Iterable[str]) -> dict[str, int]:
    """``K``, or ``LAYER=K`` for every layer, as a mapping."""
    try:
        if len(given) == 1 and "=" not in given[0]:
            return dict.fromkeys(layers, int(given[0]))
        pairs = (pair.partition("=") for pair in given)
        return {layer: int(count) for layer, _, count in pairs}
    except ValueError:
        raise ValueError(f"--k {' '.join(given)!r} is neither a number nor LAYER=NUMBER for each layer") from None
