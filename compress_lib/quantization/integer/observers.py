"""Observers: they find the range [low, high] of real numbers that the codes of a quantizer cover. Chapter 05.

What lies outside is clipped; the narrower the range, the finer the grid inside. `MinMax` clips nothing; `MovingAverage`
is that of Jacob et al., CVPR 2018, arXiv 1712.05877; `Percentile` clips a share of the numbers, `MSE` what makes the
mean squared error least, and `KL` what changes the distribution least, as in Migacz, "8-bit inference with TensorRT",
GTC 2017. All give float64 tensors to be passed to `affine.choose_qparams`.
"""

import itertools
import math
from typing import Protocol

import torch
from torch import Tensor

from compress_lib.quantization.integer import affine

NAMES = ("min_max", "moving_average", "percentile", "mse", "kl")
_SAMPLE = 2**16


class Observer(Protocol):
    """What finds a range."""

    def update(self, x: Tensor) -> None:
        """Take in a batch; TypeError and ValueError as for `MinMax`."""

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far: low and high, float64; ValueError before the first batch."""


def make_observer(name: str, bits: int) -> Observer:
    """The observer of an activation.

    Parameters
    ----------
    name : {"min_max", "moving_average", "percentile", "mse", "kl"}
        The percentile leaves out at most a share of 0.001 at either end.
    bits : int
        Of the grid that it is for.

    Raises
    ------
    ValueError
        If there is no such range.
    """
    if name not in NAMES:
        raise ValueError(f"range must be one of {NAMES}, got {name!r}")
    if name in ("mse", "kl"):
        return MSE(bits) if name == "mse" else KL(bits)
    return {"min_max": MinMax, "moving_average": MovingAverage, "percentile": Percentile}[name]()


class MinMax:
    """The least and the greatest number of all batches.

    Parameters
    ----------
    axis : int, optional
        An axis with C channels, for a range each.
    """

    def __init__(self, *, axis: int | None = None) -> None:
        self.axis = axis
        self._range: tuple[Tensor, Tensor] | None = None

    def update(self, x: Tensor) -> None:
        """Take in a batch.

        Raises
        ------
        TypeError, ValueError
            If ``x`` is not a float tensor, is empty, has NaN or infinite numbers, no such axis or other channels than
            the batches before.
        """
        ends = _ends(x, self.axis)
        if self._range and self._range[0].shape != ends[0].shape:
            raise ValueError(f"x must have {len(self._range[0])} channels as before, got {len(ends[0])}")
        self._range = self._merged(*self._range, *ends) if self._range else ends

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far: low and high, () or (C,) float64; ValueError before the first batch."""
        if self._range is None:
            raise ValueError("there is no range yet: update was not called")
        return self._range

    def _merged(self, low: Tensor, high: Tensor, batch_low: Tensor, batch_high: Tensor) -> tuple[Tensor, Tensor]:
        return torch.minimum(low, batch_low), torch.maximum(high, batch_high)


class MovingAverage(MinMax):
    """Exponential moving averages of the least and of the greatest number of a batch; they start at the first batch's.

    Parameters
    ----------
    decay : float
        In [0, 1): ``low ← decay · low + (1 − decay) · batch_low``, and the same for high.
    axis : as for `MinMax`.
    """

    def __init__(self, decay: float = 0.99, *, axis: int | None = None) -> None:
        super().__init__(axis=axis)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay

    def _merged(self, low: Tensor, high: Tensor, batch_low: Tensor, batch_high: Tensor) -> tuple[Tensor, Tensor]:
        rest = 1 - self.decay
        return self.decay * low + rest * batch_low, self.decay * high + rest * batch_high


