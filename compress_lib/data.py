"""The data sets of the book: Fashion-MNIST, scikit-learn's digits, and CIFAR where it can be had.

Fashion-MNIST (Xiao, Rasul & Vollgraf, 2017, arXiv 1708.07747; MIT licence) is looked for in this order:

1. the directory given as ``root``, or else in the environment variable ``COMPRESS_LIB_DATA``; nothing else is tried then;
2. the user's cache, ``$XDG_CACHE_HOME/compress_lib/fashion-mnist`` (``~/.cache`` where the variable is unset);
3. the directory of Debian's package ``dataset-fashion-mnist``;
4. the download of torchvision, into the user's cache;
5. Debian's package, downloaded and unpacked without root's rights, into the user's cache.

Files may be gzipped or unpacked. What is checked is the SHA-256 of the unpacked content, because the gzip headers differ
between 3 and 4; the content does not. Used by every chapter.
"""

import contextlib
import gzip
import hashlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import torch
from tqdm import tqdm

__all__ = ["CLASSES", "cifar10", "cifar100", "digits", "fashion_mnist", "locate", "normalize"]

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_PACKAGE = "dataset-fashion-mnist"
_PACKAGE_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
_REMEDY = (
    "Remedy: put the four .gz files of https://github.com/zalandoresearch/fashion-mnist (data/fashion) into a directory "
    "and set COMPRESS_LIB_DATA to it."
)
# Mean and standard deviation of the training pixels, scaled to [0, 1], by number of channels.
_STATISTICS = {
    1: ((0.2860,), (0.3530,)),  # Fashion-MNIST
    3: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # CIFAR-10
}
_TIMEOUT = 10  # seconds without an answer from the network before a source is given up


