"""Latency: seconds by the wall clock, and the ratio to a baseline timed in the same run (chapter 1).

A clock speed drifts and other programs come and go, so two timings taken one after the other differ by more than many
methods gain. Here the candidates take turns, A B A B …, and a ratio is formed within each round, where both saw the
same machine; the spread of those ratios says how far to trust it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from compress_lib.cost.runtimes import prepare
from compress_lib.tables import Table

# A timed stretch is at least this long, so that neither the clock's resolution nor the loop around the call matters.
_MIN_STRETCH_SECONDS = 0.005
_MAX_CALLS = 1_000_000


@dataclass(frozen=True)
class LatencyRow:
    """Timing of one candidate.

    Attributes
    ----------
    name : str
    seconds_min, seconds_median : float
        Seconds per call, over the rounds.
    ratio : float
        Median over the rounds of baseline ÷ this: above 1 is faster than the baseline.
    ratio_low, ratio_high : float
        10th and 90th percentile of the same.
    runtime : str or None
        What ran it, with its version, if `latency` was told to choose.
    threads : int
        That PyTorch, or the runtime, had.
    """

    name: str
    seconds_min: float
    seconds_median: float
    ratio: float
    ratio_low: float
    ratio_high: float
    runtime: str | None
    threads: int


@dataclass(frozen=True, repr=False)
class Latency:
    """Rows by name, in the order given; iterates over the rows and renders as a table."""

    rows: tuple[LatencyRow, ...]
    baseline: str
    rounds: int
    threads: int

    def __iter__(self) -> Iterator[LatencyRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> LatencyRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def table(self) -> Table:
        """Milliseconds per call and ratios."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        columns = ["candidate", "min ms", "median ms", "ratio", "10 %", "90 %"]
        rows = [
            [row.name, row.seconds_min * 1e3, row.seconds_median * 1e3, row.ratio, row.ratio_low, row.ratio_high]
            for row in self.rows
        ]
        if any(row.runtime for row in self.rows):
            columns.append("runtime")
            rows = [[*cells, row.runtime] for cells, row in zip(rows, self.rows, strict=True)]
        return Table(
            columns,
            rows,
            title=f"{self.rounds} interleaved rounds, {threads}; ratio above 1 is faster than {self.baseline}",
            formats={"ratio": ".3f", "10 %": ".3f", "90 %": ".3f"},
        )

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def latency(
    fn_by_name: Mapping[str, Callable[..., Any]],
    *,
    rounds: int = 20,
    warmup: int = 3,
    threads: int = 1,
    baseline: str | None = None,
    runtimes: Sequence[str] | None = None,
    x: Tensor | None = None,
) -> Latency:
    """Time functions, or networks in several runtimes, against each other, in inference mode.

    Parameters
    ----------
    fn_by_name : mapping of str to callable
        Functions without arguments, for example ``{"dense": lambda: dense(x), "sparse": lambda: sparse(x)}``. With
        ``runtimes`` the networks themselves, ``{"dense": dense, "sparse": sparse}``.
    rounds : int
        In each round every function is timed once, over as many calls as make up some milliseconds.
    warmup : int
        Untimed calls of each function beforehand.
    threads : int
        PyTorch's threads, and those of another runtime, while timing; the number before is restored.
    baseline : str, optional
        The name that ratios refer to; the first one by default.
    runtimes : sequence of str, optional
        What each network runs in: ``"eager"``, ``"channels-last"`` and ``"onnxruntime"``, as in
        `compress_lib.cost.runtimes`. Network and runtime make a name: ``"dense, eager"``.
    x : Tensor, optional
        (N, …) on the CPU: what the networks are given, with ``runtimes`` and only then.

    Returns
    -------
    Latency

    Raises
    ------
    TypeError, ValueError
        If ``fn_by_name`` is no mapping of names to callables or empty, ``baseline`` is not in it, ``rounds`` or
        ``threads`` is below 1 or ``warmup`` below 0, or one of ``runtimes`` and ``x`` is given without the other.
        What a function raises passes through, and so does what `compress_lib.cost.runtimes.prepare` raises.

    Examples
    --------
    >>> rows = latency({"dense": lambda: None, "other": lambda: None}, rounds=3)
    >>> rows["dense"].ratio
    1.0
    """
    _check(fn_by_name, rounds, warmup, threads)
    if (runtimes is None) != (x is None):
        raise ValueError("runtimes and x must be given together: x is what the networks run on")
    runtime_by_name: dict[str, str] = {}
    with torch_threads(threads):
        if runtimes is not None and x is not None:
            fn_by_name, runtime_by_name = prepare(cast(Mapping[str, nn.Module], fn_by_name), x, runtimes)
        baseline = next(iter(fn_by_name)) if baseline is None else baseline
        if baseline not in fn_by_name:
            raise ValueError(f"baseline={baseline!r} must be one of {list(fn_by_name)}")
        seconds = _seconds(fn_by_name, rounds, warmup)
    rows = []
    for name, times in seconds.items():
        low, middle, high = np.percentile(seconds[baseline] / times, [10, 50, 90]).tolist()
        least, median, runtime = float(times.min()), float(np.median(times)), runtime_by_name.get(name)
        rows.append(LatencyRow(name, least, median, middle, low, high, runtime, threads))
    return Latency(tuple(rows), baseline, rounds, threads)


