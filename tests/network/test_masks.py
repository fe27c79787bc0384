import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from compress_lib.network import masks
from compress_lib.network.parametrized import bake_


def halves(model, *names, seed=0):
    """Random masks that keep about half of each named layer."""
    generator = torch.Generator().manual_seed(seed)
    layers = dict(model.named_modules())
    return {name: torch.rand(layers[name].weight.shape, generator=generator) < 0.5 for name in names}


def test_masked_weights_are_zero_and_the_others_are_as_before(unchanged):
    keep = halves(unchanged, "0", "4")
    masked = masks.apply(unchanged, keep)
    assert torch.equal(masked[0].weight, unchanged[0].weight * keep["0"])
    assert torch.equal(masked[4].weight, unchanged[4].weight * keep["4"])
    assert torch.equal(masked[6].weight, unchanged[6].weight)
    found = masks.masks(masked)
    assert list(found) == ["0", "4"]
    assert all(torch.equal(found[name], keep[name]) for name in keep)
    assert all(mask.dtype == torch.bool for mask in found.values())
    assert masks.masks(unchanged) == {}


def test_the_masks_returned_are_copies(network):
    masked = masks.apply(network, halves(network, "4"))
    before = masked[4].weight.clone()
    masks.masks(masked)["4"].fill_(False)
    assert torch.equal(masked[4].weight, before)


def test_the_mask_given_is_copied(network):
    keep = halves(network, "4")
    masked = masks.apply(network, keep)
    before = masked[4].weight.clone()
    keep["4"].fill_(False)
    assert torch.equal(masked[4].weight, before)


def test_gradients_of_removed_weights_are_exactly_zero_and_of_kept_ones_as_in_a_zeroed_network(network):
    keep = halves(network, "0", "4", "6")
    masked = masks.apply(network, keep)
    zeroed = copy.deepcopy(network)
    with torch.no_grad():
        for name, mask in keep.items():
            zeroed.get_submodule(name).weight.mul_(mask)
    images = torch.randn(16, 1, 8, 8)
    for model in (masked, zeroed):
        model(images).square().sum().backward()
    for name, mask in keep.items():
        gradient = masked.get_submodule(name).parametrizations.weight.original.grad
        assert (gradient[~mask] == 0).all()
        torch.testing.assert_close(gradient[mask], zeroed.get_submodule(name).weight.grad[mask])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_the_hidden_original_of_a_removed_weight_becomes_does_not_matter(network, value):
    masked = masks.apply(network, halves(network, "4"))
    mask = masks.masks(masked)["4"]
    expected = masked[4].weight.detach().clone()
    with torch.no_grad():
        masked[4].parametrizations.weight.original[~mask] = value
    assert torch.equal(masked[4].weight, expected)
    masked(torch.randn(4, 1, 8, 8)).sum().backward()
    assert masked[4].parametrizations.weight.original.grad.isfinite().all()
    assert torch.equal(masks.deploy(masked)[4].weight, expected)


def test_training_with_momentum_and_weight_decay_keeps_the_zeros_and_moves_the_rest(network):
    masked = masks.apply(network, halves(network, "4"))
    mask, before = masks.masks(masked)["4"], masked[4].weight.detach().clone()
    optimizer = torch.optim.SGD(masked.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        masked(torch.randn(8, 1, 8, 8)).square().mean().backward()
        optimizer.step()
    assert (masked[4].weight[~mask] == 0).all()
    assert (masks.deploy(masked)[4].weight[~mask] == 0).all()
    assert (masked[4].weight != before)[mask].float().mean() > 0.9


def test_masks_intersect(network):
    first, second = halves(network, "4", seed=1), halves(network, "4", seed=2)
    once = masks.apply(network, first)
    twice = masks.apply(once, second)
    assert torch.equal(masks.masks(twice)["4"], first["4"] & second["4"])
    assert torch.equal(masks.masks(once)["4"], first["4"])
    assert len(twice[4].parametrizations.weight) == 1


def test_deploy_gives_back_an_ordinary_network(unchanged):
    keep = halves(unchanged, "0", "4", "6")
    plain = masks.deploy(masks.apply(unchanged, keep))
    assert [type(m) for m in plain.modules()] == [type(m) for m in unchanged.modules()]
    expected = {name: tensor.clone() for name, tensor in unchanged.state_dict().items()}
    for name, mask in keep.items():
        expected[f"{name}.weight"][~mask] = 0
    state = plain.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in unchanged.named_parameters()]
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())


