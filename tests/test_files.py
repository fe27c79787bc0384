import json
import os
import pickle
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from compress_lib import files

TENSORS = {
    "matrix": torch.arange(6.0).view(2, 3),
    "half": torch.tensor([1.5, -2.0]).bfloat16(),
    "number": torch.tensor(7),
    "flag": torch.tensor([True, False]),
    "nothing": torch.zeros(0, 3),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tensors.safetensors"
    files.save_tensors(path, TENSORS, "thing 1", {"width": "3", "name": "ä"})
    return path


def test_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "file"
    files.write(path, b"long before")
    files.write(os.fspath(path), b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, b"before")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, b"before")
    seen = []
    replace = os.replace

    def watched(new, old):
        seen.append((old.read_bytes(), new.read_bytes()))
        replace(new, old)

    monkeypatch.setattr("os.replace", watched)
    files.write(path, b"after")
    assert seen == [(b"before", b"after")]


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "none" / "file", b"")
    with pytest.raises(FileNotFoundError):
        files.load_tensors(tmp_path / "none", "thing 1")


def test_tensors_come_back(path):
    tensors, metadata = files.load_tensors(path, "thing 1")
    assert metadata == {"width": "3", "name": "ä", "format": "thing 1"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(tensors[name], tensor)


def test_any_safetensors_reader_reads_the_file(path):
    with safetensors.safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("matrix"), TENSORS["matrix"])
        assert file.metadata()["format"] == "thing 1"


def test_the_same_content_makes_the_same_file(path, tmp_path):
    again = tmp_path / "again"
    files.save_tensors(again, dict(reversed(TENSORS.items())), "thing 1", {"name": "ä", "width": "3"})
    assert files.load_tensors(again, "thing 1")[1] == files.load_tensors(path, "thing 1")[1]


def test_every_truncation_and_every_altered_byte_is_refused(path):
    good = path.read_bytes()
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ (1, 32, 128)[i % 3]]) + good[i + 1 :])
        with pytest.raises(ValueError, match="tensors.safetensors"):
            files.load_tensors(path, "thing 1")
    for length in range(0, len(good), 5):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match="tensors.safetensors is not a whole safetensors file"):
            files.load_tensors(path, "thing 1")
    path.write_bytes(good + b"\0")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        files.load_tensors(path, "thing 1")


@pytest.mark.parametrize("change", ["value", "name", "shape", "type", "metadata", "format", "checksum"])
def test_a_whole_file_with_other_content_is_refused(path, change):
    """What only the checksum can tell."""
    tensors, metadata = dict(TENSORS), {"width": "3", "name": "ä", "format": "thing 1"}
    metadata["sha256"] = files._digest(tensors, metadata)
    match change:
        case "value":
            tensors["number"] = torch.tensor(8)
        case "name":
            tensors["Matrix"] = tensors.pop("matrix")
        case "shape":
            tensors["matrix"] = tensors["matrix"].view(3, 2)
        case "type":
            tensors["matrix"] = tensors["matrix"].view(torch.int32)
        case "metadata":
            metadata["width"] = "4"
        case "format":
            metadata["format"] = "thing 2"
        case "checksum":
            del metadata["sha256"]
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    expected = "does not hold a thing 1: its format is 'thing 2'" if change == "format" else "was altered after it was"
    with pytest.raises(ValueError, match=f"tensors.safetensors {expected}"):
        files.load_tensors(path, "thing 1")


def test_other_files_are_refused(path):
    with pytest.raises(ValueError, match="does not hold a thing 2: its format is 'thing 1'"):
        files.load_tensors(path, "thing 2")
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="does not hold a thing 1: its format is None"):
        files.load_tensors(path, "thing 1")
    for content in (b"", b"text", json.dumps({}).encode(), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            files.load_tensors(path, "thing 1")


def test_nothing_is_unpickled(path, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for content in (pickle.dumps(Trap()), path.read_bytes()[:8] + pickle.dumps(Trap())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            files.load_tensors(path, "thing 1")
    torch.save(Trap(), path)
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        files.load_tensors(path, "thing 1")
    assert not (tmp_path / "sprung").exists()


def test_what_was_loaded_does_not_change_with_the_file(path):
    tensors, _ = files.load_tensors(path, "thing 1")
    with open(path, "r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(b"\xff" * 200)
    assert torch.equal(tensors["matrix"], TENSORS["matrix"])


def test_writing_needs_no_torch():
    code = (
        "import sys, compress_lib.files, compress_lib.ledger; assert not {'torch', 'safetensors'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
