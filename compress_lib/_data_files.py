"""Where the files of Fashion-MNIST are found, how they are fetched, and the check that each one passes before use.

The order of the places, and what is checked, are described in `compress_lib.data`, the only user of this module.
"""

import contextlib
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

__all__ = ["SHA256", "cache_directory", "impatient_network", "read"]

# Of the unpacked content: the gzip headers differ between torchvision's source and Debian's, the content does not.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_PACKAGE = "dataset-fashion-mnist"
_PACKAGE_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
_REMEDY = (
    "Remedy: put the four .gz files from https://github.com/zalandoresearch/fashion-mnist (data/fashion) "
    "into a directory and set COMPRESS_LIB_DATA to it."
)
_TIMEOUT = 10  # seconds without an answer from the network until a source is given up


def read(names: Iterable[str], root: str | os.PathLike | None) -> tuple[Path, list[bytes]]:
    """Find, or fetch, the files `names` (keys of `SHA256`).

    Returns the directory they are in and their unpacked contents. A file that is not what it should be is never used,
    and never replaced behind the reader's back: it raises a ValueError that names it.
    """
    chosen = root if root is not None else os.environ.get("COMPRESS_LIB_DATA")
    if chosen:
        directory = Path(chosen).expanduser()
        if lack := _lack(directory, names):
            raise FileNotFoundError(f"{'COMPRESS_LIB_DATA' if root is None else 'root'} is {str(directory)!r}: {lack}")
    else:
        directory = _find(names)
    try:
        found = _found(directory, names)
        return directory, [_read_checked(found[name]) for name in names]
    except ValueError as error:
        advice = "Put a good copy in its place." if chosen else "Delete it: the next call finds or fetches a good copy."
        raise ValueError(f"{error}. {advice}") from None


def cache_directory(folder: str) -> Path:
    """The user's cache for one data set; it need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compress_lib" / folder


@contextlib.contextmanager
def impatient_network() -> Iterator[None]:
    """Let a silent network fail after some seconds: torchvision alone would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _found(directory: Path, names: Iterable[str]) -> dict[str, Path]:
    """Those of the files `names` that are in `directory`, gzipped or not."""
    paths = ((name, path) for name in names for path in (directory / name, directory / f"{name}.gz"))
    return {name: path for name, path in paths if path.is_file()}  # of two the gzipped one


def _lack(directory: Path, names: Iterable[str]) -> str:
    """In words, what `directory` lacks; empty if it has all of `names`."""
    if not directory.is_dir():
        return "there is no such directory"
    found = _found(directory, names)
    missing = [name for name in names if name not in found]
    return f"it has no {', no '.join(missing)} (.gz or unpacked)" if missing else ""


def _read_checked(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".gz":
        with contextlib.suppress(gzip.BadGzipFile, EOFError, zlib.error):  # damaged: the checksum below will not fit
            content = gzip.decompress(content)
    if hashlib.sha256(content).hexdigest() != SHA256[path.name.removesuffix(".gz")]:
        raise ValueError(f"{path} is truncated or altered: the SHA-256 of its content is not Fashion-MNIST's")
    return content


def _find(names: Iterable[str]) -> Path:
    cache = cache_directory("fashion-mnist")
    reasons = []
    for directory in (cache, _PACKAGE_DIRECTORY):
        if not (lack := _lack(directory, names)):
            return directory
        reasons.append(f"{directory}: {lack}")
    for title, fetch in (("download by torchvision", _from_torchvision), (f"package {_PACKAGE}", _from_debian)):
        try:
            _fill(cache, fetch)
            return cache
        except Exception as error:  # noqa: BLE001 - whatever stopped this source is listed, and the next one is tried
            reasons.append(f"{title}: {type(error).__name__}: {' '.join(str(error).split())}")
    listing = "".join(f"\n  {number}. {reason}" for number, reason in enumerate(reasons, 1))
    raise FileNotFoundError(f"Fashion-MNIST is nowhere and cannot be fetched. Tried in this order:{listing}\n{_REMEDY}")


def _fill(cache: Path, fetch: Callable[[Path], Path]) -> None:
    """Put the four files that `fetch` gets into `cache`, each one whole and checked."""
    cache.mkdir(parents=True, exist_ok=True)
    # Inside the cache, so that a file moves out of it by a rename: whoever looks sees the whole file or none.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as scratch:
        directory = fetch(Path(scratch))
        if lack := _lack(directory, SHA256):
            raise FileNotFoundError(f"{directory}: {lack}")
        paths = _found(directory, SHA256).values()
        for path in paths:
            _read_checked(path)
        for path in paths:
            os.replace(path, cache / path.name)


def _from_torchvision(scratch: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    with impatient_network():
        FashionMNIST(scratch, download=True)
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch: Path) -> Path:
    """Debian's and Ubuntu's package, downloaded and unpacked without root's rights."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"{tool} is not on this machine")
    options = {"APT::Sandbox::User": "root", "Acquire::http::Timeout": _TIMEOUT, "Acquire::Retries": 1}
    try:
        _apt_get(["download", _PACKAGE], options, scratch)
    except RuntimeError:
        # A fresh container has no package lists, an old machine stale ones. Fetch our own, which needs no rights.
        options |= {"Dir::State::lists": scratch / "lists", "Dir::Cache": scratch / "apt"}
        for folder in ("lists/partial", "apt/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        _apt_get(["update"], options | {"APT::Update::Error-Mode": "any"}, scratch)
        _apt_get(["download", _PACKAGE], options, scratch)
    (package,) = scratch.glob("*.deb")
    _run(["dpkg-deb", "-x", package.name, "unpacked"], scratch)
    return scratch / "unpacked" / "usr/share/datasets/fashion-mnist"


def _apt_get(action: list[str], options: dict[str, object], scratch: Path) -> None:
    _run(["apt-get", *(word for key, value in options.items() for word in ("-o", f"{key}={value}")), *action], scratch)


def _run(command: list[str], scratch: Path) -> None:
    """Run `command` in `scratch`, showing how much of the package is there; RuntimeError with its words if it fails."""
    with (
        open(scratch / "log", "w+b") as log,
        tqdm(desc=f"{_PACKAGE} (31 MB)", unit="B", unit_scale=True, mininterval=0.5, leave=False) as bar,
        subprocess.Popen(
            command,
            cwd=scratch,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            while process.poll() is None:
                bar.update(sum(path.stat().st_size for path in scratch.glob("*.deb")) - bar.n)
                time.sleep(0.1)
        finally:
            process.kill()  # it is alive here only if the reader interrupted
        log.seek(0)
        lines = log.read().decode(errors="replace").split("\n")
    if process.returncode:
        reason = next((line for line in lines if line.startswith(("E:", "dpkg-deb: error"))), " ".join(lines[-3:]))
        raise RuntimeError(f"{command[0]} failed: {reason}")
