import pytest
import torch
from students import convolutional, equal_states
from torch import nn

from compress_lib.distillation import features

IMAGES = torch.randn(5, 1, 28, 28)


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_hooks]


def test_features_are_what_the_layers_put_out_and_gradients_flow():
    model = convolutional().eval()
    output, found = features.run(model, ["2", "5"], IMAGES)
    assert torch.equal(output, model(IMAGES)) and list(found) == ["2", "5"]
    assert torch.equal(found["2"], model[:3](IMAGES)) and torch.equal(found["5"], model[:6](IMAGES))
    found["5"].sum().backward()
    assert model[0].weight.grad.abs().sum() > 0 and model[8].weight.grad is None
    assert not hooks(model)


def test_up_to_a_layer_nothing_behind_it_runs():
    model, whole = convolutional().train(), convolutional().train()
    found = features.up_to(model, "2", IMAGES)
    _, expected = features.run(whole, ["2"], IMAGES)
    assert torch.equal(found, expected["2"])
    assert torch.equal(model[1].running_mean, whole[1].running_mean) and model[1].num_batches_tracked == 1
    assert equal_states(model[4], convolutional()[4]) and not equal_states(model[4], whole[4])
    assert not hooks(model)


def test_what_cannot_be_read_is_said_and_leaves_no_hook():
    twice = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    twice.append(twice[0])
    inside = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    uncalled = nn.Sequential(nn.Linear(3, 3))
    uncalled[0].unused = nn.Linear(3, 3)
    pair = nn.Sequential(nn.LSTM(3, 3))
    x = torch.randn(2, 3)
    for model, layer, error, message in (
        (twice, "0", ValueError, "layer '0' runs more than once"),
        (inside, "0", ValueError, "the output of layer '0' is changed in place"),
        (uncalled, "0.unused", ValueError, "layer '0.unused' is not called"),
        (twice, "3", ValueError, "has no layer '3'; the names most like it"),
        (pair, "0", TypeError, "layer '0' must return a tensor, got tuple"),
    ):
        with pytest.raises(error, match=message):
            features.run(model, [layer], x)
        assert not hooks(model)
    features.run(inside, ["1"], x)
    with pytest.raises(ValueError, match=r"layer '0.unused' is not called"):
        features.up_to(uncalled, "0.unused", x)
    with pytest.raises(RuntimeError):
        features.up_to(twice, "1", torch.randn(2, 7))
    assert not hooks(twice)
