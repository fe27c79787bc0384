"""Huffman coding of codebook indices, beside the peers that are installed: bitarray, dahuffman, constriction.

Run ``python benchmarks/huffman.py``; it writes ``results/huffman.json``. The symbols are indices of a 64-entry codebook
with a bell-shaped distribution. One thread; the best of some repetitions. A peer gets a million symbols, as one without
vectorised code needs seconds for them, and its code's table is not in its bytes.
"""

import json
import time
from collections.abc import Callable

import numpy as np

from compress_lib import files, ledger
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


def measure(name: str, coder: Callable, symbols: np.ndarray, repetitions: int) -> dict | None:
    """A row of the results; None if the peer is not installed."""
    try:
        encode, decode, nbytes = coder(symbols)
    except ImportError as error:
        print(f"{name:28} skipped: {error}")
        return None
    encoding, stream = best(encode, repetitions)
    decoding, decoded = best(lambda: decode(stream), repetitions)
    if not np.array_equal(decoded, symbols):
        raise AssertionError(f"{name} does not give back what it was given")
    bound = huffman.entropy(np.bincount(symbols)) * len(symbols) / 8
    row = {
        "name": name,
        "symbols": len(symbols),
        "encoded_per_second": len(symbols) / encoding,
        "decoded_per_second": len(symbols) / decoding,
        "above_entropy": nbytes(stream) / bound - 1,
    }
    speeds = f"{row['encoded_per_second'] / 1e6:9.1f} {row['decoded_per_second'] / 1e6:9.1f}"
    print(f"{name:28} {len(symbols):11,} {speeds} {row['above_entropy']:12.2%}")
    return row


def main() -> None:
    print(f"{'':28} {'symbols':>11} {'encode':>9} {'decode':>9} {'over entropy':>12}     speeds in million symbols/s")
    rows = [measure("compress_lib", ours, indices(count), 10) for count in (100_000, 1_000_000, 10_000_000)]
    peers = {"bitarray": with_bitarray, "dahuffman": with_dahuffman, "constriction, range coder": with_constriction}
    rows += [measure(name, coder, indices(PEER_SYMBOLS), 2) for name, coder in peers.items()]
    content = {"rows": [row for row in rows if row], "threads": 1, **ledger.provenance("python benchmarks/huffman.py")}
    path = ledger.directory() / "huffman.json"
    files.write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
