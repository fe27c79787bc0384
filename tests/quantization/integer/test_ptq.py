import warnings

import pytest
import torch
from torch import fx, nn

from compress_lib.data import fashion_mnist, normalize
from compress_lib.models import zoo
from compress_lib.quantization.integer import agreement, conversion, fake_quant, fixed_point, int8, ptq
from compress_lib.training import accuracy, predict

NAMES = ("lenet-5", "vgg-small", "resnet-20")


@pytest.fixture(scope="module")
def quantized(fashion):
    """Each network with 8 bits: the float one, its train form and its deploy form."""
    images, _ = fashion
    forms = {}
    for name in NAMES:
        model = zoo.load(name)
        prepared = conversion.convert(model, normalize(images[:2]))
        fake_quant.calibrate(prepared, images[:200])
        forms[name] = model, prepared, conversion.deploy(prepared)
    return forms


@pytest.mark.parametrize("name", NAMES)
def test_eight_bits_are_as_good_as_32(quantized, fashion, name):
    images, labels = (t[200:600] for t in fashion)
    model, prepared, deployed = quantized[name]
    before, fake_quantized_logits, logits = (predict(network, images) for network in (model, prepared, deployed))
    agreement = [
        (a.argmax(1) == b.argmax(1)).double().mean() for a, b in ((before, logits), (fake_quantized_logits, logits))
    ]
    assert agreement[0] >= 0.98 and agreement[1] >= 0.995
    assert abs((before.argmax(1) == labels).double().mean() - (logits.argmax(1) == labels).double().mean()) <= 0.01
    assert (fake_quantized_logits - logits).norm() < 0.02 * logits.norm()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rounding", fixed_point.ROUNDINGS)
def test_integers_alone_predict_the_same(quantized, fashion, name, rounding):
    """All images whose two best classes are not a rounding apart."""
    images = fashion[0][600:630]
    _, prepared, deployed = quantized[name]
    with torch.no_grad():
        expected = prepared(normalize(images))
        found = conversion.IntegerRun(deployed, rounding=rounding).run(normalize(images))
    best = expected.topk(2).values
    clear = best[:, 0] - best[:, 1] > 0.3
    assert clear.sum() > 20
    assert torch.equal(found.argmax(1)[clear], expected.argmax(1)[clear])
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_given_the_same_codes_each_layer_is_one_off_at_most_and_seldom(quantized, fashion, name):
    """The three forms of each layer: fake-quantized, on int8 kernels, in integers rounded once and twice."""
    _, prepared, deployed = quantized[name]
    images = normalize(fashion[0][600:605])
    limits = {"int8": 2e-5, "once": 2e-5, "twice": 3e-3}
    differing, total = dict.fromkeys(limits, 0), 0

    class Layers(fx.Interpreter):
        def call_module(self, target, args, kwargs):
            nonlocal total
            result = super().call_module(target, args, kwargs)
            layer = self.fetch_attr(target)
            if getattr(layer, "output_bits", None) is None:
                return result
            fake_quantized_layer = prepared.get_submodule(target)
            expected = layer.output_qparams.quantize(fake_quantized_layer(layer.input_qparams.dequantize(*args)))
            rounded = {rounding: layer.integer(*args, rounding=rounding) for rounding in fixed_point.ROUNDINGS}
            total += result.numel()
            for form, found in {"int8": result, **rounded}.items():
                difference = (found.int() - expected.int()).abs()
                assert difference.max() <= 1
                differing[form] += int(difference.sum())
            return result

    with torch.no_grad():
        Layers(deployed).run(images)
    assert total > 5 * 15_000
    for form, limit in limits.items():
        assert differing[form] <= limit * total
    assert differing["twice"] > 10 * differing["once"]


def test_integers_alone_predict_the_same_on_999_of_1000_images(quantized):
    """LeNet-5 on test images: against the train form and the int8 kernels."""
    _, prepared, deployed = quantized["lenet-5"]
    images = fashion_mnist("test")[0][:3000]
    found = agreement.measure(deployed, images)
    assert found.images == 3000 and found.share >= 0.999
    assert [layer.layer for layer in found.layers] == ["conv1", "conv2", "fc1"]
    assert all(layer.largest <= 1 and layer.differing <= 2e-5 * layer.codes for layer in found.layers)
    assert (predict(prepared, images).argmax(1) == predict(deployed, images).argmax(1)).double().mean() >= 0.999


