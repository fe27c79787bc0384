"""Huffman coding of codebook indices, beside the peers that are installed: bitarray, dahuffman, constriction.

Run ``python benchmarks/huffman.py [SYMBOLS …]``; without numbers a million and ten million symbols. The indices are those
of a 64-entry codebook with a bell-shaped distribution. One thread; the best of some repetitions. A peer gets at most a
million symbols, as one without vectorised code needs seconds for them, and its code's table is not in its bytes.
"""

import sys
import time
from collections.abc import Callable

import numpy as np

from compress_lib.coding import huffman

PEER_SYMBOLS = 1_000_000
DISTINCT = 64


def indices(count: int) -> np.ndarray:
    """(count,) uint8, normally distributed around the middle of the codebook."""
    values = np.random.default_rng(0).normal(DISTINCT / 2, 10, count)
    return np.clip(np.rint(values), 0, DISTINCT - 1).astype(np.uint8)


def ours(symbols: np.ndarray) -> tuple[Callable, Callable, Callable]:
    return lambda: huffman.encode(symbols), huffman.decode, len


def with_bitarray(symbols: np.ndarray) -> tuple[Callable, Callable, Callable]:
    from bitarray import bitarray, decodetree
    from bitarray.util import huffman_code

    code = huffman_code(dict(enumerate(np.bincount(symbols).tolist())))
    tree, values = decodetree(code), symbols.tolist()

    def encode():
        stream = bitarray()
        stream.encode(code, values)
        return stream

    return encode, lambda stream: list(stream.decode(tree)), lambda stream: stream.nbytes


def with_dahuffman(symbols: np.ndarray) -> tuple[Callable, Callable, Callable]:
    from dahuffman import HuffmanCodec

    codec, values = HuffmanCodec.from_frequencies(dict(enumerate(np.bincount(symbols).tolist()))), symbols.tolist()
    return lambda: codec.encode(values), codec.decode, len


def with_constriction(symbols: np.ndarray) -> tuple[Callable, Callable, Callable]:
    """Its range coder, compiled and the only one of its coders that takes arrays; its Huffman codes go by symbols."""
    import constriction

    counts = np.bincount(symbols)
    model = constriction.stream.model.Categorical((counts / counts.sum()).astype(np.float32), perfect=False)
    values = symbols.astype(np.int32)

    def encode():
        coder = constriction.stream.queue.RangeEncoder()
        coder.encode(values, model)
        return coder.get_compressed()

    def decode(compressed):
        return constriction.stream.queue.RangeDecoder(compressed).decode(model, len(values))

    return encode, decode, lambda compressed: compressed.nbytes


def best(function: Callable, repetitions: int) -> tuple[float, object]:
    """Seconds of the fastest call, and its result."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def measure(name: str, coder: Callable, symbols: np.ndarray, repetitions: int) -> None:
    try:
        encode, decode, nbytes = coder(symbols)
    except ImportError as error:
        print(f"{name:28} skipped: {error}")
        return
    encoding, stream = best(encode, repetitions)
    decoding, decoded = best(lambda: decode(stream), repetitions)
    if not np.array_equal(decoded, symbols):
        raise AssertionError(f"{name} does not give back what it was given")
    bound = huffman.entropy(np.bincount(symbols)) * len(symbols) / 8
    speeds = f"{len(symbols) / encoding / 1e6:9.1f} {len(symbols) / decoding / 1e6:9.1f}"
    print(f"{name:28} {len(symbols):11,} {speeds} {nbytes(stream) / bound:10.4f}")


def main() -> None:
    print(f"{'':28} {'symbols':>11} {'encode':>9} {'decode':>9} {'÷ entropy':>10}     speeds in million symbols/s")
    for count in [int(argument) for argument in sys.argv[1:]] or [1_000_000, 10_000_000]:
        measure("compress_lib", ours, indices(count), 10)
    peers = {"bitarray": with_bitarray, "dahuffman": with_dahuffman, "constriction, range coder": with_constriction}
    for name, coder in peers.items():
        measure(name, coder, indices(PEER_SYMBOLS), 2)


if __name__ == "__main__":
    main()
