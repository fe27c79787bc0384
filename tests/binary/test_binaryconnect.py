import pytest
import torch
from torch import nn

from compress_lib import training
from compress_lib.binary import binaryconnect, bwn, packed_weight, ternary


def network(seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Linear(150, 8), nn.BatchNorm1d(8), nn.Linear(8, 10),
    )  # fmt: skip


METHODS = {
    "connect": binaryconnect.convert,
    "stochastic": lambda model, layers=None: binaryconnect.convert(model, layers, stochastic=True),
    "bwn": bwn.convert,
    "twn": ternary.convert,
}


@pytest.mark.parametrize("method", METHODS)
def test_inner_layers_are_converted_and_the_model_is_left_alone(method):
    model = network()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    converted = METHODS[method](model)
    magnitudes = {name: len(converted.get_submodule(name).weight[0].abs().unique()) for name in ("0", "3", "7", "9")}
    assert magnitudes["3"] <= 2 and magnitudes["7"] <= 2 and magnitudes["0"] == 9 and magnitudes["9"] == 8
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    only = METHODS[method](model, ["0"])
    assert torch.equal(only[3].weight, model[3].weight) and not torch.equal(only[0].weight, model[0].weight)


def test_signs_and_their_scales():
    model = network()
    weight = model[3].weight.detach()
    signs = torch.where(weight >= 0, 1.0, -1.0)
    assert torch.equal(binaryconnect.convert(model)[3].weight, signs)
    alpha = weight.abs().sum((1, 2, 3), keepdim=True) / 36
    for gradient in ("exact", "paper"):
        torch.testing.assert_close(bwn.convert(model, gradient=gradient)[3].weight, alpha * signs)


def test_random_signs_are_for_training_alone():
    model = METHODS["stochastic"](network(), ["3"])
    first, second = model[3].weight, model[3].weight
    assert not torch.equal(first, second)
    model.eval()
    weight = model[3].parametrizations.weight.original
    torch.testing.assert_close(weight.detach(), network()[3].weight.detach() / network()[3].weight.abs().max())
    assert torch.equal(model[3].weight, torch.where(weight >= 0, 1.0, -1.0))


@pytest.mark.parametrize("method", METHODS)
def test_clip_keeps_the_weights_behind_signs_in_range(method):
    model = METHODS[method](network())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(40)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    binaryconnect.clip(model, 0.1)
    for name, parameter in model.named_parameters():
        clipped = "original" in name and method != "twn"
        expected = before[name].clamp(-1, 1) if clipped else before[name]
        assert torch.equal(parameter, expected) and (not clipped or not torch.equal(parameter, before[name]))


@pytest.mark.parametrize("method", METHODS)
def test_training_goes_on_where_it_was_and_is_packed_to_the_last_bit(method, fashion, tmp_path):
    images, labels = (part[:400] for part in fashion)

    def trained(checkpoint=None, after_epoch=None):
        model = METHODS[method](network())
        training.fit(
            model, images, labels, epochs=2, seed=0, batch_size=40, lr=0.2, after_step=binaryconnect.clip,
            progress=False, checkpoint=checkpoint, after_epoch=after_epoch,
        )  # fmt: skip
        return model

    def stop(epoch, _model):
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    model = trained()
    start = METHODS[method](network()).state_dict()  # the first random signs are spread, too
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])}
    assert {f"{layer}.parametrizations.weight.original" for layer in (3, 7)} < moved
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run.pt", stop)
    resumed = trained(tmp_path / "run.pt").state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in model.state_dict().items())
    if method != "stochastic":  # which takes longer
        assert training.accuracy(model, images, labels) > 0.3
    assert torch.equal(training.predict(packed_weight.pack(model), images), training.predict(model, images))


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method):
    for layers, message in (
        (["2"], r"layers names \['2'\]; the linear layers and convolutions of the model are \['0', '3', '7', '9'\]"),
        (["3", "x"], r"layers names \['x'\]"),
        ([], "layers must name one at least"),
    ):
        with pytest.raises(ValueError, match=message):
            METHODS[method](network(), layers)
    with pytest.raises(TypeError, match="layers must be an iterable of names, got the single string '3'"):
        METHODS[method](network(), "3")
    with pytest.raises(ValueError, match="none is left"):
        METHODS[method](nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"layers must not be parametrized before, but \['3', '7'\] are"):
        METHODS[method](METHODS[method](network()))
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        METHODS[method]("network")


def test_there_are_two_gradients():
    with pytest.raises(ValueError, match="gradient must be one of"):
        bwn.convert(network(), gradient="none")
