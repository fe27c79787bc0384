"""Compress a baseline into one small file, read the file back, and write its row to the ledger of chapter 07 or 13.

What ``python -m compress_lib compress`` runs: deep compression (Han et al., arXiv 1510.00149), and after it the file.
"""

import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from compress_lib import container, data, ledger, training
from compress_lib.container.budget import Budget
from compress_lib.experiments import harness
from compress_lib.experiments.pruning_weights import PAPER_KEEP
from compress_lib.models import zoo
from compress_lib.pipelines import deep_compression
from compress_lib.quantization.integer import folding

# The chapter of a network, and what its default keep rates are called; these are chapter 07's unless named.
CHAPTERS = {"squeezenet-small": ("13-squeezenet", "a third of each layer kept")}


def measure(
    name: str, keep: Mapping[str, float], k: Mapping[str, int], rounds: int, epochs: int, lr: float, share_epochs: int,
    seed: int, out: Path, work: Path, root: harness.Directory = None, share_lr: float | None = None,
) -> tuple[dict, Budget]:  # fmt: skip
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
    train, test = harness.fashion_mnist(root)
    dense = zoo.load(name)
    saving: dict[str, Any] = {"architecture": name}
    before_sharing: Callable[[nn.Module], nn.Module] | None = None
    if zoo.options(name).get("batch_norm", False):  # folded, its four numbers for each channel become one, a bias
        saving["metadata"] = {"options": {"batch_norm": False}}

        def before_sharing(network: nn.Module) -> nn.Module:
            return folding.fold(network, data.normalize(train[0][:1]))[0]

    settings: dict[str, Any] = {"rounds": rounds, "epochs": epochs, "lr": lr, "share_epochs": share_epochs}
    if share_lr is not None:
        settings["share_lr"] = share_lr
    out.parent.mkdir(parents=True, exist_ok=True)
    stages = {}
    kept = harness.text(keep)
    run = f"{name}-deep-{zlib.crc32(kept.encode()):08x}-{rounds}x{epochs}-seed{seed}"  # a file's name has an end

    def on_stage(stage, network):
        # The paper's file before entropy coding: indices of 5 bits, and of log₂ k, side by side.
        encoding: dict[str, Any] = {"index_bits": 5, "huffman": False} if stage == "tuned" else {}
        with tempfile.TemporaryDirectory() as folder:
            nbytes = container.save(network, Path(folder) / stage, **saving, **encoding).nbytes
        stages[stage] = {"accuracy": training.accuracy(network, *test), "nbytes": nbytes}

    model, report = deep_compression.compress(
        dense, *train, keep=keep, k=k, **settings, seed=seed, before_sharing=before_sharing, on_stage=on_stage,
        work=work / run,
    )  # fmt: skip
    restored, budget = harness.through_file(model, test[0], path=out, **saving)

    chapter, rates = CHAPTERS.get(name, ("07-deep-compression", "the paper's keep rates"))
    keeping = rates if keep == PAPER_KEEP[name] else f"keep {kept}"
    shared = next(iter(k.values())) if len(set(k.values())) == 1 else k
    flags = harness.flags({"keep": keep, "k": k, **settings, "seed": seed, "out": out.name})
    row = ledger.record(
        {
            "chapter": chapter,
            "method": "deep compression",
            "model": name,
            "data": "fashion-mnist",
            "variant": f"{keeping}, {harness.text(shared)} values, {rounds} × {epochs} + {share_epochs} epochs",
            "recipe": {"keep": keep, "k": k, **settings, "share_lr": share_lr, **harness.TRAINING},
            "seed": seed,
            **harness.compare(dense, restored, test),
            "nbytes_after": budget.nbytes,
            "latency_ratio": None,  # what is read back is the dense network again
            "details": {
                "stages": stages,
                "entropy_bound": container.open(out).entropy_bound(),
                "budget": [vars(layer) for layer in budget.rows],
                "kept": {layer.layer: layer.kept for layer in report.rows},
                "values": {layer.layer: layer.centroids for layer in report.rows},
            },
            "command": f"python -m compress_lib compress --model {name} {flags}",
        }
    )
    return row, budget
