import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import product, subspaces
from compress_lib.quantization.codebooks.product import ProductQuantizedLinear


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 40),
        nn.ReLU(), nn.Linear(40, 10),
    )  # fmt: skip


def written(module):
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.getbuffer().nbytes


# --- the linear layer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_look_up_tables_give_the_dense_product(leading, bias):
    dense = nn.Linear(24, 50, bias=bias).double()
    layer = ProductQuantizedLinear.from_dense(dense, 4, 16)
    weight = torch.zeros(50, 24, dtype=torch.float64)
    for out, space in np.ndindex(50, 6):  # the codewords side by side
        weight[out, 4 * space : 4 * space + 4] = layer.codebooks[space, int(layer.codes[out, space])].detach()
    x = normal(*leading, 24, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.linear(x, weight, dense.bias))
    assert torch.equal(subspaces.join(subspaces.reconstruct(layer.codebooks, layer.codes), weight.shape), weight)


def test_as_many_codewords_as_rows_change_nothing():
    dense = nn.Linear(12, 30)
    x = normal(5, 12)
    torch.testing.assert_close(ProductQuantizedLinear.from_dense(dense, 3, 30)(x), dense(x))


@pytest.mark.parametrize(("k", "width"), [(1, 1), (2, 1), (3, 2), (16, 4), (17, 5), (256, 8)])
def test_bytes_are_those_of_the_formula(k, width):
    n, m, d = 32, 300, 4
    layer = ProductQuantizedLinear.from_dense(nn.Linear(n, m), d, k)
    s = n // d
    assert layer.nbytes == 4 * k * n + math.ceil(m * s * width / 8) + 4 * m
    assert layer.nbytes <= written(layer) <= layer.nbytes + 2500
    if k > 2 and not k & (k - 1):  # the paper's ratio, bias aside
        ratio = 32 * m * n / (32 * k * n + m * s * math.log2(k))
        assert 4 * m * n / (layer.nbytes - 4 * m) == pytest.approx(ratio)


@pytest.mark.parametrize("k", [1, 3, 16, 200])
def test_the_state_dict_is_packed_and_loads_again(k):
    first, second = (ProductQuantizedLinear.from_dense(nn.Linear(20, 201), 4, k, seed=seed) for seed in (0, 1))
    kept = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert kept["codes"].dtype == torch.uint8
    second.load_state_dict(kept)
    assert torch.equal(second.codes, first.codes)
    x = normal(3, 20)
    assert torch.equal(second(x), first(x))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in first.state_dict().items())  # loading alters no dict
    with pytest.raises(ValueError, match="data must have"):
        second.load_state_dict(kept | {"codes": kept["codes"][:-1]})
    with pytest.raises(RuntimeError, match="codes"):
        second.load_state_dict({name: tensor for name, tensor in kept.items() if name != "codes"})


def test_gradients_of_codewords_are_sums_over_their_pieces():
    layer = ProductQuantizedLinear.from_dense(nn.Linear(6, 20).double(), 3, 4)
    x, slope = normal(9, 6, dtype=torch.float64), normal(9, 20, seed=1, dtype=torch.float64)
    (layer(x) * slope).sum().backward()
    by_weight = slope.T @ x  # of a dense layer
    for space, code in np.ndindex(2, 4):
        rows = layer.codes[:, space] == code
        expected = by_weight[rows, 3 * space : 3 * space + 3].sum(0)
        torch.testing.assert_close(layer.codebooks.grad[space, code], expected)


@pytest.mark.parametrize(
    ("codebooks", "codes", "bias", "message"),
    [
        (torch.ones(2, 4, 3), torch.full((5, 2), 4, dtype=torch.uint8), None, "below the 4 codewords, got 4"),
        (torch.ones(2, 4, 3), torch.zeros(5, 3, dtype=torch.uint8), None, "of shapes"),
        (torch.ones(2, 4, 3), torch.zeros(5, 2), None, "of shapes"),
        (torch.ones(4, 3), torch.zeros(5, 2, dtype=torch.uint8), None, "of shapes"),
        (torch.ones(2, 4, 3), torch.zeros(5, 2, dtype=torch.uint8), torch.ones(4), "bias must have shape"),
    ],
)
def test_parts_that_do_not_fit(codebooks, codes, bias, message):
    with pytest.raises(ValueError, match=message):
        ProductQuantizedLinear(codebooks, codes, bias)


