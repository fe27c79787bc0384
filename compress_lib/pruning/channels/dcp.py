"""Discrimination-aware channel pruning (DCP): keep the channels that help to tell the classes apart. Chapter 04.

Zhuang et al., "Discrimination-aware channel pruning for deep neural networks", NeurIPS 2018, arXiv 1810.11809. The
weights W of the layer that reads the channels are judged by two losses: how far its output is from the one in the
original network, and how well a small classifier (normalization, ReLU, average pooling, softmax) on that output does,

    L(W) = L_M + λ L_S,        L_M = ‖O − O(W)‖² / ‖O‖²,        L_S = cross-entropy.

This is the paper's algorithm: from the empty set, the channel with the *largest* gradient ``‖∂L/∂W_j‖_F`` joins, then
the weights of the chosen ones are trained; channels that do not join are removed. (PocketFlow documents the reverse,
removing the smallest from the full set.) Simpler than in the paper: each consumer has a classifier of its own, trained
once on the original network and then frozen, and the network as a whole is not fine-tuned in between.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress_lib.network import patches, watching
from compress_lib.pruning.channels import consumers
from compress_lib.pruning.surgery import Coupling, SurgeryReport


class Losses:
    """``L_M + λ L_S`` of a layer on stored data.

    Parameters
    ----------
    inputs, targets : (N, …), what the layer reads now, and what it made in the original network.
    labels : (N,) int64.
    head : the frozen classifier, from (N, outputs, positions) to logits; None where λ = 0.
    weight : λ ≥ 0.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, labels: Tensor, head: nn.Module | None, weight: float):
        self.inputs, self.targets, self.labels, self.head, self.weight = inputs, targets, labels, head, weight
        self.energy = targets.square().mean()

    def __call__(self, layer: nn.Module, index: Tensor) -> Tensor:
        """The mean loss on some of the images."""
        output = layer(self.inputs[index])
        reconstruction = (output - self.targets[index]).square().mean() / self.energy
        if self.head is None or not self.weight:
            return reconstruction
        logits = self.head(patches.channels_second(layer, output).flatten(2))
        return reconstruction + self.weight * F.cross_entropy(logits, self.labels[index])


def train_head(layer: nn.Module, outputs: Tensor, labels: Tensor, *, steps: int = 200, seed: int = 0) -> nn.Module:
    """The classifier behind L_S, trained on the outputs of a layer, (N, …), and frozen."""
    outputs = patches.channels_second(layer, outputs).flatten(2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.BatchNorm1d(outputs.shape[1]),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(outputs.shape[1], int(labels.max()) + 1),
        ).to(outputs)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
        for _ in range(steps):
            index = torch.randint(len(outputs), (100,))
            optimizer.zero_grad()
            F.cross_entropy(head(outputs[index]), labels[index]).backward()
            optimizer.step()
    return head.eval().requires_grad_(False)


def gradient_norms(layer: nn.Module, losses: Losses, units: Tensor, size: int) -> tuple[Tensor, float]:
    """``‖∂L/∂W_j‖_F`` of every unit j on all images, (size,), and L itself.

    ``units`` is (in_channels,), the unit of each input channel of the layer, −1 for none.
    """
    layer.zero_grad()
    total = 0.0
    for index in torch.arange(len(losses.labels)).split(250):
        loss = losses(layer, index) * (len(index) / len(losses.labels))
        loss.backward()
        total += loss.item()
    gradient = layer.get_parameter("weight").grad
    assert gradient is not None
    squares = gradient.transpose(0, 1).flatten(1).square().sum(1)
    return squares.new_zeros(size + 1).index_add_(0, units % (size + 1), squares)[:size].sqrt(), total


