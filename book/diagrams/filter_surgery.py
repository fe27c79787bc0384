"""One filter removed: what goes with it, from conv to BN to ReLU to conv. Chapter 3."""

import torch
from kit import BLUE, ORANGE, SMALL, SOFT, TINT, TINY, Drawing
from torch import nn

from compress_lib.pruning import surgery

INPUTS, CHANNELS, OUTPUTS, KERNEL, GONE = 3, 6, 4, 3, 2
CELL, PITCH = 30, 38  # a map or a kernel, and from one to the next
LEFT = 150  # where the columns begin
BN = {"weight": "$γ$", "bias": "$δ$", "running_mean": "$μ$", "running_var": "$σ^2$"}


def removed() -> dict[str, torch.Tensor]:
    """For each tensor of a small network, which of its numbers surgery takes away when one filter goes."""
    network = nn.Sequential(
        nn.Conv2d(INPUTS, CHANNELS, KERNEL, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, OUTPUTS, KERNEL, bias=False),
    ).eval()
    stored = {name: tensor for name, tensor in network.state_dict().items() if tensor.dim()}
    for tensor in stored.values():
        tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))  # so that each number can be found again
    small, _ = surgery.remove(network, torch.zeros(1, INPUTS, 8, 8), {"0": [GONE]})
    return {name: ~torch.isin(tensor, small.state_dict()[name]) for name, tensor in stored.items()}


def draw() -> Drawing:
    """Each channel is a column; what goes is hatched, from the filter to those who read its map."""
    gone = removed()
    taken = {name: int(mask.sum()) for name, mask in gone.items()}
    normalization = sum(taken[f"1.{name}"] for name in BN)
    picture = Drawing(
        "filter-surgery",
        480,
        612,
        "What disappears with one filter",
        f"""
        Data flows from top to bottom, and each of {CHANNELS} channels is a column. When filter {GONE + 1} of the first
        convolution is removed, one column is hatched all the way down: the filter with its {taken["0.weight"]}
        weights, its feature map, its {normalization} numbers in the batch normalization, the map after the ReLU, and
        in the second convolution the {taken["3.weight"]} weights of the kernels that read this map. All outputs of the
        second convolution stay.
        """,
    )
    first, maps, norm, relu, after, second = 56, 188, 240, 344, 370, 428
    columns = [LEFT + i * PITCH for i in range(CHANNELS)]
    right = columns[-1] + CELL
    bottom = second + OUTPUTS * PITCH - PITCH + CELL

    for i, x in enumerate(columns):
        style = {"color": ORANGE, "dash": "3 3"} if i == GONE else {"color": BLUE}
        picture.line((x + CELL / 2, first), (x + CELL / 2, bottom), width=1.2, opacity=0.7, **style)
    inputs = [first + row * PITCH for row in range(INPUTS)]
    outputs = [second + row * PITCH for row in range(OUTPUTS)]
    for y in inputs:
        picture.line((LEFT - 46, y + CELL / 2), (right, y + CELL / 2), color=BLUE, width=1.2, opacity=0.7)
    for y in outputs:
        picture.arrow((LEFT, y + CELL / 2), (right + 24, y + CELL / 2), color=BLUE, width=1.2, opacity=0.7)

    kernels = {(x, y): gone["0.weight"][i, row].all() for i, x in enumerate(columns) for row, y in enumerate(inputs)}
    kernels |= {(x, y): gone["3.weight"][row, i].all() for i, x in enumerate(columns) for row, y in enumerate(outputs)}
    channels = {(x, y): gone["1.weight"][i] for i, x in enumerate(columns) for y in (maps, after)}
    numbers = {(x, norm + 20 * row): gone[f"1.{name}"][i] for i, x in enumerate(columns) for row, name in enumerate(BN)}
    ends = [(LEFT - 46, y) for y in inputs] + [(right + 26, y) for y in outputs]
    picture.grids([at for at, lost in kernels.items() if not lost], KERNEL, KERNEL, CELL / KERNEL)
    picture.grids([at for at, lost in channels.items() if not lost] + ends, 1, 1, CELL, fill=TINT)
    picture.grids([at for at, lost in numbers.items() if not lost], 1, 1, (CELL, 16))
    picture.hatch([(*at, CELL, CELL) for at, lost in (kernels | channels).items() if lost])
    picture.hatch([(*at, CELL, 16) for at, lost in numbers.items() if lost])
    for row, symbol in enumerate(BN.values()):
        picture.text(LEFT - 12, norm + row * 20 + 13, symbol, anchor="end", size=SMALL)
    picture.operation((LEFT + right) / 2, relu, right - LEFT + 12, 24, "ReLU", fill=0.1)

    for y, (name, *details) in (
        (first + PITCH + 15, ("conv 1", "a column is", "a filter")),
        (maps + 15, ("maps",)),
        (norm + 38, ("batch norm",)),
        (after + 15, ("maps",)),
        (second + 1.5 * PITCH + 15, ("conv 2", "a row is", "a filter")),
    ):
        top = y + 5 - 9 * len(details)
        picture.text(10, top, name, anchor="start", size=SMALL, weight=600)
        for i, words in enumerate(details, start=1):
            picture.text(10, top + 18 * i, words, anchor="start", size=TINY, color=SOFT)
    at = columns[GONE] + CELL / 2
    picture.text(LEFT - 31, first - 12, "input", size=TINY, color=SOFT)
    picture.text(right + 41, second - 12, "output", size=TINY, color=SOFT)
    picture.text(at, 20, f"filter {GONE + 1}: −{taken['0.weight']} weights", size=SMALL, color=ORANGE, weight=600)
    picture.arrow((at, 27), (at, first - 4), color=ORANGE)
    picture.text(
        right + 5, norm + 43, f"−{normalization} numbers", size=SMALL, color=ORANGE, weight=600, anchor="start"
    )
    picture.text(
        at, bottom + 22, f"kernels that read it: −{taken['3.weight']} weights", size=SMALL, color=ORANGE, weight=600
    )
    return picture
