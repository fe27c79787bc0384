"""Generative adversarial learning (GAL): a discriminator cannot tell a sparse student from its teacher. Chapter 04.

Lin et al., "Towards optimal structured CNN pruning via generative adversarial learning", CVPR 2019, arXiv 1903.09291.
Every channel of the chosen layers gets a soft mask m_c ≥ 0, multiplied where the channel is read: after normalization,
activation function and pooling. The student (weights and masks) starts as a copy of the teacher, and minimizes

    μ · mean (z − z_teacher)² − log D(z) + λ ‖m‖₁

over its logits z, while D learns to tell z from z_teacher. No labels are needed. The masks take proximal gradient steps
with momentum, FISTA (Beck & Teboulle, 2009), which reach zero exactly. Channels with m = 0 are removed; the other masks
are multiplied into the weights that read the channel.
"""

import copy
import math
from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib import checks
from compress_lib.network import watching
from compress_lib.pruning.channels import consumers
from compress_lib.pruning.surgery import Coupling, SurgeryReport


def fista_step(
    point: Tensor, solution: Tensor, time: float, gradient: Tensor, lr: float, penalty: float
) -> tuple[Tensor, Tensor, float]:
    """One step to minimize ``f(m) + penalty · ‖m‖₁`` over m ≥ 0.

    The proximal map of ``lr · penalty · ‖·‖₁`` over m ≥ 0 is ``max(v − lr · penalty, 0)``. It is applied after a
    gradient step from a point ahead of the last solution; how far ahead grows with t:

        m' = max(y − lr ∇f(y) − lr · penalty, 0),    t' = (1 + √(1 + 4t²)) / 2,    y' = m' + (t − 1)/t' · (m' − m).

    Parameters
    ----------
    point, solution : Tensor
        y and m, equal at first.
    time : float
        t, 1 at first. A step with ``time=1`` forgets the momentum: it is a plain proximal gradient step (ISTA).
    gradient : Tensor
        ∇f(y).
    lr, penalty : float
        At most 1 ÷ (the Lipschitz constant of ∇f) for a descent; λ.

    Returns
    -------
    y', m', t'
    """
    proximal = (point - lr * gradient - lr * penalty).clamp(min=0)
    later = (1 + math.sqrt(1 + 4 * time**2)) / 2
    return proximal + (time - 1) / later * (proximal - solution), proximal, later