def select_(
    layer: nn.Module,
    losses: Losses,
    units: Tensor,
    size: int,
    count: int,
    *,
    epsilon: float = 0.0,
    steps: int = 10,
    lr: float = 1e-3,
    seed: int = 0,
) -> list[int]:
    """Choose units greedily and train the layer's weights for them, in place; all other units get weight zero.

    Parameters
    ----------
    layer : nn.Module
        With its original weights: a unit that joins brings its own.
    losses, units, size : as for `gradient_norms`.
    count : int
        How many units to choose.
    epsilon : float
        Stop earlier when a step changes the loss by no more than this fraction of the first loss; 0 never does.
    steps, lr, seed : of the training (Adam, batches of 100) after each choice.

    Returns
    -------
    list of int
        In the order of choice.
    """
    weight = layer.get_parameter("weight")
    original = weight.detach().clone()
    units = units.to(original.device)
    shape = (1, -1, *[1] * (original.dim() - 2))
    chosen: list[int] = []
    mask = (units == -1).view(shape)
    layer.requires_grad_(False)
    weight.requires_grad_(True).data *= mask
    optimizer = torch.optim.Adam([weight], lr)
    generator = torch.Generator().manual_seed(seed)
    first = previous = 0.0
    while len(chosen) < count:
        norms, loss = gradient_norms(layer, losses, units, size)
        if chosen and epsilon and abs(previous - loss) <= epsilon * first:
            break
        first, previous = first or loss, loss
        norms[chosen] = -1
        chosen.append(int(norms.argmax()))
        joins = (units == chosen[-1]).view(shape)
        weight.data += original * joins
        mask = mask | joins
        for _ in range(steps):
            index = torch.randint(len(losses.labels), (100,), generator=generator)
            optimizer.zero_grad()
            losses(layer, index).backward()
            assert weight.grad is not None
            weight.grad *= mask
            optimizer.step()
    return chosen


def prune(
    model: nn.Module,
    example_input: Tensor,
    fraction: float | Mapping[str, float],
    images: Tensor,
    labels: Tensor,
    *,
    weight: float = 1.0,
    epsilon: float = 0.0,
    steps: int = 10,
    lr: float = 1e-3,
    seed: int = 0,
) -> tuple[nn.Module, SurgeryReport]:
    """Remove channels of some layers, one layer after the other in the order in which the network runs.

    Parameters
    ----------
    model, example_input : as for `surgery.remove`.
    fraction : float or mapping of str to float
        In [0, 1): ``⌊fraction · n⌋`` of the n units (see `surgery.Group`) that a layer's output channels make up, never
        all. A mapping names layers. One layer must read the channels.
    images, labels : Tensor
        ``(N, C, H, W)``, uint8 or float, and ``(N,)`` int64. What that layer reads and makes is kept in memory.
    weight : float
        λ ≥ 0.
    epsilon, steps, lr, seed : as for `select_`. With ``epsilon`` more than the given fraction may go.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network, in evaluation mode; ``skipped`` says why the other layers keep their channels.

    Raises
    ------
    TypeError, ValueError
        For what `consumers.plan` and `surgery.remove` refuse, and for a layer with several consumers.
    """
    if len(images) != len(labels):
        raise ValueError(f"labels has {len(labels)} entries for {len(images)} images")
    if weight < 0:
        raise ValueError(f"weight must be at least 0, got {weight}")
    original = copy.deepcopy(model).eval()
    coupling = Coupling(copy.deepcopy(model).eval(), example_input)
    planned, skipped = consumers.plan(coupling, fraction)
    for candidate, _ in planned:
        if len(candidate.consumers) > 1:
            raise ValueError(
                f"layer {candidate.layer!r} is read by {list(candidate.consumers)}; DCP judges by one consumer"
            )

    def choose_(wide: nn.Module, candidate: consumers.Candidate, count: int) -> Tensor:
        ((consumer, units),) = candidate.consumers.items()
        losses = _losses(wide, original, consumer, images, labels, weight, seed)
        layer, kept = wide.get_submodule(consumer), candidate.size - count
        trainable = [parameter.requires_grad for parameter in layer.parameters()]
        chosen = select_(layer, losses, units, candidate.size, kept, epsilon=epsilon, steps=steps, lr=lr, seed=seed)
        for parameter, before in zip(layer.parameters(), trainable, strict=True):
            parameter.requires_grad_(before)
        removed = torch.ones(candidate.size, dtype=torch.bool)
        removed[chosen] = False
        return removed.nonzero().flatten()

    return consumers.prune_one_by_one(coupling, planned, choose_, skipped, "Discrimination-aware channel pruning")


@torch.no_grad()
def _losses(
    model: nn.Module, original: nn.Module, consumer: str, images: Tensor, labels: Tensor, weight: float, seed: int
) -> Losses:
    """The data of one layer: what reaches it now, and what it made of the same images in the original network."""
    now = [watching.calls(model, consumer, batch) for batch in watching.batches(model, images, 250)]
    then = [watching.calls(original, consumer, batch) for batch in watching.batches(original, images, 250)]
    if len(now[0]) > 1:
        raise ValueError(f"layer {consumer!r} is called {len(now[0])} times in one run; DCP judges by one call")
    inputs, targets = torch.cat([calls[0][0] for calls in now]), torch.cat([calls[0][1] for calls in then])
    labels = labels.to(targets.device)
    with torch.enable_grad():
        head = train_head(model.get_submodule(consumer), targets, labels, seed=seed) if weight else None
    return Losses(inputs, targets, labels, head, weight)