def test_the_first_layer_by_hand(quantized, fashion):
    """conv1 of LeNet-5 with scales, zero points and rounding written out, in float64."""
    images = normalize(fashion[0][:5])
    model, _, deployed = quantized["lenet-5"]
    seen = normalize(fashion[0][:200]).double()
    scale = ((seen.max() - seen.min()) / 255).float().double()
    zero = (-seen.min() / scale).round()
    codes = (images.double() / scale).round() + zero
    weight = model.conv1.weight.detach().double()
    scales = (weight.abs().amax((1, 2, 3)) / 127).float().double()
    integers = (weight / scales.view(-1, 1, 1, 1)).round()
    bias = (model.conv1.bias.detach().double() / (scale * scales)).round()
    sums = nn.functional.conv2d(codes - zero, integers, bias)
    real = sums * (scale * scales).view(-1, 1, 1)
    out = deployed.conv1.output_qparams
    expected = ((real / out.scale).round() + out.zero_point).clamp(0, 255)
    with torch.no_grad():
        found = deployed.conv1(deployed.grids.x(images))
    difference = (found.double() - expected).abs()
    assert difference.max() <= 1 and difference.double().mean() < 1e-3
    assert torch.equal(deployed.conv1.weight.double(), integers)
    assert torch.equal(deployed.conv1.bias.double(), bias)


def test_the_report(quantized, fashion):
    model = zoo.load("lenet-5")
    deployed, report = ptq.quantize(model, fashion[0][:50], weight_bits={"fc1": 2}, activation_bits=6, range="mse")
    assert [row.layer for row in report.rows] == ["conv1", "conv2", "fc1", "fc2"]
    assert report.weights == 430_500 and report.skipped == {}
    assert [row.weight_bits for row in report.rows] == [8, 8, 2, 8]
    assert {row.input_bits for row in report.rows} == {6}
    zeros = (deployed.fc1.weight == 0).sum().item()
    assert report.rows[2].kept == 400_000 - zeros
    assert "Post-training quantization" in str(report)
    assert deployed.meta["settings"] == {"weight_bits": {"fc1": 2}, "activation_bits": 6, "per_channel": True}


def test_few_bits_need_ranges_that_clip_and_a_scale_per_channel(fashion):
    images, labels = fashion
    model = zoo.load("lenet-5")

    def accuracy_of(**options):
        deployed, _ = ptq.quantize(model, images[:200], weight_bits=3, activation_bits=3, **options)
        return accuracy(deployed, images[200:600], labels[200:600])

    clipped = accuracy_of(range="mse", weight_range="mse")
    assert clipped > accuracy_of(range="min_max", weight_range="min_max", per_channel=False) + 0.05
    assert clipped > accuracy(model, images[200:600], labels[200:600]) - 0.15


def test_more_than_eight_bits_are_next_to_exact(fashion):
    images = fashion[0]
    model = zoo.load("lenet-5")
    deployed, report = ptq.quantize(model, images[:100], weight_bits=16, activation_bits=16)
    assert {row.kernel for row in report.rows} == {"float32"}
    expected = predict(model, images[:100])
    assert (predict(deployed, images[:100]) - expected).norm() < 1e-3 * expected.norm()


def test_float_images_are_taken_as_they_are(fashion):
    images = fashion[0][:50]
    networks = [ptq.quantize(zoo.load("lenet-300-100"), x)[0] for x in (images, normalize(images))]
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_needs_no_labels_and_leaves_the_model_alone(fashion):
    model = zoo.load("vgg-small")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deployed, _ = ptq.quantize(model, fashion[0][:20])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not deployed.training
    assert sum(isinstance(module, int8.QuantizedConv2d) for module in deployed.modules()) == 7


def test_bad_input(fashion):
    model = zoo.load("lenet-5")
    with pytest.raises(ValueError, match="images is empty"):
        ptq.quantize(model, fashion[0][:0])
    with pytest.raises(TypeError, match="images must be a tensor, got list"):
        ptq.quantize(model, [1.0])
    with pytest.raises(ValueError, match=r"example_input \(2, 3, 28, 28\) does not run through the model"):
        ptq.quantize(model, torch.ones(2, 3, 28, 28))
    with pytest.raises(ValueError, match="range must be one of"):
        ptq.quantize(model, fashion[0][:2], range="max")
