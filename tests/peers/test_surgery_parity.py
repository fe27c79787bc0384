"""Groups and removal against Torch-Pruning (Fang et al., arXiv 2301.12900)."""

import copy

import pytest
import torch
import torch_pruning as peer
from torch import nn
from torchvision.models import get_model

from compress_lib.pruning import criteria, surgery
from compress_lib.pruning.channels import filters

IMAGE = torch.zeros(1, 3, 64, 64)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return get_model(name).eval()


def last_layer(model: nn.Module) -> list[nn.Module]:
    """Both leave it alone."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]


def peer_groups(model: nn.Module) -> list[list[str]]:
    graph = peer.DependencyGraph().build_dependency(model, example_inputs=IMAGE)
    names = {module: name for name, module in model.named_modules()}
    return sorted(
        sorted({names[step.target.module] for step, _ in group if step.target.module in names})
        for group in graph.get_all_groups(ignored_layers=last_layer(model))
    )


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_groups_have_the_same_layers(name):
    model = build(name)
    ours = sorted(
        sorted({*group.outputs, *group.inputs, *group.scales})
        for group in surgery.groups(model, IMAGE)
        if not group.fixed
    )
    assert ours == peer_groups(model)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
def test_half_of_each_group_leaves_the_same_parameters(name):
    """To the last one: all groups have an even number of units, so both remove the same number, whichever these are."""
    model = build(name)
    theirs = copy.deepcopy(model)
    peer.pruner.MagnitudePruner(
        theirs,
        IMAGE,
        importance=peer.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=last_layer(theirs),
    ).step()
    ours, _ = filters.prune(model, IMAGE, 0.5, criterion=criteria.l1_norm)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    assert sum(p.numel() for p in ours.parameters()) < 0.5 * sum(p.numel() for p in model.parameters())
