"""Latency on a clock of our own: functions say how long they take, so every figure is known beforehand."""

from types import SimpleNamespace

import pytest
import torch

from compress_lib.cost import latency, timing


class Clock:
    """Stands still except when a function made by `lasting` runs; notes who ran."""

    def __init__(self):
        self.now = 0.0
        self.readings = []
        self.log = []

    def perf_counter(self):
        self.readings.append(self.now)
        return self.now

    def lasting(self, name, seconds):
        """A function taking ``seconds``, or the next of them."""
        durations = iter(seconds) if isinstance(seconds, list) else iter(lambda: seconds, None)

        def run():
            self.log.append(name)
            self.now += next(durations)

        return run


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_rounds_are_interleaved_and_ratios_are_formed_within_a_round(clock):
    # The first duration sizes the stretch. The machine slows down fourfold, both functions alike.
    a = clock.lasting("a", [1.0, 1.0, 2.0, 4.0])
    b = clock.lasting("b", [0.5, 0.5, 1.0, 2.0])
    result = latency({"a": a, "b": b}, rounds=3, warmup=0)
    assert clock.log == ["a", "b"] + ["a", "b"] * 3
    assert (result["a"].seconds_min, result["a"].seconds_median) == (1.0, 2.0)
    assert (result["b"].seconds_min, result["b"].seconds_median) == (0.5, 1.0)
    assert (result["a"].ratio, result["a"].ratio_low, result["a"].ratio_high) == (1, 1, 1)
    assert (result["b"].ratio, result["b"].ratio_low, result["b"].ratio_high) == (2, 2, 2)


def test_the_spread_is_that_of_the_ratios_by_round(clock):
    a = clock.lasting("a", [1.0] + [float(k) for k in range(1, 12)])
    b = clock.lasting("b", 1.0)
    row = latency({"a": a, "b": b}, rounds=11, warmup=0)["b"]
    assert (row.ratio_low, row.ratio, row.ratio_high) == pytest.approx((2, 6, 10))


def test_a_named_baseline(clock):
    fns = {"a": clock.lasting("a", 3.0), "b": clock.lasting("b", 1.0)}
    result = latency(fns, rounds=2, baseline="b")
    assert [row.name for row in result] == ["a", "b"]
    assert (result["a"].ratio, result["b"].ratio) == pytest.approx((1 / 3, 1))
    assert "faster than b" in str(result)


def test_short_functions_are_called_until_a_stretch_can_be_measured(clock):
    result = latency({"short": clock.lasting("short", 1e-5), "long": clock.lasting("long", 1.0)}, rounds=4, warmup=0)
    assert result["short"].seconds_median == pytest.approx(1e-5)
    assert result["long"].ratio == pytest.approx(1e-5)
    starts, ends = clock.readings[0::2], clock.readings[1::2]
    stretches = [end - start for start, end in zip(starts, ends, strict=True)]
    assert min(stretches[-8:]) >= 0.005
    assert max(stretches[-8::2]) < 0.05


def test_warm_up_is_not_timed(clock):
    result = latency({"a": clock.lasting("a", [9.0, 9.0, 1.0, 1.0])}, rounds=1, warmup=2)
    assert result["a"].seconds_median == 1.0


def test_the_thread_count_is_set_and_restored():
    before = torch.get_num_threads()
    seen = set()
    latency({"a": lambda: seen.add(torch.get_num_threads())}, rounds=1, threads=before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_the_thread_count_is_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        latency({"a": lambda: 1 / 0}, rounds=1, threads=before + 1)
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_functions_run_in_inference_mode():
    seen = set()
    latency({"a": lambda: seen.add(torch.is_inference_mode_enabled())}, rounds=1)
    assert seen == {True}


def test_the_gpu_is_waited_for_before_and_after_each_stretch(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: clock.log.append("wait"))
    latency({"a": clock.lasting("a", 1.0)}, rounds=1, warmup=0)
    assert clock.log == ["wait", "a", "wait"] * 2


def test_the_table_shows_milliseconds_and_ratios(clock):
    result = latency({"a": clock.lasting("a", 0.25), "b": clock.lasting("b", 0.1)}, rounds=2, threads=1)
    for text in (str(result), repr(result), result._repr_html_()):
        for shown in ("2 interleaved rounds, 1 thread", "250", "100", "2.500"):
            assert shown in text
        assert "color" not in text
    assert len(result) == 2
    with pytest.raises(KeyError):
        result["c"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fn_by_name": {}}, ValueError, "fn_by_name must hold"),
        ({"fn_by_name": [print]}, TypeError, "fn_by_name must map"),
        ({"fn_by_name": {"a": 3}}, TypeError, r"fn_by_name\['a'\] must be callable"),
        ({"baseline": "b"}, ValueError, "baseline='b' must be one of"),
        ({"rounds": 0}, ValueError, "rounds=0 must be at least 1"),
        ({"warmup": -1}, ValueError, "warmup=-1 must be at least 0"),
        ({"threads": 0}, ValueError, "threads=0 must be at least 1"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        latency(**{"fn_by_name": {"a": lambda: None}, **arguments})