def test_other_layers_and_inputs_are_refused():
    with pytest.raises(TypeError, match="must be a torch.nn.Linear, got Conv2d"):
        ProductQuantizedLinear.from_dense(nn.Conv2d(4, 4, 1), 2, 2)
    with pytest.raises(ValueError, match="x must have 8 features on its last axis"):
        ProductQuantizedLinear.from_dense(nn.Linear(8, 4), 2, 2)(torch.ones(2, 7))


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_network_computes_with_the_reconstructed_weights():
    model = network()
    before = copy.deepcopy(model.state_dict())
    quantized, report = product.quantize(model, (4, 16))
    dense = copy.deepcopy(model)
    assert [row.layer for row in report.rows] == ["2", "5"]
    for row in report.rows:
        layer = dense.get_submodule(row.layer)
        codebooks, codes = subspaces.cluster(subspaces.split(layer.weight.detach(), 4), 16)
        weight = subspaces.join(subspaces.reconstruct(codebooks, codes), layer.weight.shape)
        assert row.rmse == pytest.approx((weight - layer.weight).double().square().mean().sqrt().item())
        layer.weight = nn.Parameter(weight)
        assert row.dense_nbytes == sum(parameter.nbytes for parameter in layer.parameters())
        found = quantized.get_submodule(row.layer)
        assert row.nbytes == sum(tensor.nbytes for tensor in found.state_dict().values()) < row.dense_nbytes
    x = normal(3, 1, 8, 8)
    torch.testing.assert_close(quantized(x), dense(x))
    assert report.skipped["0.weight"] == "d must be a divisor of the 1 input features, got 4"
    assert report.skipped["7.weight"] == "k must be from 1 to 10 for 10 pieces, got 16"
    assert report.skipped["5.bias"] == "biases are not quantized"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert written(quantized) < written(model)


def test_a_network_loads_its_packed_state():
    first, second = (product.quantize(network(seed), (4, 8))[0] for seed in (0, 1))
    second.load_state_dict(first.state_dict())
    x = normal(3, 1, 8, 8)
    assert torch.equal(second(x), first(x))


def test_training_lowers_the_loss_and_keeps_the_codes():
    quantized, _ = product.quantize(network(), (4, 16))
    codes = {name: tensor.clone() for name, tensor in quantized.state_dict().items() if name.endswith("codes")}
    images, labels = normal(64, 1, 8, 8), torch.arange(64) % 10
    history = training.fit(quantized, images, labels, epochs=8, seed=0, batch_size=16, lr=0.05)
    assert history[-1]["loss"] < history[0]["loss"]
    assert len(codes) == 2
    assert all(torch.equal(quantized.state_dict()[name], tensor) for name, tensor in codes.items())


def test_an_assigned_weight_goes_to_the_nearest_codebooks():
    layer, _ = product.quantize(nn.Conv2d(6, 10, 3), (3, 8))
    weight = normal(10, 6, 3, 3)
    codes = layer.parametrizations.weight[0].codes
    layer.weight = weight
    pieces = subspaces.split(weight, 3)
    for space, code in np.ndindex(2, 8):
        expected = pieces[space][codes[:, space] == code].mean(0)
        torch.testing.assert_close(layer.parametrizations.weight.original[space, code], expected)


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(8, 6, 3), nn.Conv3d(4, 6, 2), nn.Conv2d(8, 8, 3, groups=2), nn.Linear(8, 6)]
)
def test_a_layer_can_be_the_whole_model(layer):
    quantized, report = product.quantize(layer, (2, 4))
    assert report.rows[0].layer == ""
    assert not isinstance(quantized, nn.Linear)
    copied = copy.deepcopy(quantized)
    copied.load_state_dict(quantized.state_dict())


def test_a_layer_in_two_places_stays_one():
    shared = nn.Linear(8, 8)
    quantized, _ = product.quantize(nn.Sequential(shared, nn.ReLU(), shared), (2, 4))
    assert quantized[0] is quantized[2]
    assert isinstance(quantized[0], ProductQuantizedLinear)


def test_masks_are_baked_in_and_modes_kept():
    pruned, _ = magnitude.prune(network().eval(), 0.5)
    quantized, _ = product.quantize(pruned, {"5": (2, 32)})
    assert not quantized[5].training
    assert type(quantized[2]) is nn.Conv2d


def test_layers_by_name():
    _, report = product.quantize(network(), {"7": (4, 5), "5": (8, 4)})
    assert [(row.layer, row.d, row.k) for row in report.rows] == [("5", 8, 4), ("7", 4, 5)]
    assert report.skipped["2.weight"] == "no sizes given"
    with pytest.raises(ValueError, match="layer '7': k must be from 1 to 10"):
        product.quantize(network(), {"7": (4, 16)})
    with pytest.raises(ValueError, match=r"sizes names \['9'\]"):
        product.quantize(network(), {"9": (4, 16)})
    transposed = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.Linear(4, 4))
    assert "plain linear layer or convolution" in product.quantize(transposed, (2, 2))[1].skipped["0.weight"]
