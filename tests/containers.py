"""Container files for the tests: one of every kind, wrong ones made by hand, and damaged ones by the hundred."""

import io
import math
import struct
import zlib

import numpy as np
import torch
from torch import nn

from compress_lib.coding import huffman, patterns, tensors
from compress_lib.container import header


class Small(nn.Module):
    """Every kind of state: tied weights, a buffer that is not saved, integers, bools, halves, nothing, a scalar."""

    def __init__(self, seed=0, width=40):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(width, 30)
        self.norm = nn.BatchNorm1d(30)
        self.second = nn.Linear(30, width, bias=False)
        self.tied = nn.Linear(30, width)
        self.tied.weight = self.second.weight
        self.scale = nn.Parameter(torch.randn(()))
        self.register_buffer("kept", torch.rand(7, 3) < 0.5)
        self.register_buffer("codes", torch.randint(-9, 9, (50,), dtype=torch.int8))
        self.register_buffer("short", torch.randn(9).half())
        self.register_buffer("nothing", torch.zeros(0, 3))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        with torch.no_grad():
            self.first.weight *= torch.rand(30, width) < 0.1
            self.second.weight.copy_((self.second.weight * 20).round() / 20)


def holding(**tensors: torch.Tensor) -> nn.Module:
    """A module that has nothing but these."""
    made = nn.Module()
    for name, tensor in tensors.items():
        made.register_buffer(name, tensor)
    return made


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(low, high, dtype=torch.int64):
    return torch.randint(low, high, (4800,), generator=torch.Generator().manual_seed(0)).to(dtype)


def all_types_and_forms() -> nn.Module:
    """A module with every type of tensor, and values for every form that a record has."""
    wide = normal(3000) * torch.exp(20 * normal(3000, seed=1))  # beyond the range of float16
    rare = normal(3000, seed=2) > 2
    few = (normal(3000) * 3).round()
    noise = integers(0, 256, torch.uint8)
    halves = torch.arange(-32768, 32768).short().view(torch.float16).float()
    return holding(
        **{f"any_{kind}": noise.view(getattr(torch, kind)) for kind in patterns.TYPES[1:]},
        bool=few > 0,
        bool_rare=rare,
        int8=(normal(3000) * 8).round().clamp(-128, 127).to(torch.int8),
        int8_rare=few.to(torch.int8) * 20 * rare,
        int32=integers(60_000, 62_000, torch.int32),
        int64=integers(-5, 5),
        uint64_base=integers(-500, -200).view(torch.uint64),
        f16=normal(300).half().float(),
        f16_rare=normal(3000).half().float() * rare,
        f16_all=halves[~halves.isnan()],
        bf16=wide.bfloat16().float(),
        bf16_rare=wide.bfloat16().float() * rare,
        bf16_all=(torch.arange(-32768, 32768).int() << 16).view(torch.float32),  # of all bits
        f32=wide.double(),
        special=torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45]),
        empty=torch.zeros(0),
        empty_3d=torch.zeros(3, 0, 2, dtype=torch.int8),
        scalar=torch.tensor(3.5),
        scalar_zero=torch.tensor(0.0),
        minus_zero=torch.full((1000,), -0.0),
        constant=torch.full((7, 11, 13), 3.0),
        zeros=torch.zeros(256 * 4088),  # so many fillers that they make whole chunks
    )


RECORDS = bytes([8 + 16 * 6, 0, 2, 1, 1, 0x00, 0x3C]), bytes([8 + 16 * 6, 0, 1, 1, 0x00, 0xC0])  # 1 and −2 in float16


def build(metadata=b"{}", layers=None, count=None, magic=b"CNET\x01", after=b"") -> bytes:
    """A file by hand. Layers: name, list of (local name, record or owner), section or None for the joined records."""
    if layers is None:
        layers = [("0", [("weight", RECORDS[0]), ("bias", RECORDS[1])], None)]
    head = bytes([len(metadata)]) + metadata + bytes([len(layers) if count is None else count])
    sections = b""
    for name, found, section in layers:
        if section is None:
            section = b"".join(record for _, record in found if isinstance(record, bytes))
        head += bytes([len(name)]) + name.encode() + struct.pack("<I", zlib.crc32(section)) + bytes([len(found)])
        for local, record in found:
            head += bytes([len(local)]) + local.encode()
            head += bytes([len(record)]) if isinstance(record, bytes) else bytes([0, len(record)]) + record.encode()
        sections += section
    start = magic + struct.pack("<I", len(head))
    return start + struct.pack("<I", zlib.crc32(start + head)) + head + sections + after