def fashion_mnist(split: str, root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Fashion-MNIST: 28×28 grey images of clothes in ten classes, found or fetched as the module's text says.

    Parameters
    ----------
    split : {"train", "test"}
        60,000 or 10,000 images.
    root : path, optional
        Directory that holds the files. It is then the only place where they are looked for.

    Returns
    -------
    images : uint8 tensor (N, 1, 28, 28)
        Grey levels from 0 to 255.
    labels : int64 tensor (N,)
        Indices into `CLASSES`.

    Raises
    ------
    FileNotFoundError
        The files are not in the chosen directory, or nowhere and cannot be fetched; each place tried is listed.
    ValueError
        `split` is unknown, or a file is truncated or altered; the file is named and not used.
    """
    _check_split(split)
    directory = _find(_FILES[split], root)
    images, labels = (_parse_idx(_read_checked(_path(directory, name))) for name in _FILES[split])
    return images.unsqueeze(1), labels.long()


def locate(root: str | os.PathLike | None = None) -> Path:
    """Find or fetch Fashion-MNIST, check all four files, and return the directory they are in.

    Takes the `root` of `fashion_mnist`, and raises what it raises.
    """
    directory = _find(tuple(_SHA256), root)
    for name in _SHA256:
        _read_checked(_path(directory, name))
    return directory


def digits(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 1,797 handwritten digits, for demonstrations that take a second.

    The levels 0…16 are multiplied by 15, which fills 0…240 without rounding. Of each class every fifth image, in the
    order of the original, is for the test: 1,437 and 360 images.

    Parameters
    ----------
    split : {"train", "test"}

    Returns
    -------
    images : uint8 tensor (N, 1, 8, 8)
    labels : int64 tensor (N,)

    Raises
    ------
    ValueError
        `split` is unknown.
    ImportError
        scikit-learn is not installed.
    """
    _check_split(split)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits needs scikit-learn: pip install scikit-learn") from error
    source = load_digits()
    images = (torch.from_numpy(source.images) * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(source.target).long()
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    # Every fifth of the images sorted by class: stratified, and the same with any version of any library.
    is_test[labels.argsort(stable=True)[::5]] = True
    chosen = is_test if split == "test" else ~is_test
    return images[chosen], labels[chosen]


def cifar10(split: str, root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-10 (Krizhevsky, 2009): 32×32 colour images in ten classes, through torchvision.

    Parameters
    ----------
    split : {"train", "test"}
        50,000 or 10,000 images.
    root : path, optional
        Directory with torchvision's folder ``cifar-10-batches-py``; nothing is downloaded then. Without it the data are
        downloaded once into the user's cache.

    Returns
    -------
    images : uint8 tensor (N, 3, 32, 32)
    labels : int64 tensor (N,)

    Raises
    ------
    ValueError
        `split` is unknown.
    FileNotFoundError
        The data are not there, are damaged (torchvision checks their MD5), or cannot be downloaded.
    ImportError
        torchvision is not installed.
    """
    return _cifar("CIFAR10", split, root)


def cifar100(split: str, root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-100, with its hundred fine labels. As `cifar10`; torchvision's folder is ``cifar-100-python``."""
    return _cifar("CIFAR100", split, root)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Standardise images: ``(images / 255 - mean) / std`` per channel.

    One channel takes the statistics of Fashion-MNIST's training images (mean .2860, std .3530), for the digits too;
    three channels take those of CIFAR-10, for CIFAR-100 too.

    Parameters
    ----------
    images : uint8 or floating tensor (N, 1, H, W) or (N, 3, H, W)
        Levels from 0 to 255, in floating tensors too. It is left unchanged.

    Returns
    -------
    float32 tensor of the same shape

    Raises
    ------
    TypeError
        `images` is not a tensor, or neither uint8 nor floating.
    ValueError
        `images` has another shape.
    """
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images must be a tensor, not {type(images).__name__}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8 or floating, with levels from 0 to 255, not {images.dtype}")
    if images.dim() != 4 or images.shape[1] not in _STATISTICS:
        raise ValueError(f"images must have the shape (N, 1, H, W) or (N, 3, H, W), not {tuple(images.shape)}")
    mean, std = (torch.tensor(s, device=images.device).view(-1, 1, 1) for s in _STATISTICS[images.shape[1]])
    # In place from the division on: for 60,000 images each copy would be 188 MB.
    return (images.float() / 255).sub_(mean).div_(std)


def _check_split(split):
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")


def _cache(folder):
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compress_lib" / folder


def _path(directory, name):
    """The file `name` in `directory`, gzipped or not; None if it is not there."""
    return next((p for p in (directory / f"{name}.gz", directory / name) if p.is_file()), None)


def _missing(directory, names):
    return [name for name in names if _path(directory, name) is None]


def _find(names, root):
    """Directory in which all of `names` are, fetched into the user's cache if they are nowhere."""
    chosen, origin = (root, "root") if root is not None else (os.environ.get("COMPRESS_LIB_DATA"), "COMPRESS_LIB_DATA")
    if chosen:
        directory = Path(chosen).expanduser()
        if missing := _missing(directory, names):
            raise FileNotFoundError(
                f"{origin} is {str(directory)!r}, but there is no {' and no '.join(missing)} in it, with or without .gz"
            )
        return directory
    cache = _cache("fashion-mnist")
    reasons = []
    for directory in (cache, _PACKAGE_DIRECTORY):
        if not (missing := _missing(directory, names)):
            return directory
        reasons.append(f"{directory}: no {', '.join(missing)}")
    for title, fetch in (("torchvision's download", _from_torchvision), (f"Debian's {_PACKAGE}", _from_debian)):
        try:
            _fill(cache, fetch)
            return cache
        except Exception as error:  # whatever stopped this source, its reason is listed and the next one is tried
            reasons.append(f"{title}: {type(error).__name__}: {' '.join(str(error).split())}")
    listing = "".join(f"\n  {number}. {reason}" for number, reason in enumerate(reasons, 1))
    raise FileNotFoundError(f"Fashion-MNIST is nowhere and could not be fetched. Tried in order:{listing}\n{_REMEDY}")


def _fill(cache, fetch):
    """Put the four files that `fetch` gets into `cache`: whole and checked, or not at all."""
    cache.mkdir(parents=True, exist_ok=True)
    # Inside the cache, so that moving a file out of it is a rename: a reader sees the whole file or none.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as scratch:
        directory = fetch(Path(scratch))
        paths = [_path(directory, name) or directory / name for name in _SHA256]
        for path in paths:
            _read_checked(path)
        for path in paths:
            os.replace(path, cache / path.name)


def _from_torchvision(scratch):
    import torchvision

    with _impatient_network():
        torchvision.datasets.FashionMNIST(scratch, download=True)
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch):
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"{tool} is not on this machine")
    apt = ["apt-get", "-o", "APT::Sandbox::User=root", "-o", f"Acquire::http::Timeout={_TIMEOUT}"]
    try:
        _run([*apt, "download", _PACKAGE], scratch)
    except RuntimeError:
        # Fresh containers have no package lists, old ones stale lists; fetch our own, which needs no rights.
        apt += ["-o", f"Dir::State::lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/apt"]
        for folder in ("lists/partial", "apt/archives/partial"):
            (scratch / folder).mkdir(parents=True)
        _run([*apt, "update"], scratch)
        _run([*apt, "download", _PACKAGE], scratch)
    (package,) = scratch.glob("*.deb")
    _run(["dpkg-deb", "-x", package.name, "unpacked"], scratch)
    return scratch / "unpacked" / _PACKAGE_DIRECTORY.relative_to("/")


def _run(command, scratch):
    """Run `command` in `scratch` and show how many bytes of the package (31 MB) are there; RuntimeError if it fails."""
    with (
        open(scratch / "log", "w+b") as log,
        tqdm(desc=f"{_PACKAGE} (31 MB)", unit="B", unit_scale=True, leave=False) as bar,
        subprocess.Popen(command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            while process.poll() is None:
                bar.update(sum(path.stat().st_size for path in scratch.glob("*.deb")) - bar.n)
                time.sleep(0.1)
        finally:
            process.kill()  # only alive here if the reader interrupted
        log.seek(0)
        said = log.read().decode(errors="replace").split("\n")
    if process.returncode:
        errors = [line for line in said if line.startswith(("E:", "dpkg-deb: error"))] or said[-3:]
        raise RuntimeError(f"{Path(command[0]).name} failed: {' '.join(errors)}")


@contextlib.contextmanager
def _impatient_network():
    """Let a silent network fail after a few seconds; torchvision itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read_checked(path):
    """The unpacked content of the file at `path`; ValueError, naming it, unless it is exactly Fashion-MNIST's."""
    content = path.read_bytes()
    with contextlib.suppress(gzip.BadGzipFile, EOFError, zlib.error):  # damaged: the checksum will not fit
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    if hashlib.sha256(content).hexdigest() != _SHA256[path.name.removesuffix(".gz")]:
        raise ValueError(
            f"{path} is truncated or altered: the SHA-256 of its content is not Fashion-MNIST's. "
            "Delete it; unless you chose its directory, the next call finds or fetches a good one."
        )
    return content


def _parse_idx(content):
    """The tensor in an idx file of unsigned bytes: 0, 0, 8, number of axes, the axes as big-endian int32, the data."""
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4)
    # A bytearray, because tensors are writable and bytes are not.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)


def _cifar(name, split, root):
    _check_split(split)
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(f"{name} needs torchvision: pip install torchvision") from error
    directory = _cache("cifar") if root is None else Path(root).expanduser()
    try:
        with _impatient_network():
            source = getattr(datasets, name)(directory, train=split == "train", download=root is None)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} is not whole in {str(directory)!r}"
            + (" and could not be downloaded" if root is None else "")
            + f": {error}. Get {getattr(datasets, name).url} and unpack it into a directory that you give as root."
        ) from error
    # torchvision keeps (N, 32, 32, 3).
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets)
