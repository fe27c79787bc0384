import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from compress_lib import container, training
from compress_lib.binary import binaryconnect, conversion, dorefa, xnor
from compress_lib.models import zoo
from compress_lib.models.block_cnn import ORDERS, block_cnn

SMALL = {"width": 8, "kernel_size": 3}


@pytest.fixture(scope="module")
def trained(fashion):
    """Each method in each order, trained for a few steps."""
    images, labels = (part[:320] for part in fashion)
    found = {}
    for method in conversion.METHODS:
        for order in ORDERS:
            torch.manual_seed(0)
            network = conversion.convert(block_cnn(order=order, **SMALL), method, bits=3)
            training.fit(
                network, images, labels, epochs=1, seed=0, batch_size=32, lr=0.2, weight_decay=0,
                after_step=binaryconnect.clip, progress=False,
            )  # fmt: skip
            found[method, order] = network
    return found


def kinds(network):
    return [type(module).__name__ for module in network]


def test_activations_are_taken_by_the_layers_or_stand_before_the_pooling():
    bacp, cbap = (conversion.convert(block_cnn(order=order, **SMALL), "xnor") for order in ORDERS)
    block = ["MaxPool2d", "BatchNorm2d", "Identity", "XnorConv2d"]
    assert kinds(bacp)[:9] == ["Conv2d", *block, *block]
    block = ["BatchNorm2d", "Sign", "MaxPool2d", "XnorConv2d"]
    assert kinds(cbap)[:9] == ["Conv2d", *block, *block]
    for network in (bacp, cbap):
        assert kinds(network)[-5:] == ["Flatten", "XnorLinear", "BatchNorm1d", "ReLU", "Linear"]
    network = conversion.convert(block_cnn(order="cbap", **SMALL), "multibit", bits=3)
    assert network.relu2.bits == network.conv3.bits == network.fc1.bits == 3
    scales = {"bnn": (False, False), "xnor": (True, True), "xnor-without-k": (True, False)}
    for method, expected in scales.items():
        layer = conversion.convert(block_cnn(**SMALL), method).conv2
        assert (layer.scale, layer.input_scale) == expected
    plain = conversion.convert(block_cnn(**SMALL), "twn")
    assert kinds(plain).count("ReLU") == 4


def test_converting_leaves_the_network_alone_and_keeps_its_weights():
    for method in set(conversion.METHODS) - {"binaryconnect-stochastic"}:  # which spreads the weights
        dense = block_cnn(**SMALL)
        state = copy.deepcopy(dense.state_dict())
        converted = conversion.convert(dense, method)
        with torch.no_grad():
            for parameter in converted.parameters():
                parameter.add_(1)
        assert all(torch.equal(tensor, state[name]) for name, tensor in dense.state_dict().items())
        found = {
            name.replace(".parametrizations.weight.original", ".weight"): tensor
            for name, tensor in conversion.convert(dense, method).state_dict().items()
        }
        assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", conversion.METHODS)
def test_what_is_deployed_and_what_is_read_from_a_file_is_what_was_trained(method, order, trained, fashion, tmp_path):
    images, network = fashion[0][:200], trained[method, order]
    expected = training.predict(network, images)
    assert expected.argmax(1).unique().numel() > 3 or method == "binaryconnect-stochastic"
    deployed = conversion.deploy(network)
    assert not deployed.training
    assert torch.equal(training.predict(deployed, images), expected)
    assert torch.equal(training.predict(deployed, images[:1]), training.predict(network, images[:1]))
    settings = {"method": method, "bits": 3}
    metadata = {"options": {"order": order, **SMALL}, "form": {"kind": "binary", "settings": settings}}
    container.save(deployed, tmp_path / "network.cnet", architecture="block-cnn", metadata=metadata)
    loaded = container.load(tmp_path / "network.cnet")
    assert torch.equal(training.predict(loaded, images), expected)


