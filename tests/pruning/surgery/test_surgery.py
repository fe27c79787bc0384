"""Groups by hand, bad input, and what may not change. The law itself is in test_surgery_law and test_surgery_random."""

import law
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from compress_lib.network import masks
from compress_lib.pruning import surgery
from compress_lib.pruning.surgery import cutting

IMAGE = torch.zeros(2, 3, 6, 6)


def conv(read: int, made: int, size: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(read, made, size, padding=size // 2, **options)


class Net(nn.Module):
    """Layers by name and a forward that is a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def units(group: surgery.Group) -> dict[str, dict[str, list[int]]]:
    return {
        side: {layer: found.tolist() for layer, found in getattr(group, side).items()}
        for side in ("outputs", "inputs", "scales")
    }


def only(model: nn.Module, x: torch.Tensor = IMAGE) -> dict[str, surgery.Group]:
    """The groups that can be cut, by the first layer that makes each."""
    return {next(iter(group.outputs)): group for group in surgery.groups(model, x) if not group.fixed}


# --- the smallest units, by hand --------------------------------------------------------------------------------------


def test_units_of_a_chain():
    model = nn.Sequential(conv(3, 2), nn.BatchNorm2d(2), nn.ReLU(), conv(2, 3), nn.PReLU(3), nn.Flatten(),
                          nn.Linear(108, 2))  # fmt: skip
    first, second = only(model).values()
    assert (first.size, second.size) == (2, 3)
    assert units(first) == {"outputs": {"0": [0, 1]}, "inputs": {"3": [0, 1]}, "scales": {"1": [0, 1]}}
    pixels = [0] * 36 + [1] * 36 + [2] * 36
    assert units(second) == {"outputs": {"3": [0, 1, 2]}, "inputs": {"6": pixels}, "scales": {"4": [0, 1, 2]}}


def test_the_output_is_a_group_that_stays():
    *_, last = surgery.groups(nn.Sequential(conv(3, 2), conv(2, 4)), IMAGE)
    assert (last.outputs.keys(), last.size, last.fixed) == ({"1"}, 4, "the output of the model")


def test_units_of_a_residual_block():
    model = Net(lambda n, x: n.c(n.a(x) + n.b(n.a(x)).relu()), a=conv(3, 4), b=conv(4, 4), c=conv(4, 1))
    (group,) = only(model).values()
    line = [0, 1, 2, 3]
    assert units(group) == {"outputs": {"a": line, "b": line}, "inputs": {"b": line, "c": line}, "scales": {}}


def test_units_of_a_dense_block():
    model = Net(lambda n, x: n.c(torch.cat([n.a(x), n.b(n.a(x))], 1)), a=conv(3, 2), b=conv(2, 3), c=conv(5, 1))
    found = only(model)
    assert units(found["a"])["inputs"] == {"b": [0, 1], "c": [0, 1, -1, -1, -1]}
    assert units(found["b"])["inputs"] == {"c": [-1, -1, 0, 1, 2]}


def test_units_of_a_depthwise_convolution():
    model = nn.Sequential(conv(3, 2), conv(2, 6, groups=2), conv(6, 1))
    (group,) = only(model).values()
    assert units(group) == {
        "outputs": {"0": [0, 1], "1": [0, 0, 0, 1, 1, 1]},
        "inputs": {"1": [0, 1], "2": [0, 0, 0, 1, 1, 1]},
        "scales": {},
    }


def test_units_of_many_narrow_groups_are_the_groups():
    model = nn.Sequential(conv(3, 6), conv(6, 9, groups=3), conv(9, 1))
    (group,) = only(model).values()
    assert group.outputs["0"].tolist() == [0, 0, 1, 1, 2, 2]
    assert group.outputs["1"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_units_of_few_wide_groups_are_the_same_channel_of_each():
    model = nn.Sequential(conv(3, 6), conv(6, 4, groups=2), conv(4, 1))
    read, made = only(model).values()
    assert units(read)["outputs"] == {"0": [0, 1, 2, 0, 1, 2]}
    assert units(made)["outputs"] == {"1": [0, 1, 0, 1]}
    smaller, _ = surgery.remove(model, IMAGE, {"0": [1], "1": [2]})
    assert smaller[1].weight.shape == (2, 2, 1, 1)
    assert smaller[1].groups == 2


def test_groups_of_the_input_image_stay():
    (group,) = only(nn.Sequential(conv(3, 6, groups=3), conv(6, 1))).values()
    assert units(group)["outputs"] == {"0": [0, 1, 0, 1, 0, 1]}


def test_units_of_a_shuffle():
    model = Net(lambda n, x: n.b(F.channel_shuffle(n.a(x), 2)), a=conv(3, 6), b=conv(6, 1))
    (group,) = only(model).values()
    assert units(group) == {"outputs": {"a": [0, 1, 2, 0, 1, 2]}, "inputs": {"b": [0, 0, 1, 1, 2, 2]}, "scales": {}}


def test_units_of_a_gate():
    def forward(n, x):
        x = n.a(x)
        return n.c(x * n.up(n.down(x.mean((2, 3), True)).relu()).sigmoid())

    model = Net(forward, a=conv(3, 4), down=conv(4, 2), up=conv(2, 4), c=conv(4, 1))
    found = only(model)
    assert found["a"].outputs.keys() == {"a", "up"}
    assert found["a"].inputs.keys() == {"down", "c"}
    assert (found["a"].size, found["down"].size) == (4, 2)


def test_units_of_a_layer_that_runs_twice():
    model = Net(lambda n, x: n.c(n.b(n.b(n.a(x)))), a=conv(3, 4), b=conv(4, 4), c=conv(4, 1))
    (group,) = only(model).values()
    assert units(group) == {
        "outputs": {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]},
        "inputs": {"b": [0, 1, 2, 3], "c": [0, 1, 2, 3]},
        "scales": {},
    }


def test_groups_come_in_the_order_of_the_network():
    model = nn.Sequential(conv(3, 4), conv(4, 5), nn.Flatten(), nn.Linear(180, 6), nn.Linear(6, 2))
    assert [next(iter(group.outputs)) for group in surgery.groups(model, IMAGE)] == ["0", "1", "3", "4"]


def test_auxiliary_layers_belong_to_groups_in_either_mode():
    def forward(n, x):
        x = n.a(x)
        return (n.c(x), n.aux(x)) if n.training else n.c(x)

    for training in (False, True):
        model = Net(forward, a=conv(3, 4), aux=conv(4, 2), c=conv(4, 1)).train(training)
        assert only(model)["a"].inputs.keys() == {"aux", "c"}
        smaller, _ = surgery.remove(model, IMAGE, {"a": [1, 2]})
        assert [y.shape[1] for y in smaller.train()(IMAGE)] == [1, 2]


def test_one_dimension_and_three():
    for dims, make in ((1, nn.Conv1d), (3, nn.Conv3d)):
        norm, pool = getattr(nn, f"BatchNorm{dims}d")(4), getattr(nn, f"MaxPool{dims}d")(2)
        model = law.randomize_(nn.Sequential(make(2, 4, 3), norm, pool, make(4, 3, 1), nn.Flatten(1, -1)))
        x = torch.zeros(2, 2, *[6] * dims, dtype=torch.float64)
        law.check(model.eval(), x, {"0": [0, 2]})


def test_token_embeddings_are_followed_up_to_the_first_layer():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    tokens = torch.randint(9, (2, 3))
    smaller, _ = surgery.remove(model, tokens, {"1": [0, 5]})
    assert smaller(tokens).shape == (2, 3, 5)


# --- removing ---------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 5), nn.Flatten(), nn.Linear(180, 2))


def test_what_is_left_is_what_was_there():
    model = network()
    smaller, report = surgery.remove(model, IMAGE, {"0": [1, 3], "3": torch.tensor([4])})
    assert {layer: kept.tolist() for layer, kept in report.kept_outputs.items()} == {"0": [0, 2], "3": [0, 1, 2, 3]}
    assert report.kept_inputs["3"].tolist() == [0, 2]
    assert report.kept_inputs["5"].tolist() == list(range(144))
    assert torch.equal(smaller[0].weight, model[0].weight[[0, 2]])
    assert torch.equal(smaller[0].bias, model[0].bias[[0, 2]])
    assert torch.equal(smaller[1].running_var, model[1].running_var[[0, 2]])
    assert torch.equal(smaller[3].weight, model[3].weight[:4][:, [0, 2]])
    assert torch.equal(smaller[5].weight, model[5].weight[:, :144])
    assert torch.equal(smaller[5].bias, model[5].bias)
    sizes = [(layer.in_channels, layer.out_channels) for layer in (smaller[0], smaller[3])]
    assert (sizes, smaller[1].num_features, smaller[5].in_features) == ([(3, 2), (2, 4)], 2, 144)
    assert [type(layer) for layer in smaller] == [type(layer) for layer in model]


def test_the_report_counts_parameters():
    model = network()
    smaller, report = surgery.remove(model, IMAGE, {"0": [1]})
    rows = {row.layer: row for row in report.rows}
    assert list(rows) == ["0", "1", "3"]
    assert (rows["0"].inputs, rows["0"].outputs) == ("3", "4 → 3")
    assert (rows["3"].inputs, rows["3"].outputs) == ("4 → 3", "5")
    assert (rows["0"].weights, rows["0"].kept) == (16, 12)
    lost = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in smaller.parameters())
    assert report.weights - report.kept == lost == 4 + 2 + 5
    assert "4 → 3" in str(report)


@pytest.mark.parametrize("removals", [{}, {"0": []}, {"0": torch.tensor([])}, {"5": ()}])
def test_removing_nothing_is_a_copy(removals):
    model = network()
    smaller, report = surgery.remove(model, IMAGE, removals)
    assert (report.rows, report.kept_inputs, report.kept_outputs) == ([], {}, {})
    assert smaller is not model
    assert all(torch.equal(a, b) for a, b in zip(smaller.state_dict().values(), model.state_dict().values()))


@pytest.mark.parametrize("indices", [[2, 0], (0, 2), range(0, 4, 2), iter([0, 2]), torch.tensor([0, 2]), {0, 2}])
def test_indices_come_in_many_forms(indices):
    _, report = surgery.remove(network(), IMAGE, {"0": indices})
    assert report.kept_outputs["0"].tolist() == [1, 3]


def test_channels_that_are_coupled_can_be_named_by_any_of_their_layers():
    model = Net(lambda n, x: n.c(n.a(x) + n.b(x)), a=conv(3, 4), b=conv(3, 4), c=conv(4, 1))
    both, _ = surgery.remove(model, IMAGE, {"a": [0], "b": [0, 2]})
    one, _ = surgery.remove(model, IMAGE, {"b": [2, 0]})
    assert all(torch.equal(p, q) for p, q in zip(both.parameters(), one.parameters(), strict=True))


def test_a_removed_network_can_be_cut_again():
    model = law.randomize_(network().eval())
    x = IMAGE.double()
    smaller, _ = law.check(model, x, {"0": [1]})
    smallest, report = law.check(smaller, x, {"0": [0], "3": [0]})
    assert smallest[0].out_channels == 2
    assert report.kept_outputs["0"].tolist() == [1, 2]


def test_what_is_left_can_be_trained():
    smaller, _ = surgery.remove(network(), IMAGE, {"0": [1], "3": [0, 1]})
    assert all(p.is_leaf and p.requires_grad for p in smaller.parameters())
    smaller(torch.randn(2, 3, 6, 6)).sum().backward()
    assert all(p.grad.shape == p.shape for p in smaller.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    smaller, _ = surgery.remove(network().to(dtype), IMAGE.to(dtype), {"0": [1], "3": [0]})
    assert {p.dtype for p in smaller.parameters()} == {dtype}


def test_a_type_written_into_the_network():
    model = Net(lambda n, x: n.b(n.a(x).float().relu()), a=conv(3, 4), b=conv(4, 1))
    smaller, _ = surgery.remove(model, IMAGE, {"a": [1]})
    assert smaller.b.in_channels == 3


def test_outputs_may_be_several():
    forward = lambda n, x: {"first": n.b(n.a(x).relu()), "rest": (n.c(n.a(x)), None)}
    model = law.randomize_(Net(forward, a=conv(3, 4), b=conv(4, 1), c=conv(4, 2)))
    law.check(model, IMAGE.double(), {"a": [0, 1]})


# --- what may not change ----------------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> list:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules = [(name, type(m), m.training, dict(vars(m)).keys()) for name, m in model.named_modules()]
    return [state, modules, [p.requires_grad for p in model.parameters()], [id(p) for p in model.parameters()]]


def assert_unchanged(model: nn.Module, before: list) -> None:
    state, *rest = snapshot(model)
    assert rest == before[1:]
    assert all(torch.equal(state[name], before[0][name]) for name in before[0])


@pytest.mark.parametrize("removals", [{"0": [1]}, {"0": [9]}, {"0": [0, 1, 2, 3]}, {"5": [0]}, {"no": [0]}])
def test_the_model_is_left_as_it_is(removals):
    model = network().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    before, random = snapshot(model), torch.get_rng_state()
    try:
        smaller, _ = surgery.remove(model, IMAGE, removals)
    except ValueError:
        pass
    else:
        assert [m.training for m in smaller.modules()] == [m.training for m in model.modules()]
        assert [p.requires_grad for p in smaller.parameters()] == [p.requires_grad for p in model.parameters()]
        assert not {id(p) for p in smaller.parameters()} & {id(p) for p in model.parameters()}
    assert_unchanged(model, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(IMAGE, torch.zeros_like(IMAGE))


def test_batch_statistics_are_not_touched():
    model = network().train()
    smaller, _ = surgery.remove(model, IMAGE, {"3": [1]})
    assert smaller[1].num_batches_tracked == 0
    assert torch.equal(smaller[1].running_mean, model[1].running_mean)


# --- refused, by the layer's name -------------------------------------------------------------------------------------


REFUSED = {
    "layer norm": (nn.Sequential(conv(3, 4), nn.LayerNorm([4, 6, 6]), conv(4, 1)), "0", "1 mixes channels"),
    "group norm": (nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), conv(4, 1)), "0", "1 mixes channels"),
    "local response": (nn.Sequential(conv(3, 4), nn.LocalResponseNorm(2), conv(4, 1)), "0", "1 mixes channels"),
    "softmax": (nn.Sequential(conv(3, 4), nn.Softmax(1), conv(4, 1)), "0", "1 mixes channels"),
    "pixel shuffle": (nn.Sequential(conv(3, 4), nn.PixelShuffle(2), conv(1, 1)), "0", "1 mixes channels"),
    "glu": (nn.Sequential(conv(3, 4), nn.GLU(1), conv(2, 1)), "0", "1 mixes channels"),
    "unflatten": (nn.Sequential(conv(3, 4), nn.Unflatten(1, (2, 2)), nn.Flatten(1, 2), conv(4, 1)), "0", "1 mixes"),
    "transposed": (nn.Sequential(conv(3, 4), nn.ConvTranspose2d(4, 4, 2), conv(4, 1)), "0", "1 mixes channels"),
    "pool with indices": (
        Net(lambda n, x: n.b(n.pool(n.a(x))[0]), a=conv(3, 4), pool=nn.MaxPool2d(2, return_indices=True), b=conv(4, 1)),
        "a",
        "pool mixes",
    ),
    "attention": (
        Net(
            lambda n, x: n.b(n.attend(n.a(x).flatten(2), n.a(x).flatten(2), n.a(x).flatten(2))[0]),
            a=conv(3, 4),
            attend=nn.MultiheadAttention(36, 2, batch_first=True),
            b=nn.Linear(36, 1),
        ),
        "a",
        "attend mixes channels",
    ),
    "recurrent": (
        Net(
            lambda n, x: n.b(n.rnn(n.a(x).flatten(2).transpose(1, 2))[0]),
            a=conv(3, 4),
            rnn=nn.LSTM(4, 5, batch_first=True),
            b=nn.Linear(5, 1),
        ),
        "a",
        "rnn mixes channels",
    ),
    "functional": (
        Net(lambda n, x: n.b(F.conv2d(n.a(x), n.kernel)), a=conv(3, 4), b=conv(4, 1),
            kernel=nn.Parameter(torch.ones(4, 4, 1, 1))),
        "a",
        "conv2d mixes channels",
    ),
    "own linear": (nn.Sequential(conv(3, 4), type("Own", (nn.Conv2d,), {})(4, 4, 1), conv(4, 1)), "0", "conv2d of 1"),
    "masked": (masks.apply(network(), {"3": torch.rand(5, 4, 1, 1) > 0.5}), "0", "3 has no plain weight"),
    "weight norm": (nn.Sequential(conv(3, 4), parametrizations.weight_norm(conv(4, 1))), "0", "1 has no plain weight"),
    "old spectral norm": (nn.Sequential(conv(3, 4), spectral_norm(conv(4, 1)).eval()), "0", "1 has a forward hook"),
    "shared weight": (nn.Sequential(conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 1)), "1", "1 shares a parameter"),
    "instance norm, unbatched": (
        Net(lambda n, x: n.b(n.norm(n.a(x)[0])[None]), a=conv(3, 6), norm=nn.InstanceNorm2d(6, affine=True),
            b=conv(6, 1)),
        "a",
        "norm mixes channels",
    ),
}  # fmt: skip
REFUSED["shared weight"][0][2].weight = REFUSED["shared weight"][0][1].weight


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused(case):
    model, layer, reason = REFUSED[case]
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"layer '{layer}' cannot lose channels: {reason}"):
        surgery.remove(model, IMAGE, {layer: [0]})
    assert_unchanged(model, before)


def test_an_embedding_tied_to_the_last_layer():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False))
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match="'1' cannot lose channels: 2 shares a parameter with another layer"):
        surgery.remove(model, torch.zeros(2, 3, dtype=torch.long), {"1": [0]})


def test_hooks():
    """A hook may change what a layer makes; one on a block is followed like the code around it."""
    model = network()
    handle = model[2].register_forward_hook(lambda layer, inputs, y: y * torch.arange(4.0).view(4, 1, 1))
    with pytest.raises(ValueError, match="'0' cannot lose channels: 2 has a forward hook: remove it first"):
        surgery.remove(model, IMAGE, {"0": [0]})
    handle.remove()
    surgery.remove(model, IMAGE, {"0": [0]})
    block = nn.Sequential(conv(3, 4), nn.ReLU())
    block.register_forward_hook(lambda layer, inputs, y: y * torch.arange(4.0).view(4, 1, 1))
    with pytest.raises(ValueError, match="'0.0' cannot lose channels: tied to a fixed tensor in mul"):
        surgery.remove(nn.Sequential(block, conv(4, 1)), IMAGE, {"0.0": [0]})


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm:FutureWarning")
def test_old_style_masks_and_norms_are_refused():
    pruned = network()
    prune.random_unstructured(pruned[3], "weight", 0.5)
    normed = nn.Sequential(conv(3, 4), weight_norm(conv(4, 1)))
    for model in (pruned, normed):
        with pytest.raises(ValueError, match=r"layer '[13]' keeps a computed weight \(an old-style mask or norm\)"):
            surgery.remove(model, IMAGE, {"0": [0]})


def test_a_size_that_the_rules_do_not_foresee():
    """The last net: the smaller network does not run, and the line is named."""
    model = Net(lambda n, x: n.b(n.a(x).mean((2, 3)).squeeze()), a=conv(3, 2), b=nn.Linear(2, 1))
    with pytest.raises(
        ValueError, match=r"does not run without channels of \['a'\]: .*test_surgery.py:\d+, in <lambda>"
    ):
        surgery.remove(model, IMAGE, {"a": [0]})


def test_a_random_model_is_refused():
    model = Net(lambda n, x: n.b(F.dropout(n.a(x))), a=conv(3, 4), b=conv(4, 1))
    with pytest.raises(ValueError, match="model=Net is random in evaluation mode"):
        surgery.remove(model, IMAGE, {"a": [0]})


def test_a_wrong_network_is_not_returned(monkeypatch):
    """Were a rule wrong, the check would see it, on whatever input it is given."""
    monkeypatch.setattr(cutting, "silence", lambda layer, kept: None)
    for scale in (0.0, 1e-6):
        with pytest.raises(RuntimeError, match=r"Sequential without channels of \['0'\] computes something else"):
            surgery.remove(network(), IMAGE * scale, {"0": [0]})


def test_never_without_channels():
    model = network()
    with pytest.raises(ValueError, match="removals would leave layer '0' without outputs; keep at least one"):
        surgery.remove(model, IMAGE, {"0": range(4)})
    tied = nn.Sequential(conv(3, 4), nn.Flatten(2), nn.Linear(36, 36), nn.Flatten(), nn.Linear(144, 1))
    with pytest.raises(ValueError, match="layer '0' cannot lose channels: all its channels are tied together"):
        surgery.remove(tied, IMAGE, {"0": [1]})


BAD_INDICES = [
    ([-1], ValueError, r"removals\['0'\]: the layer has channels 0 to 3, got \[-1\]"),
    ([0, 4], ValueError, r"channels 0 to 3, got \[0, 4\]"),
    ([1, 1], ValueError, r"removals\['0'\]: channels are repeated: \[1, 1\]"),
    (torch.tensor([True, False, False, False]), TypeError, r"must be whole numbers, the indices of channels, got \[True"),
    ([True, False], TypeError, "must be whole numbers"),
    ([0.0, 1.5], TypeError, r"must be whole numbers, the indices of channels, got \[0.0, 1.5\]"),
    (torch.tensor([0.0]), TypeError, "must be whole numbers"),
    (torch.tensor([[0, 1]]), TypeError, "must be whole numbers"),
    (2, TypeError, "must be whole numbers, the indices of channels, got 2"),
    (torch.tensor(2), TypeError, "must be whole numbers"),
    ("12", TypeError, "must be whole numbers"),
    (None, TypeError, "must be whole numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("indices", "error", "message"), BAD_INDICES)
def test_bad_indices(indices, error, message):
    with pytest.raises(error, match=message):
        surgery.remove(network(), IMAGE, {"0": indices})


def test_bad_layers():
    for layer in ("9", "1", "", 0):
        with pytest.raises(
            ValueError, match=rf"no layer {layer!r} that makes channels; the model has \['0', '3', '5'\]"
        ):
            surgery.remove(network(), IMAGE, {layer: [0]})
    with pytest.raises(ValueError, match="layer '5' cannot lose channels: the output of the model"):
        surgery.remove(network(), IMAGE, {"5": [0]})
    with pytest.raises(TypeError, match="removals must map layer names to indices of channels, got list"):
        surgery.remove(network(), IMAGE, ["0"])
    unused = Net(lambda n, x: n.a(x), a=conv(3, 4), b=conv(3, 4))
    with pytest.raises(ValueError, match=r"no layer 'b' that makes channels; the model has \['a'\]"):
        surgery.remove(unused, IMAGE, {"b": [0]})


def test_bad_models_and_inputs():
    model = network()
    for call in (surgery.groups, lambda *args: surgery.remove(*args, {"0": [0]})):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got list"):
            call([model], IMAGE)
        with pytest.raises(TypeError, match="example_input must be a tensor, got tuple"):
            call(model, (1, 3, 6, 6))
        with pytest.raises(
            ValueError,
            match=r"example_input of shape \(2, 1, 6, 6\) does not fit the model: 0, given \[\(2, 1, 6, 6\)\]: ",
        ):
            call(model, IMAGE[:, :1])
        with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\) does not fit the model: 5, given \[\(2, 320\)\]: "):
            call(model, torch.zeros(2, 3, 8, 8))
        with pytest.raises(ValueError, match=r"example_input must not be empty, got shape \(0, 3, 6, 6\)"):
            call(model, IMAGE[:0])
        with pytest.raises(ValueError, match=r"does not fit the model: 0, given "):
            call(model, IMAGE.long())
        with pytest.raises(ValueError, match=r"does not fit the model"):
            call(Net(lambda n, x: n.a(x[x > 0]), a=nn.Linear(3, 2)), IMAGE)


def test_a_model_that_cannot_be_traced():
    def forward(n, x):
        if x.sum() > 0:
            return n.a(x)
        return -n.a(x)

    line = forward.__code__.co_firstlineno + 1
    with pytest.raises(
        ValueError, match=rf"Net cannot be traced by torch.fx: .*test_surgery.py:{line}, in forward: if x.sum\(\) > 0"
    ):
        surgery.groups(Net(forward, a=conv(3, 4)), IMAGE)
    lazy = nn.Sequential(nn.LazyConv2d(4, 1), conv(4, 1))
    with pytest.raises(ValueError, match="layer '0' is lazy and has no weights yet"):
        surgery.groups(lazy, IMAGE)
