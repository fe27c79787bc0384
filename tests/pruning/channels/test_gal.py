import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch import nn

from compress_lib.models import zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.channels import consumers, gal
from compress_lib.training import accuracy

IMAGES = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def network(seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(20, 4),
    ).eval()  # fmt: skip


# --- FISTA ------------------------------------------------------------------------------------------------------------


def problem(seed, size=8):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(40, size)) @ (np.eye(size) + generator.normal(size=(size, size)))
    return x, x @ generator.normal(size=size).clip(-0.5) + generator.normal(size=40)


def descend(x, y, penalty, steps, momentum=True):
    """Minimize ‖xm − y‖²/2 + penalty ‖m‖₁ over m ≥ 0; all solutions on the way."""
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    lr = 1 / torch.linalg.matrix_norm(x.T @ x, 2).item()
    point = solution = torch.ones(x.shape[1], dtype=torch.float64)
    time, found = 1.0, []
    for _ in range(steps):
        point, solution, time = gal.fista_step(point, solution, time, x.T @ (x @ point - y), lr, penalty)
        time = time if momentum else 1.0
        found.append(solution.numpy())
    return found


def objective(x, y, penalty, m):
    return ((x @ m - y) ** 2).sum() / 2 + penalty * abs(m).sum()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.01, 0.8))
def test_it_converges_to_the_non_negative_lasso(seed, share):
    x, y = problem(seed, 4)
    penalty = share * max(x.T @ y)
    if penalty <= 0:
        return
    peer = Lasso(penalty / len(y), fit_intercept=False, positive=True, tol=1e-12, max_iter=10**6).fit(x, y)
    found = descend(x, y, penalty, 3000)[-1]
    np.testing.assert_allclose(found, peer.coef_, atol=1e-5 * (1 + abs(peer.coef_).max()))
    assert (found[peer.coef_ == 0] < 1e-6).all()


@pytest.mark.parametrize("seed", range(3))
def test_momentum_needs_fewer_steps_and_zeros_are_exact(seed):
    x, y = problem(seed)
    x = x * np.logspace(0, -1, 8)  # ill-conditioned
    penalty = 0.01 * max(x.T @ y)
    peer = Lasso(penalty / len(y), fit_intercept=False, positive=True, tol=1e-12, max_iter=10**6).fit(x, y)
    best = objective(x, y, penalty, peer.coef_)

    def steps_needed(path):
        return next(i for i, m in enumerate(path) if objective(x, y, penalty, m) < best * (1 + 1e-6))

    fast, slow = descend(x, y, penalty, 3000), descend(x, y, penalty, 3000, momentum=False)
    assert 2 * steps_needed(fast) < steps_needed(slow)
    assert ((fast[-1] == 0) == (peer.coef_ == 0)).all()


def test_without_momentum_the_objective_falls_as_ista_promises():
    """After k steps the gap is at most L ‖m₀ − m*‖² / 2k, with momentum 2 L ‖m₀ − m*‖² / (k + 1)² (Beck & Teboulle)."""
    x, y = problem(0)
    penalty = 0.05 * max(x.T @ y)
    peer = Lasso(penalty / len(y), fit_intercept=False, positive=True, tol=1e-12, max_iter=10**6).fit(x, y)
    best = objective(x, y, penalty, peer.coef_)
    bound = np.linalg.norm(x.T @ x, 2) * ((1 - peer.coef_) ** 2).sum()
    fast, plain_steps = descend(x, y, penalty, 300), descend(x, y, penalty, 300, momentum=False)
    for k, (m, plain) in enumerate(zip(fast, plain_steps, strict=True), 1):
        assert objective(x, y, penalty, m) - best <= 2 * bound / (k + 1) ** 2 + 1e-9
        assert objective(x, y, penalty, plain) - best <= bound / (2 * k) + 1e-9


def test_one_step_by_hand():
    one = torch.ones(3)
    point, solution, time = gal.fista_step(one, one, 1.0, torch.tensor([2.0, 0.0, 9.5]), 0.1, 0.5)
    torch.testing.assert_close(solution, torch.tensor([0.75, 0.95, 0.0]))
    assert torch.equal(point, solution)  # no momentum yet
    assert time == pytest.approx((1 + 5**0.5) / 2)
    ahead, later, _ = gal.fista_step(point, solution, time, torch.tensor([1.0, 0.0, 0.0]), 0.1, 0.5)
    torch.testing.assert_close(later, torch.tensor([0.6, 0.9, 0.0]))
    pull = (time - 1) / ((1 + (1 + 4 * time**2) ** 0.5) / 2)
    torch.testing.assert_close(ahead, later + pull * torch.tensor([-0.15, -0.05, 0.0]))


# --- masks ------------------------------------------------------------------------------------------------------------


