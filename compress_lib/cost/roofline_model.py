"""The roofline of the machine this runs on: which layers are bound by arithmetic, and which by memory (chapter 1).

A layer that does I multiply-adds for each byte it moves runs at no more than min(peak, bandwidth · I) multiply-adds per
second (Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009). Both limits are measured here, not looked up.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from compress_lib.cost.costs import LayerCost
from compress_lib.cost.timing import torch_threads

# Matrices from cache-sized up: which size comes closest to the peak differs between machines.
_GEMM_SIZES = (256, 512, 1024, 2048)
# Far more than last-level caches hold, so that every pass goes to memory.
_BUFFER_NBYTES = 256 * 2**20
_SECONDS_PER_TRIAL = 0.3


@dataclass(frozen=True)
class Roofline:
    """Measured limits of a machine.

    Attributes
    ----------
    peak_macs_per_s : float
        Most float32 multiply-adds per second, in a matrix product.
    bandwidth_bytes_per_s : float
        Most bytes per second read from and written to memory.
    threads : int
        PyTorch's threads while measuring.
    """

    peak_macs_per_s: float
    bandwidth_bytes_per_s: float
    threads: int

    @property
    def ridge(self) -> float:
        """The arithmetic intensity (MACs per byte) at which the two limits meet."""
        return self.peak_macs_per_s / self.bandwidth_bytes_per_s

    def attainable(self, intensity: float) -> float:
        """Most multiply-adds per second at an arithmetic intensity.

        Parameters
        ----------
        intensity : float
            MACs per byte moved; not negative.

        Returns
        -------
        float
            min(peak, bandwidth · intensity).

        Raises
        ------
        ValueError
            If ``intensity`` is negative or not a number.
        """
        if not intensity >= 0:
            raise ValueError(f"intensity={intensity!r} must be at least 0 MACs per byte")
        return min(self.peak_macs_per_s, self.bandwidth_bytes_per_s * intensity)

    def place(self, layer: LayerCost) -> str:
        """``"memory"`` if memory bandwidth limits the layer, ``"compute"`` if arithmetic does."""
        return "memory" if arithmetic_intensity(layer) < self.ridge else "compute"

    def __str__(self) -> str:
        return (
            f"peak {self.peak_macs_per_s / 1e9:.3g} GMAC/s, memory {self.bandwidth_bytes_per_s / 1e9:.3g} GB/s, "
            f"ridge at {self.ridge:.3g} MACs per byte (threads: {self.threads})"
        )


def arithmetic_intensity(layer: LayerCost) -> float:
    """Multiply-adds per byte that a layer has to move: weights, input and output, once each.

    Parameters
    ----------
    layer : LayerCost
        From ``compress_lib.cost.count(...).layers``.

    Returns
    -------
    float
        MACs per byte.

    Raises
    ------
    ValueError
        If the layer was never called, so that it moves nothing.
    """
    moved = layer.nbytes + layer.input_nbytes + layer.activation_nbytes
    if layer.output_shape is None or moved == 0:
        raise ValueError(f"layer {layer.name!r} ({layer.kind}) was never called: it has no arithmetic intensity")
    return layer.macs / moved


def roofline(threads: int = 1) -> Roofline:
    """Measure the roofline of this machine's CPU, in two or three seconds and half a gigabyte.

    The peak is the best of square float32 matrix products. The bandwidth is the best of a copy (reads one buffer,
    writes one) and a triad a = b + s·c in place of b (reads two, writes one), counted as in the STREAM benchmark.

    Parameters
    ----------
    threads : int
        PyTorch's threads while measuring; the number before is restored.

    Returns
    -------
    Roofline

    Raises
    ------
    ValueError
        If ``threads`` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads={threads!r} must be at least 1")
    with torch_threads(threads), torch.inference_mode():
        peak = max(_gemm_macs_per_s(size) for size in _GEMM_SIZES)
        return Roofline(peak, _bytes_per_s(), threads)


def _gemm_macs_per_s(size: int) -> float:
    a, b = torch.randn(2, size, size)
    out = torch.empty(size, size)
    return size**3 / _best_seconds(lambda: torch.mm(a, b, out=out))


def _bytes_per_s() -> float:
    source, target = torch.ones(2, _BUFFER_NBYTES // 4)
    copy = 2 * source.nbytes / _best_seconds(lambda: target.copy_(source))
    triad = 3 * source.nbytes / _best_seconds(lambda: target.add_(source, alpha=0.5))
    return max(copy, triad)


def _best_seconds(fn: Callable[[], object]) -> float:
    fn()
    best = float("inf")
    end = time.perf_counter() + _SECONDS_PER_TRIAL
    while (start := time.perf_counter()) < end:
        fn()
        best = min(best, time.perf_counter() - start)
    return best