W, B = RECORDS
CRC = "checksum does not match"

# What a file holds that is refused, or does not fit `layer`, and what the error says.
WRONG = [
    (b"", r"it must begin with b'CNET', got b''"),
    (b"PK\x03\x04" + bytes(50), "it must begin with b'CNET'"),
    (b"CNET\x01", "it is truncated: 5 bytes in place of the first 13"),
    (build(magic=b"CNET\x02"), "it is of version 2; this library reads version 1"),
    (
        b"CNET\x01" + b"\xff" * 8 + bytes(30),
        "it is truncated, or its header is damaged: 4294967295 bytes of header",
    ),
    (build()[:-1], "it must have 51 bytes, got 50"),
    (build(after=b"\0"), "it must have 51 bytes, got 52"),
    (build(count=0), "data must end after byte"),
    (build(count=2), "data is truncated"),
    (build(b"{"), "its metadata are no JSON"),
    (build(b"[" * 100), "its metadata are no JSON"),
    (build(b"\xff{}"), "its metadata are no JSON"),
    (build(b"[1]"), "its metadata must be an object, got list"),
    (build(layers=[("0", [("weight", W), ("bias", B)], W + W)]), "it must have 51 bytes, got 52"),
    (build(layers=[("0", [("weight", W), ("weight", B)], None)]), "it has the tensor '0.weight' twice"),
    (build(layers=[("0", [("weight", W)], None), ("0", [("bias", B)], None)]), "it has the layer '0' twice"),
    (build(layers=[("", [("0.weight", W)], None), ("0", [("weight", W)], None)]), "tensor '0.weight' twice"),
    (
        build(layers=[("0", [("weight", W), ("bias", "0.bias")], None)]),
        "it has '0.bias' as the same tensor as '0.bias'",
    ),
    (build(layers=[("0", [("weight", W), ("bias", "1")], None)]), "as the same tensor as '1', which is not stored"),
    (build(layers=[("0", [("weight", W)], None)]), "it lacks 0.bias of the network"),
    (build(layers=[("0", [("weight", W), ("bias", B), ("c", B)], None)]), "it has 0.c, which the network has not"),
    (
        build(layers=[("0", [("weight", B), ("bias", B)], None)]),
        r"it has '0.weight' of float32 \(1,\), the network of",
    ),
    (
        build(layers=[("0", [("weight", W), ("bias", "0.weight")], None)]),
        r"'0.bias' of float32 \(1, 1\), the network",
    ),
    (
        build(layers=[("0", [("weight", b"\x66" + W[1:]), ("bias", B)], None)]),
        r"of float16 \(1, 1\), the network of float32",
    ),
    (build(layers=[("0", [("weight", W + B[:3]), ("bias", B[3:])], None)]), "data must end after byte"),
]


FLOAT32, INT8, BOOL = map(patterns.TYPES.index, ("float32", "int8", "bool"))

