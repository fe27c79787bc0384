"""Deep compression end to end on a real network and few images; sizes and laws rather than accuracies."""

import copy

import pytest
import torch
from torch import nn

from compress_lib import container, data, training
from compress_lib.models import zoo
from compress_lib.pipelines import deep_compression
from compress_lib.quantization.integer import folding

KEEP = {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26}
SHORT = {"rounds": 2, "epochs": 1, "share_epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def dense():
    return zoo.load("lenet-300-100")


@pytest.fixture(scope="module")
def compressed(dense, fashion):
    stages = {}
    before = copy.deepcopy(dense.state_dict())
    model, report = deep_compression.compress(dense, *fashion, keep=KEEP, k=16, on_stage=stages.__setitem__, **SHORT)
    assert all(before[name].equal(tensor) for name, tensor in dense.state_dict().items())
    return model, report, stages


def test_every_layer_keeps_its_fraction_and_shares_its_values(compressed):
    model, report, _ = compressed
    assert {row.layer: row.kept for row in report.rows} == {"fc1": 18_816, "fc2": 2_700, "fc3": 260}
    for row in report.rows:
        weight = model.get_submodule(row.layer).weight
        assert weight.count_nonzero() == row.kept
        assert len(weight[weight != 0].unique()) <= row.centroids == 16


def test_each_stage_starts_from_what_the_one_before_left(compressed):
    _, _, stages = compressed
    assert list(stages) == ["pruned", "shared", "tuned"]
    for layer in KEEP:
        pruned, shared, tuned = (stages[name].get_submodule(layer).weight for name in stages)
        assert ((pruned != 0) == (shared != 0)).all() and ((shared != 0) == (tuned != 0)).all()
        assert len(pruned.unique()) > 17 >= len(shared.unique())
        for value in shared.unique():  # who shared a value still does, and training has moved the values
            assert len(tuned[shared == value].unique()) == 1
        assert not tuned.equal(shared)


def test_all_numbers_are_exact_in_half_precision(compressed):
    assert all(tensor.equal(tensor.half().float()) for tensor in compressed[0].state_dict().values())


def test_the_file_gives_back_the_same_network(compressed, tmp_path):
    path = tmp_path / "network.cnet"
    budget = container.save(compressed[0], path, architecture="lenet-300-100")
    restored = container.load(path)
    test = data.fashion_mnist("test")[0]
    assert training.predict(restored, test).equal(training.predict(compressed[0], test))
    assert budget.nbytes == path.stat().st_size < 26_672  # a fortieth of the dense file


def test_a_call_that_was_finished_is_not_trained_again(dense, fashion, compressed, tmp_path, monkeypatch):
    def call():
        return deep_compression.compress(dense, *fashion, keep=KEEP, k=16, work=tmp_path / "work", **SHORT)[0]

    first = call().state_dict()
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *_: pytest.fail("it trains again"))
    again = call().state_dict()
    assert all(first[name].equal(again[name]) and first[name].equal(compressed[0].state_dict()[name]) for name in first)


def test_what_is_done_before_sharing_lies_between_pruning_and_sharing(fashion):
    """Folded normalizations: after pruning, whose zeros stay, and before sharing, whose values stay shared."""
    torch.manual_seed(0)
    model, keep = zoo.build("squeezenet-small"), {"features.2.expand3x3.0": 0.25, "scores": 0.5}
    seen = []

    def fold(network):
        seen.append(copy.deepcopy(network))
        return folding.fold(network, data.normalize(fashion[0][:1]))[0]

    few = [tensor[:256] for tensor in fashion]
    short = {"rounds": 1, "epochs": 1, "share_epochs": 1, "progress": False}
    tuned, _ = deep_compression.compress(model, *few, keep=keep, k=8, before_sharing=fold, **short)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in tuned.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in seen[0].modules())
    for layer in keep:
        weight = tuned.get_submodule(layer).weight
        assert torch.equal(weight != 0, seen[0].get_submodule(layer).weight != 0)
        assert len(weight[weight != 0].unique()) <= 8
    assert len(tuned.features[2].expand1x1[0].weight.unique()) > 200  # of 256 in a layer that keep does not name


def test_it_trains_on_the_objective_it_is_given(dense, fashion):
    def nothing(model, x, y):
        return 0 * model(x).sum()

    free = {"objective": nothing, "rounds": 1, "epochs": 1, "share_epochs": 1, "progress": False}
    stages = {}
    deep_compression.compress(dense, *fashion, keep={"fc1": 1.0}, k=2, on_stage=stages.__setitem__, **free)
    tuned, shared = (stages[name].get_submodule("fc1").weight for name in ("tuned", "shared"))
    assert torch.equal(tuned, shared.half().float())  # without a gradient and without decay nothing moves


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"keep": {"fc1": 0.0}, "k": 4}, ValueError, "fc1.*in \\(0, 1\\]"),
        ({"keep": {}, "k": 4}, TypeError, "keep"),
        ({"keep": {"fc9": 0.5}, "k": 4}, ValueError, "fc9"),
        ({"keep": KEEP, "k": {"fc1": 4}}, ValueError, "k must name the layers"),
        ({"keep": {"fc3": 0.01}, "k": 11}, ValueError, "fc3.*1 to 10"),
        ({"keep": KEEP, "k": 4, "rounds": 0}, ValueError, "rounds"),
    ],
)
def test_bad_arguments_are_named(dense, fashion, arguments, error, words):
    settings = {"rounds": 1, "epochs": 1, "progress": False} | arguments
    with pytest.raises(error, match=words):
        deep_compression.compress(dense, *fashion, **settings)


def test_numbers_beyond_half_precision_are_refused(dense, fashion):
    large = copy.deepcopy(dense)
    with torch.no_grad():
        large.fc3.bias[0] = 1e5

    def nothing(model, x, y):
        return 0 * model(x).sum()

    with pytest.raises(ValueError, match="fc3.bias.*float16"):
        deep_compression.compress(
            large, *fashion, keep=KEEP, k=4, objective=nothing, rounds=1, epochs=1, share_epochs=0, progress=False
        )