class Histogram:
    """How many numbers of all batches have which magnitude; exact, in bins that are as wide as a power of two.

    The width is the least power of two at which all magnitudes fit, so between half of the bins and all are in use.
    When a batch does not fit, neighboring bins are joined: the counts are those of one batch with all numbers, in any
    order. The only approximation is that the place of a number within its bin is forgotten.

    Parameters
    ----------
    bins : int
        A power of two.

    Attributes
    ----------
    counts : Tensor
        (2, bins) int64: numbers from 0 up, and numbers below 0, with a magnitude in ``[k · width, (k + 1) · width)``.
    """

    def __init__(self, bins: int = 2048) -> None:
        if bins < 2 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two from 2 on, got {bins}")
        self.counts = torch.zeros(2, bins, dtype=torch.long)
        self._ends, self._exponent = MinMax(), -1022  # the least normal width: it fits nothing but zeros

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2.0**self._exponent

    @property
    def low(self) -> Tensor:
        """The least number."""
        return self._ends.range()[0]

    @property
    def high(self) -> Tensor:
        """The greatest number."""
        return self._ends.range()[1]

    def update(self, x: Tensor) -> None:
        """Take in a batch; TypeError and ValueError as for `MinMax`."""
        self._ends.update(x)
        bins = self.counts.shape[1]
        largest = max(-self.low.item(), self.high.item())
        needed = math.frexp(largest)[1] - (bins.bit_length() - 1)
        if largest and needed > self._exponent:
            joined = min(2 ** (needed - self._exponent), bins)
            sums = self.counts.view(2, -1, joined).sum(2)
            self.counts = torch.nn.functional.pad(sums, (0, bins - bins // joined))
            self._exponent = needed
        x = x.detach().double().flatten()
        bin_of = (x.abs() / self.width).long() + bins * (x < 0)
        self.counts += torch.bincount(bin_of, minlength=2 * bins).view(2, bins).cpu()


class Percentile:
    """The range that leaves out at most a share of ``1 − fraction`` of all numbers at either end.

    Each end is the quantile, moved outwards by less than the width of a bin of a `Histogram`, and not beyond the least
    and the greatest number.

    Parameters
    ----------
    fraction : float
        In (0.5, 1].
    bins : as for `Histogram`.
    """

    def __init__(self, fraction: float = 0.999, *, bins: int = 2048) -> None:
        if not 0.5 < fraction <= 1:
            raise ValueError(f"fraction must be in (0.5, 1], got {fraction}")
        self.fraction, self.histogram = fraction, Histogram(bins)

    def update(self, x: Tensor) -> None:
        """Take in a batch; TypeError and ValueError as for `MinMax`."""
        self.histogram.update(x)

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far: low and high, () float64; ValueError before the first batch."""
        low, high = self.histogram.low, self.histogram.high
        positive, negative = self.histogram.counts
        upwards = torch.cat([negative.flip(0), positive])
        wanted = math.ceil(self.fraction * upwards.sum().item())
        # The number of bins, from either end, that do not yet hold what is wanted.
        right, left = (int((counts.cumsum(0) < wanted).sum()) for counts in (upwards, upwards.flip(0)))
        edges = [self.histogram.width * (short + 1 - len(positive)) for short in (left, right)]
        return low.clamp(min=-edges[0]), high.clamp(max=edges[1])


class KL:
    """`kl_optimal` of all batches, and not beyond the least and the greatest number."""

    def __init__(self, bits: int) -> None:
        self.bits, self.histogram = bits, Histogram()

    def update(self, x: Tensor) -> None:
        """Take in a batch; TypeError and ValueError as for `MinMax`."""
        self.histogram.update(x)

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far: low and high, () float64; ValueError before the first batch."""
        low, high = self.histogram.low, self.histogram.high
        threshold_low, threshold_high = kl_optimal(self.histogram, self.bits, signed=bool(low < 0))
        return torch.maximum(low, threshold_low), torch.minimum(high, threshold_high)


class MSE:
    """`mse_optimal` of 65,536 numbers drawn from all batches, each number equally likely."""

    def __init__(self, bits: int) -> None:
        self.bits, self.generator = bits, torch.Generator().manual_seed(0)
        self.sample, self.keys = torch.empty(0), torch.empty(0, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Take in a batch: each number draws a random key, and of all so far those with the largest keys are kept."""
        keys = torch.cat([self.keys, torch.rand(x.numel(), generator=self.generator, dtype=torch.float64)])
        self.keys, kept = keys.topk(min(_SAMPLE, len(keys)))
        self.sample = torch.cat([self.sample, x.detach().flatten().cpu()])[kept]

    def range(self) -> tuple[Tensor, Tensor]:
        """The range so far: low and high, () float64; ValueError before the first batch."""
        return mse_optimal(self.sample, self.bits, signed=False)


def kl_optimal(histogram: Histogram, bits: int, *, signed: bool = True) -> tuple[Tensor, Tensor]:
    """The threshold on magnitudes that changes their distribution least.

    The variant, after Migacz and NVIDIA's pytorch-quantization. There are ``L = 2^(bits−1)`` levels for the magnitudes
    of signed codes, ``2^bits`` for unsigned ones. Let c be the counts of magnitudes, with c_0 replaced by c_1, because
    the numbers at 0 (after a ReLU, most of them) are exact in any case. A candidate threshold is the end of bin i − 1,
    for i from L to the last bin in use. P is ``c_0 … c_{i−1}`` with all that lies beyond added to the last. For Q, bin
    k of the i goes to level ``⌊k L / i⌋``, and the sum of a level is shared out evenly among those of its bins that are
    not empty; what lies beyond is left out. Both are scaled to a sum of 1. The candidate with the least ``Σ P log(P /
    Q)`` is taken, the widest among equals; it is infinite if bin i − 1 is empty and numbers lie beyond. With fewer than
    L bins in use nothing is clipped.

    Parameters
    ----------
    histogram : Histogram
        Of all data; without negative numbers for unsigned codes.
    bits, signed : as for `affine.quant_range`.

    Returns
    -------
    (Tensor, Tensor)
        ``(−t, t)``, or ``(0, t)`` for unsigned codes; t is not beyond the greatest magnitude.

    Raises
    ------
    ValueError
        If the histogram is empty, or has negative numbers for unsigned codes; and for what `affine.quant_range`
        refuses.
    """
    _, highest = affine.quant_range(bits, signed)
    low, high = histogram.low, histogram.high
    if not signed and low < 0:
        raise ValueError(f"signed=False needs numbers that are not negative, got {low.item()}")
    counts = histogram.counts.sum(0).double()
    used = int(counts.nonzero().max()) + 1
    threshold = torch.maximum(-low, high)
    if used > highest + 1:
        counts[0] = counts[1]
        threshold = threshold.clamp(max=_least_divergence(counts[:used], highest + 1) * histogram.width)
    return (-threshold if signed else torch.zeros_like(threshold)), threshold


def _least_divergence(c: Tensor, levels: int) -> int:
    """The i of `kl_optimal`, from L to the number of bins, many candidates at once by running sums."""
    running = [torch.cat([v.new_zeros(1), v.cumsum(0)]) for v in (c, (c > 0).double(), torch.xlogy(c, c))]
    candidates = torch.arange(levels, len(c) + 1)
    divergence = torch.cat([_divergence(c, running, levels, i) for i in candidates.split(256)])
    return int(candidates[divergence <= divergence.min() + 1e-12 * c.sum()].max())  # equal but for rounding


def _divergence(c: Tensor, running: list[Tensor], levels: int, i: Tensor) -> Tensor:
    """Σ P log(P / Q) of the candidates i, times the total, and without the term that all have."""
    # Level j of candidate i holds the bins from ⌈j i / L⌉ to before ⌈(j + 1) i / L⌉.
    edges = -(-torch.arange(levels + 1) * i[:, None] // levels)
    sums, filled = (r[edges].diff() for r in running[:2])
    share = sums / filled.clamp(min=1)
    inside, last = running[0][i], c[i - 1]
    beyond = c.sum() - inside
    p_log_p = running[2][i - 1] + torch.xlogy(last + beyond, last + beyond)
    p_log_q = torch.xlogy(sums, share).sum(1) + torch.xlogy(beyond, share[:, -1]) - c.sum() * inside.log()
    return torch.where((last == 0) & (beyond > 0), torch.inf, p_log_p - p_log_q)


def mse_optimal(
    x: Tensor,
    bits: int,
    *,
    signed: bool = True,
    symmetric: bool = False,
    narrow: bool = False,
    axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The range with the least mean squared error ``(x − fake_quantize(x))²``, by search.

    The ends are fractions of the least and the greatest number: first both the same, in steps by a factor of 2^(1/4)
    down to 2^(−10); unless ``symmetric``, then all pairs of powers of two down to 2^(−8); then steps from the best, by
    factors from √2 down to 2^(1/512), of one end, of both, and of both against each other. The error has many local
    minima, so what is found may be above the least by a small part.

    Parameters
    ----------
    x : Tensor
        Float; all data.
    bits, signed, symmetric, narrow : as for `affine.choose_qparams`.
    axis : int, optional
        An axis with C channels, for a range each.

    Returns
    -------
    (Tensor, Tensor)
        low and high, () or (C,); TypeError and ValueError as for `affine.choose_qparams` and `MinMax`.
    """
    low, high = _ends(x, axis)
    shape = low.shape
    low, high = low.reshape(-1).clamp(max=0), high.reshape(-1).clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    largest = torch.maximum(-low, high)
    unit = torch.where(largest > 0, largest, 1.0)  # so that no square overflows or vanishes
    rows = _rows(x, axis).double().div(unit[:, None]).float()

    def error(logs: Tensor) -> Tensor:
        lows, highs = torch.stack([low, high]) / unit * logs.exp2()
        scale, zero_point = affine.choose_qparams(lows, highs, bits, signed=signed, symmetric=symmetric, narrow=narrow)
        rounded = affine.fake_quantize(rows, scale, zero_point, bits, signed=signed, narrow=narrow, axis=0)
        return (rounded - rows).square().mean(1)

    best = torch.zeros(2, len(low), dtype=torch.float64, device=x.device)  # log2 of the fractions
    least = error(best)

    def attempt(logs: Tensor) -> None:
        nonlocal best, least
        logs = logs.expand_as(best).clamp(max=0)
        found = error(logs)
        best, least = torch.where(found < least, logs, best), torch.minimum(found, least)

    both, *others = torch.tensor([[1, 1], [1, 0], [0, 1], [1, -1]], device=x.device).unsqueeze(2)
    for quarters in range(41):
        attempt(-both * quarters / 4)
    for octaves in [] if symmetric else itertools.product(range(9), repeat=2):
        attempt(-torch.tensor(octaves, device=x.device).unsqueeze(1))
    for halvings in range(1, 10):
        for direction in [both] if symmetric else [both, *others] * 2:
            for sign in (1, -1):
                attempt(best + sign * direction / 2**halvings)
    return (low * best[0].exp2()).view(shape), (high * best[1].exp2()).view(shape)


def _ends(x: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """The least and the greatest number, () or (C,) float64, after all checks."""
    affine.check_float("x", x)
    if not x.numel():
        raise ValueError(f"x must not be empty, got shape {tuple(x.shape)}")
    if axis is not None and not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis must be one of the {x.dim()} axes of a tensor of shape {tuple(x.shape)}, got {axis}")
    affine.check_finite("x", x)
    low, high = _rows(x, axis).aminmax(dim=1)
    low, high = low.double(), high.double()
    return (low.squeeze(0), high.squeeze(0)) if axis is None else (low, high)


def _rows(x: Tensor, axis: int | None) -> Tensor:
    """(C, n), one row per channel, or one row."""
    x = x.detach()
    return x.reshape(1, -1) if axis is None else x.movedim(axis, 0).reshape(x.shape[axis], -1)
