import hashlib
import json
import os
import tracemalloc

import containers
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compress_lib import container, data, ledger, training
from compress_lib.coding import tensors
from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import kmeans


def same(one, other) -> bool:
    """The same names, types, shapes and bits."""
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(
        (a.dtype, a.shape, a.numpy().tobytes()) == (b.dtype, b.shape, b.numpy().tobytes())
        for a, b in zip(one.values(), other.values(), strict=True)
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "small.cnet"
    container.save(containers.Small(), path, metadata={"note": "ä"})
    return path


@pytest.fixture(scope="module")
def compressed():
    """LeNet-300-100 pruned at the rates of Deep Compression, 64 values a layer."""
    pruned, _ = magnitude.prune(zoo.load("lenet-300-100"), {"fc1": 0.92, "fc2": 0.91, "fc3": 0.74}, scope="layer")
    return kmeans.deploy(kmeans.convert(pruned, 63)[0])


# --- round trips ------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(path):
    skeleton = containers.Small(seed=1)
    before = {name: tensor.clone() for name, tensor in skeleton.state_dict().items()}
    loaded = container.load(path, skeleton)
    assert same(loaded, containers.Small())
    assert loaded.tied.weight is loaded.second.weight
    assert not loaded.training
    assert skeleton.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in skeleton.state_dict().items())
    assert same(container.load(os.fspath(path), skeleton), containers.Small())


# SHA-256 of the weights as the library read them that wrote these files, and how many test images they get right.
WRITTEN_BEFORE = {
    "lenet-300-100": ("95dcbe54a22b73b8d57cabd38dc8d4cb7180ded82041506a9893e87d6199eb22", 9002),
    "lenet-5": ("7784ba7cef981de276f3a970ac5784883052ac9fb39e50a397b794115c5770e2", 9138),
    "squeezenet-small": ("f6d2f18c16ef38f7169ee8e98f7e4f67cdd017d65e8489273a5c10fe2c67d221", 9267),
}


@pytest.mark.parametrize("name", WRITTEN_BEFORE)
def test_files_of_earlier_days_are_still_read(name):
    model = container.load(ledger.directory() / "compressed" / f"{name}.cnet")
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode() + tensor.numpy().tobytes())
    images, labels = data.fashion_mnist("test")
    right = int((training.predict(model, images).argmax(1) == labels).sum())
    assert (digest.hexdigest(), right) == WRITTEN_BEFORE[name]


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_zoo_is_built_from_its_name(name, tmp_path):
    model = zoo.load(name)
    budget = container.save(model, tmp_path / "file", architecture=name)
    state = torch.get_rng_state()
    loaded = container.load(tmp_path / "file")
    assert torch.equal(torch.get_rng_state(), state)
    assert same(loaded, model)
    assert not loaded.training
    assert budget.nbytes == (tmp_path / "file").stat().st_size
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(images), model(images))


def test_options_are_kept(tmp_path):
    model = zoo.build("lenet-5", num_classes=3, in_channels=2)
    container.save(
        model, tmp_path / "file", architecture="lenet-5", metadata={"options": {"num_classes": 3, "in_channels": 2}}
    )
    assert same(container.load(tmp_path / "file"), model)
    with pytest.raises(ValueError, match="model must be the network that its metadata describe: it has 'conv1.weight'"):
        container.save(model, tmp_path / "other", architecture="lenet-5")
    assert not (tmp_path / "other").exists()


def test_a_network_of_integers(tmp_path):
    ptq = pytest.importorskip("compress_lib.quantization.integer.ptq")
    images = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    deployed, _ = ptq.quantize(zoo.load("lenet-5"), images)
    form = {"kind": "int8", "settings": deployed.meta["settings"], "example_shape": [1, 1, 28, 28]}
    budget = container.save(deployed, tmp_path / "file", architecture="lenet-5", metadata={"form": form})
    assert budget.nbytes < 431_080 * 1.05
    loaded = container.load(tmp_path / "file")
    assert same(loaded, deployed)
    assert torch.equal(loaded(images), deployed(images))


def test_one_tensor_at_a_time(path, monkeypatch):
    opened = container.open(path)
    state = containers.Small().state_dict()
    assert opened.metadata == {"note": "ä"}
    assert sorted(opened.names) == sorted(state)
    assert opened.owner("tied.weight") == "second.weight"
    decoded = []
    decode = tensors.decode
    monkeypatch.setattr(tensors, "decode", lambda data: decoded.append(len(data)) or decode(data))
    for name, tensor in state.items():
        assert torch.equal(opened.tensor(name), tensor)
    assert len(decoded) == len(state)
    with pytest.raises(ValueError, match="has no tensor 'third.weight'; it has scale, kept"):
        opened.tensor("third.weight")