def test_deploy_leaves_the_masked_network_working(network):
    masked = masks.apply(network, halves(network, "0", "4"))
    images = torch.randn(3, 1, 8, 8)
    masked.eval()
    before = masked(images)
    plain = masks.deploy(masked)
    again = masks.deploy(masked)
    assert torch.equal(masked(images), before)
    torch.testing.assert_close(plain(images), before)
    assert torch.equal(plain[4].weight, again[4].weight)
    assert list(masks.masks(masked)) == ["0", "4"]
    # and one of two copies may be deployed while the other goes on
    assert list(masks.masks(copy.deepcopy(masked))) == ["0", "4"]


def test_deploy_without_masks_is_a_copy(unchanged):
    plain = masks.deploy(unchanged)
    assert plain is not unchanged
    assert plain[4].weight is not unchanged[4].weight
    assert torch.equal(plain[4].weight, unchanged[4].weight)


def test_deploy_keeps_frozen_weights_frozen_and_modes(network):
    network.eval()
    network[4].weight.requires_grad_(False)
    plain = masks.deploy(masks.apply(network, halves(network, "4", "6")))
    assert not plain.training
    assert not plain[4].weight.requires_grad
    assert plain[6].weight.requires_grad


def test_a_mask_on_a_weight_normalised_layer(network):
    parametrizations.weight_norm(network[4])
    keep = halves(network, "4")
    masked = masks.apply(network, keep)
    plain = masks.deploy(masked)
    torch.testing.assert_close(plain[4].weight, network[4].weight * keep["4"])
    assert parametrize.is_parametrized(network[4])
    assert not parametrize.is_parametrized(plain[4])


def test_baking_gives_a_copy_its_value_and_leaves_the_source_parametrized(network):
    parametrizations.weight_norm(network[4])
    weight = network[4].weight.detach().clone()
    plain = copy.deepcopy(network)
    bake_(plain[4])
    assert not parametrize.is_parametrized(plain[4])
    assert list(plain[4]._parameters) == ["weight", "bias"]
    assert torch.equal(plain[4].weight, weight)
    assert parametrize.is_parametrized(network[4])
    assert torch.equal(network[4].weight, weight)
    with pytest.raises(ValueError, match="parametriz"):
        bake_(plain[4])


def test_a_mask_on_a_model_that_is_one_layer():
    linear = nn.Linear(3, 2)
    masked = masks.apply(linear, {"": torch.zeros(2, 3, dtype=torch.bool)})
    assert torch.equal(masked(torch.randn(5, 3)), linear.bias.expand(5, 2))
    assert type(masks.deploy(masked)) is nn.Linear


def test_sparsity_counts_zeros_masked_or_baked_in(network):
    keep = halves(network, "0", "4", "6")
    masked = masks.apply(network, keep)
    zeros = sum(int((~mask).sum()) for mask in keep.values())
    total = 36 + 2880 + 200
    assert masks.sparsity(network) == 0
    assert masks.sparsity(masked) == pytest.approx(zeros / total)
    assert masks.sparsity(masks.deploy(masked)) == pytest.approx(zeros / total)


def test_bad_masks_are_refused(unchanged):
    mask = torch.ones(20, 144, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"'fc9'.*\['0', '1', '4', '6'\]"):
        masks.apply(unchanged, {"fc9": mask})
    with pytest.raises(ValueError, match="no layer '2' with a weight"):
        masks.apply(unchanged, {"2": mask})
    with pytest.raises(TypeError, match=r"'4' must be a bool tensor, got torch.float32"):
        masks.apply(unchanged, {"4": mask.float()})
    with pytest.raises(TypeError, match="'4' must be a bool tensor"):
        masks.apply(unchanged, {"4": mask.tolist()})
    with pytest.raises(ValueError, match=r"'4' has shape \(144, 20\), its weight \(20, 144\)"):
        masks.apply(unchanged, {"4": mask.T})
