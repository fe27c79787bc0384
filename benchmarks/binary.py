"""Products of signs beside float32, bfloat16 and int8, beside the peers that are installed, and beside their ceiling.

Run ``python benchmarks/binary.py [--rounds N] [--only WORD] [--out FILE]``. One thread; everyone takes turns, and a
ratio is that of float32's time to the candidate's in the same round: above 1 is faster than float32. "binary" takes
float32 numbers and gives float32 numbers: it packs the signs, multiplies and scales. "binary, packed" begins with
packed signs. int8 takes codes and gives codes, but for "float to float", where numbers are quantized before.

The ceiling is what one thread of this processor XORs, counts and adds up in a loop that reads no memory; it takes turns
with the others, and "of the ceiling" is the part of it that a candidate reaches.
"""

import argparse
import copy
import ctypes
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import int8 as int8_benchmark
import torch
from torch import Tensor
from torch.nn import functional

from compress_lib import cost, files, ledger, ops
from compress_lib.ops import build, native

THREADS = 1
CEILING = "ceiling"
CEILING_ROUNDS = 100_000
CEILING_SOURCE = Path(__file__).with_name("popcount_peak.cpp")

LINEAR = [(256, 4096, 4096), (1, 4096, 4096), (16, 4096, 4096), (256, 1024, 1024), (1, 1024, 1024)]
CONVOLUTION = [(8, 16, 28), (1, 128, 28), (1, 256, 28), (1, 256, 14), (1, 512, 14), (8, 128, 28), (8, 256, 14)]


class Linear:
    """Float layer, int8 layer and packed signs of the same weight."""

    def __init__(self, batch: int, features_in: int, features_out: int) -> None:
        layer, x = int8_benchmark.linear(batch, features_in, features_out)
        self.name = f"linear {batch}×{features_in}×{features_out}"
        self.macs = batch * features_in * features_out
        self.int8 = int8_benchmark.Case(layer, x)
        self.layer, self.x = self.int8.layer, x
        self.weight, self.scale = ops.pack_signs(layer.weight), layer.weight.abs().mean(1)
        self.wanted = functional.linear(sign(x), sign(layer.weight))

    def binary(self) -> Tensor:
        return ops.binary_linear(self.x, self.weight, self.layer.in_features, self.scale)


class Convolution:
    """The same of a 3×3 convolution with padding, channels-last."""

    def __init__(self, batch: int, channels: int, size: int) -> None:
        layer, x = int8_benchmark.convolution(batch, channels, size)
        self.name = f"conv {batch}×{channels}×{size}², 3×3, {channels} → {channels}"
        self.macs = x.numel() * channels * 9
        self.int8 = int8_benchmark.Case(layer, x)
        self.layer, self.x = self.int8.layer, x
        self.weight, self.scale = ops.pack_conv_weight(layer.weight), layer.weight.abs().mean((1, 2, 3))
        self.wanted = functional.conv2d(functional.pad(sign(x), (1, 1, 1, 1), value=1.0), sign(layer.weight))
        self.wanted = self.wanted.round_()  # float32's fast algorithms may round

    def binary(self) -> Tensor:
        return ops.binary_conv2d(self.x, self.weight, self.x.shape[1], 3, padding=1, scale=self.scale)


def sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


# Each gives a function to be timed and another that makes the exact product of signs of its output, or None.


def float32(case) -> tuple[Callable, None]:
    return lambda: case.layer(case.x), None


def bfloat16(case) -> tuple[Callable, None]:
    layer, x = copy.deepcopy(case.layer).bfloat16(), case.x.bfloat16()
    return lambda: layer(x), None


def of_int8(candidate: Callable) -> Callable:
    """A candidate of the int8 benchmark, which checks their numbers."""
    return lambda case: (candidate(case.int8)[0], None)


def binary(case) -> tuple[Callable, Callable]:
    shape = (-1,) if case.int8.is_linear else (-1, 1, 1)
    return case.binary, lambda y: (y / case.scale.view(shape)).round()


def contiguous(case) -> tuple[Callable, Callable]:
    if case.int8.is_linear:
        raise ImportError("a matrix has one layout")
    case = copy.copy(case)
    case.x = case.x.contiguous()
    return binary(case)


def forced(backend: str) -> Callable:
    def candidate(case) -> tuple[Callable, Callable]:
        if backend not in native.available():
            raise ImportError(f"this processor has no {backend}")

        def run() -> Tensor:
            os.environ["COMPRESS_LIB_BACKEND"] = backend
            try:
                return case.binary()
            finally:
                del os.environ["COMPRESS_LIB_BACKEND"]

        return run, binary(case)[1]

    return candidate


def packed(case) -> tuple[Callable, Callable]:
    if not case.int8.is_linear:
        raise ImportError("a convolution packs its image with the padding")
    x, n, backend = ops.pack_signs(case.x), case.layer.in_features, ops.backend()
    return lambda: native.binary_linear(x, case.weight, n, None, backend), lambda y: y


