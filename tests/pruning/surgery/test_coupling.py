"""Groups by hand, and what cannot be removed, by the layer's name."""

import invariant
import pytest
import torch
from networks import IMAGE, Net, assert_unchanged, conv, network, snapshot
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from compress_lib.network import masks
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import channel_lasso, dcp, filters, gal, slimming, thinet
from compress_lib.pruning.surgery.propagation import ChannelPropagation


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
        model = invariant.randomize_(nn.Sequential(make(2, 4, 3), norm, pool, make(4, 3, 1), nn.Flatten(1, -1)))
        x = torch.zeros(2, 2, *[6] * dims, dtype=torch.float64)
        invariant.check(model.eval(), x, {"0": [0, 2]})


def test_token_embeddings_are_followed_up_to_the_first_layer():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
    tokens = torch.randint(9, (2, 3))
    smaller, _ = surgery.remove(model, tokens, {"1": [0, 5]})
    assert smaller(tokens).shape == (2, 3, 5)


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


BAD_INDICES = [
    ([-1], ValueError, r"removals\['0'\]: the layer has channels 0 to 3, got \[-1\]"),
    ([0, 4], ValueError, r"channels 0 to 3, got \[0, 4\]"),
    ([1, 1], ValueError, r"removals\['0'\]: channels are repeated: \[1, 1\]"),
    (torch.tensor([True, False, False, False]), TypeError, r"whole numbers, the indices of channels, got \[True"),
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
        ValueError, match=rf"Net cannot be traced by torch.fx: .*test_coupling.py:{line}, in forward: if x.sum\(\) > 0"
    ):
        surgery.groups(Net(forward, a=conv(3, 4)), IMAGE)
    lazy = nn.Sequential(nn.LazyConv2d(4, 1), conv(4, 1))
    with pytest.raises(ValueError, match="layer '0' is lazy and has no weights yet"):
        surgery.groups(lazy, IMAGE)


# --- one coupling, many removals --------------------------------------------------------------------------------------


def test_a_coupling_cuts_the_weights_that_the_model_has_by_then():
    model = network()
    coupling = surgery.Coupling(model, IMAGE)
    first, _ = coupling.remove({"0": [1]})
    with torch.no_grad():
        model[3].weight[:, [0, 2, 3]] *= 2
    second, report = coupling.remove({"0": [1]})
    assert torch.equal(second[3].weight, 2 * first[3].weight)
    third, _ = surgery.remove(model, IMAGE, {"0": [1]})
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), third.parameters(), strict=True))
    assert report.kept_inputs["3"].tolist() == [0, 2, 3]


def test_the_channels_of_units_are_what_remove_takes():
    model = nn.Sequential(conv(3, 2), conv(2, 6, groups=2), conv(6, 1))
    coupling = surgery.Coupling(model, IMAGE)
    removals = coupling.groups[0].removals(torch.tensor([1]))
    assert {layer: channels.tolist() for layer, channels in removals.items()} == {"0": [1], "1": [3, 4, 5]}
    smaller, _ = coupling.remove(removals)
    assert (smaller[0].out_channels, smaller[1].out_channels, smaller[2].in_channels) == (1, 3, 3)


def train_images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(100, 3, 6, 6, generator=generator), torch.randint(2, (100,), generator=generator)


METHODS = {
    "filters": lambda model, images, labels: filters.prune(model, IMAGE, 0.5),
    "slimming": lambda model, images, labels: slimming.prune(model, IMAGE, 0.5),
    "thinet": lambda model, images, labels: thinet.prune(model, IMAGE, 0.5, images),
    "channel_lasso": lambda model, images, labels: channel_lasso.prune(model, IMAGE, 0.5, images),
    "dcp": lambda model, images, labels: dcp.prune(model, IMAGE, 0.5, images, labels, steps=1),
    "gal": lambda model, images, labels: gal.prune(model, IMAGE, images, penalty=5.0, mask_lr=0.1, epochs=3),
    "surgery.remove": lambda model, images, labels: surgery.remove(model, IMAGE, {"0": [0]}),
}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_couples_the_channels_once(method, monkeypatch):
    runs = []
    propagate = ChannelPropagation.propagate
    monkeypatch.setattr(ChannelPropagation, "propagate", lambda self, x: (runs.append(self), propagate(self, x)))
    _, report = METHODS[method](network(), *train_images())
    assert report.kept_outputs
    assert len(runs) == 1
