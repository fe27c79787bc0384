"""The invariant of surgery on networks that nobody designed: random graphs of layers and operations."""

import random
import re

import invariant
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.pruning import surgery

SIDE = 4  # pixels
IMAGE = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.float64)


class Random(nn.Module):
    """A straight-line program over activations ``(N, C, SIDE, SIDE)``: each step reads earlier values, makes one."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.layers = nn.ModuleList()
        self.program, self.widths = [], [3]
        stem = self.layer(nn.Conv2d(3, 8, 1))
        self.note(lambda net, x: net.layers[stem](x), [0], 8)
        while len(self.program) < steps:
            getattr(self, self.random.choice([name for name in dir(self) if name.startswith("step_")]))()
        read = {value for _, reads, _ in self.program for value in reads}
        self.last = [value for value in range(len(self.widths)) if value not in read]
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(sum(self.widths[v] for v in self.last) * SIDE**2, 3))

    def forward(self, x):
        values = [x]
        for function, reads, _ in self.program:
            values.append(function(self, *(values[value] for value in reads)))
        return self.head(torch.cat([values[value] for value in self.last], 1))

    # Tools for the steps

    def layer(self, layer: nn.Module) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def note(self, function, reads, width) -> None:
        self.program.append((function, reads, width))
        self.widths.append(width)

    def pick(self, even: bool = False, width: int | None = None) -> int:
        """One of the latest values, as a rule."""
        fitting = [v for v, w in enumerate(self.widths) if v and not (even and w % 2) and width in (None, w)]
        return self.random.choice(fitting[-4:]) if fitting else 1

    def unary(self, function, even: bool = False, width=None) -> None:
        value = self.pick(even)
        before = self.widths[value]
        self.note(lambda net, x: function(x), [value], before if width is None else width(before))

    def through(self, make, width=None) -> None:
        value = self.pick()
        before = self.widths[value]
        after = before if width is None else width
        layer = self.layer(make(before, after))
        self.note(lambda net, x: net.layers[layer](x), [value], after)

    def pair(self, function) -> None:
        value = self.pick()
        other = self.pick(width=self.widths[value])
        other = other if self.widths[other] == self.widths[value] else value
        self.note(lambda net, x, y: function(x, y), [value, other], self.widths[value])

    # Layers

    def step_convolution(self):
        size = self.random.choice([1, 3])
        self.through(lambda c, d: nn.Conv2d(c, d, size, padding=size // 2), self.random.choice([4, 6, 8, 12]))

    def step_grouped(self):
        value = self.pick(even=True)
        groups = self.random.choice([g for g in (2, 3, 4, 6) if self.widths[value] % g == 0])
        width = groups * self.random.choice([1, 2, 3])
        layer = self.layer(nn.Conv2d(self.widths[value], width, 1, groups=groups))
        self.note(lambda net, x: net.layers[layer](x), [value], width)

    def step_depthwise(self):
        value = self.pick()
        before, width = self.widths[value], self.widths[value] * self.random.choice([1, 1, 2])
        layer = self.layer(nn.Conv2d(before, width, 3, padding=1, groups=before))
        self.note(lambda net, x: net.layers[layer](x), [value], width)

    def step_norm(self):
        kind = self.random.choice([nn.BatchNorm2d, lambda c: nn.InstanceNorm2d(c, affine=True), nn.PReLU])
        self.through(lambda c, _: kind(c))

    def step_again(self):
        """A layer runs a second time."""
        layer = self.random.randrange(len(self.layers))
        again = self.layers[layer]
        read, made = (again.in_channels, again.out_channels) if isinstance(again, nn.Conv2d) else (None, None)
        value = self.pick(width=read)
        if read == self.widths[value]:
            self.note(lambda net, x: net.layers[layer](x), [value], made)

    def step_pixel_linear(self):
        """A linear layer over the channels, moved to the last axis."""
        width = self.random.choice([4, 8])
        value = self.pick()
        layer = self.layer(nn.Linear(self.widths[value], width))
        self.note(lambda net, x: net.layers[layer](x.permute(0, 2, 3, 1)).movedim(-1, 1), [value], width)

    def step_bottleneck(self):
        """All pixels and channels through one linear layer and back."""
        value = self.pick()
        width = self.widths[value]
        down, up = self.layer(nn.Linear(width * SIDE**2, 6)), self.layer(nn.Linear(6, width))
        self.note(
            lambda net, x: x + net.layers[up](net.layers[down](x.flatten(1)).relu())[:, :, None, None], [value], width
        )

    def step_gate(self):
        """Squeeze and excitation, the gate perhaps of another value."""
        value = self.pick()
        width = self.widths[value]
        down, up = self.layer(nn.Conv2d(width, 3, 1)), self.layer(nn.Conv2d(3, width, 1))
        other = self.pick(width=width)
        pool = self.random.choice([lambda x: F.adaptive_avg_pool2d(x, 1), lambda x: x.mean((2, 3), keepdim=True)])
        self.note(
            lambda net, x, y: net.layers[up](net.layers[down](pool(y)).relu()).sigmoid() * x, [value, other], width
        )

    def step_pixel_gate(self):
        value = self.pick()
        layer = self.layer(nn.Conv2d(self.widths[value], 1, 1))
        self.note(lambda net, x: x * net.layers[layer](x).sigmoid(), [value], self.widths[value])

    def step_token_mixing(self):
        layer, value = self.layer(nn.Linear(SIDE**2, SIDE**2)), self.pick()
        self.note(
            lambda net, x: net.layers[layer](x.flatten(2)).unflatten(2, (SIDE, SIDE)), [value], self.widths[value]
        )

    # Operations

    def step_simple(self):
        self.unary(self.random.choice([torch.relu, F.silu, lambda x: F.hardtanh(x, -2, 2), lambda x: 2 - x, torch.abs]))

    def step_pool(self):
        self.unary(lambda x: F.interpolate(F.max_pool2d(input=x, kernel_size=2), size=x.shape[2:]))

    def step_two(self):
        def in_place(x, y):
            x = x.clone()
            x += y
            return x

        self.pair(
            self.random.choice(
                [torch.add, lambda x, y: torch.add(x, y, alpha=2), lambda x, y: x - y, torch.maximum, in_place]
            )
        )

    def step_cat(self):
        value, other = self.pick(), self.pick()
        if self.widths[value] + self.widths[other] <= 24:
            self.note(lambda net, *xs: torch.cat(xs, dim=1), [value, other], self.widths[value] + self.widths[other])

    def step_tall(self):
        """Two images on top of each other, then pooled to the size of one."""
        self.pair(lambda x, y: F.max_pool2d(torch.cat([x, y], 2), (2, 1)))

    def step_halves(self):
        cut = self.random.choice([lambda x: x.chunk(2, dim=1), lambda x: torch.split(x, x.shape[1] // 2, 1)])

        def exchanged(x):
            a, b = cut(x)
            return torch.cat([b.relu(), a], 1)

        def gated(x):
            a, b = cut(x)
            return a * b.sigmoid()

        if self.random.random() < 0.5:
            self.unary(exchanged, even=True, width=lambda c: c // 2 * 2)
        else:
            self.unary(gated, even=True, width=lambda c: c // 2)

    def step_shuffle(self):
        def by_view(x):
            n, c, h, w = x.size()
            return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

        def by_reshape(x):
            return x.reshape(x.shape[0], -1, 2, SIDE, SIDE).transpose(2, 1).flatten(1, 2)

        self.unary(self.random.choice([by_view, by_reshape, lambda x: F.channel_shuffle(x, 2)]), even=True)

    def step_there_and_back(self):
        self.unary(lambda x: x.flatten(2).transpose(1, 2).transpose(2, 1).view(x.shape[0], x.shape[1], SIDE, -1))

    def step_expand(self):
        self.unary(lambda x: x + x.mean((2, 3), True).expand_as(x))

    def step_awkward(self):
        """What breaks the invariant, or what is not known."""
        self.unary(
            self.random.choice(
                [
                    lambda x: x * x.mean(1, keepdim=True),
                    lambda x: x.softmax(1),
                    lambda x: x.cumsum(1),
                    lambda x: x.flip(1),
                    lambda x: x / x.size(1) ** 0.5,
                    lambda x: x - x.sum(),
                    lambda x: F.normalize(x),
                    lambda x: F.layer_norm(x, x.shape[1:]),
                    lambda x: torch.where(x > 0, x, -x),
                    lambda x: x.sort(1)[0],
                    lambda x: x.roll(1, 1),
                    lambda x: F.pad(x[:, 1:], (0, 0, 0, 0, 1, 0)),
                    lambda x: torch.lerp(x, x.relu(), 0.3),
                    lambda x: x + torch.arange(x.size(1)).view(1, -1, 1, 1),
                    lambda x: x + x.new_ones(x.shape[1], 1, 1),
                    lambda x: x + torch.linspace(0, 1, x.shape[1])[:, None, None],
                    lambda x: torch.einsum("nchw,ndhw->nchw", x, x),
                    lambda x: x.flatten(2).matmul(torch.eye(SIDE**2, dtype=x.dtype)).view(x.shape),
                ]
            )
        )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(2, 12), units=st.integers(0, 9))
def test_the_law_holds(seed, steps, units):
    model = invariant.randomize_(Random(seed, steps).eval())
    found = surgery.groups(model, IMAGE)
    removals = invariant.some_units(found, units)
    try:
        invariant.check(model, IMAGE, removals, matters=False)
    except ValueError as error:  # a unit may be all that a layer has
        assert re.match("removals would leave layer '.*' without (in|out)puts", str(error))
    for group in found:
        layer = next(iter(group.outputs))
        if group.fixed:
            with pytest.raises(ValueError, match=f"'{layer}' cannot lose channels: "):
                surgery.remove(model, IMAGE, {layer: [0]})
            break
