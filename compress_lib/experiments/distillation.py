"""Train a student from labels, from a teacher, or from itself, and write its row to the ledger of chapter 12.

METHOD is one of: ``logits`` (Hinton et al., arXiv 1503.02531), ``dkd`` (Zhao et al., arXiv 2203.08679), ``fitnets``
(Romero et al., arXiv 1412.6550), ``attention`` (Zagoruyko & Komodakis, arXiv 1612.03928); without a teacher ``byot``
(Zhang et al., arXiv 1905.08094) and ``one`` (Lan et al., arXiv 1806.04606); ``labels``, and ``smoothing`` (the labels
smoothed). Two more are controls of ``logits``: ``virtual`` (the same loss, with a teacher that knows the label alone)
and ``scaled`` (the cross-entropy times a factor, so that it pulls as hard at an untrained student). Students of at most
20,000 parameters are ``narrow-resnet-8`` and ``mlp-20``; ``resnet-20`` may have its convolutions replaced by cheap
blocks (``--block``; Crowley et al., arXiv 1711.02613). What a row compares with, its ``model``, is the large network of
the chapter, ResNet-20. The shipped teachers have seen all training images with their labels, those too that are
unlabeled for a student, and those that settings are chosen on.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compress_lib import cost, data, ledger, training
from compress_lib.distillation import byot
from compress_lib.experiments import distillation_lessons as lessons
from compress_lib.experiments import distillation_methods as methods
from compress_lib.experiments import harness, quality
from compress_lib.models import zoo

COMMAND = "distill"

CHAPTER = "12-distillation"
LARGE = "resnet-20"
GIVEN: dict[str, Any] = {
    "student": "narrow-resnet-8", "block": None, "labels": 60_000, "rest": "unused", "noise": 0.0,
    "epochs": 4, "lr": 0.1, "augment": False, "precision": "fp32",
}  # fmt: skip
TEACHER: dict[str, Any] = {"teacher": LARGE, "permute": "nothing"}
SOFT: dict[str, Any] = TEACHER | {"temperature": 4.0, "weight": 0.9}
# What else each method has, with its defaults: as in the papers, where the networks are like theirs.
SETTINGS: dict[str, dict[str, Any]] = {
    "labels": {},
    "smoothing": {"smoothing": 0.1},
    "scaled": SOFT,
    "virtual": SOFT,
    "logits": SOFT,
    "dkd": TEACHER | {"alpha": 1.0, "beta": 8.0, "temperature": 4.0},
    "fitnets": TEACHER | {"hint_epochs": 1, "temperature": 3.0, "start": 4.0, "end": 1.0},
    "attention": TEACHER | {"beta": 1000.0},
    "byot": {"alpha": 0.1, "feature_weight": 1e-4, "temperature": 3.0},
    "one": {"branches": 3, "temperature": 3.0, "ramp_length": 0.25},
}
NAMED = {
    "labels": "labels alone",
    "smoothing": "label smoothing",
    "scaled": "labels alone, loss scaled",
    "virtual": "virtual teacher",
    "logits": "distillation from logits",
    "dkd": "decoupled distillation (DKD)",
    "fitnets": "FitNets",
    "attention": "attention transfer",
    "byot": "self-distillation (BYOT)",
    "one": "on-the-fly native ensemble (ONE)",
}
# An image leaves at the first exit whose largest probability is above the threshold.
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
TIMED_IMAGES, EXIT_ROUNDS = 200, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", choices=sorted(SETTINGS))
    parser.add_argument("--student", choices=methods.STUDENTS, help="(default narrow-resnet-8)")
    parser.add_argument("--block", help="of Moonshine, as G8, B2 or G8B2, in the place of the convolutions")
    parser.add_argument("--labels", type=int, help="how many images are labeled (default 60000)")
    parser.add_argument("--rest", choices=("unused", "teacher"), help="the other images, for the teacher (logits only)")
    parser.add_argument("--noise", type=float, help="the share of the labels that are wrong (default 0)")
    parser.add_argument("--epochs", type=int, help="each as many steps as 60,000 images make (default 4)")
    parser.add_argument("--lr", type=float, help="peak learning rate (default 0.1)")
    parser.add_argument("--augment", action="store_true", default=None, help="random crops and flips")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--teacher", choices=(*zoo.NAMES, lessons.SAME_LABELS), help="(default resnet-20)")
    parser.add_argument("--permute", choices=lessons.PERMUTED, help="classes of the teacher to exchange")
    for name, default in sorted({key: value for each in SETTINGS.values() for key, value in each.items()}.items()):
        if name not in TEACHER:
            having = ", ".join(f"{method} {each[name]}" for method, each in SETTINGS.items() if name in each)
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=f"(default: {having})")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    given = {key: value for key, value in vars(arguments).items() if value is not None}
    known = GIVEN.keys() | {"method"} | {key for each in SETTINGS.values() for key in each}
    recipe = complete({key: value for key, value in given.items() if key in known})
    for seed in arguments.seeds:
        row = measure(recipe, seed=seed, work=arguments.work, root=arguments.data)
        print(harness.summary(row))


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run: those that are given, and the defaults of the others.

    Raises
    ------
    ValueError : a setting that the method does not have, or unlabeled images for a method that needs labels.
    """
    method = given["method"]
    defaults = harness.TRAINING | GIVEN | SETTINGS[method]
    if unknown := given.keys() - defaults.keys() - {"method"}:
        raise ValueError(f"{method} has no {min(unknown)!r}; it has {', '.join(SETTINGS[method])}")
    recipe = {"method": method} | defaults | dict(given)
    if recipe["rest"] != "unused" and method != "logits":
        raise ValueError(f"rest must be 'unused' for {method}, which needs labels; only logits does without")
    if recipe.get("teacher") == lessons.SAME_LABELS:
        recipe["trained_teacher"] = lessons.TEACHER
    return recipe


