"""Measure whole tables of chapter 12, and of each what is missing and no more.

TABLE is one of: ``labels`` (few labels and all, with a teacher and without), ``controls`` (of the gain: a virtual
teacher, the loss scaled, a worse teacher, one with exchanged classes), ``repair`` (compressed networks, from labels and
from the uncompressed network), ``methods`` (all of them, on two students), ``noise`` (20 and 40 % of the labels wrong),
``temperature`` (against the weight of the teacher), ``exits`` (early exits of BYOT), ``moonshine`` (ResNet-20 of cheap
blocks). Settings are chosen on the held-out images, by as many trials for each method, and go to
``results/distillation-tuning.json``; a control has the settings of what it controls. Then each setting is trained for
each seed on all training images and measured on the test images, as ``distill`` and ``repair`` do, into the ledger.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from compress_lib import files, ledger
from compress_lib.experiments import distillation, distillation_repair, harness
from compress_lib.experiments.distillation_lessons import SAME_LABELS
from compress_lib.progress import progress_bar

COMMAND = "distill-tables"

HEADLINE_SEEDS, SEEDS, TRIAL_SEED = range(5), range(3), 100  # the last is of all trials, and of no row
LABELS = (300, 1_000, 3_000, 60_000)
TUNED_AT = 1_000  # labels: what is chosen there holds for 300 and 3,000 too
# The two students that the methods are compared on. Whether their curves are flat by then, the trials tell (`curve`).
STUDENTS: dict[str, dict[str, Any]] = {
    "narrow-resnet-8": {"student": "narrow-resnet-8", "epochs": 4, "precision": "bf16"},
    "mlp-20": {"student": "mlp-20", "epochs": 10},
}
# Shorter than they deserve: an epoch of cheap blocks takes longer than one of the network that they make small.
LARGE: dict[str, Any] = {"student": "resnet-20", "epochs": 3, "augment": True, "precision": "bf16"}
BLOCKS = ("G8", "B2", "G8B2", "A8B2")
NOISE = (0.2, 0.4)
TEMPERATURES, WEIGHTS = (1.0, 2.0, 4.0, 8.0, 20.0), (0.5, 0.9)
WORSE = "lenet-300-100"


def _grid(**values: tuple) -> list[dict[str, Any]]:
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


_LR = (0.05, 0.2)
# Four for each method.
TRIALS: dict[str, list[dict[str, Any]]] = {
    "labels": _grid(lr=(0.02, 0.05, 0.1, 0.2)),
    "smoothing": _grid(smoothing=(0.1, 0.3), lr=_LR),
    "logits": _grid(temperature=(1.0, 4.0), lr=_LR),
    "dkd": _grid(beta=(2.0, 8.0), lr=_LR),
    "fitnets": _grid(hint_epochs=(1, 2), lr=_LR),
    "attention": _grid(beta=(100.0, 1000.0), lr=_LR),
    "byot": _grid(alpha=(0.1, 0.3), lr=_LR),
    "one": _grid(ramp_length=(0.25, 1.0), lr=_LR),
}
# Factors of the learning rate that the network's own chapter has.
REPAIR_LR = {"labels": (0.5, 1.0, 2.0, 4.0), "teacher": (1.0, 2.0), "unlabeled": (1.0, 2.0)}


@dataclass(frozen=True)
class Setting:
    """One line of a table.

    Attributes
    ----------
    given : of the recipe; the rest of it is chosen, or has its default.
    like : in what a run differs from ``given`` when settings are chosen, as those of a control are with its method.
    command : the module that completes recipes, measures them and tries them out.
    """

    given: Mapping[str, Any]
    like: Mapping[str, Any] = field(default_factory=dict)
    command: ModuleType = distillation

    def trials(self) -> list[dict[str, Any]]:
        """The recipes to choose from; one if nothing is chosen."""
        base = {key: value for key, value in {**self.given, **self.like}.items() if value is not None}
        if self.command is distillation_repair:
            lr = distillation_repair.NETWORKS[base["network"]]["lr"]
            soft: dict[str, tuple] = {} if base["source"] == "labels" else {"temperature": (1.0, 4.0)}
            chosen = _grid(**soft, lr=tuple(factor * lr for factor in REPAIR_LR[base["source"]]))
        else:
            chosen = [{}] if base["student"] == LARGE["student"] else TRIALS[base["method"]]
        return [self.command.complete(base | each) for each in chosen]

    def recipe(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """What is measured, with the settings of the trial that was best."""
        kept = {key: value for key, value in trial.items() if key in self._chosen()}
        return self.command.complete(kept | dict(self.given))

    def _chosen(self) -> set[str]:
        trials = self.trials()
        return {key for trial in trials for key in trial if any(trial[key] != other[key] for other in trials)}


def _labels() -> Iterator[Setting]:
    for labels, student in product(LABELS, STUDENTS.values()):
        few = labels < LABELS[-1]
        like = {"labels": TUNED_AT} if few else {}
        for method in ("labels", "smoothing", "logits"):
            yield Setting(student | {"method": method, "labels": labels}, like)
        if few:
            taught = student | {"method": "logits", "labels": labels, "rest": "teacher"}
            yield Setting(taught, like)
            yield Setting(taught | {"teacher": SAME_LABELS}, like)


def _controls() -> Iterator[Setting]:
    for labels, student in product((3_000, LABELS[-1]), STUDENTS.values()):
        of: dict[str, Any] = {"method": "logits", "teacher": None, "permute": None}
        of |= {"labels": TUNED_AT} if labels < LABELS[-1] else {}
        for differing in (
            {"method": "virtual"},
            {"method": "scaled"},
            {"method": "logits", "teacher": WORSE},
            {"method": "logits", "permute": "others"},
            {"method": "logits", "permute": "all"},
        ):
            yield Setting(student | {"labels": labels} | differing, of)


def _noise() -> Iterator[Setting]:
    for noise, student in product(NOISE, STUDENTS.values()):
        given, like = student | {"noise": noise}, {"noise": NOISE[-1]}
        yield Setting(given | {"method": "labels"}, like)
        yield Setting(given | {"method": "smoothing"}, like)
        yield Setting(given | {"method": "logits"}, like)
        own = {"method": "logits", "teacher": SAME_LABELS}
        yield Setting(given | own, like)
        yield Setting(given | own | {"method": "virtual"}, like | own)


def _temperature() -> Iterator[Setting]:
    for student, temperature, weight in product(STUDENTS.values(), TEMPERATURES, WEIGHTS):
        given = student | {"method": "logits", "labels": 3_000, "temperature": temperature, "weight": weight}
        yield Setting(given, {"labels": TUNED_AT, "temperature": None, "weight": None})


def _methods() -> Iterator[Setting]:
    for student, method in product(STUDENTS.values(), TRIALS):
        if student["student"] != "mlp-20" or method not in ("attention", "byot"):  # these need maps, and depth
            yield Setting(student | {"method": method})


def _repair() -> Iterator[Setting]:
    for network, source in product(distillation_repair.NETWORKS, distillation_repair.SOURCES):
        yield Setting({"network": network, "source": source}, command=distillation_repair)


def _exits() -> Iterator[Setting]:
    for method in ("labels", "byot"):
        yield Setting(LARGE | {"method": method})


def _moonshine() -> Iterator[Setting]:
    for block, method in product(BLOCKS, ("labels", "attention")):
        yield Setting(LARGE | {"block": block, "method": method})


# In the order in which they are worth their time; the seeds of each.
TABLES = {
    "labels": (_labels, HEADLINE_SEEDS),
    "controls": (_controls, SEEDS),
    "repair": (_repair, SEEDS),
    "methods": (_methods, SEEDS),
    "noise": (_noise, SEEDS),
    "temperature": (_temperature, SEEDS),
    "exits": (_exits, SEEDS),
    "moonshine": (_moonshine, SEEDS),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="+", choices=TABLES)
    parser.add_argument("--seeds", type=int, nargs="+", help="(default: five for labels, three for the others)")
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    tuning = Tuning(arguments.work, arguments.data)
    for name in arguments.table:
        settings, seeds = TABLES[name]
        chosen = [
            (each, each.recipe(tuning.best(each))) for each in progress_bar(iterable=[*settings()], unit="choice")
        ]
        known = measured()
        runs = [(each, recipe, seed) for seed in arguments.seeds or seeds for each, recipe in chosen]
        missing = [each for each in runs if each[1:] not in known]
        for setting, recipe, seed in progress_bar(iterable=missing, unit="row"):
            try:
                row = setting.command.measure(recipe, seed=seed, work=arguments.work, root=arguments.data)
                print(harness.summary(row))
            except FloatingPointError as error:  # such a setting has no row, and the others go on
                print(f"{recipe}, seed {seed}: {error}")


def measured() -> list[tuple[dict, int]]:
    """Recipe and seed of each row that the ledger has."""
    return [(row["recipe"], row["seed"]) for row in ledger.read(distillation.CHAPTER)]


class Tuning:
    """``results/distillation-tuning.json``: one row per trial, written after each.

    Parameters
    ----------
    work : directory for checkpoints.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    """

    def __init__(self, work: Path, root: harness.Directory = None) -> None:
        self.work, self.root = work, root

    def best(self, setting: Setting) -> dict[str, Any]:
        """The trial that is most accurate on the held-out images, the first among equals; those missing are made."""
        trials = setting.trials()
        if len(trials) == 1:
            return trials[0]
        return max(trials, key=lambda recipe: self.accuracy(recipe, setting.command))

    def accuracy(self, recipe: Mapping, command: ModuleType) -> float:
        """On the held-out images: as it was measured, or as it is now; 0 if the training diverges."""
        tried = dict(recipe) | {"split": "fit"}
        for row in trials():
            if row["recipe"] == tried:
                return row["accuracy"]
        try:
            found = command.try_out(recipe, seed=TRIAL_SEED, work=self.work, root=self.root)
        except FloatingPointError as error:
            found = {"accuracy": 0.0, "diverged": str(error)}
        rows = [*trials(), {"recipe": tried, "seed": TRIAL_SEED} | found]
        content = {**ledger.provenance("python -m compress_lib distill-tables " + " ".join(TABLES)), "rows": rows}
        files.write(_path(), (json.dumps(content, indent=1) + "\n").encode())
        return found["accuracy"]


def trials() -> list[dict[str, Any]]:
    """All trials that were made: their recipe, seed and accuracy on the held-out images, most with its ``curve``."""
    return json.loads(_path().read_text(encoding="utf-8"))["rows"] if _path().exists() else []


def _path() -> Path:
    return ledger.directory() / "distillation-tuning.json"
