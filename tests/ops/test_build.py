import errno
import hashlib
import os
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import torch

from compress_lib import ops
from compress_lib.ops import build, native

EXPORT = b'extern "C" __attribute__((visibility("default"))) '
SOURCES = {
    "one.cpp": b'#include "two.h"\n' + EXPORT + b"int answer() { return ANSWER; }",
    "two.h": b"#define ANSWER 42\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of its own for each test."""
    monkeypatch.setenv("COMPRESS_LIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def fresh(monkeypatch):
    """As if nothing had been loaded, during the test."""
    monkeypatch.delenv("COMPRESS_LIB_BACKEND", raising=False)
    monkeypatch.setattr(native, "_loaded", [])


def check(library):
    if library.answer() != 42:
        raise OSError("the answer is not 42")


def load() -> int:
    return build.library("one.cpp", SOURCES, check).answer()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def real_compiler() -> str:
    return build._compiler()[0][0]


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_library_is_built_once_and_kept(cache, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load() == 42
        (kept,) = cache.iterdir()
        monkeypatch.setattr(build, "_compile", None)  # which would fail
        assert load() == 42
    assert kept.name.startswith("one-")


def test_other_sources_make_another_library(cache):
    load()
    build.library("one.cpp", {**SOURCES, "two.h": b"#define ANSWER 43\n"}, lambda library: None)
    assert len(list(cache.iterdir())) == 2


def test_another_compiler_makes_another_library(cache, tmp_path, monkeypatch):
    load()
    other = script(tmp_path / "c++", f'[ "$1" = --version ] && echo other || exec {real_compiler()} "$@"')
    monkeypatch.setenv("CXX", other)
    assert load() == 42
    assert len({path.name.split("-")[1] for path in cache.iterdir()}) == 2


@pytest.mark.parametrize("content", [b"", b"\x7fELF", "half"])
def test_a_truncated_library_is_built_again(cache, content):
    load()
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.unlink()  # not written over: the one that is loaded lives in it
    kept.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.warns(RuntimeWarning, match="was built again: its content is not what was written"):
        assert load() == 42
    assert [path.read_bytes() for path in cache.iterdir()] == [whole]


def test_a_library_that_is_no_library_here_is_built_again(cache):
    """As one of another processor, whose digest is right."""
    load()
    (kept,) = cache.iterdir()
    kept.unlink()
    content = b"\x7fELF of another machine"
    (cache / f"{kept.stem[:20]}-{hashlib.sha256(content).hexdigest()}.so").write_bytes(content)
    with pytest.warns(RuntimeWarning, match="was built again: "):
        assert load() == 42
    assert [path.name for path in cache.iterdir()] == [kept.name]


@pytest.mark.parametrize("source", [b"int other() { return 42; }", b"int answer() { return 41; }"])
def test_a_foreign_library_is_built_again(cache, source):
    load()
    (kept,) = cache.iterdir()
    key = kept.name.split("-")[1]
    kept.unlink()
    build.library("one.cpp", {"one.cpp": EXPORT + source}, lambda library: None)
    (foreign,) = cache.iterdir()
    foreign.rename(cache / foreign.name.replace(foreign.name.split("-")[1], key))
    with pytest.warns(RuntimeWarning, match="was built again: "):
        assert load() == 42
    assert [path.name for path in cache.iterdir()] == [kept.name]


def test_what_an_interrupted_write_left_is_not_used(cache):
    load()
    (kept,) = cache.iterdir()
    kept.rename(cache / f".{kept.name}.0123456789abcdef")
    assert load() == 42
    assert kept.exists()


@pytest.mark.parametrize("obstacle", ["a file", "no permission"])
def test_where_nothing_can_be_kept_it_is_built_and_said(cache, obstacle, monkeypatch):
    if obstacle == "a file":
        cache.write_bytes(b"")
    else:  # root may write anywhere, so that taking the right away is not enough

        def refuse(*arguments):
            raise PermissionError("read-only file system")

        monkeypatch.setattr(build.files, "write", refuse)
    with pytest.warns(RuntimeWarning, match="cannot be kept, and every process builds its own"):
        assert load() == 42


def test_the_cache_may_be_the_working_directory(tmp_path, monkeypatch):
    """A bare name is looked for in the loader's own directories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESS_LIB_CACHE", ".")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load() == 42
        monkeypatch.setattr(build, "_compile", None)
        assert load() == 42
    assert len(list(tmp_path.glob("one-*.so"))) == 1


def test_what_another_process_removes_from_the_cache_is_used_all_the_same(cache, monkeypatch):
    """It may have seen a damaged file of this name, before this process wrote a whole one."""
    write = build.files.write

    def remove(path, content):
        write(path, content)
        path.unlink()

    monkeypatch.setattr(build.files, "write", remove)
    assert load() == 42


def test_two_processes_build_at_once(cache):
    code = f"""
        from compress_lib.ops import build
        print(build.library("one.cpp", {SOURCES!r}, lambda library: None).answer())
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == ["42"] * 2
    assert len(list(cache.iterdir())) == 1


# --- the compiler -----------------------------------------------------------------------------------------------------


def test_no_compiler(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.warns(
        RuntimeWarning, match="slow reference: there is no C\\+\\+ compiler: c\\+\\+ or g\\+\\+ or clang\\+\\+"
    ) as said:
        assert ops.backend() == "reference"
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        x = torch.randn(3, 70)
        assert torch.equal(ops.binary_linear(x, ops.pack_signs(x), 70).diagonal(), torch.full((3,), 70.0))
    monkeypatch.setenv("COMPRESS_LIB_BACKEND", "portable")
    with pytest.raises(RuntimeError, match="COMPRESS_LIB_BACKEND=portable cannot be had: there is no C"):
        ops.backend()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "echo 'binary.cpp:1: fatal error: no such thing' >&2; exit 1",
            "failed with status 1: binary.cpp:1: fatal error",
        ),
        ("kill -9 $$", "failed with status -9"),
        ("exit 0", "left no library, and no error"),
        ('for last; do true; done; echo "half" > "$last"; kill -9 $$', "failed with status -9"),
        ('for last; do true; done; echo "half" > "$last"', "does not work"),
    ],
)
def test_a_compiler_that_fails(fresh, cache, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("CXX", script(tmp_path / "cxx", f'[ "$1" = --version ] && echo 1 && exit\n{text}'))
    with pytest.warns(RuntimeWarning, match=message) as said:
        assert ops.backend() == "reference"
    assert len(said) == 1
    monkeypatch.setattr(native, "_loaded", [])
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build, "OPTIONS", ("-O0", *build.OPTIONS[1:]))  # quicker
    assert ops.backend() != "reference"


@pytest.mark.parametrize("command", ["{launcher} {compiler}", "'{launcher}' '{compiler}' -DUNUSED", "{spaced}"])
def test_a_compiler_with_a_launcher_and_options(cache, tmp_path, monkeypatch, command):
    launcher = script(tmp_path / "ccache", 'exec "$@"')
    spaced = script(tmp_path / "my compiler", f'exec {real_compiler()} "$@"')
    load()
    monkeypatch.setenv("CXX", command.format(launcher=launcher, spaced=spaced, compiler=real_compiler()))
    assert load() == 42
    stems = {path.name.split("-")[1] for path in cache.iterdir()}
    assert len(stems) == (1 if "spaced" in command else 2)  # options make another library


@pytest.mark.parametrize(
    ("command", "message"), [("g++ 'x", "is no command: No closing quotation"), (" ", "not to be")]
)
def test_a_command_that_is_none(fresh, monkeypatch, command, message):
    monkeypatch.setenv("CXX", command)
    with pytest.warns(RuntimeWarning, match=message):
        assert ops.backend() == "reference"


def refuse(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


FAILURES = {
    "no directory for temporary files": (
        lambda patch: patch.setattr(build.tempfile, "mkdtemp", refuse),
        "No space left on device",
    ),
    "a full disk": (lambda patch: patch.setattr(Path, "write_bytes", refuse), "No space left on device"),
    "no such user": (
        lambda patch: patch.setenv("COMPRESS_LIB_CACHE", "~nosuchuser/kernels"),
        "no place to keep libraries, with COMPRESS_LIB_CACHE='~nosuchuser/kernels'",
    ),
    "a cache that cannot be read": (lambda patch: patch.setattr(Path, "glob", refuse), "No space left on device"),
    "no sources": (lambda patch: patch.setattr(native, "_SOURCES", Path("/nowhere")), "/nowhere"),
    "anything": (lambda patch: patch.setattr(build, "_compile", lambda *arguments: {}["key"]), "key"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_whatever_fails_the_reference_computes(fresh, monkeypatch, name):
    x = torch.randn(3, 70)
    with monkeypatch.context() as patch:
        FAILURES[name][0](patch)
        with pytest.warns(RuntimeWarning) as said:
            packed = ops.pack_signs(x)
    assert len(said) == 1
    assert str(said[0].message).startswith("the binary operators run on their slow reference: ")
    assert FAILURES[name][1] in str(said[0].message)
    assert ops.backend() == "reference"
    assert torch.equal(ops.binary_linear(x, packed, 70).diagonal(), torch.full((3,), 70.0))


def test_where_warnings_are_errors_it_is_said_once(fresh, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="slow reference"):
            ops.backend()
        assert ops.backend() == "reference"


def test_where_warnings_are_errors_a_library_that_was_built_is_used(fresh, cache, monkeypatch):
    cache.write_bytes(b"")
    monkeypatch.setattr(build, "OPTIONS", ("-O0", *build.OPTIONS[1:]))  # quicker
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="cannot be kept"):
            ops.backend()
        assert ops.backend() != "reference"


def test_a_compiler_that_hangs(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", script(tmp_path / "cxx", '[ "$1" = --version ] && echo 1 && exit\nexec sleep 60'))
    monkeypatch.setattr(build, "PATIENCE", 0.2)
    with pytest.warns(RuntimeWarning, match="cannot be run: .* timed out"):
        assert ops.backend() == "reference"


def test_a_process_that_is_killed_while_it_builds_leaves_a_cache_that_works(cache, tmp_path):
    slow = script(
        tmp_path / "c++",
        f'[ "$1" = --version ] && echo 1 && exit\ntouch {tmp_path}/begun\nsleep 1\nexec {real_compiler()} "$@"',
    )
    code = f"from compress_lib.ops import build; build.library('one.cpp', {SOURCES!r}, lambda library: None)"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "CXX": slow, "TMPDIR": str(tmp_path)})
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not cache.exists() or not list(cache.iterdir())
    assert load() == 42


# --- importing --------------------------------------------------------------------------------------------------------


def test_importing_builds_nothing_and_touches_no_disk(cache, tmp_path):
    code = """
        import sys, torch, compress_lib.files
        opened = []
        names = ("open", "os.mkdir", "os.rename", "subprocess.Popen", "ctypes.dlopen", "os.listdir", "os.scandir")
        sys.addaudithook(lambda name, arguments: opened.append((name, arguments[0])) if name in names else None)
        import compress_lib.ops
        print([each for each in opened if
            not (str(each[1]).endswith((".py", ".pyc")) or each[0] in ("os.listdir", "os.scandir"))
            and ".pyc." not in str(each[1]) and "__pycache__" not in str(each[1])])
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True
    ).stdout
    assert found.strip() == "[]"
    assert not cache.exists()


def test_the_sources_travel_with_the_package():
    assert {path.name for path in native._SOURCES.iterdir()} >= {"binary.cpp", "product.h", "avx512.h", "neon.h"}


def test_every_included_file_counts_in_the_name_of_the_library():
    text = "".join(path.read_text() for path in native._SOURCES.iterdir())
    included = {line.split('"')[1] for line in text.splitlines() if line.startswith('#include "')}
    assert included <= {path.name for path in native._SOURCES.iterdir() if path.suffix in (".cpp", ".h")}


def test_the_check_finds_a_library_that_counts_wrongly():
    class Wrong:
        def __getattr__(self, name):
            return Function()

    class Function:
        def __call__(self, *arguments):
            return 1

    with pytest.raises(OSError, match="portable, rows: 1: it counts 0.0 where it is"):
        native._check(Wrong())


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("cl_linear", lambda backend, *arguments: arguments[1] == 1, "rows: 1"),
        ("cl_linear", lambda backend, *arguments: arguments[1] > 8, "rows: 9"),
        ("cl_conv2d", lambda backend, geometry, *arguments: not geometry._obj.channels_last, "an image"),
        ("cl_conv2d", lambda backend, geometry, *arguments: geometry._obj.channels_last, "an image"),
    ],
)
@pytest.mark.parametrize("broken", native.available()[1:])
def test_the_check_finds_what_is_wrong_in_one_path_only(name, wrong, message, broken):
    real = native._library()[0]

    class Library:
        def __getattr__(self, other):
            function = getattr(real, other)

            def altered(backend, *arguments):
                status = function(backend, *arguments)
                if native.BACKENDS[backend] == broken and wrong(backend, *arguments):
                    arguments[-2][-1] += 2  # the last number of the output
                return status

            return altered if other == name else function

    native._check(real)
    with pytest.raises(OSError, match=f"{broken}, {message}: it counts .* where it is"):
        native._check(Library())
