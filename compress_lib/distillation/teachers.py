"""What every method does with a teacher: it runs in evaluation mode, without gradients, and stays as it is. Chapter 12.

The objectives of this room are for `compress_lib.training.fit`. With a teacher they run it on each batch, which
augmentation needs. Without one they read its logits from the targets: where nothing is random, these are computed once.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Targets = Tensor | tuple[Tensor, ...]


def precise(tensor: Tensor) -> Tensor:
    """The tensor in at least float32: in the bfloat16 of layers, the rounding is as large as what a loss compares."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def as_teachers(teacher: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    """One teacher or several, as a list."""
    models = [teacher] if isinstance(teacher, nn.Module) else teacher
    if not isinstance(models, Sequence) or not models or not all(isinstance(model, nn.Module) for model in models):
        raise TypeError(f"teacher must be a torch.nn.Module or a sequence of them, got {type(teacher).__name__}")
    return list(models)


def frozen(teacher: nn.Module) -> nn.Module:
    """A copy in evaluation mode that needs no gradients.

    It is a copy so that nothing that happens in training, not even an exception, changes the caller's network.
    """
    return copy.deepcopy(teacher).eval().requires_grad_(False)


class FrozenTeachers:
    """One teacher or several, `frozen`, that follow a batch to its device.

    Parameters
    ----------
    teacher : nn.Module or sequence of nn.Module
    """

    def __init__(self, teacher: nn.Module | Sequence[nn.Module]) -> None:
        self.single = isinstance(teacher, nn.Module)
        self.models = [frozen(model) for model in as_teachers(teacher)]

    def logits(self, images: Tensor) -> Tensor:
        """(N, classes), or (N, teachers, classes) if there is a sequence of teachers."""
        with torch.no_grad():
            return joined([model.to(images.device)(images) for model in self.models], self.single)

    def read(self, images: Tensor, targets: Targets) -> tuple[Tensor | None, Tensor]:
        """Labels, None if the targets are ``()``, and the logits for these images."""
        if isinstance(targets, tuple) and not targets:
            return None, self.logits(images)
        if not isinstance(targets, Tensor) or targets.is_floating_point():
            raise ValueError(
                "labels must be class numbers, or () if there are none: the objective runs its teacher itself"
            )
        return targets, self.logits(images)


class StoredTeachers:
    """Reads the logits from the targets: they alone, or a pair of labels and logits."""

    def read(self, images: Tensor, targets: Targets) -> tuple[Tensor | None, Tensor]:
        """Labels, None if there are only logits, and the stored logits."""
        if isinstance(targets, Tensor) and targets.is_floating_point():
            return None, targets
        if isinstance(targets, tuple) and len(targets) == 2:
            return targets
        raise ValueError(
            "labels must hold the teacher's logits, alone or as (labels, logits), if the objective has no teacher"
        )


class Annealed:
    """An objective with a weight that follows the training; `at` is the ``before_step`` of `training.fit`."""

    done: float | None = None

    def at(self, done: float) -> None:
        """Tell the objective which part of the training is done, in [0, 1)."""
        self.done = done

    def _done(self) -> float:
        if self.done is None:
            raise ValueError(f"{type(self).__name__} needs training.fit(…, before_step=objective.at) to follow the run")
        return self.done


def reader(teacher: nn.Module | Sequence[nn.Module] | None) -> FrozenTeachers | StoredTeachers:
    """What gives an objective the labels and the teacher's logits of a batch."""
    return StoredTeachers() if teacher is None else FrozenTeachers(teacher)


def joined(logits: list[Tensor], single: bool) -> Tensor:
    """The logits of a single teacher, or those of several side by side, (N, teachers, classes)."""
    if single:
        return logits[0]
    if len(shapes := {tuple(each.shape) for each in logits}) > 1:
        raise ValueError(f"the teachers' logits must have one shape, got {sorted(shapes)}")
    return torch.stack(logits, 1)