def measure(recipe: Mapping, *, seed: int, work: Path, root: harness.Directory = None) -> dict:
    """Train and measure one student; write and return its row of the ledger.

    Parameters
    ----------
    recipe : from `complete`.
    seed : of all that is random: which images have labels, the first weights, and the order of the images.
    work : directory for checkpoints and the teachers' logits. A run that is already there is only measured.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    """
    train, test = harness.fashion_mnist(root)
    large = zoo.load(LARGE)
    lesson = lessons.prepare(recipe, train, seed=seed, work=work)
    trained = methods.train(recipe, lesson, seed=seed, work=work)
    theirs = lessons.cached_logits(large, test[0], work, "test")
    logits = training.predict(trained.network, test[0])
    details = quality.of_logits(logits, test[1], theirs)
    if lesson.teacher is not None:
        ours = theirs if recipe["teacher"] == LARGE else training.predict(lesson.teacher.teacher, test[0])
        details["teacher"] = {"accuracy": quality.accuracy(ours, test[1]), "agreement": quality.agreement(logits, ours)}
    if isinstance(trained.form, byot.MultiExit):
        details["exits"] = early_exits(trained.form, *test)
    details |= {"params": sum(p.numel() for p in trained.network.parameters()), "history": trained.history}
    shown = {key: value for key, value in recipe.items() if _asked(recipe, key)}
    return ledger.record(
        {
            "chapter": CHAPTER,
            "method": NAMED[recipe["method"]],
            "model": LARGE,
            "data": "fashion-mnist",
            "variant": harness.words(shown),
            "recipe": dict(recipe),
            "seed": seed,
            "test_images": len(test[0]),
            "accuracy_before": quality.accuracy(theirs, test[1]),
            "accuracy_after": quality.accuracy(logits, test[1]),
            **harness.size(large, trained.network, test[0].shape[1:]),
            "latency_ratio": harness.timing(large, trained.network, data.normalize(test[0][:1]))["ratio"],
            "details": details,
            "command": f"python -m compress_lib distill {command(recipe)} --seeds {seed}",
        }
    )


def command(recipe: Mapping) -> str:
    """The arguments of ``distill`` that give this recipe."""
    shown = {key: value for key, value in recipe.items() if _asked(recipe, key) and key != "augment"}
    return " ".join([recipe["method"], harness.flags(shown), *["--augment"] * recipe["augment"]])


def _asked(recipe: Mapping, key: str) -> bool:
    """Whether it is a setting that the command has and that is not at "no" by itself."""
    has = key in GIVEN or key in SETTINGS[recipe["method"]]
    return has and recipe[key] is not None and recipe[key] is not False


def try_out(recipe: Mapping, *, seed: int, work: Path, root: harness.Directory = None) -> dict:
    """Train on the fit split, and measure on the held-out images, which the student has not seen: to choose settings.

    Parameters
    ----------
    recipe, seed, work, root : as for `measure`. Of more labels than the split has, it takes all.

    Returns
    -------
    dict
        The ``accuracy`` after the last epoch, and the ``curve`` of it after each.
    """
    fit, held_out = (data.fashion_mnist(split, root) for split in ("fit", "held-out"))
    recipe = dict(recipe) | {"split": "fit", "labels": min(recipe["labels"], len(fit[0]))}
    lesson = lessons.prepare(recipe, fit, seed=seed, work=work)

    def after_epoch(epoch: int, model: nn.Module) -> dict:
        return {"accuracy": training.accuracy(model, *held_out)}

    history = methods.train(recipe, lesson, seed=seed, work=work, after_epoch=after_epoch).history
    curve = [entry["accuracy"] for entry in history if "accuracy" in entry]
    return {"accuracy": curve[-1], "curve": curve}


def early_exits(model: byot.MultiExit, images: Tensor, labels: Tensor) -> list[dict]:
    """Accuracy, and the time of an image that comes alone, when easy images leave early; a dict for each threshold.

    Parameters
    ----------
    model : with exits.
    images, labels : of the test; the first `TIMED_IMAGES` are timed, one after the other, on one thread.
    """

    timed, plain = images[:TIMED_IMAGES].split(1), byot.deploy(model)
    candidates: dict[str, Callable] = {"no exits": lambda: [training.predict(plain, image) for image in timed]}
    for threshold in THRESHOLDS:
        candidates[str(threshold)] = partial(_alone, model, timed, threshold)
    latency = cost.latency(candidates, rounds=EXIT_ROUNDS, warmup=1, threads=1)
    found: list[dict] = [{"threshold": None, "seconds": latency["no exits"].seconds_median / len(timed)}]
    for threshold in THRESHOLDS:
        logits, exits = byot.early_exit(model, images, threshold)
        shares = exits.bincount(minlength=len(model.exits) + 1).double() / len(exits)
        row = latency[str(threshold)]
        found.append(
            {
                "threshold": threshold,
                "accuracy": quality.accuracy(logits, labels),
                "shares": shares.tolist(),
                "seconds": row.seconds_median / len(timed),
                "ratio": row.ratio,
            }
        )
    return found


def _alone(model: byot.MultiExit, images: Sequence[Tensor], threshold: float) -> None:
    for image in images:
        byot.early_exit(model, image, threshold)
