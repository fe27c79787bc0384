"""The page book/container-format.md suffices: a reader made from it alone, and files that the library wrote."""

import itertools
import json
import math
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import containers
import numpy as np
import pytest
import torch
from torch import nn

from compress_lib import container
from compress_lib.coding import huffman
from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import kmeans

PAGE = Path(__file__).parents[2] / "book" / "container-format.md"

# --- the reader: pure Python and NumPy --------------------------------------------------------------------------------

TYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
    "float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64",
)  # fmt: skip
BITS = {"bfloat16": "u2", "float8_e4m3fn": "u1", "float8_e5m2": "u1"}  # NumPy lacks these types; their bits are kept


class Record(NamedTuple):
    """A tensor and how it was stored."""

    type: str
    stored: str
    form: int
    gap_bits: int
    array: np.ndarray


class Bytes:
    """Some bytes, taken from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size, order="little"):
        return int.from_bytes(self.take(size), order)

    def varint(self):
        total = 0
        for place in itertools.count():
            byte = self.number(1)
            total += (byte & 127) << 7 * place
            if byte < 128:
                return total

    def text(self):
        return self.take(self.varint()).decode("utf-8")

    def packed(self, count, width):
        """``count`` numbers of ``width`` bits, the highest bit first, with zeros to the end of the last byte."""
        bits = np.unpackbits(np.frombuffer(self.take((count * width + 7) // 8), np.uint8))
        assert not bits[count * width :].any()
        return bits[: count * width].reshape(count, width).astype(np.int64) @ (1 << np.arange(width)[::-1])

    def values(self, count, kind):
        dtype = np.dtype(BITS.get(kind, kind)).newbyteorder("<")
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def end(self):
        assert self.at == len(self.data)


def read_list(source, count):
    lowest, width = source.number(2, "big"), source.number(1)
    return lowest + source.packed(count, width)


def read_huffman(source):
    assert source.take(3) == b"HF\x01"
    count = source.varint()
    if not count:
        return np.zeros(0, np.int64)
    distinct, chunk, tail = source.varint() + 1, source.varint() * 8, source.varint()
    alphabet = np.cumsum(read_list(source, distinct) + 1) - 1
    lengths = read_list(source, distinct)
    chunks = read_list(source, count // chunk)

    words, word, last = {}, -1, 0
    for length, symbol in sorted(zip(lengths.tolist(), alphabet.tolist(), strict=True)):
        word = (word + 1) << (length - last)
        words[length, word], last = symbol, length

    symbols, ends, length, word = [], [], 0, 0
    for at, bit in enumerate(source.packed(int(chunks.sum()) + tail, 1).tolist(), start=1):
        length, word = length + 1, 2 * word + bit
        if (length, word) in words:
            symbols.append(words[length, word])
            ends.append(at)
            length, word = 0, 0
    assert (length, len(symbols)) == (0, count)
    assert ends[chunk - 1 :: chunk] == np.cumsum(chunks).tolist()
    return np.array(symbols)


def read_stream(source, count):
    if bits := source.number(1):
        return source.packed(count, bits)
    inside = Bytes(source.take(source.varint()))
    numbers = read_huffman(inside)
    inside.end()
    assert len(numbers) == count
    return numbers


def read_record(source):
    types, form = source.number(1), source.number(1)
    kind, stored, form, gap_bits = TYPES[types & 15], TYPES[types >> 4], form & 3, form >> 2
    shape = [source.varint() for _ in range(source.varint())]
    size = count = math.prod(shape)
    places = np.arange(size)
    if gap_bits:
        count = source.varint()
        places = np.cumsum(read_stream(source, count) + 1) - 1
        last = int(places[-1]) if count else -1
        assert last < size <= last + 2**gap_bits
    if form == 0:
        values = source.values(count, stored)
    elif form == 1:
        values = source.values(source.varint(), stored)[read_stream(source, count)]
    else:
        lowest = source.values(1, stored)
        values = lowest + read_stream(source, count).astype(lowest.dtype)
    if stored == "bfloat16" != kind:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    tensor = np.zeros(size, BITS.get(kind, kind))
    tensor[places] = values
    return Record(kind, stored, form, gap_bits, tensor.reshape(shape))


def read(data):
    """The metadata, and by its full name each tensor."""
    file = Bytes(data)
    assert file.take(5) == b"CNET\x01"
    length, checksum = file.number(4), file.number(4)
    header = Bytes(file.take(length))
    assert zlib.crc32(data[:9] + header.data) == checksum
    metadata, tensors = json.loads(header.text()), {}
    for _ in range(header.varint()):
        layer, checksum, entries = header.text(), header.number(4), []
        for _ in range(header.varint()):
            own, length = header.text(), header.varint()
            entries.append((f"{layer}.{own}" if layer else own, length, None if length else header.text()))
        section = Bytes(file.take(sum(length for _, length, _ in entries)))
        assert zlib.crc32(section.data) == checksum
        for name, length, earlier in entries:
            if length:
                record = Bytes(section.take(length))
                tensors[name] = read_record(record)
                record.end()
            else:
                tensors[name] = tensors[earlier]
    header.end()
    file.end()
    return metadata, tensors


# --- the tests --------------------------------------------------------------------------------------------------------


def saved_and_read(model, folder, **options):
    """Save, read, compare bit for bit; the metadata, the records and the size of the file."""
    path = folder / "network.cnet"
    container.save(model, path, **options)
    data = path.read_bytes()
    metadata, tensors = read(data)
    expected = model.state_dict()
    assert list(tensors) == list(expected)
    for name, tensor in expected.items():
        found = tensors[name]
        assert tensor.dtype == getattr(torch, found.type), name
        assert tuple(tensor.shape) == found.array.shape, name
        bits = tensor.flatten().view(torch.uint8) if tensor.numel() else tensor.flatten()
        assert bits.numpy().tobytes() == found.array.tobytes(), name
    return metadata, tensors, len(data)


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20"])
def test_a_dense_network(tmp_path, name):
    metadata, tensors, _ = saved_and_read(zoo.load(name), tmp_path, architecture=name)
    assert metadata == {"architecture": name}
    assert all(tensor.form == tensor.gap_bits == 0 for tensor in tensors.values())


def test_a_pruned_network_with_shared_weights(tmp_path):
    pruned, _ = magnitude.prune(zoo.load("lenet-300-100"), {"fc1": 0.92, "fc2": 0.91, "fc3": 0.74}, scope="layer")
    shared, _ = kmeans.convert(masks.deploy(pruned), 16)
    model = kmeans.deploy(shared)
    _, coded, size = saved_and_read(model, tmp_path)
    _, plain, plain_size = saved_and_read(model, tmp_path, huffman=False)
    metadata, five, _ = saved_and_read(model, tmp_path, index_bits=5, metadata={"größe": [5, None]})
    assert metadata == {"größe": [5, None]}
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        assert coded[name].form == plain[name].form == five[name].form == 1
        assert coded[name].gap_bits and plain[name].gap_bits
        assert five[name].gap_bits == 5
    assert size < plain_size


@pytest.mark.parametrize("huffman", [True, False])
def test_all_types_and_forms(tmp_path, huffman):
    _, tensors, _ = saved_and_read(containers.all_types_and_forms(), tmp_path, huffman=huffman)
    assert {tensor.type for tensor in tensors.values()} == set(TYPES)
    forms = {(tensor.form, tensor.gap_bits > 0) for tensor in tensors.values() if tensor.array.size}
    assert forms == {(form, gaps) for form in (0, 1, 2) for gaps in (False, True)}
    narrowed = {(tensor.type, tensor.stored) for tensor in tensors.values() if tensor.type != tensor.stored}
    assert narrowed >= {("float32", "float16"), ("float32", "bfloat16"), ("float64", "float32"), ("int64", "int8")}


@pytest.mark.parametrize("bits", range(1, 9))
def test_fillers(tmp_path, bits):
    reach = 2**bits
    far = torch.zeros(40, reach)
    far[[3, 4, 9], [0, -1, reach // 2]] = torch.tensor([0.1, 0.2, 0.3])
    ends = {f"zeros_{size}": torch.zeros(size) for size in range(1, 2 * reach + 2, max(1, reach // 4))}
    _, tensors, _ = saved_and_read(containers.holding(far=far, **ends), tmp_path, index_bits=bits)
    assert tensors["far"].gap_bits == bits


def test_names_and_tied_tensors(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight  # of one layer
            self.again = self.first  # a layer that is there already
            self.scale = nn.Parameter(torch.ones(3))  # of the network itself
            self.deep = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
            self.deep[0][1].scale = self.scale
            self.deep[0][1].twin = self.deep[0][1].weight  # within a layer
            self.register_buffer("fleeting", torch.ones(2), persistent=False)

    _, tensors, _ = saved_and_read(Tied(), tmp_path)
    assert tensors["second.weight"] is tensors["first.weight"]
    assert tensors["again.bias"] is tensors["first.bias"]
    assert tensors["deep.0.1.scale"] is tensors["scale"]
    assert tensors["deep.0.1.twin"] is tensors["deep.0.1.weight"]
    assert saved_and_read(nn.ReLU(), tmp_path)[1] == {}


def test_the_checksums_leave_no_byte_out(tmp_path):
    path = tmp_path / "network.cnet"
    container.save(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), path)
    data = path.read_bytes()
    for at in range(len(data)):
        with pytest.raises(AssertionError):
            read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def bytes_of_tables():
    """What stands in the first column of each table of the page's last section, as bytes."""
    section = PAGE.read_text(encoding="utf-8").partition("## A file, byte by byte")[2]
    rows = [
        re.findall(r"`([0-9A-F ]+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")
    ]
    found = [bytes.fromhex("".join(row)) for row in rows]
    split = found.index(b"HF\x01")
    return b"".join(found[:split]), b"".join(found[split:])


def test_the_worked_example_is_what_the_library_writes(tmp_path, monkeypatch):
    written, stream = bytes_of_tables()
    (code,) = re.findall(r"```python\n(model = .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {"torch": torch, "nn": nn, "container": container})  # noqa: S102 - the page's own code
    assert (tmp_path / "tiny.cnet").read_bytes() == written
    assert f"Its {len(written)} bytes" in PAGE.read_text(encoding="utf-8")

    _, tensors = read(written)
    weights, biases = tensors["0.weight"].array.ravel(), tensors["0.bias"].array
    places = np.flatnonzero(weights)
    assert (places.tolist(), weights[places].tolist()) == ([1, 4, 14, 16, 23, 29], [0.5, -1, 0.5, 0.5, -1, 0.5])
    assert biases.tolist() == [0, 0.25, 0, -0.5]

    symbols = [3, 3, 3, 1, 3, 7, 3, 1]
    assert huffman.encode(np.array(symbols)) == stream
    assert read_huffman(Bytes(stream)).tolist() == symbols
