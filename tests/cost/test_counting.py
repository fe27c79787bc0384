"""Totals and layers of small networks worked out by hand, and what counting must leave alone."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import flex_attention
from torch.nn.utils import parametrize, prune

from compress_lib.cost import count


def lenet_5() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


class Stateful(nn.Module):
    """Everything a forward pass may change: batch statistics, a buffer, attributes, random numbers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.seen = []
        self.last = None

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.seen.append(x)
        return self.drop(self.norm(x)) + torch.rand_like(x)


class Mask(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight):
        return weight * self.mask


def test_lenet_5_by_hand():
    cost = count(lenet_5(), (1, 28, 28))
    conv1, conv2, fc1, fc2 = (layer for layer in cost.layers if layer.params)
    assert cost.params == 431_080
    assert cost.nbytes == 4 * 431_080
    assert [conv1.params, conv2.params, fc1.params, fc2.params] == [520, 25_050, 400_500, 5_010]
    assert [conv1.macs, conv2.macs, fc1.macs, fc2.macs] == [20 * 25 * 24 * 24, 50 * 500 * 8 * 8, 400_000, 5_000]
    assert cost.macs == sum([conv1.macs, conv2.macs, fc1.macs, fc2.macs])
    assert (conv2.name, conv2.kind, conv2.output_shape) == ("2", "Conv2d", (50, 8, 8))
    assert (conv2.input_nbytes, conv2.activation_nbytes) == (4 * 20 * 12 * 12, 4 * 50 * 8 * 8)
    assert [layer.name for layer in cost.layers] == [str(i) for i in range(8)]


def test_layers_stand_in_the_order_of_execution_and_unused_ones_last():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(3, 3)
            self.second = nn.Linear(3, 2)
            self.first = nn.Linear(4, 3)

        def forward(self, x):
            return self.second(self.first(x))

    cost = count(Net(), (4,))
    assert [layer.name for layer in cost.layers] == ["first", "second", "unused"]
    assert cost.params == 15 + 8 + 12
    assert cost.macs == 12 + 6
    assert (cost.layers[-1].macs, cost.layers[-1].output_shape) == (0, None)


def test_it_is_inference_that_is_counted():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.auxiliary = nn.Linear(4, 4)

        def forward(self, x):
            return self.auxiliary(x) if self.training else x.relu()

    cost = count(Net().train(), (4,))
    assert (cost.params, cost.macs) == (20, 0)


def test_products_between_layers_belong_to_the_module_that_makes_them():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.block(x))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return x.mT @ self.linear(x)

    macs = {layer.name: layer.macs for layer in count(Net(), (5, 4)).layers}
    assert macs == {"block": 4 * 5 * 4, "block.linear": 5 * 16, "head": 4 * 8}


def test_a_shared_module_counts_its_parameters_once_and_its_work_each_time():
    layer = nn.Linear(4, 4)
    cost = count(nn.Sequential(layer, nn.ReLU(), layer), (4,))
    assert (cost.params, cost.macs, cost.nbytes) == (20, 32, 80)
    assert [(x.name, x.params, x.macs) for x in cost.layers] == [("0", 20, 32), ("1", 0, 0)]


def test_a_shared_parameter_counts_once_in_the_total():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    cost = count(nn.Sequential(first, second), (4,))
    assert (cost.params, cost.nbytes, cost.macs) == (24, 96, 32)
    assert [layer.params for layer in cost.layers] == [20, 20]
    assert "share" in str(cost)


def test_a_parametrized_layer_is_one_layer_with_its_mask():
    model = nn.Sequential(nn.Linear(4, 3))
    parametrize.register_parametrization(model[0], "weight", Mask(torch.eye(3, 4)))
    cost = count(model, (4,))
    (layer,) = cost.layers
    assert (layer.name, layer.kind, layer.params, layer.macs) == ("0", "Linear", 15, 12)
    assert layer.nbytes == cost.nbytes == 4 * (12 + 3 + 12)


def test_a_parametrized_model_itself():
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", Mask(torch.eye(3, 4)))
    cost = count(layer, (4,))
    assert [(x.name, x.kind, x.params) for x in cost.layers] == [("", "Linear", 15)]


