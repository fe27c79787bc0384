"""Networks in several runtimes: that each is what its name says, gives the same, and takes its turn."""

from types import SimpleNamespace

import onnxruntime
import pytest
import torch
from torch import nn

from compress_lib.cost import latency, runtimes, timing

ALL = ("eager", "channels-last", "onnxruntime")


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return {
        "wide": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 9, 4)).train(),
        "narrow": nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 9, 4)).train(),
    }


@pytest.fixture
def x():
    return torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def test_all_give_the_outputs_of_inference_and_leave_the_model_alone(networks, x):
    functions, _ = runtimes.prepare(networks, x, ALL)
    assert list(functions) == [f"{name}, {runtime}" for name in networks for runtime in ALL]
    assert all(network.training for network in networks.values())
    assert networks["wide"][1].num_batches_tracked == 0
    with torch.inference_mode():
        for name, network in networks.items():
            expected = network.eval()(x)
            for runtime in ALL:
                output = torch.as_tensor(functions[f"{name}, {runtime}"]())
                torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


class Spy(nn.Module):
    """Notes the layout of what it sees."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.seen = []

    def __deepcopy__(self, memo):
        copy = Spy()
        copy.load_state_dict(self.state_dict())
        copy.seen = self.seen
        return copy

    def forward(self, x):
        last = {"memory_format": torch.channels_last}
        self.seen.append((x.is_contiguous(**last), self.conv.weight.is_contiguous(**last)))
        return self.conv(x)


def test_channels_are_last_where_the_name_says_so(x):
    spy = Spy()
    functions, _ = runtimes.prepare({"spy": spy}, x, ALL)
    spy.seen.clear()
    for name, seen in (("eager", [(False, False)]), ("channels-last", [(True, True)]), ("onnxruntime", [])):
        functions[f"spy, {name}"]()
        assert spy.seen == seen  # ONNX Runtime has nothing of the module
        spy.seen.clear()


@pytest.mark.parametrize("threads", [1, 2])
def test_onnx_runtime_has_as_many_threads_as_pytorch(threads, networks, x, monkeypatch):
    made, session = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *args, **kw: made.append(session(*args, **kw)) or made[-1]
    )
    result = latency({"narrow": networks["narrow"]}, x=x, runtimes=("onnxruntime",), rounds=1, threads=threads)
    options = made[0].get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
    assert [row.threads for row in result] == [result.threads] == [threads]


def test_models_and_runtimes_take_turns_in_each_round(networks, x, monkeypatch):
    log, prepare = [], timing.prepare
    names = [f"{name}, {runtime}" for name in networks for runtime in ALL]

    def noted(name, function):
        return lambda: (log.append(name), function())

    def noting(*arguments):
        functions, versions = prepare(*arguments)
        return {name: noted(name, function) for name, function in functions.items()}, versions

    clock = iter(range(10**6))  # each reading is a second later: every function is called once a stretch
    monkeypatch.setattr(timing, "prepare", noting)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    result = latency(networks, x=x, runtimes=ALL, rounds=3, warmup=0, baseline="narrow, eager")
    assert log == names * (1 + 3)  # once to see how long it takes, then the rounds
    assert [row.name for row in result] == names and result.baseline == "narrow, eager"


def test_rows_and_table_name_the_runtime_and_its_version(networks, x):
    result = latency(networks, x=x, runtimes=ALL, rounds=1)
    names = [f"eager, torch {torch.__version__}", f"channels-last, torch {torch.__version__}"]
    names.append(f"onnxruntime {onnxruntime.__version__}")
    assert [row.runtime for row in result] == 2 * names
    assert all(name in text for name in names for text in (str(result), result._repr_html_()))
    plain = latency({"a": lambda: None}, rounds=1)
    assert plain["a"].runtime is None and "runtime" not in str(plain)


def test_another_output_is_refused(networks, x, monkeypatch):
    monkeypatch.setitem(runtimes._PREPARE, "channels-last", lambda model, x: (lambda: model(x) * 1.01, ""))
    with pytest.raises(RuntimeError, match="narrow, channels-last is up to .* off the output of eager mode"):
        latency({"narrow": networks["narrow"]}, x=x, runtimes=("eager", "channels-last"), rounds=1)
    monkeypatch.setitem(runtimes._PREPARE, "channels-last", lambda model, x: (lambda: model(x) * float("nan"), ""))
    with pytest.raises(RuntimeError, match="off the output of eager mode"):
        latency({"narrow": networks["narrow"]}, x=x, runtimes=("eager", "channels-last"), rounds=1)
    monkeypatch.setitem(runtimes._PREPARE, "channels-last", lambda model, x: (lambda: model(x)[:1], ""))
    with pytest.raises(RuntimeError, match=r"gives shape \(1, 4\), eager mode \(6, 4\)"):
        latency({"narrow": networks["narrow"]}, x=x, runtimes=("eager", "channels-last"), rounds=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"runtimes": None}, ValueError, "runtimes and x must be given together"),
        ({"x": None}, ValueError, "runtimes and x must be given together"),
        ({"x": [1.0]}, TypeError, "x must be a tensor on the CPU, .* not a list"),
        ({"x": torch.empty(1, 3, device="meta")}, TypeError, "x must be .* not a tensor on meta"),
        ({"runtimes": ()}, ValueError, "must be one or more of eager, channels-last, onnxruntime"),
        ({"runtimes": "eager"}, ValueError, "must be one or more of"),
        ({"runtimes": ("eager", "eager")}, ValueError, "each once"),
        ({"runtimes": ("eager", "tvm")}, ValueError, "'tvm', which is none of"),
        ({"fn_by_name": {"a": lambda: None}}, TypeError, "model must be a torch.nn.Module"),
        ({"runtimes": ("channels-last",)}, ValueError, r"a cannot run in channels-last: x must be images .*\(2, 3\)"),
        ({"baseline": "a"}, ValueError, r"baseline='a' must be one of \['a, eager'\]"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        latency(**{"fn_by_name": {"a": nn.ReLU()}, "x": torch.ones(2, 3), "runtimes": ("eager",), **arguments})


def test_what_cannot_be_exported_is_named(x):
    class Gate(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="gate cannot run in onnxruntime: model=Gate cannot be exported to ONNX"):
        latency({"gate": Gate()}, x=x, runtimes=("onnxruntime",), rounds=1)
