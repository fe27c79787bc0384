import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.data import normalize
from compress_lib.models.zoo import build


def small_network(seed=0):
    """Everything that could break a resumed run: batch statistics, dropout, momentum."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10)
    )


def equal_states(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("stop_after", [1, 2])
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(fashion, tmp_path, stop_after):
    settings = {"epochs": 4, "seed": 5, "augment": True, "progress": False}
    whole = small_network()
    expected = training.fit(whole, *fashion, **settings)

    def interrupt(epoch, model):
        if epoch > stop_after:
            raise KeyboardInterrupt
        return {}

    checkpoint = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        training.fit(small_network(), *fashion, **settings, checkpoint=checkpoint, after_epoch=interrupt)
    resumed = small_network(seed=99)  # the checkpoint decides, not what the new process starts with
    history = training.fit(resumed, *fashion, **settings, checkpoint=checkpoint)
    assert equal_states(whole, resumed)
    assert [entry["loss"] for entry in history] == [entry["loss"] for entry in expected]
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_global_random_state_is_left_alone(fashion):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    torch.manual_seed(1)
    training.fit(model, *fashion, epochs=1, seed=0, progress=False)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_two_processes_follow_the_loss_curve_of_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import json, pathlib, sys, torch\n"
        "from accelerate import PartialState\n"
        "from compress_lib import data, training\n"
        "from compress_lib.models.zoo import build\n"
        "torch.set_num_threads(1)\n"
        "images, labels = data.fashion_mnist('train')\n"
        "torch.manual_seed(0)\n"
        "model = build('lenet-300-100')\n"
        "history = training.fit(model, images[:1280], labels[:1280], epochs=3, seed=3, augment=True, progress=False)\n"
        "state = PartialState()\n"
        "if state.is_main_process:\n"
        "    found = {'processes': state.num_processes, 'losses': [e['loss'] for e in history]}\n"
        "    pathlib.Path(sys.argv[1]).write_text(json.dumps(found))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = {}
    for processes, command in ((1, [sys.executable]), (2, launch)):
        out = tmp_path / f"{processes}.json"
        subprocess.run(
            [*command, str(script), str(out)], check=True, capture_output=True, cwd=Path(__file__).parents[1]
        )
        found[processes] = json.loads(out.read_text())
        assert found[processes]["processes"] == processes
    assert found[1]["losses"][-1] < found[1]["losses"][0]
    assert found[2]["losses"] == pytest.approx(found[1]["losses"], rel=1e-5)


def test_first_step_is_nesterov_sgd_with_weight_decay(fashion):
    images, labels = fashion
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = copy.deepcopy(model)
    training.fit(model, images, labels, epochs=1, seed=0, batch_size=1000, lr=0.1, weight_decay=0.01, progress=False)
    F.cross_entropy(before(normalize(images)), labels).backward()
    rate = 0.1 / (0.1 * 1 + 1)  # the one step lies inside the warm-up
    for p, q in zip(before.parameters(), model.parameters(), strict=True):
        expected = p - rate * 1.9 * (p.grad + 0.01 * p)  # Nesterov's first step: (1 + momentum) · gradient
        torch.testing.assert_close(q, expected, rtol=1e-5, atol=1e-6)


def test_schedule_rises_then_falls_to_zero():
    rates = [training._schedule(step, 1000, 0.1) for step in range(1000)]
    peak = max(range(1000), key=rates.__getitem__)
    assert 0 < rates[0] < 0.02 and peak == 100 and rates[100] == 1 and rates[-1] < 1e-4
    assert all(a < b for a, b in itertools.pairwise(rates[:101]))
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))


def test_random_crop_flip_picks_crops_of_the_padded_image():
    images = torch.randint(0, 256, (40, 2, 7, 6), dtype=torch.uint8)
    out = training.random_crop_flip(images, torch.Generator().manual_seed(0), padding=2)
    seen = set()
    for image, result in zip(images, out, strict=True):
        padded = F.pad(image, (2, 2, 2, 2))
        crops = {
            (i, j, flip): padded[:, i : i + 7, j : j + 6].flip([2] if flip else [])
            for i, j, flip in itertools.product(range(5), range(5), (False, True))
        }
        matches = {place for place, crop in crops.items() if torch.equal(result, crop)}
        assert matches
        seen |= matches
    assert {flip for *_, flip in seen} == {False, True} and len(seen) > 15
    again = training.random_crop_flip(images, torch.Generator().manual_seed(0), padding=2)
    assert torch.equal(out, again)


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_get_their_channels_innermost_and_give_them_so(channels):
    images = torch.randn(5, channels, 6, 7)
    for given in (images, images.transpose(2, 3).contiguous().transpose(2, 3)):
        last = training.channels_last(given)
        assert torch.equal(last, images) and last.stride() == (42 * channels, 1, 7 * channels, channels)
        assert nn.Conv2d(channels, 4, 3)(last).stride() == (4 * 4 * 5, 1, 4 * 5, 4)
    seen = []
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(80, 2))
    model[0].register_forward_hook(lambda _, given, out: seen.append(out.stride(1)))
    training.predict(model, images)
    training.fit(model, images, torch.zeros(5, dtype=torch.int64), epochs=1, seed=0, batch_size=5, progress=False)
    assert seen == [1, 1]
    assert torch.equal(training.channels_last(images[0]), images[0])


def test_predicting_leaves_each_module_in_its_mode():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model[1].eval()  # as whoever trains with fixed normalizations has it
    training.predict(model, torch.randn(3, 1, 2, 2))
    assert [module.training for module in model] == [True, False, True, True] and model.training
    with pytest.raises(RuntimeError):
        training.predict(model, torch.randn(3, 1, 5, 5))
    assert [module.training for module in model] == [True, False, True, True]


def test_objective_is_what_is_minimized(fashion):
    def pull_to_one(model, images, labels):
        return sum((p - 1).square().sum() for p in model.parameters())

    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    training.fit(model, *fashion, epochs=20, seed=0, lr=0.1, weight_decay=0, objective=pull_to_one, progress=False)
    assert all((p - 1).abs().max() < 1e-2 for p in model.parameters())


def test_the_objective_gets_its_targets_in_the_form_in_which_they_were_given(fashion):
    images, labels = fashion
    brightness = images.float().mean((1, 2, 3))
    run = {"epochs": 1, "seed": 0, "batch_size": 250, "augment": True, "progress": False}
    model, seen = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), []

    def objective(net, x, targets):
        seen.append(targets)
        return net(x).sum()

    for given in (labels, (labels, brightness), ()):
        training.fit(model, images, given, **run, objective=objective)
    alone, pairs, nothing = seen[:4], seen[4:8], seen[8:]
    assert nothing == [()] * 4
    of_label = {(int(label), float(light)) for label, light in zip(labels, brightness, strict=True)}
    for row, (label, light) in zip(alone, pairs, strict=True):
        assert torch.equal(row, label)  # the same order
        assert {(int(a), float(b)) for a, b in zip(label, light, strict=True)} <= of_label
    with pytest.raises(ValueError, match="labels has 7 entries for 1000 images"):
        training.fit(model, images, (labels, brightness[:7]), **run)


def test_before_step_is_told_how_much_is_done_and_a_weight_that_follows_it_resumes_bit_for_bit(fashion, tmp_path):
    run = {"epochs": 4, "seed": 0, "batch_size": 250, "progress": False}

    class Fading:
        def __init__(self):
            self.told = []

        def __call__(self, model, images, labels):
            return (1 - self.told[-1]) * training.cross_entropy(model, images, labels)

    whole, fading = small_network(), Fading()
    training.fit(whole, *fashion, **run, objective=fading, before_step=fading.told.append)
    assert fading.told == [step / 16 for step in range(16)]

    def interrupt(epoch, model):
        if epoch > 2:
            raise KeyboardInterrupt
        return {}

    run["checkpoint"] = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        first = Fading()
        training.fit(
            small_network(), *fashion, **run, objective=first, before_step=first.told.append, after_epoch=interrupt
        )
    resumed, second = small_network(seed=9), Fading()
    training.fit(resumed, *fashion, **run, objective=second, before_step=second.told.append)
    assert second.told == fading.told[8:] and equal_states(whole, resumed)


def test_after_step_sees_every_step_of_the_optimizer_and_may_change_the_weights(fashion):
    images, labels = fashion
    settings = {"epochs": 2, "seed": 0, "batch_size": 250, "momentum": 0.0, "weight_decay": 0.0, "progress": False}
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    seen, starts = [], []

    def objective(net, x, y):
        starts.append(net[1].weight.detach().clone())
        return training.cross_entropy(net, x, y)

    def halve(net, lr):
        assert net is model
        moved = net[1].weight.detach() - starts[-1]
        torch.testing.assert_close(moved, -lr * net[1].weight.grad, rtol=1e-4, atol=1e-7)
        net[1].weight.data /= 2
        seen.append((lr, net[1].weight.detach().clone()))

    history = training.fit(model, images, labels, **settings, objective=objective, after_step=halve)
    expected = [0.05 * training._schedule(step, 8, 0.1) for step in range(8)]
    assert [lr for lr, _ in seen] == expected and history[-1]["lr"] == expected[-1]
    for (_, left), found in zip(seen[:-1], starts[1:], strict=True):
        assert torch.equal(left, found)  # the next step starts where the hook left off
    assert torch.equal(seen[-1][1], model[1].weight)


def test_frozen_parameters_stay(fashion):
    model = small_network()
    model[0].requires_grad_(False)
    before = copy.deepcopy(model)
    training.fit(model, *fashion, epochs=1, seed=0, progress=False)
    assert torch.equal(model[0].weight, before[0].weight) and not torch.equal(model[5].weight, before[5].weight)


def test_mixed_precision_leaves_the_model_unwrapped(fashion):
    model = small_network()
    training.fit(model, *fashion, epochs=1, seed=0, precision="bf16", progress=False)
    assert "forward" not in vars(model) and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(normalize(fashion[0][:2])).dtype == torch.float32


def test_accuracy_counts_every_image_and_restores_the_mode(fashion):
    images, labels = fashion
    model = small_network().train()
    found = training.accuracy(model, images, labels, batch_size=333)
    assert model.training
    assert training.accuracy(model.eval(), images, labels) == found and not model.training
    logits = model(normalize(images))
    assert found == sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True)) / 1000


def test_learning_happens_on_real_images(fashion):
    torch.manual_seed(0)
    model = build("lenet-300-100")
    history = training.fit(model, *fashion, epochs=8, seed=0, batch_size=50, progress=False)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert training.accuracy(model, *fashion) > 0.85


def test_refuses_bad_arguments(fashion, tmp_path):
    images, labels = fashion
    run = {"epochs": 1, "seed": 0, "progress": False}
    with pytest.raises(ValueError, match="labels has 3 entries for 1000 images"):
        training.fit(small_network(), images, labels[:3], **run)
    with pytest.raises(ValueError, match="epochs=0"):
        training.fit(small_network(), images, labels, epochs=0, seed=0)
    with pytest.raises(ValueError, match="precision='fp16'"):
        training.fit(small_network(), images, labels, **run, precision="fp16")
    with pytest.raises(ValueError, match="batch_size=1001"):
        training.fit(small_network(), images, labels, **run, batch_size=1001)
    with pytest.raises(ValueError, match="no parameter to train"):
        training.fit(nn.Flatten(), images, labels, **run)
    with pytest.raises(ValueError, match="labels has 3"):
        training.accuracy(small_network(), images, labels[:3])
    with pytest.raises(ValueError, match="images is empty"):
        training.predict(small_network(), images[:0])


def test_diverging_run_says_so(fashion):
    with pytest.raises(FloatingPointError, match="epoch 1.*lr"):
        training.fit(small_network(), *fashion, epochs=1, seed=0, lr=1e20, progress=False)


def test_refuses_damaged_or_foreign_checkpoint(fashion, tmp_path):
    checkpoint = tmp_path / "state.pt"
    training.fit(small_network(), *fashion, epochs=1, seed=0, checkpoint=checkpoint, progress=False)
    model = small_network()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="another run.*seed"):
        training.fit(model, *fashion, epochs=1, seed=1, checkpoint=checkpoint, progress=False)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ValueError, match="state.pt.* cannot be read"):
        training.fit(model, *fashion, epochs=1, seed=0, checkpoint=checkpoint, progress=False)
    assert equal_states(model, before)


def test_failed_save_keeps_the_last_checkpoint(fashion, tmp_path, monkeypatch):
    checkpoint = tmp_path / "state.pt"
    training.fit(small_network(), *fashion, epochs=1, seed=0, checkpoint=checkpoint, progress=False)
    content = checkpoint.read_bytes()

    def full_disk(state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        training._save(checkpoint, {}, nn.Linear(1, 1), torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1), [])
    assert checkpoint.read_bytes() == content and list(tmp_path.iterdir()) == [checkpoint]