# A record with one wrong field, and what the error says.
WRONG_RECORDS = [
    (b"", "data is truncated"),
    (bytes([FLOAT32 + 16 * INT8, 0, 0, 0]), "data has values of float32 stored as int8"),
    (bytes([INT8 * 17, 3, 0, 0]), "data has values of int8 in form 3"),
    (bytes([FLOAT32 * 17, 2, 0, 0]), "data has values of float32 in form 2"),
    (bytes([INT8 * 17, 4 * 9, 0, 0]), "with gaps of 9 bits"),
    (bytes([INT8 * 17, 0, 33]), "data has a shape of 33 axes, above 32"),
    (bytes([INT8 * 17, 0, 1, 200, 1, 0]), r"data of 6 bytes cannot hold the shape \(200,\) in 200 entries"),
    (bytes([INT8 * 17, 0, 3, *[255] * 7, 1, 200, 1, 0]), r"data has the shape \(\d+, 200, 0\), beyond 2\^56"),
    (bytes([INT8 * 17, 4 * 8, 2, *[255] * 7, 1, *[255] * 7, 1, 1, 8, 0]), "cannot hold the shape"),
    (bytes([INT8 * 17, 4 * 2, 1, 8, 1, 2, 0b01000000, 7]), "cannot hold the shape|must reach the size"),
    (bytes([INT8 * 17, 4 * 2, 1, 7, 2, 2, 0b11110000, 7, 0]), "gaps must reach the size"),
    (bytes([INT8 * 17, 4 * 2, 1, 8, 2, 3, 0b11100000, 7, 0]), "gaps must be below 4 for 2 bits, got 7"),
    (bytes([INT8 * 17, 4 * 2, 1, 8, 9, 2, 0, 0]), "cannot hold the shape"),
    (bytes([INT8 * 17, 1, 1, 2, 2, 5, 6, 2, 0b10000000]), "data has the index 2 in a codebook of 2 values"),
    (bytes([INT8 * 17, 1, 1, 2, 0, 1, 0]), "data has the index 0 in a codebook of 0 values"),
    (bytes([INT8 * 17, 2, 1, 2, 127, 1, 0b01000000]), "data has 128 as int8"),
    (bytes([INT8 * 17, 2, 1, 2, 0, 17, 0]), "data has a stream of 17 bits a number"),
    (bytes([INT8 * 17, 1, 1, 2, *[255] * 7, 1, 0]), "data is truncated"),
    (bytes([INT8 * 17, 2, 1, 3, 0, 0, 17]) + huffman.encode(np.array([1, 0])), "data"),
    (bytes([BOOL * 17, 0, 1, 2, 1, 2]), "data has a bool of 2, neither 0 nor 1"),
    (bytes([BOOL * 17, 0, 1, 2, 1, 1, 1]), "data must end after byte 6, got 1 more"),
]


def mutations(content: bytes, count: int):
    """Damaged files: cut, extended, single bits, runs of bytes, exchanged parts, and lies with the right checksums."""
    rng = np.random.default_rng(0)
    with_header = header.read(io.BytesIO(content), len(content))
    cuts = [section.start for section in with_header.sections.values()]
    for at in (0, 4, 5, 9, 13, *cuts, *(cut + 1 for cut in cuts), len(content) - 1):
        yield content[:at]
    for _ in range(count):
        damaged = bytearray(content)
        at = int(rng.integers(len(content)))
        length = int(rng.integers(1, 9))
        kind = rng.integers(6)
        if kind == 0:
            damaged = damaged[:at]
        elif kind == 1:
            damaged[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            damaged[at : at + length] = rng.bytes(length)
        elif kind == 3:
            damaged[at:at] = rng.bytes(length)
        elif kind == 4:
            del damaged[at : at + length]
        else:
            a, b, c = sorted(int(i) for i in rng.integers(0, len(content), 3))
            damaged = damaged[:a] + damaged[b:c] + damaged[a:b] + damaged[c:]
        yield bytes(damaged)


def lies(model: nn.Module, count: int):
    """Files whose checksums are right and whose records or header are not."""
    rng = np.random.default_rng(1)
    names = list(model.state_dict())
    records = {name: tensors.encode(tensor) for name, tensor in model.state_dict().items()}
    for _ in range(count):
        found = dict(records)
        name = names[rng.integers(len(names))]
        damaged = bytearray(found[name])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(damaged) if rng.random() < 0.5 else min(len(damaged), 24)))
            kind = rng.integers(4)
            if kind == 0:
                damaged[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                damaged[at] = int(rng.choice([0, 1, 127, 128, 255]))
            elif kind == 2:
                damaged[at:at] = rng.bytes(int(rng.integers(1, 5)))
            elif len(damaged) > 4:
                del damaged[at : at + int(rng.integers(1, 4))]
                damaged = damaged or bytearray(1)
        found[name] = bytes(damaged)
        layers = {}
        for full, record in found.items():
            where, _, local = full.rpartition(".")
            layers.setdefault(where, {})[local] = record
        content = bytearray(header.write(b'{"architecture":"lenet-5"}', layers))
        if rng.random() < 0.3:  # a byte of the header too
            length = int.from_bytes(content[5:9], "little")
            content[13 + int(rng.integers(length))] = int(rng.choice([0, 1, 2, 127, 128, 255]))
            content[9:13] = struct.pack("<I", zlib.crc32(content[:9] + content[13 : 13 + length]))
        yield bytes(content)
