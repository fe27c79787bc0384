import numpy as np
import pytest
import torch
from torch import nn

from compress_lib.pruning.weights import magnitude
from compress_lib.pruning.weights.l1 import l1_penalty


def test_it_is_the_sum_of_magnitudes_of_prunable_weights(network):
    expected = {i: np.abs(network[i].weight.detach().numpy()).sum() for i in (0, 4, 6)}
    assert l1_penalty(network).item() == pytest.approx(sum(expected.values()))
    assert l1_penalty(network, exclude=["4"]).item() == pytest.approx(expected[0] + expected[6])


def test_its_gradient_is_the_sign(network):
    (0.5 * l1_penalty(network)).backward()
    assert torch.equal(network[4].weight.grad, 0.5 * network[4].weight.detach().sign())
    assert network[4].bias.grad is None
    assert network[1].weight.grad is None


def test_removed_weights_neither_count_nor_move(network):
    pruned, _ = magnitude.prune(network, 0.5, scope="layer")
    penalty = l1_penalty(pruned)
    penalty.backward()
    assert penalty.item() == pytest.approx(sum(pruned[i].weight.abs().sum().item() for i in (0, 4, 6)))
    assert penalty.item() < l1_penalty(network).item()
    gradient = pruned[4].parametrizations.weight.original.grad
    assert gradient.count_nonzero() == 1440


def test_bad_arguments(network):
    with pytest.raises(ValueError, match=r"\['fc9'\]"):
        l1_penalty(network, exclude=["fc9"])
    with pytest.raises(ValueError, match="nothing to prune"):
        l1_penalty(nn.ReLU())
