import itertools

import pytest
import torch
from torch import nn

from compress_lib.data import normalize
from compress_lib.models import zoo
from compress_lib.quantization.integer import conversion, fake_quant, ptq, qat
from compress_lib.training import accuracy, predict


@pytest.fixture(scope="module")
def trained(fashion):
    """What each method makes of LeNet-300-100 with 2 bits; also the train form at the end."""
    images, labels = fashion
    model, found = zoo.load("lenet-300-100"), {}
    for method in qat.METHODS:
        last = []
        deployed, report = qat.train(
            model, images[:500], labels[:500], epochs=3, seed=0, batch_size=50, weight_bits=2, activation_bits=2,
            range="mse", weight_range="mse", method=method, progress=False,
            after_epoch=lambda epoch, network, last=last: last.append(network) or {},
        )  # fmt: skip
        found[method] = deployed, report, last[-1]
    return model, found


@pytest.mark.parametrize("method", qat.METHODS)
def test_training_recovers_what_rounding_lost(trained, fashion, method):
    images, labels = fashion
    model, found = trained
    rounded, _ = ptq.quantize(model, images[:500], weight_bits=2, activation_bits=2, range="mse", weight_range="mse")
    deployed, report, _ = found[method]
    after, before = (accuracy(network, images[:800], labels[:800]) for network in (deployed, rounded))
    assert after > before + 0.05
    assert [row.weight_bits for row in report.rows] == [2, 2, 2]
    assert deployed.fc1.weight.unique().tolist() == [-1, 0, 1]
    assert "Quantization-aware training" in str(report)


@pytest.mark.parametrize("method", qat.METHODS)
def test_what_is_deployed_is_what_was_trained(trained, fashion, method):
    images, _ = fashion
    deployed, _, network = trained[1][method]
    a, b = predict(network, images), predict(deployed, images)
    assert (a.argmax(1) == b.argmax(1)).double().mean() >= 0.995
    assert ((a - b).abs() < 1e-4).double().mean() > 0.98


def test_the_model_is_left_alone(trained):
    state = zoo.load("lenet-300-100").state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in trained[0].state_dict().items())


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(2704, 10)
    )


def run(monkeypatch, fashion, **options):
    """Train a small network; also the scale of its input's grid after each step."""
    scales = []
    fit = qat.fit

    def watched(network, *arguments, after_step, **rest):
        def after(model, lr):
            after_step(model, lr)
            scales.append([q.scale.item() for q in model.modules() if isinstance(q, fake_quant.ActivationQuantizer)])

        return fit(network, *arguments, after_step=after, **rest)

    monkeypatch.setattr(qat, "fit", watched)
    images, labels = fashion
    deployed, _ = qat.train(
        small(), images[:200], labels[:200], epochs=2, seed=0, batch_size=20, calibration=40, progress=False, **options
    )
    return deployed, scales


def test_ranges_follow_the_first_half_of_the_steps(monkeypatch, fashion):
    deployed, scales = run(monkeypatch, fashion)
    assert len(scales) == 20 and len(scales[0]) == 2
    changes = [before != after for before, after in itertools.pairwise(scales)]
    assert changes == [True] * 9 + [False] * 10
    assert deployed.get_submodule("0").input_qparams.scale == scales[-1][0]


def test_other_ranges_stay(monkeypatch, fashion):
    _, scales = run(monkeypatch, fashion, range="percentile")
    assert all(row == scales[0] for row in scales)


def test_dsq_learns_its_ranges(monkeypatch, fashion):
    _, scales = run(monkeypatch, fashion, method="dsq", weight_bits=3, activation_bits=3)
    assert len({row[0] for row in scales}) > 10


@pytest.mark.parametrize("method", qat.METHODS)
def test_an_interrupted_run_goes_on_where_it_was(fashion, tmp_path, method):
    images, labels = (t[:200] for t in fashion)

    def trained(checkpoint, after_epoch=None):
        deployed, _ = qat.train(
            small(), images, labels, epochs=2, seed=0, batch_size=20, calibration=40, progress=False, weight_bits=3,
            activation_bits=3, range="mse", weight_range="mse", method=method, checkpoint=checkpoint,
            after_epoch=after_epoch,
        )  # fmt: skip
        return deployed.state_dict()

    def stop(epoch, network):
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    expected = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run.pt", stop)
    seen = []
    found = trained(tmp_path / "run.pt", lambda epoch, network: seen.append(epoch) or {})
    assert seen == [2]
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_moving_averages_are_not_resumed(fashion, tmp_path):
    images, labels = fashion
    with pytest.raises(ValueError, match="checkpoint must be None with range='moving_average'"):
        qat.train(small(), images, labels, epochs=1, seed=0, checkpoint=tmp_path / "run.pt")


def test_frozen_weights_stay(fashion):
    model = small()
    model[0].weight.requires_grad_(False)
    images, labels = fashion
    deployed, _ = qat.train(
        model, images[:100], labels[:100], epochs=1, seed=0, batch_size=20, calibration=20, progress=False
    )
    plain, _ = ptq.quantize(model, images[:20])
    layers = [network.get_submodule("0") for network in (deployed, plain)]
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(deployed.get_submodule("4").weight, plain.get_submodule("4").weight)


def test_one_step_is_that_of_torch(fashion):
    """Plain SGD from the same train form, written out."""
    images, labels = (t[:20] for t in fashion)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    prepared = conversion.convert(model, normalize(images), weight_bits=4, activation_bits=4, range="min_max")
    fake_quant.calibrate(prepared, images)
    layer = prepared.get_submodule("1").layer
    nn.functional.cross_entropy(prepared(normalize(images)), labels).backward()
    rate = 0.01 * 1 / 1.1  # the warm-up of the one step
    momentum_and_nesterov = 1.9
    weight = (layer.weight - rate * momentum_and_nesterov * layer.weight.grad).detach()
    seen = []
    qat.train(
        model, images, labels, epochs=1, seed=0, batch_size=20, weight_bits=4, activation_bits=4, range="min_max",
        weight_decay=0, progress=False, after_epoch=lambda epoch, network: seen.append(network) or {},
    )  # fmt: skip
    torch.testing.assert_close(seen[0].get_submodule("1").layer.weight.detach(), weight, rtol=1e-4, atol=1e-6)


def test_bad_input(fashion):
    images, labels = fashion
    with pytest.raises(ValueError, match=r"method must be one of \('ste', 'dsq'\), got 'lsq'"):
        qat.train(small(), images, labels, epochs=1, seed=0, method="lsq")
    with pytest.raises(ValueError, match="calibration must be positive, got 0"):
        qat.train(small(), images, labels, epochs=1, seed=0, calibration=0)
    with pytest.raises(ValueError, match="labels has 9 entries for 1000 images"):
        qat.train(small(), images, labels[:9], epochs=1, seed=0, progress=False)