def test_a_damaged_layer_leaves_the_others_readable(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in the last layer
    path.write_bytes(content)
    opened = container.open(path)
    assert torch.equal(opened.tensor("first.weight"), containers.Small().first.weight)
    with pytest.raises(ValueError, match=r"small.cnet is refused: the section of tied.bias is damaged"):
        opened.tensor("tied.bias")


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_budget_is_the_size_of_the_file(compressed, tmp_path):
    path = tmp_path / "file"
    sizes = []
    for options in ({"index_bits": 5, "huffman": False}, {"index_bits": 5}, {}):
        budget = container.save(compressed, path, architecture="lenet-300-100", **options)
        assert budget.nbytes == path.stat().st_size == container.open(path).budget().nbytes
        assert [row.layer for row in budget.rows] == ["fc1", "fc2", "fc3", "(file)"]
        assert [row.biases for row in budget.rows] == [1200, 400, 40, 0]
        assert [row.weights for row in budget.rows] == [235_200, 30_000, 1000, 0]
        sizes.append(budget.nbytes)
        assert same(container.load(path), compressed)
        if not options.get("huffman", True):
            for row in budget.rows[:2]:  # 6 bits a value, 5 a gap: the arithmetic of the paper
                assert (row.codes, row.indices) == (-(-row.entries * 6 // 8), -(-row.entries * 5 // 8))
    assert sizes == sorted(sizes, reverse=True)
    text = str(budget)
    assert text.splitlines()[2].split() == (
        ["layer", "weights", "entries", "codes", "indices", "codebook", "tables", "biases", "header", "bytes"]
    )
    assert text.splitlines()[-1].split()[-1] == f"{sizes[-1]:,}"
    assert "<table" in budget._repr_html_()
    bound = container.open(path).entropy_bound()
    assert bound == sum(tensors.entropy_bound(record) for record in container.open(path).records().values())
    assert bound < sizes[-1] < 1.04 * bound  # headers and tables of a small network


def test_a_large_network_is_within_one_per_cent_of_the_bound(tmp_path):
    model = nn.Sequential(nn.Linear(1200, 1000, bias=False))
    rng = np.random.default_rng(0)
    for layer in model:
        codes = np.clip(rng.normal(32, 10, layer.weight.shape), 0, 63).astype(int)
        values = torch.linspace(-1, 1, 65)[1:][torch.from_numpy(codes)]
        layer.weight.data = torch.where(torch.from_numpy(rng.random(layer.weight.shape)) < 0.1, values, 0)
    nbytes = container.save(model, tmp_path / "file").nbytes
    assert nbytes < 1.01 * container.open(tmp_path / "file").entropy_bound()


# --- the format -------------------------------------------------------------------------------------------------------


def layer(weight=1.0, bias=-2.0) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(1, 1))
    model[0].weight.data.fill_(weight)
    model[0].bias.data.fill_(bias)
    return model


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "file"
    expected = (
        b"CNET\x01"  # magic and version
        + b"\x19\0\0\0"  # length of the header
        + b"\xc4\x9d\xee\xce"  # CRC-32 of the above and the header
        + b"\x02{}"  # metadata
        + b"\x01"  # one layer
        + b"\x010"  # its name
        + b"\xfe\x04/R"  # CRC-32 of its section
        + b"\x02"  # two tensors
        + b"\x06weight\x07\x04bias\x06"
        + b"".join(containers.RECORDS)
    )
    assert containers.build() == expected
    path.write_bytes(expected)
    assert same(container.load(path, layer(0, 0)), layer())
    container.save(layer(), path)
    assert path.read_bytes() == expected


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_save_that_fails_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        container.save(containers.Small(seed=3), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert same(container.load(path, containers.Small(seed=1)), containers.Small())


def test_what_cannot_be_saved(path):
    before = path.read_bytes()
    model = nn.Sequential(nn.Linear(3, 3))
    masked = masks.apply(model, {"0": torch.eye(3, dtype=torch.bool)})
    shared, _ = kmeans.convert(model, 2)
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    assert parametrize.is_parametrized(normed[0])
    for parametrized in (masked, shared, normed):
        with pytest.raises(
            ValueError,
            match="model must be plain, but its layer '0' is parametrized: .* masks.deploy or with deploy of",
        ):
            container.save(parametrized, path)
    container.save(masks.deploy(masked), path.with_name("plain"))
    for other, error, message in (
        ("model", TypeError, "model must be an nn.Module, got str"),
        (nn.Linear(3, 3, dtype=torch.complex128), TypeError, "model has 'weight', which cannot be stored"),
        (nn.Linear(3, 3, device="meta"), TypeError, "model has 'weight', which cannot be stored"),
        (nn.LazyLinear(3), TypeError, "model must have a state of tensors, got UninitializedParameter in 'weight'"),
    ):
        with pytest.raises(error, match=message):
            container.save(other, path)
    for metadata, message in (
        ({"x": torch.ones(1)}, "metadata must be what JSON can hold"),
        ({"x": float("nan")}, "metadata must be what JSON can hold"),
        ({"architecture": "vgg-19"}, "its metadata describe no network: name='vgg-19' is not in the zoo"),
        (
            {"architecture": "lenet-5"},
            "model must be the network that its metadata describe: .* 431,080 values, not 12",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            container.save(model, path, metadata=metadata)
    with pytest.raises(TypeError, match="metadata must be a mapping, got list"):
        container.save(model, path, metadata=[1])
    with pytest.raises(ValueError, match="metadata must not have the key 'architecture' if"):
        container.save(model, path, architecture="lenet-5", metadata={"architecture": "lenet-5"})
    with pytest.raises(ValueError, match="index_bits must be from 1 to 8, got 9"):
        container.save(model, path, index_bits=9)
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="No such file"):
        container.save(model, path.parent / "nowhere" / "file")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    containers.WRONG,
)
def test_a_wrong_file_is_refused_by_name_and_reason(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"file is refused: .*{message}"):
        container.load(path, layer(0, 0))


def test_tied_tensors_must_be_tied_in_the_file(tmp_path):
    untied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    container.save(untied, tmp_path / "file")
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    with pytest.raises(
        ValueError, match="it has '1.weight' apart from '0.weight', which is the same tensor in the network"
    ):
        container.load(tmp_path / "file", tied)
    container.save(tied, tmp_path / "file")
    assert same(container.load(tmp_path / "file", untied), tied)


def test_metadata_that_describe_no_network(tmp_path):
    path = tmp_path / "file"
    huge = {"architecture": "lenet-300-100", "options": {"in_features": 10**12}}
    int8 = {"architecture": "lenet-300-100", "form": {"kind": "int8", "settings": {}, "example_shape": [10**9, 784]}}
    for metadata, message in (
        ({}, "its metadata name no architecture: say which model"),
        ({"architecture": ["lenet-5"]}, "its metadata describe no network"),
        ({"architecture": "lenet-6"}, "its metadata describe no network: name='lenet-6' is not in the zoo"),
        ({"architecture": "lenet-5", "options": 3}, "its metadata describe no network"),
        ({"architecture": "lenet-5", "options": {"depth": 3}}, "its metadata describe no network"),
        (huge, "its metadata describe no network: .* values, not 2"),
        ({"architecture": "lenet-300-100"}, "its metadata describe no network: .* has 266,610 values, not 2"),
        ({"architecture": "lenet-5", "options": {"num_classes": 2**62}}, "its metadata describe no network"),
    ):
        path.write_bytes(containers.build(json.dumps(metadata).encode()))
        with pytest.raises(ValueError, match=message):
            container.load(path)
    container.save(zoo.build("lenet-300-100"), path)
    with pytest.raises(ValueError, match="its metadata name no architecture"):
        container.load(path)
    for form, message in (
        (int8["form"], "example_shape must have up to"),
        (int8["form"] | {"kind": "int3"}, r"form must be of a kind in \('int8', 'binary'\), got 'int3'"),
        ({"kind": "int8"}, "describe no network"),
        ([], "describe no network"),
    ):
        with pytest.raises(ValueError, match=message):
            container.save(zoo.build("lenet-300-100"), path, metadata=int8 | {"form": form})


# --- damage -----------------------------------------------------------------------------------------------------------


def test_2400_damaged_files(tmp_path):
    path = tmp_path / "file"
    model, skeleton = containers.Small(), containers.Small(seed=1)
    container.save(model, path)
    content = path.read_bytes()
    refused = 0
    tracemalloc.start()
    try:
        for damaged in containers.mutations(content, 2400):
            path.write_bytes(damaged)
            try:
                loaded = container.load(path, skeleton)
            except ValueError as error:
                assert str(error).startswith(f"{path} is refused: ")
                refused += 1
            else:
                assert damaged == content or same(loaded, model)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert refused > 2300


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "file"
    content = containers.build()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="file is refused: "):
            container.load(path, layer(0, 0))
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="file is refused: "):
            container.load(path, layer(0, 0))


def test_400_files_that_lie_with_the_right_checksums(tmp_path):
    """What the checksums cannot find, the decoders refuse, or a whole network of the right shapes comes out."""
    path = tmp_path / "file"
    model = containers.Small()
    model.tied.weight = nn.Parameter(model.tied.weight.detach().clone())
    kinds = {name: (tensor.dtype, tensor.shape) for name, tensor in model.state_dict().items()}
    loads = 0
    tracemalloc.start()
    try:
        for content in containers.lies(model, 400):
            path.write_bytes(content)
            try:
                loaded = container.load(path, model)
            except ValueError as error:
                assert str(error).startswith(f"{path} is refused: ")
                continue
            loads += 1
            assert {name: (tensor.dtype, tensor.shape) for name, tensor in loaded.state_dict().items()} == kinds
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert loads > 20
