"""Training and evaluation: one plain recipe for every network of the book.

SGD with Nesterov momentum, a linear warm-up and a cosine decay to zero, decoupled from the hardware by Hugging Face
Accelerate: the same call runs on one CPU, one GPU, or many machines. Chapters 01 and 02.
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import files
from compress_lib.data import as_input
from compress_lib.network.modes import evaluating
from compress_lib.progress import progress_bar

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["accuracy", "channels_last", "cross_entropy", "fit", "predict", "random_crop_flip"]

Objective = Callable[[nn.Module, Tensor, Any], Tensor]


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The default objective: mean cross-entropy of the logits ``model(images)`` against integer labels."""
    return F.cross_entropy(model(images), labels)


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | tuple[Tensor, ...],
    *,
    epochs: int,
    seed: int,
    batch_size: int = 128,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    warmup: float = 0.1,
    augment: bool = False,
    precision: str = "fp32",
    objective: Objective = cross_entropy,
    before_step: Callable[[float], None] | None = None,
    after_step: Callable[[nn.Module, float], None] | None = None,
    after_epoch: Callable[[int, nn.Module], dict] | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train ``model`` in place and return its history.

    The order of the images, the augmentation and dropout depend on ``seed`` and the epoch alone, so a run that was
    interrupted and resumed ends with the same weights, bit for bit, as one that was not; and several processes that
    share a global batch follow the loss curve of one.

    Parameters
    ----------
    model : trained in place; left in evaluation mode. Frozen and parametrized (masked) weights are respected.
    images : ``(N, C, H, W)``; uint8 is normalized here batch by batch, float32 is taken as it is.
    labels : ``(N,)`` int64; or what else the objective compares with, such as stored logits ``(N, classes)``: a tensor
        of N rows, or a tuple of such tensors, ``()`` if it needs none.
    epochs, seed : length of the run, and everything that is random in it.
    batch_size : images per step over *all* processes; the last incomplete batch of an epoch is dropped.
    lr, momentum, weight_decay : of SGD; ``lr`` is the peak, reached after the ``warmup`` fraction of all steps.
    augment : random crops (2 pixels) and horizontal flips.
    precision : "fp32", or "bf16" for mixed precision: weights stay fp32, convolutions and products run in bfloat16.
    objective : ``(model, images, labels) -> scalar loss``; add penalties or a teacher here. The labels are the batch's
        rows, in the form in which they were given.
    before_step : ``(done) -> None``, called before every step with the part of the training that is done, in [0, 1).
        Weights of an objective that follow it are the same in a resumed run.
    after_step : ``(model, lr) -> None``, called after every step of the optimizer with the learning rate of that step;
        may change the weights in place, e.g. by a proximal step. The momentum does not know of the change.
    after_epoch : ``(epoch, model) -> dict`` of figures to add to that epoch's history, e.g. the test accuracy.
    checkpoint : file to save after each epoch and to resume from if it exists; written atomically.
    progress : show a bar.

    Returns
    -------
    One dict per epoch: ``epoch`` (from 1), ``loss`` (mean over the epoch), ``lr`` (last), ``seconds``, and whatever
    ``after_epoch`` returned.

    Raises
    ------
    ValueError : arguments out of range; a checkpoint of another run.
    FloatingPointError : the loss became NaN or infinite; the message names the epoch.
    """
    _check(model, images, labels, epochs, batch_size, precision)
    settings = {"epochs": epochs, "seed": seed, "batch_size": batch_size, "lr": lr, "momentum": momentum,
                "weight_decay": weight_decay, "warmup": warmup, "augment": augment, "precision": precision,
                "images": len(images)}  # fmt: skip
    origin = next(model.parameters()).device
    accelerator = _accelerator(batch_size)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr, momentum, nesterov=momentum > 0, weight_decay=weight_decay)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    history = _resume(checkpoint, settings, model, optimizer)
    steps = len(images) // batch_size
    show = progress and accelerator.is_local_main_process
    bar = progress_bar(show, total=epochs * steps, initial=len(history) * steps, unit="step")
    try:
        with bar, torch.random.fork_rng():
            for epoch in range(len(history), epochs):
                started = time.perf_counter()
                wrapped.train()
                total = torch.zeros((), device=accelerator.device)
                batches = _batches(images, labels, batch_size, seed, epoch, augment, accelerator)
                for step, (x, y) in enumerate(batches, start=epoch * steps):
                    if before_step is not None:
                        before_step(step / (epochs * steps))
                    rate = lr * _schedule(step, epochs * steps, warmup)
                    total += _step(wrapped, objective, x, y, optimizer, rate, precision, accelerator)
                    if after_step is not None:
                        after_step(model, rate)
                    bar.update()
                loss = accelerator.reduce(total, "mean").item() / steps
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}; try a smaller lr than {lr}")
                entry = {"epoch": epoch + 1, "loss": loss, "lr": rate, "seconds": time.perf_counter() - started}
                if after_epoch is not None:
                    entry |= after_epoch(epoch + 1, model.eval())
                history.append(entry)
                bar.set_postfix({key: f"{entry[key]:.4g}" for key in entry if key not in ("epoch", "seconds")})
                if checkpoint is not None and accelerator.is_main_process:
                    _save(Path(checkpoint), settings, model, optimizer, history)
    finally:
        # "accelerate launch --mixed_precision" wraps model.forward; hand back what came in, on the device it came from.
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        model.to(origin).eval()
    return history


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """Logits ``(N, classes)`` of ``images`` (uint8 or float, as in `fit`), in evaluation mode, on the CPU."""
    if len(images) == 0:
        raise ValueError("images is empty")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with evaluating(model):
        batches = (channels_last(as_input(batch.to(device))) for batch in images.split(batch_size))
        return torch.cat([model(batch).cpu() for batch in batches])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 250) -> float:
    """Fraction of ``images`` whose largest logit is at the label, in [0, 1]."""
    if len(images) != len(labels):
        raise ValueError(f"labels has {len(labels)} entries for {len(images)} images")
    return (predict(model, images, batch_size=batch_size).argmax(1) == labels).double().mean().item()


def channels_last(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` with the channels innermost in memory, where convolutions run up to twice as fast.

    With one channel both layouts are the same bytes, and torch takes them for the slow one unless the strides say
    otherwise; so they do. What is not a batch of images stays as it is.
    """
    if images.dim() != 4:
        return images
    _, channels, height, width = images.shape
    strides = (height * width * channels, 1, width * channels, channels)
    return images.contiguous(memory_format=torch.channels_last).as_strided(images.shape, strides)