def test_a_layer_pruned_by_hooks():
    layer = nn.Linear(4, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    layer(torch.ones(1, 4))
    cost = count(layer, (4,))
    assert (cost.params, cost.macs, cost.nbytes) == (15, 12, 4 * (12 + 3 + 12))


def test_a_sparse_layout_takes_the_memory_of_values_and_indices():
    layer = nn.Linear(40, 10, bias=False)
    layer.weight = nn.Parameter(torch.eye(10, 40).to_sparse_csr(), requires_grad=False)
    cost = count(layer, (40,))
    assert cost.params == 10
    assert cost.nbytes == 10 * 4 + 11 * 8 + 10 * 8  # values, row pointers, column indices


class CompressedSparse(nn.Module):
    """Multiplies by a sparse matrix that it puts together from its parts, as the deploy form of a pruned layer does."""

    def __init__(self, dense, layout, blocks=None, sized=True):
        super().__init__()
        matrix = dense.to_sparse(layout=layout, blocksize=blocks)
        by_row = layout in (torch.sparse_csr, torch.sparse_bsr)
        parts = (Tensor.crow_indices, Tensor.col_indices) if by_row else (Tensor.ccol_indices, Tensor.row_indices)
        self.layout, self.size = layout, dense.shape if sized else None
        for name, part in zip(("compressed", "plain", "values"), (*parts, Tensor.values), strict=True):
            self.register_buffer(name, part(matrix).clone())

    def forward(self, x):
        size = {} if self.size is None else {"size": self.size}
        matrix = torch.sparse_compressed_tensor(
            self.compressed, self.plain, self.values, **size, layout=self.layout, check_invariants=True
        )
        return (matrix @ x.T).T


LAYOUTS = [(torch.sparse_csr, None), (torch.sparse_csc, None), (torch.sparse_bsr, (2, 2)), (torch.sparse_bsc, (2, 2))]


@pytest.mark.parametrize(("layout", "blocks"), LAYOUTS)
def test_a_sparse_matrix_made_in_the_forward_pass(layout, blocks):
    layer = CompressedSparse(torch.eye(10, 40), layout, blocks)
    if layout == torch.sparse_csr:  # for the others not every build has a kernel
        assert torch.equal(layer(torch.arange(40.0)[None]), torch.arange(10.0)[None])
    cost = count(layer, (40,))
    assert cost.macs == 10 * 40
    assert cost.layers[0].output_shape == (10,)
    assert cost.uncounted == ()


def test_a_sparse_matrix_whose_shape_depends_on_its_values():
    with pytest.raises(ValueError, match="needs data for aten.sparse_compressed_tensor"):
        count(CompressedSparse(torch.eye(10, 40), torch.sparse_csr, sized=False), (40,))


def test_counting_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 4), Stateful(), nn.Linear(4, 2))
    parametrize.register_parametrization(model[0], "weight", Mask(torch.eye(4)))
    model[1].norm.eval()  # mixed flags must come back mixed
    state = copy.deepcopy(model.state_dict())
    tensors = [(id(t), t.data_ptr(), t._version, t.requires_grad) for t in (*model.parameters(), *model.buffers())]
    flags = [module.training for module in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    random_state = torch.get_rng_state()

    count(model, (4,))
    with pytest.raises(ValueError):
        count(model, (5,))

    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert tensors == [
        (id(t), t.data_ptr(), t._version, t.requires_grad) for t in (*model.parameters(), *model.buffers())
    ]
    assert flags == [module.training for module in model.modules()]
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    assert (model[1].seen, model[1].last) == ([], None)
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
    assert not flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG


def test_half_precision_halves_the_bytes():
    full, half = count(lenet_5(), (1, 28, 28)), count(lenet_5().half(), (1, 28, 28))
    assert (half.params, half.macs) == (full.params, full.macs)
    assert 2 * half.nbytes == full.nbytes
    assert 2 * half.layers[0].activation_nbytes == full.layers[0].activation_nbytes


def test_a_model_without_memory_can_be_counted():
    with torch.device("meta"):
        model = nn.Linear(10**6, 10**6, bias=False)
    assert count(model, (10**6,)).macs == 10**12


def test_a_network_without_parameters():
    cost = count(nn.ReLU(), (3, 3))
    assert (cost.params, cost.macs, cost.layers[0].output_shape) == (0, 0, (3, 3))


def test_the_table_shows_layers_and_totals():
    cost = count(lenet_5(), [1, 28, 28])
    text, html = str(cost), cost._repr_html_()
    for shown in ("Conv2d", "20×24×24", "25,050", "1,600,000", "431,080", f"{cost.peak_activation_nbytes:,}"):
        assert shown in text
        assert shown in html
    assert repr(cost) == text
    assert "color" not in html
    assert "(model)" in str(count(nn.Linear(2, 2), (2,)))


@pytest.mark.parametrize(
    ("input_shape", "layer", "given"),
    [((3, 28, 28), "'0'", "(1, 3, 28, 28)"), ((1, 20, 28), "'5'", "(1, 400)"), ((1, 3, 3), "'0'", "(1, 1, 3, 3)")],
)
def test_a_shape_that_does_not_fit_names_the_first_layer_that_refused(input_shape, layer, given, caplog):
    with pytest.raises(ValueError) as caught:
        count(lenet_5(), input_shape)
    message = str(caught.value)
    assert f"input_shape={input_shape}" in message
    assert f"layer {layer}" in message
    assert given in message
    assert "\n" not in message
    assert caught.value.__cause__ is not None
    assert not caplog.records


@pytest.mark.parametrize("input_shape", [(1, 0, 28), (1, -28, 28)])
def test_an_impossible_shape(input_shape):
    with pytest.raises(ValueError, match="input_shape=.*at least 1"):
        count(lenet_5(), input_shape)


@pytest.mark.parametrize("input_shape", [28, "28", (1, 28.0, 28), None])
def test_a_shape_of_the_wrong_type(input_shape):
    with pytest.raises(TypeError, match="input_shape=.*sequence of integers"):
        count(lenet_5(), input_shape)


@pytest.mark.parametrize("model", [nn.Sequential(), nn.Identity()])
def test_an_empty_model(model):
    with pytest.raises(ValueError, match="no parameters and no operations"):
        count(model, (3,))


@pytest.mark.parametrize("model", [None, torch.relu, nn.Linear])
def test_what_is_no_module(model):
    with pytest.raises(TypeError, match="model must be a torch.nn.Module"):
        count(model, (3,))


def test_a_model_that_looks_at_its_input():
    class Gate(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="layer '1' .*needs data"):
        count(nn.Sequential(nn.ReLU(), Gate()), (3,))


def test_a_lazy_model():
    with pytest.raises(ValueError, match="1.weight has no shape"):
        count(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), (3,))
