import os
import tempfile

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from compress_lib.cost import nbytes_on_disk


@pytest.fixture
def temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_the_size_of_a_saved_file(temporary_directory):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))
    measured = nbytes_on_disk(model)
    assert list(temporary_directory.iterdir()) == []
    path = temporary_directory / "model.safetensors"
    save_model(model, str(path))
    assert measured == os.path.getsize(path)
    stored = sum(tensor.nbytes for tensor in load_file(path).values())
    assert stored == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert 8 < measured - stored < 1000  # the header


def test_a_shared_tensor_is_written_once(temporary_directory):
    first, second = nn.Linear(100, 100), nn.Linear(100, 100)
    apart = nbytes_on_disk(nn.Sequential(first, second))
    second.weight = first.weight
    assert 40_000 <= apart - nbytes_on_disk(nn.Sequential(first, second)) < 40_100


def test_zeros_take_as_many_bytes(temporary_directory):
    model = nn.Linear(50, 50)
    before = nbytes_on_disk(model)
    nn.init.zeros_(model.weight)
    assert nbytes_on_disk(model) == before


def test_the_model_stays_as_it_is(temporary_directory):
    model = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
    weight, strides = model.weight.detach().clone(), model.weight.stride()
    nbytes_on_disk(model)
    assert model.weight.stride() == strides
    assert torch.equal(model.weight, weight)


def test_nothing_is_left_behind_when_writing_fails(temporary_directory, monkeypatch):
    def fail(model, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress_lib.cost.disk.save_model", fail)
    with pytest.raises(OSError, match="No space left"):
        nbytes_on_disk(nn.Linear(2, 2))
    assert list(temporary_directory.iterdir()) == []


def test_what_is_no_module():
    with pytest.raises(TypeError, match="model must be a torch.nn.Module"):
        nbytes_on_disk({"weight": torch.zeros(3)})