def test_scales_of_filters_vanish_in_the_batch_normalizations(fashion):
    """Without the small number that keeps these from dividing by 0, outputs and gradients are those of BNN."""
    x = (fashion[0][:50] / 255).double()
    dense = block_cnn(**SMALL).double()
    for module in dense:
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            module.eps = 1e-30
    results = []
    for method in ("bnn", "xnor-without-k"):
        network = conversion.convert(dense, method).train()
        logits = network(x)
        functional.cross_entropy(logits, fashion[1][:50]).backward()
        results.append([logits, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("method", "bits"), [("bnn", 1), ("xnor", 1), ("bwn", 1), ("twn", 2), ("multibit", 1)])
def test_a_file_is_as_small_as_its_bits(method, bits, tmp_path):
    dense = zoo.build("block-cnn")
    inner = sum(layer.weight.numel() for layer in (dense.conv2, dense.conv3, dense.fc1))
    real = sum(tensor.numel() for tensor in dense.state_dict().values()) - inner
    form = {"kind": "binary", "settings": {"method": method}}
    deployed = conversion.deploy(conversion.convert(dense, method))
    budget = container.save(deployed, tmp_path / "file", architecture="block-cnn", metadata={"form": form})
    filters = 64 + 128 + 256  # each with a scale, and with k bits a sum of its signs
    assert budget.nbytes < inner * bits / 8 + 4 * real + 8 * filters + 2500
    assert isinstance(container.load(tmp_path / "file"), nn.Sequential)


def test_a_file_of_another_form_is_refused(tmp_path):
    deployed = conversion.deploy(conversion.convert(zoo.build("block-cnn", **SMALL), "xnor"))
    for form in ({"method": "bnn"}, {"method": "xnor", "bits": 2, "more": 1}, {"method": "nor"}, {}):
        metadata = {"options": SMALL, "form": {"kind": "binary", "settings": form}}
        with pytest.raises(ValueError, match="model must be the network that its metadata describe"):
            container.save(deployed, tmp_path / "file", architecture="block-cnn", metadata=metadata)
    assert not (tmp_path / "file").exists()


def test_a_single_layer_is_a_network():
    layer = xnor.XnorLinear(70, 3)
    x = torch.randn(5, 70)
    assert torch.equal(conversion.deploy(layer)(x), layer(x))


@pytest.mark.parametrize("method", conversion.ACTIVATIONS)
def test_a_layer_that_is_used_twice_is_one_layer_in_every_form(method):
    torch.manual_seed(0)
    shared, relu = nn.Linear(70, 70), nn.ReLU()
    dense = nn.Sequential(nn.Linear(9, 70), relu, shared, relu, shared, relu, nn.Linear(70, 5))
    trained = conversion.convert(dense, method).eval()
    assert trained[2] is trained[4] and isinstance(trained[2], (xnor.XnorLinear, dorefa.DoReFaLinear))
    assert kinds(trained)[1::2] == ["Identity", "Identity", "ReLU"]
    deployed = conversion.deploy(trained)
    assert deployed[2] is deployed[4] and not isinstance(deployed[2], nn.Linear)
    x = torch.randn(6, 9)
    assert torch.equal(deployed(x), trained(x))
    assert kinds(dense) == ["Linear", "ReLU"] * 3 + ["Linear"] and dense[2] is dense[4]


def test_a_layer_that_is_also_the_last_one_stays_real():
    shared = nn.Linear(9, 9)
    trained = conversion.convert(nn.Sequential(nn.Linear(9, 9), shared, nn.ReLU(), nn.Linear(9, 9), shared), "xnor")
    assert kinds(trained) == ["Linear", "Linear", "Identity", "XnorLinear", "Linear"] and trained[1] is trained[4]


@pytest.mark.parametrize("method", conversion.ACTIVATIONS)
def test_networks_of_another_type_are_not_deployed(method):
    with pytest.raises(TypeError, match="layer must have weights in float32 to be packed, got torch.float64"):
        conversion.deploy(conversion.convert(block_cnn(**SMALL).double(), method))


def test_bad_input():
    with pytest.raises(ValueError, match=r"method must be one of \('binaryconnect', .*, got 'float'"):
        conversion.convert(block_cnn(**SMALL), "float")
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Sequential, got LeNet5"):
        conversion.convert(zoo.build("lenet-5"), "xnor")
    with pytest.raises(ValueError, match=r"model must have layers between the first and the last, got \['0', '1'\]"):
        conversion.convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "xnor")
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 8, got 9"):
        conversion.convert(block_cnn(**SMALL), "multibit", bits=9)
