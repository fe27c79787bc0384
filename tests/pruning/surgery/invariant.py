"""The invariant of surgery, checked with hooks: an oracle that knows nothing of how layers are cut."""

import copy

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from compress_lib.pruning import surgery

TOLERANCE = 1e-9


def randomize_(model: nn.Module, seed: int = 0) -> nn.Module:
    """float64, with biases and normalization statistics that make every channel matter."""
    generator = torch.Generator().manual_seed(seed)
    model.double()
    for layer in model.modules():
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            if name == "running_var":
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() > 1:
                tensor.data.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            else:
                tensor.data.normal_(0, 1, generator=generator)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
    return model


def some_units(found: list[surgery.Group], seed: int, share: float = 0.4) -> dict[str, Tensor]:
    """Random units of random groups, of one at least, named by the channels of one random layer that makes them."""
    generator = torch.Generator().manual_seed(seed)
    free = [group for group in found if not group.fixed]
    removals = {}
    for group in [group for group in free if torch.rand(1, generator=generator) <= 0.7] or free[:1]:
        layer, units = list(group.outputs.items())[int(torch.randint(len(group.outputs), (1,), generator=generator))]
        present = units[units >= 0].unique()
        count = min(max(1, round(share * len(present))), group.size - 1)
        removed = present[torch.randperm(len(present), generator=generator)[:count]]
        removals[layer] = torch.isin(units, removed).nonzero().flatten()
    return removals


@torch.no_grad()
def check(model: nn.Module, x: Tensor, removals, matters: bool = True) -> tuple[nn.Module, surgery.SurgeryReport]:
    """Remove, and compare with the original in which the channels are blanked where they are read."""
    smaller, report = surgery.remove(model, x, removals)
    for layer, indices in removals.items():
        assert not torch.isin(torch.as_tensor(indices), report.kept_outputs[layer]).any(), layer
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    blanked = copy.deepcopy(model)
    for layer, kept in report.kept_inputs.items():
        blanked.get_submodule(layer).register_forward_pre_hook(blank(kept))
    expected, found = outputs(blanked, x), outputs(smaller, x)
    assert same(expected, found), "the smaller network computes something else"
    # The coupling is closed: nothing that a removed channel emits reaches another layer.
    for layer, kept in report.kept_outputs.items():
        blanked.get_submodule(layer).register_forward_hook(_noise(kept))
    assert same(expected, outputs(blanked, x)), "a removed channel still matters"
    if matters:
        assert not same(outputs(model, x), found), "what was removed did not matter"
    return smaller, report


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(model(x)) if isinstance(leaf, Tensor)]


def same(expected: list[Tensor], found: list[Tensor]) -> bool:
    assert [tensor.shape for tensor in expected] == [tensor.shape for tensor in found]
    assert all(tensor.isfinite().all() for tensor in expected)
    return all((a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in zip(expected, found, strict=True))


def _mask(layer: nn.Module, kept: Tensor, x: Tensor) -> Tensor:
    """One at the channels that are kept, zero elsewhere, in the shape of an activation."""
    axis = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
    mask = torch.zeros(x.shape[axis], dtype=x.dtype)
    mask[kept] = 1
    return mask.view(*[-1 if dim == axis else 1 for dim in range(x.dim())])


def blank(kept: Tensor):
    return lambda layer, inputs: (inputs[0] * _mask(layer, kept, inputs[0]),)


def _noise(kept: Tensor):
    return lambda layer, inputs, y: y + torch.randn_like(y) * (1 - _mask(layer, kept, y))
