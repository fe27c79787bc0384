"""Compress a baseline into one small file, read the file back, and write its row of the ledger.

Deep compression (Han et al., arXiv 1510.00149): magnitude pruning in rounds with retraining, survivors that share a few
values, training of these values, Huffman-coded indices and gaps. Each layer keeps the fraction that the paper has for it.
"""

import argparse
import tempfile
import zlib
from pathlib import Path

from compress_lib.experiments import harness
from compress_lib.experiments.pruning_weights import PAPER_KEEP, keep_fractions

# The chapter of a network, and what its default keep rates are called; these are chapter 07's unless named.
CHAPTERS = {"squeezenet-small": ("13-squeezenet", "a third of each layer kept")}


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
    row, budget = measure(
        arguments.model, keep, k, arguments.rounds, arguments.epochs, arguments.lr, arguments.share_epochs,
        arguments.seed, arguments.out, arguments.work, arguments.data, arguments.share_lr,
    )  # fmt: skip
    print(budget)
    print(
        f"{arguments.out}: {row['nbytes_before']:,} → {row['nbytes_after']:,} bytes, "
        f"{row['nbytes_before'] / row['nbytes_after']:.1f}×, "
        f"{row['accuracy_before']:.2%} → {row['accuracy_after']:.2%} of {row['test_images']:,} test images"
    )


def measure(
    name, keep, k, rounds, epochs, lr, share_epochs, seed, out, work, root=None, share_lr=None
) -> tuple[dict, object]:
    """Compress the baseline ``name`` once; write the file and its row of the ledger; return the row and the budget.

    Parameters
    ----------
    name : of a baseline in the zoo.
    keep : layer name → fraction of its weights that survive.
    k : layer name → number of values that they share.
    rounds, epochs, lr, share_epochs, seed : as for `deep_compression.compress`.
    out : the file. It is read back, and the row is of the network that comes out of it.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    share_lr : as for `deep_compression.compress`.

    Raises
    ------
    RuntimeError
        If the network that was read back has other logits, in one bit, than the one that was written.
    """
    from compress_lib import container, data, ledger, training
    from compress_lib.models import zoo
    from compress_lib.pipelines import deep_compression
    from compress_lib.quantization.integer import folding

    train = data.fashion_mnist("train", root)
    test = data.fashion_mnist("test", root)
    dense = zoo.load(name)
    saving, before_sharing = {"architecture": name}, None
    if zoo.options(name).get("batch_norm", False):  # folded, its four numbers for each channel become one, a bias
        saving["metadata"] = {"options": {"batch_norm": False}}

        def before_sharing(network):
            return folding.fold(network, data.normalize(train[0][:1]))[0]

    kept = " ".join(f"{layer}={fraction}" for layer, fraction in keep.items())
    values = " ".join(f"{layer}={count}" for layer, count in k.items())
    out.parent.mkdir(parents=True, exist_ok=True)
    stages = {}
    run = f"{name}-deep-{zlib.crc32(kept.encode()):08x}-{rounds}x{epochs}-seed{seed}"  # a file's name has an end

    def on_stage(stage, network):
        # The paper's file before entropy coding: indices of 5 bits, and of log₂ k, side by side.
        encoding = {"index_bits": 5, "huffman": False} if stage == "tuned" else {}
        with tempfile.TemporaryDirectory() as folder:
            nbytes = container.save(network, Path(folder) / stage, **saving, **encoding).nbytes
        stages[stage] = {"accuracy": training.accuracy(network, *test), "nbytes": nbytes}

    model, report = deep_compression.compress(
        dense, *train, keep=keep, k=k, rounds=rounds, epochs=epochs, lr=lr, share_epochs=share_epochs,
        share_lr=share_lr, seed=seed, before_sharing=before_sharing, on_stage=on_stage, work=work / run,
    )  # fmt: skip
    restored, budget = harness.through_file(model, out, test[0], **saving)

    chapter, rates = CHAPTERS.get(name, ("07-deep-compression", "the paper's keep rates"))
    settings = rates if keep == PAPER_KEEP[name] else f"keep {kept}"
    shared = str(next(iter(k.values()))) if len(set(k.values())) == 1 else values
    row = ledger.record(
        {
            "chapter": chapter,
            "method": "deep compression",
            "model": name,
            "data": "fashion-mnist",
            "variant": f"{settings}, {shared} values, {rounds} × {epochs} + {share_epochs} epochs",
            "seed": seed,
            **harness.compare(dense, restored, test),
            "nbytes_after": out.stat().st_size,
            "latency_ratio": None,  # what is read back is the dense network again
            "details": {
                "stages": stages,
                "entropy_bound": container.open(out).entropy_bound(),
                "budget": [vars(layer) for layer in budget.rows],
                "kept": {layer.layer: layer.kept for layer in report.rows},
                "lr": lr,
                "share_lr": share_lr,
                "values": {layer.layer: layer.centroids for layer in report.rows},
            },
            "command": f"python -m compress_lib compress --model {name} --keep {kept} --k {values} --rounds {rounds} "
            f"--epochs {epochs} --lr {lr} --share-epochs {share_epochs} "
            + (f"--share-lr {share_lr} " if share_lr is not None else "")
            + f"--seed {seed} --out {out.name}",
        }
    )
    return row, budget


def _values(given: list[str], layers) -> dict[str, int]:
    """``K``, or ``LAYER=K`` for every layer, as a mapping."""
    try:
        if len(given) == 1 and "=" not in given[0]:
            return dict.fromkeys(layers, int(given[0]))
        pairs = (pair.partition("=") for pair in given)
        return {layer: int(count) for layer, _, count in pairs}
    except ValueError:
        raise ValueError(f"--k {' '.join(given)!r} is neither a number nor LAYER=NUMBER for each layer") from None
