"""What a removal leaves and what it may not change. The invariant has test_invariant and test_random_networks."""

import invariant
import pytest
import torch
from networks import IMAGE, Net, assert_unchanged, conv, network, snapshot
from torch import nn
from torch.nn import functional as F

from compress_lib.pruning import surgery
from compress_lib.pruning.surgery import cutting

# --- removing ---------------------------------------------------------------------------------------------------------


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
    found, given = smaller.state_dict().values(), model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(found, given, strict=True))


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
    model = invariant.randomize_(network().eval())
    x = IMAGE.double()
    smaller, _ = invariant.check(model, x, {"0": [1]})
    smallest, report = invariant.check(smaller, x, {"0": [0], "3": [0]})
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
    model = invariant.randomize_(Net(forward, a=conv(3, 4), b=conv(4, 1), c=conv(4, 2)))
    invariant.check(model, IMAGE.double(), {"a": [0, 1]})


# --- what may not change ----------------------------------------------------------------------------------------------


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


# --- checked ----------------------------------------------------------------------------------------------------------


def test_a_size_that_the_rules_do_not_foresee():
    """The last net: the smaller network does not run, and the line is named."""
    model = Net(lambda n, x: n.b(n.a(x).mean((2, 3)).squeeze()), a=conv(3, 2), b=nn.Linear(2, 1))
    with pytest.raises(
        ValueError, match=r"does not run without channels of \['a'\]: .*test_removal.py:\d+, in <lambda>"
    ):
        surgery.remove(model, IMAGE, {"a": [0]})


def test_a_random_model_is_refused():
    model = Net(lambda n, x: n.b(F.dropout(n.a(x))), a=conv(3, 4), b=conv(4, 1))
    with pytest.raises(ValueError, match="model=Net is random in evaluation mode"):
        surgery.remove(model, IMAGE, {"a": [0]})


def test_a_wrong_network_is_not_returned(monkeypatch):
    """Were a rule wrong, the check would see it, on whatever input it is given."""
    monkeypatch.setattr(cutting, "zero_other_inputs_", lambda layer, kept: None)
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
