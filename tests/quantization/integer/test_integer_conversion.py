import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network import tracing
from compress_lib.quantization.integer import conversion, fake_quant, ptq, qparams
from compress_lib.quantization.integer.pooling import max_pool2d

IMAGES = torch.randn(12, 2, 12, 12, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A network with some layers, and a forward that uses them."""

    def __init__(self, forward, **extra):
        super().__init__()
        self.wiring = forward
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.norm, self.relu, self.pool = nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        for name, layer in extra.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.wiring(self, x)


def net(wiring, seed=0, **extra):
    torch.manual_seed(seed)
    made = Net(wiring, **extra).eval()
    made.norm.running_mean.normal_()
    made.norm.running_var.uniform_(0.5, 2)
    return made


def forms(model, images=IMAGES, **options):
    """The train form, calibrated, and the deploy form."""
    prepared = conversion.convert(model, images[:2], **options)
    fake_quant.calibrate(prepared, images)
    return prepared, conversion.deploy(prepared)


def mean(x):
    return x.mean((2, 3))


WIRINGS = {
    "chain": lambda m, x: m.fc(mean(m.c(m.b(m.a(x).relu()).relu()))),
    "normalized": lambda m, x: m.fc(mean(m.relu(m.norm(m.a(x))))),
    "functional": lambda m, x: m.fc(mean(F.max_pool2d(F.relu(m.b(torch.relu(m.a(x)))), 2, stride=1))),
    "pooled": lambda m, x: m.b(m.pool(m.a(x))).flatten(2),
    "view": lambda m, x: m.fc(m.b(m.a(x)).view(x.size(0), 4, -1).transpose(1, 2)[:, :, :4]),
    "flat view": lambda m, x: m.fc(m.b(m.a(x)).view(x.size(0), -1)[:, 5:9]),
    "flatten first": lambda m, x: m.fc(x.flatten(1)[:, :4]),
    "residual": lambda m, x: m.c((m.a(x).relu() + m.b(m.a2(x).relu())).relu()),
    "read before its relu": lambda m, x: _read_before_its_relu(m, x),
    "shared input": lambda m, x: _two_readers(m, x),
    "concatenation": lambda m, x: m.wide(torch.cat([m.b(m.a(x)), m.a2(x)], 1).relu()),
    "relu later": lambda m, x: m.b(m.pool(m.a(x)).relu()),
    "relu last": lambda m, x: m.b(m.a(x)).relu(),
    "two outputs": lambda m, x: (m.b(m.a(x)), m.a2(x)),
    "inner output": lambda m, x: _inner_output(m, x),
    "dropout": lambda m, x: m.b(m.dropout(m.a(x).relu())),
    "average": lambda m, x: m.b(F.avg_pool2d(m.a(x).relu(), 2)),
    "transposed": lambda m, x: m.b(m.up(m.a(x).relu()).relu()),
    "interpolated": lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2)),
}


def _two_readers(m, x):
    y = m.pool(m.a(x))
    return m.b(y) + m.c(y)


def _read_before_its_relu(m, x):
    y = m.a(x)
    return m.c(m.b(y.relu()) + y)


def _inner_output(m, x):
    y = m.a(x).relu()
    return m.b(y), y


def example(name):
    extra = {"a2": nn.Conv2d(2, 4, 3), "wide": nn.Conv2d(8, 3, 3), "dropout": nn.Dropout(0.5)}
    return net(WIRINGS[name], up=nn.ConvTranspose2d(4, 4, 3), **extra)


def outputs(y):
    return list(y) if isinstance(y, tuple) else [y]


def agree(a, b, share=0.97):
    """Equal but for some numbers behind a code on the edge between two, where float sums in another order decide."""
    for x, y in zip(outputs(a), outputs(b), strict=True):
        assert x.shape == y.shape and y.dtype == torch.float32
        assert ((x - y).abs() <= 1e-5 * (1 + x.abs().max())).double().mean() >= share


# --- the two forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WIRINGS)
@pytest.mark.parametrize("bits", [8, 3, 12])
def test_both_forms_compute_the_same(name, bits):
    model = example(name)
    state = copy.deepcopy(model.state_dict())
    prepared, deployed = forms(model, weight_bits=bits, activation_bits=bits)
    with torch.no_grad():
        agree(prepared(IMAGES), deployed(IMAGES))
        agree(prepared(IMAGES[:1]), deployed(IMAGES[:1]))
        distance = [
            (a - b).norm() / a.norm() for a, b in zip(outputs(model(IMAGES)), outputs(deployed(IMAGES)), strict=True)
        ]
    assert max(distance) < {8: 0.05, 3: 1, 12: 0.005}[bits]
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not list(deployed.parameters()) or name == "transposed"
    kinds = [type(module) for module in deployed.modules()]
    assert nn.Conv2d not in kinds and nn.Linear not in kinds


def test_the_network_is_traced_once(monkeypatch):
    traced, trace = [], tracing.trace
    monkeypatch.setattr(tracing, "trace", lambda model, *rest: traced.append(model) or trace(model, *rest))
    model = example("normalized")
    forms(model)
    assert traced == [model]


@pytest.mark.parametrize("name", WIRINGS)
def test_what_is_built_without_numbers_takes_the_numbers(name):
    _, deployed = forms(example(name), weight_bits=5, activation_bits={"b": 7} if name == "chain" else 8)
    settings = json.loads(json.dumps(deployed.meta["settings"]))
    torch.manual_seed(5)
    built = conversion.build_deployed(example(name), tuple(IMAGES[:1].shape), settings)
    assert built.code == deployed.code and built.meta == deployed.meta
    built.load_state_dict(deployed.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(outputs(built(IMAGES)), outputs(deployed(IMAGES)), strict=True))


@pytest.mark.parametrize("name", WIRINGS)
def test_what_runs_in_float32_is_named(name):
    expected = {
        "chain": {"mean"},
        "normalized": {"mean"},
        "functional": {"mean"},
        "pooled": set(),
        "view": {"getitem"},
        "flat view": {"getitem"},
        "flatten first": {"getitem"},
        "read before its relu": {"relu", "add"},
        "residual": {"add", "relu_2"},
        "shared input": {"add"},
        "concatenation": {"cat", "relu"},
        "relu later": {"relu"},
        "average": {"avg_pool2d"},
        "transposed": {"up", "relu_1"},
        "interpolated": {"interpolate"},
    }
    _, deployed = forms(example(name))
    assert set(deployed.meta["skipped"]) == expected.get(name, set())
    assert all("runs in float32" in reason for reason in deployed.meta["skipped"].values())


class Codes(fx.Interpreter):
    """Runs a deployed network and compares `integer` with `forward` at each layer, on the same codes."""

    def __init__(self, network):
        super().__init__(network)
        self.differing, self.total = 0, 0

    def call_module(self, target, args, kwargs):
        result = super().call_module(target, args, kwargs)
        module = self.fetch_attr(target)
        if hasattr(module, "integer"):
            assert not args[0].is_floating_point()
            exact = module.integer(*args)
            assert exact.dtype == result.dtype
            if result.is_floating_point():
                torch.testing.assert_close(exact, result, rtol=1e-5, atol=1e-5 * result.abs().max().item())
            else:
                difference = (exact.long() - result.long()).abs()
                assert difference.max() <= 1
                self.differing += int(difference.sum())
                self.total += difference.numel()
        return result


@pytest.mark.parametrize("name", WIRINGS)
def test_integers_alone_differ_by_one_code_at_most_and_seldom(name):
    _, deployed = forms(example(name))
    run = Codes(deployed)
    run.run(IMAGES)
    assert run.differing <= 0.01 * run.total
    for a, b in zip(outputs(deployed(IMAGES)), outputs(conversion.IntegerRun(deployed).run(IMAGES)), strict=True):
        assert (a - b).norm() < 0.05 * a.norm()


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_random_chains(data, seed):
    """Convolutions of all geometries, with or without normalization, ReLU and pooling."""
    torch.manual_seed(seed)
    draw, layers, channels = data.draw, [], 2
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, 2]))
        made, kernel = draw(st.sampled_from([2, 4, 6])), draw(st.integers(1, 3))
        stride, dilation, bias = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.booleans())
        padding = draw(st.sampled_from([0, 1, 2]))
        convolution = nn.Conv2d(channels, made, kernel, stride, padding, dilation, groups, bias)
        layers += [convolution, *([nn.BatchNorm2d(made)] if draw(st.booleans()) else [])]
        layers += [nn.ReLU(inplace=draw(st.booleans()))] if draw(st.booleans()) else []
        layers += [nn.MaxPool2d(3, 2, 1)] if draw(st.booleans()) else []
        channels = made
    images = torch.randn(3, 2, 90, 90)  # three times halved and halved again, there is room for the last kernel
    model = nn.Sequential(*layers, nn.Flatten(1)).eval()
    bits = [draw(st.integers(2, 16)) for _ in range(2)]
    per_channel = draw(st.booleans())
    with torch.no_grad():
        prepared, deployed = forms(model, images, weight_bits=bits[0], activation_bits=bits[1], per_channel=per_channel)
        agree(prepared(images), deployed(images), 0.9)


# --- structure --------------------------------------------------------------------------------------------------------


def test_codes_flow_from_layer_to_layer():
    _, deployed = forms(example("normalized"))
    assert [node.target for node in deployed.graph.nodes if node.op == "call_module"] == [
        "grids.x", "a", "numbers.a", "grids.mean", "fc",
    ]  # fmt: skip
    assert deployed.a.relu and deployed.fc.output_bits is None
    seen = {}
    deployed.a.register_forward_hook(lambda module, args, output: seen.update(input=args[0], output=output))
    deployed(IMAGES)
    assert seen["input"].dtype == seen["output"].dtype == torch.uint8


def test_a_residual_network():
    model = zoo.build("resnet-20").eval()
    images = torch.randn(2, 1, 28, 28)
    _, deployed = forms(model, images)
    report = ptq.report_layers(deployed, "Title")
    assert len(report.rows) == 22 and report.weights == 270_608
    assert sorted(set(report.skipped.values())) == [
        "add runs in float32",
        "mean runs in float32",
        "relu runs in float32",
    ]
    quantized = [name for name, module in deployed.named_modules() if type(module) is qparams.Quantize]
    assert len(quantized) == 10  # the input, eight sums after their ReLU, and the mean; not the last sum
    assert "Title" in str(report) and "total" in str(report)


def test_bits_of_each_layer():
    prepared, deployed = forms(example("chain"), weight_bits={"a": 3, "fc": 12}, activation_bits={"b": 5, "fc": 2})
    rows = {row.layer: row for row in ptq.report_layers(deployed, "").rows}
    assert [rows[name].weight_bits for name in ("a", "b", "c", "fc")] == [3, 8, 8, 12]
    assert [rows[name].input_bits for name in ("a", "b", "c", "fc")] == [8, 5, 8, 2]
    assert [rows[name].output_bits for name in ("a", "b", "c", "fc")] == [5, 8, 8, None]
    assert rows["fc"].kernel == "float32"
    assert int(deployed.a.weight.abs().max()) == 3
    assert rows["a"].kept == deployed.a.weight.count_nonzero() <= rows["a"].weights == 72
    with torch.no_grad():
        agree(prepared(IMAGES), deployed(IMAGES))


def test_layers_that_are_left_alone():
    twice = net(lambda m, x: m.c(m.b(m.b(m.a(x)))))
    tied = net(lambda m, x: m.c(m.b(m.a(x))))
    tied.b.weight = tied.c.weight
    reflecting = net(lambda m, x: m.c(m.odd(m.a(x))), odd=nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    uneven = net(lambda m, x: m.c(m.odd(m.a(x))), odd=nn.Conv2d(4, 4, 2, padding="same"))
    for model, name, reason in [
        (twice, "b", "it runs more than once, or shares its parameters, and runs in float32"),
        (tied, "b", "it runs more than once, or shares its parameters, and runs in float32"),
        (reflecting, "odd", "it pads with padding_mode='reflect', and runs in float32"),
        (uneven, "odd", "it pads more on one side than on the other, and runs in float32"),
    ]:
        prepared, deployed = forms(model)
        assert deployed.meta["skipped"][name] == reason
        assert type(deployed.get_submodule(name)) is nn.Conv2d
        with torch.no_grad():
            agree(prepared(IMAGES), deployed(IMAGES))


def test_a_normalization_that_cannot_be_folded_is_reported():
    _, deployed = forms(net(lambda m, x: m.b(m.norm(m.a(x).relu()))))
    assert deployed.meta["skipped"] == {"norm": "it reads relu, not a convolution or linear layer, and runs in float32"}


def test_training_mode_of_a_deployed_network_changes_nothing():
    _, deployed = forms(example("dropout"))
    expected = deployed(IMAGES)
    assert torch.equal(deployed.train()(IMAGES), expected)


def test_copies_keep_the_settings():
    prepared, deployed = forms(example("chain"), weight_bits={"a": 4})
    for network in (prepared, deployed):
        twin = copy.deepcopy(network)
        assert twin.meta["settings"] == {"weight_bits": {"a": 4}, "activation_bits": 8, "per_channel": True}
        assert torch.equal(twin(IMAGES), network(IMAGES))


def test_images_with_the_channels_innermost():
    _, deployed = forms(example("view"))
    assert torch.equal(deployed(IMAGES.contiguous(memory_format=torch.channels_last)), deployed(IMAGES))


def test_with_kl_the_input_of_the_network_keeps_its_range():
    prepared, _ = forms(example("chain"), IMAGES.clamp(min=-0.5), range="kl")
    grid = prepared.grids.x.qparams()
    torch.testing.assert_close(
        grid.dequantize(torch.tensor([0, 255])), torch.tensor([-0.5, IMAGES.max()]), rtol=0.02, atol=0
    )


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input():
    model = example("chain")
    with pytest.raises(
        ValueError, match=r"weight_bits names \['d'\], which are not layers to quantize; there are \['a'"
    ):
        conversion.convert(model, IMAGES, weight_bits={"d": 4})
    with pytest.raises(TypeError, match="activation_bits must be an int or a mapping of layers to ints, got float"):
        conversion.convert(model, IMAGES, activation_bits=8.0)
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 16, got 17"):
        conversion.convert(model, IMAGES, activation_bits=17)
    with pytest.raises(ValueError, match="range must be one of"):
        conversion.convert(model, IMAGES, range="max")
    shared = example("shared input")
    with pytest.raises(
        ValueError, match="must be the same for layers that read the same activation, got {'b': 4, 'c': 5}"
    ):
        conversion.convert(shared, IMAGES, activation_bits={"b": 4, "c": 5})
    conversion.convert(shared, IMAGES, activation_bits={"b": 4})
    with pytest.raises(ValueError, match="nothing to quantize in this Sequential: {'0': 'Tanh runs in float32'}"):
        conversion.convert(nn.Sequential(nn.Tanh()), IMAGES)
    with pytest.raises(ValueError, match=r"model must have no attribute \['grids'\]"):
        conversion.convert(net(lambda m, x: m.grids(m.a(x)), grids=nn.Conv2d(4, 2, 1)), IMAGES)
    with pytest.raises(ValueError, match=r"model has no grids for \['grids.x', .* run fake_quant.calibrate first"):
        conversion.deploy(conversion.convert(model, IMAGES))


# --- pooling ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    last=st.booleans(),
)
def test_the_maximum_of_codes_is_that_of_their_numbers(kernel, stride, padding, dilation, ceil_mode, size, last):
    codes = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    if last:
        codes = codes.contiguous(memory_format=torch.channels_last)
    try:
        expected = F.max_pool2d(codes.double(), kernel, stride, padding, dilation, ceil_mode)
    except RuntimeError:
        return  # too small, or more padding than half of the kernel
    if expected.isinf().any():
        return  # a window in the padding alone, where there is nothing to be the maximum
    found = max_pool2d(codes, kernel, stride, padding, dilation, ceil_mode)
    assert found.dtype == torch.uint8 and torch.equal(found.double(), expected)