def random_crop_flip(images: Tensor, generator: torch.Generator, padding: int = 2) -> Tensor:
    """Pad each image ``(N, C, H, W)`` with zeros, crop it back at a random place, and flip half of them."""
    n, _, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator)
    flipped = torch.rand(n, generator=generator) < 0.5
    rows = offsets[0, :, None] + torch.arange(height)
    columns = offsets[1, :, None] + torch.arange(width)
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    padded = F.pad(images, (padding,) * 4)
    # One gather: the two index grids broadcast to (N, H, W) and the channel axis goes last, then back to second place.
    picked = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _check(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | tuple[Tensor, ...],
    epochs: int,
    batch_size: int,
    precision: str,
) -> None:
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model has no parameter to train")
    for rows in labels if isinstance(labels, tuple) else (labels,):
        if len(images) != len(rows):
            raise ValueError(f"labels has {len(rows)} entries for {len(images)} images")
    if epochs < 1:
        raise ValueError(f"epochs={epochs} is not a positive number")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision={precision!r} is neither 'fp32' nor 'bf16'")
    if not 1 <= batch_size <= len(images):
        raise ValueError(f"batch_size={batch_size} is not between 1 and the number of images, {len(images)}")


def _accelerator(batch_size: int) -> "Accelerator":
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if batch_size % accelerator.num_processes:
        raise ValueError(f"batch_size={batch_size} does not divide among {accelerator.num_processes} processes")
    return accelerator


def _step(
    wrapped: nn.Module,
    objective: Objective,
    x: Tensor,
    y: Tensor | tuple[Tensor, ...],
    optimizer: torch.optim.Optimizer,
    rate: float,
    precision: str,
    accelerator: "Accelerator",
) -> Tensor:
    """One step of the optimizer at this learning rate; the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bf16"):
        loss = objective(wrapped, x, y)
    optimizer.zero_grad()
    accelerator.backward(loss)
    optimizer.step()
    return loss.detach()


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Linear from 0 to 1 over the first ``warmup`` fraction, then half a cosine back to 0."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def _batches(images, labels, batch_size, seed, epoch, augment, accelerator):
    """This process's share of each global batch of one epoch, on its device."""
    epoch_seed = (seed * 1_000_003 + epoch) % 2**63
    torch.manual_seed(epoch_seed + accelerator.process_index)  # for dropout
    generator = torch.Generator().manual_seed(epoch_seed)
    order = torch.randperm(len(images), generator=generator)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    for start in range(0, len(images) - batch_size + 1, batch_size):
        index = order[start : start + batch_size]
        x = images[index]
        if augment:  # of the whole batch, so that the draw does not depend on the number of processes
            x = random_crop_flip(x, generator)
        x = channels_last(as_input(x[share].to(accelerator.device)))
        if isinstance(labels, tuple):
            yield x, tuple(rows[index][share].to(accelerator.device) for rows in labels)
        else:
            yield x, labels[index][share].to(accelerator.device)


def _save(path: Path, settings: dict, model: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"run": settings, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
    with files.replacing(path) as unfinished:
        torch.save(state, unfinished)


def _resume(
    checkpoint: str | os.PathLike | None, settings: dict, model: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict]:
    if checkpoint is None or not Path(checkpoint).exists():
        return []
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint={str(checkpoint)!r} cannot be read; delete it to start again: {error}") from error
    saved = state["run"]
    changed = {key: (saved.get(key), value) for key, value in settings.items() if saved.get(key) != value}
    if changed:
        raise ValueError(f"checkpoint={str(checkpoint)!r} is of another run; (saved, asked for): {changed}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"]
