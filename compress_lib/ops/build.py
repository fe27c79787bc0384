"""C++ compiled on first use and kept: a library that is whole, or none. Chapter 08.

A library is kept under the digest of its sources, the options and the compiler's version, in the directory
``COMPRESS_LIB_CACHE`` or else ``$XDG_CACHE_HOME/compress_lib/kernels`` (``~/.cache`` where that is unset). Its name
ends in the digest of its content, so that one that is truncated or altered is noticed, and built again. It is written
under another name first: when two processes build at once, both write the whole of it, and the last one stays.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from compress_lib import files

OPTIONS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
PATIENCE = 120  # seconds for a compiler, which usually takes three


class BuildError(Exception):
    """Why there is no library."""


def library(
    main: str,
    sources: Mapping[str, bytes],
    check: Callable[[ctypes.CDLL], None],
    warn: Callable[[str], None] | None = None,
) -> ctypes.CDLL:
    """Load a library from the cache, or compile it.

    Parameters
    ----------
    main : str
        Which of the sources is given to the compiler: the command in the environment variable ``CXX`` (a launcher
        before it and options after it are possible), or else the first of ``c++``, ``g++`` and ``clang++`` that there
        is.
    sources : mapping of str to bytes
        Their contents by their file names.
    check : callable
        Is given the library, and raises an OSError or AttributeError if it is not what it should be.
    warn : callable, optional
        Is given one message, if something did not go as it should; without it a RuntimeWarning says so.

    Returns
    -------
    ctypes.CDLL

    Raises
    ------
    BuildError
        If there is no compiler, it fails, or its library does not pass the check.
    OSError
        If there is no directory for temporary files, or no room in it.
    """
    compiler, version = _compiler()
    recipe = [platform.machine(), version, *compiler[1:], *OPTIONS, main]
    for name in sorted(sources):
        recipe += [name, hashlib.sha256(sources[name]).hexdigest()]
    stem = f"{Path(main).stem}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}-"
    directory, useless, problems = cache_directory(), [], []
    for path in sorted(directory.glob(f"{stem}*.so")):
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem.removeprefix(stem):
                raise OSError("its content is not what was written")
            return _loaded(path, check)
        except (OSError, AttributeError) as error:  # a function is missing, or more is wrong
            useless.append(path)
            problems.append(f"{path} was built again: {error}")
    with tempfile.TemporaryDirectory(prefix="compress_lib-") as scratch:
        built = _compile(compiler, main, sources, Path(scratch))
        content = built.read_bytes()
        kept = directory / f"{stem}{hashlib.sha256(content).hexdigest()}.so"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            files.write(kept, content)
            for path in useless:
                if path != kept:
                    path.unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{kept.name} cannot be kept, and every process builds its own: {error}")
        # Where it was kept another process may have removed it, or nothing may be run.
        made = _first_that_works((kept, built), check, f"what {compiler[0]} made of {main}")
    if problems and warn:
        warn("; ".join(problems))
    elif problems:
        warnings.warn("; ".join(problems), RuntimeWarning, stacklevel=2)
    return made


def cache_directory() -> Path:
    """Where libraries are kept, an absolute path; it need not exist."""
    chosen = os.environ.get("COMPRESS_LIB_CACHE")
    try:
        if chosen:  # absolute: the loader looks for a bare name, as in ".", somewhere else
            return Path(chosen).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "compress_lib" / "kernels"
    except RuntimeError as error:  # no home
        raise BuildError(f"there is no place to keep libraries, with COMPRESS_LIB_CACHE={chosen!r}: {error}") from error


def _compiler() -> tuple[list[str], str]:
    """The command of the compiler, and what it says it is."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        try:
            command = [name] if shutil.which(name) else shlex.split(name)
        except ValueError as error:
            raise BuildError(f"CXX={name!r} is no command: {error}") from error
        if command and (path := shutil.which(command[0])):
            command[0] = path
            return command, _run([*command, "--version"])
    raise BuildError(f"there is no C++ compiler: {' or '.join(names)} is not to be found")


def _compile(compiler: list[str], main: str, sources: Mapping[str, bytes], scratch: Path) -> Path:
    for name, content in sources.items():
        (scratch / name).write_bytes(content)
    built = scratch / "built.so"
    _run([*compiler, *OPTIONS, str(scratch / main), "-o", str(built)])
    if not built.exists():
        raise BuildError(f"{compiler[0]} left no library, and no error")
    return built


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise BuildError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout


def _first_that_works(paths: Iterable[Path], check: Callable[[ctypes.CDLL], None], what: str) -> ctypes.CDLL:
    for path in paths:
        try:
            return _loaded(path, check)
        except (OSError, AttributeError) as error:
            failure = error
    raise BuildError(f"{what} does not work: {failure}") from failure


def _loaded(path: Path, check: Callable[[ctypes.CDLL], None]) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    check(loaded)
    return loaded
