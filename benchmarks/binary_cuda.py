"""Binary matrix products on a GPU, beside cuBLAS in float16 and bfloat16, and how close they come to its limits.

Run ``python benchmarks/binary_cuda.py [--rounds N] [--out FILE]`` on a machine with a CUDA GPU. In each round everyone
takes a turn, and a ratio is that of float16's time to the candidate's in the same round: above 1 is faster than
float16. A time is the GPU's, of one call with a cold L2 cache, as where a whole network's weights pass through it; the
time that Python takes to start the call is hidden. Results are compared with float32 products of the signs before
anything is timed.

- "packed" multiplies signs that are packed already; "from float16" packs the inputs first.
- "of bandwidth" is the time that the bytes of a product need at the measured bandwidth, over the time it took; "of
  popcount" the time that its popcounts need at the measured rate. Both rates are those of loops that do nothing else.
  The larger share says what bounds a product, and how much is left to gain.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from compress_lib import files, ledger

try:
    import triton
    import triton.language as tl

    from compress_lib.ops import triton_kernels as kernels
except ImportError as error:
    sys.exit(
        f"benchmarks/binary_cuda.py needs Triton, which comes with PyTorch for CUDA: {error}. Nothing was measured."
    )

FEATURES = [(4096, 4096), (32768, 32768)]  # inputs, outputs: packed, 2 MB, which any L2 holds, and 128 MB, which few do
BATCHES = [1, 16, 256, 4096]
WORDS = 1 << 27  # that the loops read: 1 GB
STEPS = 4096  # of the popcount loop


@triton.jit
def read_kernel(words, total, BLOCK: tl.constexpr):
    """Read a block and leave one word of it, so that the compiler must read it all."""
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(total + tl.program_id(0), tl.xor_sum(tl.load(words + offset), axis=0))


@triton.jit
def popcount_kernel(words, counts, steps, BLOCK: tl.constexpr):
    """Count the bits of words that change at every step, in registers."""
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(words + offset)
    count = tl.zeros((BLOCK,), tl.int32)
    change = 0x123456789ABCDEF + tl.program_id(0).to(tl.int64)
    for _ in range(steps):
        change = change * 3  # the same in all threads; both halves of a word change
        count += kernels._popcount(v ^ change)
    tl.store(counts + offset, count)


def seconds(function: Callable) -> float:
    """The median time of a call on the GPU; the L2 cache is overwritten before each."""
    return triton.testing.do_bench(function, warmup=5, rep=30, return_mode="median") / 1e3


def ceilings() -> dict:
    """The bytes that are read, and the 64-bit words whose bits are counted, in a second."""
    words = torch.randint(-(2**62), 2**62, (WORDS,), device="cuda")
    block = 4096
    total = torch.empty(WORDS // block, dtype=torch.int64, device="cuda")
    read = seconds(lambda: read_kernel[(WORDS // block,)](words, total, BLOCK=block))
    programs = 64 * torch.cuda.get_device_properties(0).multi_processor_count
    counts = torch.empty(programs * 1024, dtype=torch.int32, device="cuda")
    count = seconds(lambda: popcount_kernel[(programs,)](words, counts, STEPS, BLOCK=1024))
    return {"bytes_per_second": 8 * WORDS / read, "words_per_second": len(counts) * STEPS / count}


def check(x: Tensor, x_packed: Tensor, w_packed: Tensor, weight: Tensor) -> None:
    """Compare up to 256 rows with float32 products, which are exact: sums of ±1 below 2²⁴."""
    rows = slice(None, 256)
    torch.backends.cuda.matmul.allow_tf32 = False
    signs = lambda t: (t >= 0).float().mul_(2).sub_(1)
    expected = signs(x[rows]) @ signs(weight).T
    if not torch.equal(kernels.pack_signs(x), x_packed):
        raise AssertionError("packing differs from one call to the next")
    if not torch.equal(kernels.binary_linear(x_packed, w_packed, x.shape[1])[rows].float(), expected):
        raise AssertionError(f"the binary product is wrong: {tuple(x.shape)} by {tuple(weight.shape)}")


def measure(batch: int, inputs: int, outputs: int, limits: dict, rounds: int) -> dict:
    """Time all candidates on one shape."""
    generator = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(batch, inputs, device="cuda", generator=generator).half()
    weight = torch.randn(outputs, inputs, device="cuda", generator=generator, dtype=torch.float16)
    x_packed, w_packed = kernels.pack_signs(x), kernels.pack_signs(weight)
    check(x, x_packed, w_packed, weight)
    candidates = {
        "float16": lambda: x @ weight.T,
        "packed": lambda: kernels.binary_linear(x_packed, w_packed, inputs),
        "from float16": lambda: kernels.binary_linear(kernels.pack_signs(x), w_packed, inputs),
    }
    if torch.cuda.is_bf16_supported(including_emulation=False):  # a T4 has none
        x16, weight16 = x.bfloat16(), weight.bfloat16()
        candidates["bfloat16"] = lambda: x16 @ weight16.T
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            times[name].append(seconds(function))

    dense = 2 * (x.numel() + weight.numel() + batch * outputs)
    packed = 8 * (x_packed.numel() + w_packed.numel()) + 4 * batch * outputs
    nbytes = {"float16": dense, "bfloat16": dense, "packed": packed, "from float16": packed + 2 * x.numel()}
    counted = batch * w_packed.numel() / limits["words_per_second"]
    rows = []
    for name in candidates:
        moved = nbytes[name] / limits["bytes_per_second"]
        median = statistics.median(times[name])
        row = {
            "candidate": name,
            "seconds_median": median,
            "seconds_min": min(times[name]),
            "faster": statistics.median(a / b for a, b in zip(times["float16"], times[name], strict=True)),
            "of_bandwidth": moved / median,
            "of_popcount": counted / median if name in ("packed", "from float16") else None,
        }
        rows.append(row)
        popcount = "" if row["of_popcount"] is None else f", {row['of_popcount']:.0%} of popcount"
        bandwidth = f"{row['of_bandwidth']:.0%} of bandwidth"
        print(f"  {name:14} {median * 1e6:10.1f} µs  {row['faster']:6.2f}×  {bandwidth}{popcount}")
    return {"batch": batch, "inputs": inputs, "outputs": outputs, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/binary_cuda.py needs a CUDA GPU, and PyTorch finds none. Nothing was measured.")
    device = torch.cuda.get_device_name()
    limits = ceilings()
    words, nbytes = limits["words_per_second"], limits["bytes_per_second"]
    print(f"{device}: {nbytes / 1e9:.0f} GB/s, {words * 64 / 1e12:.1f} T signs/s")
    balance = 8 * words / nbytes
    print(f"by these ceilings, popcounts take longer than the weights' way from memory from batch {balance:.1f} on")
    tables = []
    for inputs, outputs in FEATURES:
        for batch in BATCHES:
            print(f"{batch}×{inputs}×{outputs}")
            tables.append(measure(batch, inputs, outputs, limits, arguments.rounds))
    if arguments.out:
        command = " ".join(["python", "benchmarks/binary_cuda.py", *sys.argv[1:]])
        content = {
            "gpu": device,
            "ceilings": limits,
            "shapes": tables,
            "rounds": arguments.rounds,
            "triton": triton.__version__,
            **ledger.provenance(command),
        }
        files.write(arguments.out, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