def prune(
    model: nn.Module,
    example_input: Tensor,
    images: Tensor,
    *,
    layers: Collection[str] | None = None,
    penalty: float = 0.1,
    epochs: int = 5,
    fidelity: float = 1.0,
    lr: float = 0.002,
    mask_lr: float = 0.01,
    batch_size: int = 100,
    seed: int = 0,
) -> tuple[nn.Module, SurgeryReport]:
    """Learn which channels of some layers can go, and remove them.

    Parameters
    ----------
    model, example_input : as for `surgery.remove`.
    images : Tensor
        ``(N, C, H, W)``, uint8 or float; no labels are needed.
    layers : collection of str, optional
        Layers that may lose output channels; all that can unless given.
    penalty : float
        λ. How many channels go depends on it, and on the number of steps.
    epochs, batch_size : passes over the images, and images per step; a last, smaller batch is left out.
    fidelity : float
        μ, in the sum above.
    lr : float
        Of the student's weights and of the discriminator (SGD, momentum 0.9).
    mask_lr : float
        Of the masks. Their momentum starts again in each epoch, since the gradients are noisy.
    seed : int
        Of the discriminator and of the order of the images.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network, in evaluation mode. A layer whose masks are all zero keeps one channel, which is read with
        weight zero; the report warns of it.

    Raises
    ------
    TypeError, ValueError
        For what `consumers.candidates` and `surgery.remove` refuse, and arguments that are not positive.
    FloatingPointError
        If the student diverges.
    """
    for name, value in {"penalty": penalty, "epochs": epochs, "lr": lr, "mask_lr": mask_lr}.items():
        checks.positive(name, value)
    if not 2 <= batch_size <= len(images):
        raise ValueError(f"batch_size must be from 2 to the number of images, {len(images)}, got {batch_size}")
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model).train()
    coupling = Coupling(student, example_input)
    found, skipped = consumers.candidates(coupling, layers)
    device = next(student.parameters()).device
    masks = [torch.ones(candidate.size, device=device, requires_grad=True) for candidate in found]
    hooks = [hook for candidate, mask in zip(found, masks, strict=True) for hook in _multiply(student, candidate, mask)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        solutions = _train(teacher, student, masks, images, penalty, epochs, fidelity, lr, mask_lr, batch_size)
    student.zero_grad()
    for hook in hooks:
        hook.remove()
    warnings = []

    def choose_(student: nn.Module, candidate: consumers.Candidate, mask: Tensor) -> Tensor:
        consumers.scale_(student, candidate, mask.cpu())
        removed = (mask == 0).nonzero().flatten().cpu()
        if len(removed) < candidate.size:
            return removed
        warnings.append(f"layer {candidate.layer!r} has no mask above zero; one channel stays, read with weight zero")
        return removed[1:]

    student.eval()
    steps = zip(found, solutions, strict=True)
    smaller, report = consumers.prune_one_by_one(coupling, steps, choose_, skipped, "Generative adversarial learning")
    report.warnings += warnings
    return smaller, report


def _multiply(model: nn.Module, candidate: consumers.Candidate, mask: Tensor) -> list:
    """Multiply the channels by their masks where they are read."""

    def hook(units: Tensor, layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        factors = torch.cat([mask, mask.new_ones(1)])[units]  # the last for −1
        axes = layer.get_parameter("weight").dim() - 2  # none in a linear layer
        return inputs[0] * factors.view(-1, *[1] * axes)

    return [
        model.get_submodule(consumer).register_forward_pre_hook(partial(hook, units))
        for consumer, units in candidate.consumers.items()
    ]


def _train(
    teacher: nn.Module,
    student: nn.Module,
    masks: list[Tensor],
    images: Tensor,
    penalty: float,
    epochs: int,
    fidelity: float,
    lr: float,
    mask_lr: float,
    batch_size: int,
) -> list[Tensor]:
    """The masks after training; the student's weights change in place."""
    classes = teacher(next(watching.batches(teacher, images[:1], 1))).shape[1]
    discriminator = nn.Sequential(
        nn.Linear(classes, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)
    ).to(masks[0].device)
    optimizers = [torch.optim.SGD(net.parameters(), lr, momentum=0.9) for net in (student, discriminator)]
    solutions = [mask.detach().clone() for mask in masks]
    for _ in range(epochs):
        time = 1.0
        order = torch.randperm(len(images))[: len(images) // batch_size * batch_size]
        for batch in watching.batches(student, images[order], batch_size):
            with torch.no_grad():
                real = teacher(batch)
            fake = student(batch)
            # The last term is the paper's regularization of D: it holds D back so that the student can follow.
            verdict = discriminator(fake.detach())
            _step(optimizers[1], _is(discriminator(real), 1) + _is(verdict, 0) + _is(verdict, 1))
            loss = fidelity * F.mse_loss(fake, real) + _is(discriminator(fake), 1)
            if not loss.isfinite():
                raise FloatingPointError(
                    f"the student's loss is {loss.item()}; try smaller lr={lr} or mask_lr={mask_lr}"
                )
            _step(optimizers[0], loss)
            for i, mask in enumerate(masks):
                assert mask.grad is not None, "every mask is used where its channels are read"
                mask.data, solutions[i], later = fista_step(mask.data, solutions[i], time, mask.grad, mask_lr, penalty)
                mask.grad = None
            time = later
    return solutions


def _is(verdict: Tensor, label: float) -> Tensor:
    """Cross-entropy of the discriminator's verdict (a logit) against real (1) or fake (0)."""
    return F.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, label))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