def _seconds(fn_by_name: Mapping[str, Callable[[], object]], rounds: int, warmup: int) -> dict[str, np.ndarray]:
    """Seconds per call of each function, ``(rounds,)``: in each round the functions take turns."""
    seconds = {name: np.empty(rounds) for name in fn_by_name}
    with torch.inference_mode():
        _settle_allocator()
        for fn in fn_by_name.values():
            for _ in range(warmup):
                fn()
        calls = {name: _calls_to_fill_a_stretch(fn) for name, fn in fn_by_name.items()}
        for i in range(rounds):
            for name, fn in fn_by_name.items():
                seconds[name][i] = _stretch(fn, calls[name]) / calls[name]
    return seconds


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let PyTorch use ``number`` threads inside the block; restore the number before, also after an error."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settle_allocator() -> None:
    """Let the C library keep large blocks from now on.

    glibc returns a large freed block to the system, and the next call faults its pages in anew, until it has once seen
    a block of that size freed. In a fresh process that made a layer with a 3 MB output six times slower than in a used
    one.
    """
    torch.empty(8_000_000)  # 32 MB, just below the largest size that teaches it; freed at once


def _stretch(fn: Callable[[], object], calls: int) -> float:
    """Seconds that ``calls`` calls take together."""
    _finish_cuda()
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    _finish_cuda()
    return time.perf_counter() - start


def _finish_cuda() -> None:
    # Kernels run behind the caller's back; without this the clock would stop when the last one is launched.
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _calls_to_fill_a_stretch(fn: Callable[[], object]) -> int:
    calls = 1
    while calls < _MAX_CALLS and (seconds := _stretch(fn, calls)) < _MIN_STRETCH_SECONDS:
        # One short measurement may be off by much: approach the goal in steps of at most ten.
        growth = 1.1 * _MIN_STRETCH_SECONDS / seconds if seconds > 0 else 10
        calls = min(_MAX_CALLS, math.ceil(calls * min(growth, 10)))
    return calls


def _check(fn_by_name: Any, rounds: int, warmup: int, threads: int) -> None:
    if not isinstance(fn_by_name, Mapping):
        raise TypeError(f"fn_by_name must map names to functions, not be a {type(fn_by_name).__name__}")
    if not fn_by_name:
        raise ValueError("fn_by_name must hold at least one function")
    for name, fn in fn_by_name.items():
        if not callable(fn):
            raise TypeError(f"fn_by_name[{name!r}] must be callable, not {type(fn).__name__}")
    for argument, value, least in (("rounds", rounds, 1), ("warmup", warmup, 0), ("threads", threads, 1)):
        if value < least:
            raise ValueError(f"{argument}={value!r} must be at least {least}")
