"""The reader of container files in JavaScript, beside the library's: the same tensors, and the same files refused."""

import json
import zlib

import containers
import numpy as np
import pytest
import torch
from live_page import encoded
from torch import nn

from compress_lib import container, ledger

READ = """async (files) => {
    const { decode, crc32, CnetError } = await import("/cnet.mjs");
    const bytesOf = ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength);
    return files.map((file) => {
        try {
            const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
            const { metadata, tensors, parts } = decode(bytes);
            const row = ([name, { type, shape, values }]) => [name, type, shape, crc32(bytesOf(values))];
            return { metadata: JSON.stringify(metadata), tensors: [...tensors].map(row), parts };
        } catch (error) {
            if (error instanceof CnetError) return { refused: error.message };
            throw error;
        }
    });
}"""


@pytest.fixture(scope="module")
def javascript(modules):
    """``javascript(files)``: what the page's reader finds in each, or why it refuses it."""
    return lambda files: modules.evaluate(READ, [encoded(file) for file in files])


def library(content: bytes, path) -> list | str:
    """The same by the library: name, type, shape and checksum of each tensor, or the reason."""
    path.write_bytes(content)
    try:
        opened = container.open(path)
        tensors = {name: opened.tensor(name) for name in opened.names}
    except ValueError as error:
        return str(error)
    return [
        [
            name,
            str(tensor.dtype).removeprefix("torch."),
            list(tensor.shape),
            zlib.crc32(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""),
        ]
        for name, tensor in tensors.items()
    ]


def compare(files: list[bytes], javascript, folder) -> tuple[int, int]:
    """How many files both refuse and both read, with the same tensors; fails where the two differ."""
    refused = 0
    for content, found in zip(files, javascript(files), strict=True):
        expected = library(content, folder / "file.cnet")
        if isinstance(expected, str):
            assert found.get("refused"), f"read here, but in Python {expected}: {content.hex(' ')}"
            refused += 1
        else:
            assert found.get("tensors") == expected, f"{found.get('refused')}: {content.hex(' ')}"
    return refused, len(files) - refused


def stored(model: nn.Module, folder, **options) -> bytes:
    container.save(model, folder / "stored.cnet", **options)
    return (folder / "stored.cnet").read_bytes()


def test_the_books_files(javascript, tmp_path):
    files = [path.read_bytes() for path in sorted((ledger.directory() / "compressed").glob("*.cnet"))]
    assert compare(files, javascript, tmp_path) == (0, len(files))
    for content, found in zip(files, javascript(files), strict=True):
        assert json.loads(found["metadata"])["architecture"] in {"lenet-300-100", "lenet-5", "squeezenet-small"}
        ends = [part["to"] for part in found["parts"]]
        assert [part["from"] for part in found["parts"]] == [0, *ends[:-1]], "every byte has one part"
        assert ends[-1] == len(content)


def test_the_parts_are_the_budget(javascript):
    """Of LeNet-300-100: the bytes of each kind are those that the library counts."""
    path = ledger.directory() / "compressed" / "lenet-300-100.cnet"
    (found,) = javascript([path.read_bytes()])
    kinds = dict.fromkeys(("header", "record", "gaps", "codebook", "values", "tables"), 0)
    for part in found["parts"]:
        if part["tensor"] is None or part["tensor"].endswith("weight"):
            kinds[part["kind"]] += part["to"] - part["from"]
    rows = container.open(path).budget().rows
    assert kinds["header"] == rows[-1].header
    # The width of a packed stream, and the lengths of codebooks and Huffman streams, are a header to the library.
    names = {"gaps": "indices", "values": "codes", "codebook": "codebook", "tables": "tables"}
    for kind, name in names.items():
        lengths = 6 if kind == "tables" else 1  # bytes a layer
        assert 0 <= kinds[kind] - sum(getattr(row, name) for row in rows) <= lengths * len(rows)


@pytest.mark.parametrize("huffman", [True, False])
def test_all_types_and_forms(javascript, tmp_path, huffman):
    files = [stored(containers.all_types_and_forms(), tmp_path, huffman=huffman)]
    assert compare(files, javascript, tmp_path) == (0, 1)


def test_names_ties_and_metadata(javascript, tmp_path):
    files = [
        stored(containers.Small(), tmp_path, metadata={"größe": [5, None, "\U0001f600"]}),
        stored(nn.ReLU(), tmp_path),
        *(stored(containers.Small(), tmp_path, index_bits=bits) for bits in range(1, 9)),
    ]
    assert compare(files, javascript, tmp_path) == (0, len(files))
    assert json.loads(javascript(files[:1])[0]["metadata"]) == {"größe": [5, None, "\U0001f600"]}


def test_wrong_files_and_wrong_records_are_refused(javascript, tmp_path):
    files = [content for content, _ in containers.WRONG]
    refused, read = compare(files, javascript, tmp_path)
    assert refused >= 19 and read <= 6, "those that are read do not fit the network that they were made for"
    texts = (
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"x":1,}',
        b"null",
        b'{"x":"\xff"}',
    )
    files = [containers.build(text) for text in texts]
    files += [containers.build(layers=[("0", [("weight", containers.W), ("a", "0.weight"), ("b", "0.a")], None)])]
    files += [
        containers.build(layers=[("0", [("weight", record)], None)]) for record, _ in containers.WRONG_RECORDS[1:]
    ]
    assert compare(files, javascript, tmp_path) == (len(files), 0)


def test_damaged_files_are_refused_by_both_or_read_alike(javascript, tmp_path):
    content = stored(containers.Small(), tmp_path)
    refused, _ = compare(list(containers.mutations(content, 200)), javascript, tmp_path)
    assert refused > 190
    refused, read = compare(list(containers.lies(containers.Small(), 300)), javascript, tmp_path)
    assert refused > 150 and read > 15, "these have the right checksums"


def test_damaged_huffman_streams_are_refused_by_both_or_read_alike(javascript, tmp_path):
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(np.clip(rng.normal(8, 2, (40, 130)), 0, 15).round().astype(np.float32))
    sparse = torch.where(torch.from_numpy(rng.random((40, 130)) < 0.3), codes / 4 + 0.125, 0)
    model = containers.holding(dense=codes, sparse=sparse, lone=torch.full((3000,), 7, dtype=torch.int8))
    refused, read = compare(list(containers.lies(model, 300)), javascript, tmp_path)
    assert refused > 150 and read > 15
