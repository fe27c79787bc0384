"""Each operation in each of its forms: it is followed, and the invariant holds, or it is refused by name."""

import invariant
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib.pruning import surgery

IMAGE = torch.zeros(2, 3, 4, 4, dtype=torch.float64)


class Between(nn.Module):
    """Two convolutions make x and y (2, 8, 4, 4); the operation is what lies between them and the last layer."""

    def __init__(self, operation):
        super().__init__()
        self.x, self.y, self.operation = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), operation
        self.constant = nn.Parameter(torch.ones(8, 1, 1))
        self.double()
        self.last = nn.Linear(self.middle(IMAGE).flatten(1).shape[1], 2)

    def middle(self, x):
        return self.operation(self, self.x(x), self.y(x))

    def forward(self, x):
        return self.last(self.middle(x).flatten(1))


def between(operation) -> nn.Module:
    try:
        return invariant.randomize_(Between(lambda net, x, y: operation(x, y)))
    except TypeError:
        return invariant.randomize_(Between(operation))


def in_place(x, y):
    x += y
    x.mul_(2)
    return x


def halves(parts):
    a, b = parts
    return a * b


def added_to_the_batch(x, y):
    x.add_(y)
    return x


# Operation, number of units of the group of x.
FOLLOWED = {
    "mean": (lambda x, y: x.mean((2, 3)), 8),
    "mean, list": (lambda x, y: torch.mean(x, [2, 3], True), 8),
    "mean, keyword": (lambda x, y: torch.mean(x, dim=-1, keepdim=True), 8),
    "mean, axis": (lambda x, y: x.mean(axis=(-2, -1)), 8),
    "mean, input": (lambda x, y: torch.mean(input=x, dim=2), 8),
    "mean over images": (lambda x, y: x.mean(0, keepdim=True).expand(2, -1, -1, -1), 8),
    "sum": (lambda x, y: x.sum(-1), 8),
    "amax": (lambda x, y: x.amax(dim=(2, 3)), 8),
    "flatten": (lambda x, y: torch.flatten(x, 1), 8),
    "flatten, keyword": (lambda x, y: x.flatten(start_dim=1), 8),
    "flatten, keywords": (lambda x, y: torch.flatten(input=x, start_dim=2, end_dim=-1), 8),
    "max_pool2d": (lambda x, y: F.max_pool2d(x, kernel_size=2), 8),
    "max_pool2d, input": (lambda x, y: F.max_pool2d(input=x, kernel_size=2, stride=1), 8),
    "avg_pool2d": (lambda x, y: F.avg_pool2d(x, 2, ceil_mode=True), 8),
    "avg_pool1d": (lambda x, y: F.avg_pool1d(x.flatten(2), 2), 8),
    "adaptive_avg_pool2d": (lambda x, y: F.adaptive_avg_pool2d(x, output_size=(1, 1)), 8),
    "interpolate": (lambda x, y: F.interpolate(x, scale_factor=2), 8),
    "interpolate, size": (lambda x, y: F.interpolate(x, size=y.shape[-2:]), 8),
    "split": (lambda x, y: halves(torch.split(x, x.size(1) // 2, dim=1)), 4),
    "split, keyword": (lambda x, y: halves(x.split(split_size=x.shape[1] // 2, dim=-3)), 4),
    "split of something else": (lambda x, y: torch.split(x, 1, dim=2)[0], 8),
    "chunk": (lambda x, y: halves(x.chunk(2, -3)), 4),
    "chunk, keywords": (lambda x, y: halves(torch.chunk(input=x, chunks=2, dim=1)), 4),
    "chunk of the image": (lambda x, y: halves(x.chunk(2, 3)), 8),
    "reshape": (lambda x, y: x.reshape((x.size(0), -1)), 8),
    "reshape, numbers": (lambda x, y: torch.reshape(x, (2, -1, 16)), 8),
    "reshape, keyword": (lambda x, y: torch.reshape(x, shape=(2, -1, 16)), 8),
    "view": (lambda x, y: x.view(x.shape[0], x.shape[1], -1), 8),
    "view, product": (lambda x, y: x.view(x.size(0), x.size(1) * x.size(2) * 4), 8),
    "view, whole shape": (lambda x, y: x.flatten(2).view(x.shape), 8),
    "view, sum of shapes": (lambda x, y: x.view(x.shape[:2] + (16,)), 8),
    "view_as": (lambda x, y: x.flatten(1).view_as(x), 8),
    "view, batch into channels": (lambda x, y: x.view(-1, 4, 4).view(2, -1, 4, 4), 8),
    "view, pairs": (lambda x, y: x.view(2, 2, -1, 4, 4).sum((3, 4)), 4),
    "shuffle": (lambda x, y: x.view(2, 2, x.size(1) // 2, 4, 4).transpose(1, 2).reshape(2, x.size(1), 4, 4), 4),
    "channel_shuffle": (lambda x, y: F.channel_shuffle(x, 4), 2),
    "channel_shuffle, keywords": (lambda x, y: F.channel_shuffle(input=x, groups=2), 4),
    "expand": (lambda x, y: x.mean((2, 3), True).expand(-1, -1, 4, 4), 8),
    "expand, sizes": (lambda x, y: x.mean((2, 3), True).expand(2, x.size(1), 4, 4), 8),
    "expand_as": (lambda x, y: x.mean((2, 3), True).expand_as(x), 8),
    "add": (lambda x, y: torch.add(x, y, alpha=2), 8),
    "add, keywords": (lambda x, y: torch.add(input=x, other=y), 8),
    "add, method": (lambda x, y: y.add(x), 8),
    "in place": (in_place, 8),
    "in place, result unused": (added_to_the_batch, 8),
    "sub, div, numbers": (lambda x, y: (1 - x) / 2 + 3 / (y.sigmoid() + 1), 8),
    "maximum": (lambda x, y: torch.maximum(x, y), 8),
    "gate": (lambda x, y: x.mean((2, 3))[:, :, None, None] * y, 8),
    "cat": (lambda x, y: torch.cat((x, y), dim=1), 8),
    "cat, negative": (lambda x, y: torch.cat([y, x], -3), 8),
    "cat, keywords": (lambda x, y: torch.cat(tensors=[x, y, x], dim=1), 8),
    "cat with the input": (lambda x, y: torch.concat([x, IMAGE], 1), 8),
    "cat of images": (lambda x, y: torch.cat([x, y], 2), 8),
    "cat of batches": (lambda x, y: torch.cat([x, y], 0).view(2, -1), 8),
    "cat of pixels, flat": (lambda x, y: torch.cat([x.flatten(2), y.mean((2, 3)).unsqueeze(2)], 2), 8),
    "squeeze": (lambda x, y: x.mean((2, 3), True).squeeze(-1).squeeze(dim=2), 8),
    "unsqueeze": (lambda x, y: x.unsqueeze(1).squeeze(1), 8),
    "transpose": (lambda x, y: x.transpose(1, -1), 8),
    "permute": (lambda x, y: torch.permute(x, (0, 2, 3, 1)), 8),
    "permute, numbers": (lambda x, y: x.permute(0, 2, 3, 1), 8),
    "movedim": (lambda x, y: x.movedim(1, 3), 8),
    "T": (lambda x, y: x.mean((2, 3)).T.T, 8),
    "pad": (lambda x, y: F.pad(x, (1, 0, 2, 1)), 8),
    "pad, mirror": (lambda x, y: F.pad(x, pad=(1, 1, 0, 1), mode="replicate"), 8),
    "pixels": (lambda x, y: x[:, :, ::2, 1:], 8),
    "one pixel": (lambda x, y: x[..., 0, 0], 8),
    "new axis": (lambda x, y: x[:, None, :, 1], 8),
    "one image": (lambda x, y: x[:1].expand(2, -1, -1, -1), 8),
    "elementwise": (lambda x, y: F.gelu(x).clamp(min=-1).pow(2).float().to(torch.float64).contiguous(), 8),
    "in place activation": (lambda x, y: F.relu(x, inplace=True).relu_(), 8),
    "dropout": (lambda x, y: F.dropout(x, 0.5, training=False), 8),
    "input, keyword": (lambda x, y: F.relu(input=x), 8),
    "a size that stays": (lambda x, y: x / x.size(2) + torch.arange(x.size(-1)), 8),
    "device and type": (lambda x, y: x + torch.zeros(1, device=x.device, dtype=x.dtype), 8),
}


@pytest.mark.parametrize("form", FOLLOWED)
def test_what_is_followed(form):
    operation, units = FOLLOWED[form]
    model = between(operation)
    found = {layer: group for group in surgery.groups(model, IMAGE) for layer in group.outputs}
    assert (found["x"].size, found["x"].fixed) == (units, "")
    for seed in range(2):
        removed = torch.isin(found["x"].outputs["x"], torch.randperm(units)[: units // (2 - seed) - seed])
        invariant.check(model, IMAGE, {"x": removed.nonzero().flatten().tolist()}, matters=False)


# Operation, what the reason says.
REFUSED = {
    "picked": (lambda x, y: x[:, 1:], "picked by number in getitem"),
    "one channel": (lambda x, y: x[:, 0], "picked by number"),
    "half": (lambda x, y: x[:, : x.size(1) // 2], "number of channels enters getitem"),
    "list": (lambda x, y: x[:, [0, 1]], "getitem mixes channels or is not known"),
    "tensor": (lambda x, y: x[:, torch.tensor([0, 1])], "getitem mixes"),
    "narrow": (lambda x, y: x.narrow(1, 0, 4), "narrow mixes"),
    "split": (lambda x, y: x.split(4, 1)[0], "fixed or unequal parts in split"),
    "split, list": (lambda x, y: torch.split(x, [2, 6], dim=1)[1], "fixed or unequal parts in split"),
    "split, of another": (lambda x, y: x.split(y.size(1) // 2, 1)[0], "fixed or unequal parts in split"),
    "chunk": (lambda x, y: x.chunk(3, 1)[0], "fixed or unequal parts in chunk"),
    "chunks that depend": (lambda x, y: x.chunk(x.size(1) // 2, 1)[0], "number of channels enters chunk"),
    "unbind": (lambda x, y: x.unbind(1)[0], "unbind mixes"),
    "view": (lambda x, y: x.view(2, 8, -1), r"size \[2, 8, -1\] is written into view"),
    "view, flat": (lambda x, y: x.view(-1, 128), r"size \[-1, 128\] is written into view"),
    "view, batch": (lambda x, y: x.reshape(x.size(0), 8, 16), "is written into reshape"),
    "view, of another": (lambda x, y: x.view(2, y.size(1), 16), "is written into view"),
    "view, by type": (lambda x, y: x.view(torch.int64).double(), "view mixes"),
    "view, two give way": (lambda x, y: x.view(2, x.size(1) // 4, x.size(1) // 2, 16), "is written into view"),
    "expand": (lambda x, y: x.expand(2, 8, 4, 4), "is written into expand"),
    "expand, to channels": (lambda x, y: y.mean(1, True).expand_as(x), "number of channels enters expand_as"),
    "repeat": (lambda x, y: x.repeat(1, 2, 1, 1), "repeat mixes"),
    "stack": (lambda x, y: torch.stack((x, y), 1), "stack mixes"),
    "pad": (lambda x, y: F.pad(x, (0, 0, 0, 0, 1, 1)), "pad mixes"),
    "softmax": (lambda x, y: F.softmax(x, dim=1), "softmax mixes"),
    "cumsum": (lambda x, y: x.cumsum(1), "cumsum mixes"),
    "sort": (lambda x, y: x.sort(1)[0], "sort mixes"),
    "flip": (lambda x, y: x.flip(1), "flip mixes"),
    "normalize": (lambda x, y: F.normalize(x), "normalize mixes"),
    "layer_norm": (lambda x, y: F.layer_norm(x, x.shape[1:]), "number of channels enters layer_norm"),
    "group_norm": (lambda x, y: F.group_norm(x, 2), "group_norm mixes"),
    "sum": (lambda x, y: x.sum().view(1, 1).expand(2, 4), "sum mixes"),
    "mean": (lambda x, y: y.mean((2, 3)) * x.mean(), "mean mixes"),
    "mean, nothing": (lambda x, y: y.mean((2, 3)) * x.mean(()), "mean mixes"),
    "mean, type": (lambda x, y: y.mean((2, 3)) * x.mean(dtype=torch.float64), "mean mixes"),
    "mean of channels": (lambda x, y: x.mean(1), "mean mixes"),
    "mean of channels, back": (lambda x, y: x.mean(dim=-3, keepdim=True), "mean mixes"),
    "where": (lambda x, y: torch.where(x > 0, x, y), "gt mixes|where mixes"),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.5), "lerp mixes"),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y), "addcmul mixes"),
    "matmul": (lambda x, y: x @ y, "matmul mixes"),
    "bmm": (lambda x, y: torch.bmm(x.flatten(2), y.flatten(2).transpose(1, 2)), "bmm mixes"),
    "einsum": (lambda x, y: torch.einsum("nchw,nchw->nhw", x, y), "einsum mixes"),
    "constant": (lambda net, x, y: x + net.constant, "tied to a fixed tensor in add"),
    "constant, made": (lambda x, y: x * torch.linspace(0, 1, 8).view(8, 1, 1), "tied to a fixed tensor in mul"),
    "constant, as many": (lambda x, y: x * x.new_ones(x.size(1), 1, 1), "number of channels enters new_ones"),
    "numbers of channels": (lambda x, y: x * torch.arange(x.size(1)).view(-1, 1, 1), "channels enters arange"),
    "scaled": (lambda x, y: x / x.size(1), "number of channels enters truediv"),
    "scaled, root": (lambda x, y: x * x.shape[1] ** -0.5, "channels enters pow"),
    "numel": (lambda x, y: x / x.numel(), "numel mixes"),
    "attribute": (lambda x, y: x + x.is_cuda, "getattr mixes"),
    "assigned": (lambda x, y: (x.copy_(y), x)[1], "copy_ mixes"),
    "input": (lambda x, y: x + IMAGE[:, :1].expand(2, 8, 4, 4), "tied to a fixed tensor in add"),
    "functional convolution": (lambda net, x, y: F.conv2d(x, net.constant.view(1, 8, 1, 1)), "conv2d mixes"),
    "a layer's weight": (lambda net, x, y: x + net.x.weight.sum(), "a parameter of x is used outside of it"),
    "unbatched pool": (lambda x, y: F.max_pool2d(x[0], 2).expand(2, -1, -1, -1), "max_pool2d mixes"),
    "pool with places": (lambda x, y: F.max_pool2d(x, 2, return_indices=True)[0], "mixes"),
    "moved in place": (lambda x, y: x.transpose_(1, 2), "transpose_ mixes"),
    "written elsewhere": (lambda x, y: torch.add(x.detach(), y.detach(), out=x.detach().clone()), "add mixes"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_refused(form):
    operation, reason = REFUSED[form]
    model = between(operation)
    with pytest.raises(ValueError, match=f"'x' cannot lose channels: .*({reason})"):
        surgery.remove(model, IMAGE, {"x": [0]})
