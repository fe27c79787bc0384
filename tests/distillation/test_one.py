import copy
import math

import pytest
import torch
from students import assert_resumes, convolutional, equal_states, mlp, some
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import one
from compress_lib.models.resnet import ResNet

IMAGE = torch.zeros(1, 1, 28, 28)


def multi_branch(seed=0, branches=3):
    network = convolutional(seed)
    return one.convert(network, "2", IMAGE, branches=branches)


def test_the_loss_by_hand():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    gates, labels = torch.rand(5, 3, dtype=torch.float64).softmax(1), torch.randint(4, (5,))
    ensemble = sum(gates[:, i : i + 1] * logits[:, i] for i in range(3))
    expected = F.cross_entropy(ensemble, labels)
    p = F.softmax(ensemble.detach() / 2, 1)
    for i in range(3):
        divergence = (p * (p.log() - F.log_softmax(logits[:, i] / 2, 1))).sum(1).mean()
        expected = expected + F.cross_entropy(logits[:, i], labels) + 0.3 * 4 * divergence
    found = one.loss(logits, gates, labels, temperature=2.0, strength=0.3)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_ensemble_does_not_move_towards_its_branches():
    """The gradient of the gates is that of the ensemble's cross-entropy, at any strength."""
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3, 4, dtype=torch.float64), torch.randint(4, (5,))
    scores = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for strength in (0.0, 5.0):
        loss = one.loss(logits, scores.softmax(1), labels, strength=strength)
        found.append(torch.autograd.grad(loss, scores)[0])
    assert torch.equal(*found) and found[0].norm() > 0
    assert torch.autograd.gradcheck(lambda s: one.loss(logits, s.softmax(1), labels, strength=0.0), scores)


@pytest.mark.parametrize("done", [0.0, 0.7])
def test_one_branch_has_twice_the_gradient_of_plain_training(fashion, done):
    images, labels = training.as_input(fashion[0][:64]), fashion[1][:64]
    network = mlp().train()
    model = one.convert(network, "2", IMAGE, branches=1)
    assert torch.equal(model(images, all_branches=True)[1], torch.ones(64, 1))
    loss = one.objective()
    loss.at(done)
    loss(model, images, labels).backward()
    F.cross_entropy(network(images), labels).backward()
    found = {name: p.grad for part in (model.trunk, model.branches[0]) for name, p in part.named_parameters()}
    assert len(found) == 4
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], 2 * parameter.grad)
    assert all(p.grad.abs().max() < 1e-12 for p in model.gate.parameters())


def test_the_train_form_has_one_trunk_and_branches_of_their_own():
    network = ResNet(8, in_channels=1).train()
    before = copy.deepcopy(network)
    model = one.convert(network, "stage2", IMAGE)
    assert equal_states(network, before) and model.training
    images = torch.randn(4, 1, 28, 28)
    model.eval()
    logits, gates = model(images, all_branches=True)
    assert logits.shape == (4, 3, 10) and gates.shape == (4, 3)
    torch.testing.assert_close(gates.sum(1), torch.ones(4))
    assert torch.equal(logits[:, 0], network.eval()(images)) and torch.equal(model(images), logits[:, 0])
    assert len({tuple(logits[0, i].tolist()) for i in range(3)}) == 3
    torch.testing.assert_close(one.Ensemble(model)(images), torch.einsum("nb,nbc->nc", gates, logits))
    count = {part: sum(p.numel() for p in getattr(network, part).parameters()) for part in ("stage3", "fc")}
    extra = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in network.parameters())
    assert extra == 2 * (count["stage3"] + count["fc"]) + (32 * 3 + 3) + 2 * 3
    weights = [branch.get_submodule("stage3.0.conv1").weight for branch in model.branches]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0].flatten().sort().values, weights[1].flatten().sort().values)
    # Only the branch that is deployed runs when nothing else is asked for.
    called = []
    hook = model.branches[1].register_forward_hook(lambda *_: called.append(1))
    model(images)
    hook.remove()
    assert not called


def test_deploy_is_the_plain_architecture_with_the_trained_weights(fashion):
    model, loss = multi_branch(), one.objective()
    run = {"epochs": 3, "seed": 0, "batch_size": 50, "progress": False}
    history = training.fit(model, *fashion, **run, objective=loss, before_step=loss.at)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    plain = one.deploy(model)
    assert type(plain) is type(convolutional()) and not equal_states(plain, convolutional())
    assert torch.equal(training.predict(plain, fashion[0]), training.predict(model, fashion[0]))
    assert training.accuracy(plain, *fashion) > 0.5 and training.accuracy(one.Ensemble(model), *fashion) > 0.5


def test_runs_resume_bit_for_bit(fashion, tmp_path):
    def train(model, **options):
        loss = one.objective(ramp_length=1.0)
        return training.fit(model, *some(fashion), objective=loss, before_step=loss.at, **options)

    assert_resumes(train, multi_branch, tmp_path)


def test_the_ramp_goes_up_to_1_and_stays():
    values = [one.ramp(done / 100, 0.5) for done in range(100)]
    assert values[0] == pytest.approx(math.exp(-5)) and values[25] == pytest.approx(math.exp(-5 / 4))
    assert values[:50] == sorted(values[:50]) and set(values[50:]) == {1.0}


def test_bad_arguments(fashion):
    with pytest.raises(ValueError, match="branches must be at least 1, got 0"):
        one.convert(mlp(), "2", IMAGE, branches=0)
    with pytest.raises(ValueError, match="Sequential has no layer 'stage2'"):
        one.convert(mlp(), "stage2", IMAGE)
    with pytest.raises(ValueError, match="ramp_length must be"):
        one.objective(ramp_length=0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        one.objective(temperature=-1)
    with pytest.raises(ValueError, match=r"logits must be \(N, branches, classes\) .*, got \(2, 3\) and \(2, 3\)"):
        one.loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2).long())
    with pytest.raises(ValueError, match="OneObjective needs training.fit"):
        training.fit(multi_branch(), *fashion, epochs=1, seed=0, objective=one.objective(), progress=False)
