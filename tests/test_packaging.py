"""The lock holds everything that the ranges ask for, on every system, and names nothing of the machine that made it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}


def lines(name: str) -> list[str]:
    """What a requirements file asks for, the files that it includes among it."""
    text = re.sub(r"(?m)(^| +)#.*$", "", (ROOT / name).read_text(encoding="utf-8"))
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found += lines(line.removeprefix("-r ")) if line.startswith("-r ") else [line]
    return found


def ranges() -> list[Requirement]:
    extras = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    return [*map(Requirement, [*PROJECT["dependencies"], *extras, *lines("requirements.txt")])]


def locked(system: str, python: str) -> dict[str, str]:
    """Name → version, as pip would take them there."""
    environment = {**default_environment(), **SYSTEMS[system], "python_version": python}
    environment |= {"python_full_version": f"{python}.7", "implementation_name": "cpython"}
    pins: dict[str, str] = {}
    for pin in map(Requirement, lines("requirements.lock")):
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in pins, f"{pin.name} is locked twice"
            (pins[pin.name],) = (each.version for each in pin.specifier)
    return pins


def test_each_line_of_the_lock_is_a_name_a_version_and_perhaps_a_marker():
    for line in lines("requirements.lock"):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][a-z0-9.]*( ; [\w '<>=!().]+)?", line), line


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_is_within_the_ranges(system, python):
    pins = locked(system, python)
    assert ranges()
    for wanted in ranges():
        assert wanted.name in pins, wanted
        assert wanted.specifier.contains(pins[wanted.name]), f"{wanted}, {pins[wanted.name]} is locked"
    cuda = [name for name in pins if name.startswith(("nvidia-", "cuda-")) or name == "triton"]
    assert bool(cuda) == (system == "linux"), "the ordinary torch has CUDA on Linux only"


def test_what_is_named_in_several_places_has_one_range():
    found: dict[str, set[str]] = {}
    for each in ranges():
        found.setdefault(each.name, set()).add(str(each.specifier))
    assert {name: specifiers for name, specifiers in found.items() if len(specifiers) > 1} == {}