def test_masks_are_multiplied_where_channels_are_read_and_can_be_folded():
    model = network()
    found, _ = consumers.candidates(surgery.Coupling(model, IMAGES[:2]))
    assert [candidate.layer for candidate in found] == ["0", "4"]
    torch.manual_seed(0)
    masks = [torch.rand(candidate.size) for candidate in found]
    expected = nn.functional.conv2d(model[:4](IMAGES) * masks[0].view(1, -1, 1, 1), model[4].weight, model[4].bias)
    expected = model[7]((expected.relu() * masks[1].view(1, -1, 1, 1)).flatten(1))
    pairs = zip(found, masks, strict=True)
    hooks = [hook for candidate, mask in pairs for hook in gal._multiply(model, candidate, mask)]
    torch.testing.assert_close(model(IMAGES), expected)
    for hook in hooks:
        hook.remove()
    for candidate, mask in zip(found, masks, strict=True):
        consumers.scale_(model, candidate, mask)
    torch.testing.assert_close(model(IMAGES), expected)


# --- the method -------------------------------------------------------------------------------------------------------


def test_channels_that_do_nothing_go():
    """Three channels are read with weight zero: the data say nothing for them, the penalty all against."""
    model = network()
    model[4].weight.data[:, [1, 3, 4]] = 0
    pruned, report = gal.prune(
        model, IMAGES[:2], IMAGES, layers=["0"], penalty=0.5, mask_lr=0.05, epochs=10, lr=1e-4, batch_size=10
    )
    kept = set(report.kept_outputs["0"].tolist())
    assert kept
    assert kept <= {0, 2, 5}
    assert pruned[0].out_channels == pruned[4].in_channels == len(kept)
    assert report.title == "Generative adversarial learning"
    assert report.skipped == {"4": "not named", "7": "not named"}
    assert not pruned.training


def test_the_result_is_the_student_with_its_masks():
    """Without training of the weights to speak of, the network left is the original with masks on the channels."""
    model = network()
    with pytest.MonkeyPatch.context() as patch:
        solutions = [torch.tensor([0.5, 0, 2, 0, 1, 1]), torch.tensor([1, 0, 1, 0.25, 0])]
        patch.setattr(gal, "_train", lambda *_: solutions)
        pruned, report = gal.prune(model, IMAGES[:2], IMAGES, batch_size=10)
    assert report.kept_outputs["0"].tolist() == [0, 2, 4, 5]
    assert report.kept_outputs["4"].tolist() == [0, 2, 3]
    x = model[4](model[:4](IMAGES) * solutions[0].view(1, -1, 1, 1)).relu() * solutions[1].view(1, -1, 1, 1)
    torch.testing.assert_close(pruned(IMAGES), model[7](x.flatten(1)))
    assert report.skipped == {"7": "the output of the model"}


def test_a_layer_without_masks_keeps_a_channel_and_warns():
    model = network()
    pruned, report = gal.prune(
        model, IMAGES[:2], IMAGES, layers=["4"], penalty=100, mask_lr=0.1, epochs=1, batch_size=20
    )
    assert pruned[4].out_channels == 1
    assert (pruned[7].weight == 0).all()
    assert report.warnings == ["layer '4' has no mask above zero; one channel stays, read with weight zero"]


def test_the_same_seed_gives_the_same_network_and_all_else_is_left_alone():
    model = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    options = {"penalty": 0.3, "epochs": 2, "batch_size": 20}
    first, second, other = (gal.prune(model, IMAGES[:2], IMAGES, seed=seed, **options)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    one, two = first.state_dict().values(), second.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[7].bias, other[7].bias)
    assert model.training
    assert not model[4]._forward_pre_hooks
    assert not first[4]._forward_pre_hooks
    assert all(parameter.grad is None for parameter in first.parameters())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"penalty": 0}, "penalty must be positive and finite, got 0"),
        ({"epochs": 0}, "epochs must be positive and finite, got 0"),
        ({"mask_lr": -1}, "mask_lr must be positive and finite, got -1"),
        ({"batch_size": 1}, "batch_size must be from 2 to the number of images, 60, got 1"),
        ({"batch_size": 61}, "batch_size must be from 2"),
        ({"layers": ["7"]}, "layer '7' cannot lose channels: the output of the model"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gal.prune(network(), IMAGES[:2], IMAGES, **({"batch_size": 20} | options))


def test_a_single_name_is_refused():
    with pytest.raises(TypeError, match="layers must be a collection of layer names, got the single string '0'"):
        gal.prune(network(), IMAGES[:2], IMAGES, layers="0", batch_size=20)


def test_divergence_is_an_error():
    with pytest.raises(FloatingPointError, match=r"try smaller lr=1e\+20"):
        gal.prune(network(), IMAGES[:2], IMAGES, lr=1e20, batch_size=20)


def test_the_real_network_without_labels(fashion):
    images, labels = fashion
    model = zoo.load("lenet-5")
    pruned, report = gal.prune(
        model, torch.zeros(1, 1, 28, 28), images[:600], layers=["fc1"], penalty=0.3, epochs=3, batch_size=20
    )
    assert len(report.kept_outputs["fc1"]) < 350
    assert accuracy(pruned, images[600:], labels[600:]) > 0.8
