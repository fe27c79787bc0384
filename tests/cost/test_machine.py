import platform

import torch

import compress_lib
from compress_lib.cost import hardware, machine, versions


def test_one_short_line_without_the_host_name(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "somebody's computer")
    line = hardware()
    assert "\n" not in line
    assert 5 < len(line) < 120
    assert "core" in line
    assert "thread" in line
    assert "somebody" not in line


def test_it_says_how_many_threads_are_used():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert "1 thread" in hardware().split(", ")
        torch.set_num_threads(3)
        assert "3 threads" in hardware().split(", ")
    finally:
        torch.set_num_threads(before)


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert hardware().endswith(", Tesla T4")


def test_there_is_always_a_processor_name(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "elsewhere")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert hardware().startswith(platform.machine())


def test_versions():
    assert versions() == {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "compress_lib": compress_lib.__version__,
    }
