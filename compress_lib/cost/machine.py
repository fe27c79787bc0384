"""What a number was measured on, in words fit to be printed beside it."""

import os
import platform
import subprocess
import sys

import torch

import compress_lib


def hardware() -> str:
    """The machine in one line: processor, cores, PyTorch's threads, and the GPU if there is one.

    Returns
    -------
    str
        For example ``"AMD EPYC 9354, 2 cores, 1 thread"``. It never holds the host's name.
    """
    threads = torch.get_num_threads()
    parts = [_cpu_name(), _plural(_num_cores(), "core"), _plural(threads, "thread")]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def versions() -> dict[str, str]:
    """Versions of Python, PyTorch and this library."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "compress_lib": compress_lib.__version__,
    }


def _cpu_name() -> str:
    # platform.processor() is empty or just "x86_64" on Linux, and "arm" on macOS.
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name" and value.strip():
                    return " ".join(value.split())
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    # Those this process may use, where the system says so: a container often has fewer than the machine.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