def numpy_bitwise_count(case) -> tuple[Callable, Callable]:
    import numpy as np

    if not hasattr(np, "bitwise_count") or not case.int8.is_linear:
        raise ImportError("numpy 2 has bitwise_count, and no convolution")
    n = case.layer.in_features
    x, weight = (
        words.numpy().view(np.uint64) for words in (ops.pack_signs(case.x), case.weight)
    )  # of int64, it counts |x|
    counts = lambda: np.stack([np.bitwise_count(row ^ weight).sum(1, dtype=np.int32) for row in x])
    return counts, lambda y: n - 2.0 * torch.from_numpy(y)


def faiss_hammings(case) -> tuple[Callable, Callable]:
    import faiss
    import numpy as np

    if not case.int8.is_linear:
        raise ImportError("it has no convolution")
    faiss.omp_set_num_threads(THREADS)
    x, weight, n = ops.pack_signs(case.x).numpy(), case.weight.numpy(), case.layer.in_features
    counts = np.empty((len(x), len(weight)), np.int32)
    pointers = [faiss.swig_ptr(each.view(np.uint8)) for each in (x, weight)]

    def run(_kept=(x, weight)):  # the pointers do not keep the arrays
        faiss.hammings(*pointers, len(x), len(weight), weight.shape[1] * 8, faiss.swig_ptr(counts))

    return run, lambda _: n - 2.0 * torch.from_numpy(counts)


CANDIDATES = {
    "float32": float32,
    "bfloat16": bfloat16,
    "int8, compress_lib": of_int8(int8_benchmark.ours),
    "int8, compress_lib, float to float": of_int8(int8_benchmark.ours_float_to_float),
    "int8, ONNX Runtime": of_int8(int8_benchmark.onnx_qlinear),
    "binary": binary,
    "binary, contiguous": contiguous,
    "binary, packed": packed,
    "binary, avx2": forced("avx2"),
    "binary, neon": forced("neon"),
    "binary, portable": forced("portable"),
    "binary, reference": forced("reference"),
    "numpy.bitwise_count": numpy_bitwise_count,
    "faiss.hammings": faiss_hammings,
}


def ceiling() -> ctypes.CDLL:
    def check(library: ctypes.CDLL) -> None:
        library.peak.argtypes, library.peak.restype = [ctypes.c_int64], None
        library.bits.restype = ctypes.c_int64

    return build.library(CEILING_SOURCE.name, {CEILING_SOURCE.name: CEILING_SOURCE.read_bytes()}, check)


def measure(case, library: ctypes.CDLL, rounds: int) -> dict:
    """Time all candidates on one shape."""
    functions, skipped = {}, {}
    for label, candidate in CANDIDATES.items():
        try:
            function, numbers = candidate(case)
        except ImportError as error:
            skipped[label] = str(error)
            continue
        result = function()
        if numbers and not torch.equal(numbers(result), case.wanted):
            raise AssertionError(f"{label} is not the product of the signs")
        functions[label] = function
    functions[CEILING] = lambda: library.peak(CEILING_ROUNDS)
    times = cost.latency(functions, rounds=rounds, threads=THREADS, baseline="float32")
    print(f"\n{case.name}\n{times}")
    bits = library.bits() * CEILING_ROUNDS
    rows = []
    for row in times:
        part = row.ratio / times[CEILING].ratio * case.macs / bits if "binary" in row.name else None
        rows.append(
            {
                "candidate": row.name,
                "seconds_min": row.seconds_min,
                "seconds_median": row.seconds_median,
                "faster": row.ratio,
                "faster_low": row.ratio_low,
                "faster_high": row.ratio_high,
                "of_the_ceiling": part,
            }
        )
        if part is not None:
            print(f"{row.name}: {part:.1%} of the ceiling")
    per_second = bits / times[CEILING].seconds_median
    fastest = max((row for row in times if row.name.startswith("int8")), key=lambda row: row.ratio)
    faster = times["binary"].ratio / fastest.ratio
    print(f"ceiling {per_second / 1e12:.3f} T bit-MACs/s; binary is {faster:.2f} × {fastest.name}")
    for label, reason in skipped.items():
        print(f"{label}: skipped, {reason}")
    return {
        "shape": case.name,
        "macs": case.macs,
        "weights": case.layer.weight.numel(),
        "inputs": case.x.numel(),
        "outputs": case.wanted.numel(),
        "ceiling_per_second": per_second,
        "rows": rows,
        "skipped": skipped,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="the shapes with this word in their names")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    library = ceiling()
    roof = cost.roofline(THREADS)
    tables = []
    with torch.inference_mode():
        for kind, shapes in ((Linear, LINEAR), (Convolution, CONVOLUTION)):
            for shape in shapes:
                torch.manual_seed(0)
                if arguments.only in kind.__name__.lower():
                    tables.append(measure(kind(*shape), library, arguments.rounds))
    if arguments.out:
        command = " ".join(["python", "benchmarks/binary.py", *sys.argv[1:]])
        content = {
            "shapes": tables,
            "float32_peak_per_second": roof.peak_macs_per_s,
            "bandwidth_bytes_per_second": roof.bandwidth_bytes_per_s,
            "threads": THREADS,
            "rounds": arguments.rounds,
            "backend": ops.backend(),
            "peers": {
                name: version(name) for name in ("numpy", "onnxruntime", "faiss-cpu") if find_spec(name.split("-")[0])
            },
            **ledger.provenance(command),
        }
        files.write(arguments.out, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
