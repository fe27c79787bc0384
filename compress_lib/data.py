"""The data sets of the book: Fashion-MNIST, scikit-learn's digits, and CIFAR where it can be had.

Fashion-MNIST (Xiao, Rasul & Vollgraf, 2017, arXiv 1708.07747; MIT licence) is looked for in this order:

1. the directory given as ``root``, or else in the environment variable ``COMPRESS_LIB_DATA``: then nowhere else;
2. the user's cache, ``$XDG_CACHE_HOME/compress_lib/fashion-mnist`` (``~/.cache`` where the variable is unset);
3. the directory of Debian's package ``dataset-fashion-mnist``;
4. the download of torchvision, into the user's cache;
5. Debian's package, downloaded and unpacked without root's rights, into the user's cache.

Files may be gzipped or unpacked; the SHA-256 of each one's content is checked on every call. Used by every chapter.
"""

import os
import struct
from pathlib import Path

import torch

from compress_lib import _data_files

__all__ = ["CLASSES", "SPLITS", "cifar10", "cifar100", "digits", "fashion_mnist", "locate", "normalize"]

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

SPLITS = ("train", "fit", "held-out", "test")  # of Fashion-MNIST
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# Mean and standard deviation of the training pixels, scaled to [0, 1], by number of channels.
_STATISTICS = {
    1: ((0.2860,), (0.3530,)),  # Fashion-MNIST
    3: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),  # CIFAR-10
}


def fashion_mnist(split: str, root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Fashion-MNIST: 28×28 gray images of clothes in ten classes, found or fetched as the module's text says.

    Parameters
    ----------
    split : {"train", "fit", "held-out", "test"}
        All 60,000 training images; the 55,000 of them to train on and the 5,000 to choose on, where something is
        chosen (a threshold, a rank, an architecture); or the 10,000 test images. Held out are 500 of each class, every
        twelfth of its images in the order of the file, so the split is the same with any version of any library.
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
    _check_split(split, SPLITS)
    _, contents = _data_files.read(_FILES["test" if split == "test" else "train"], root)
    images, labels = map(_parse_idx, contents)
    images, labels = images.unsqueeze(1), labels.long()
    if split in ("train", "test"):
        return images, labels
    held_out = _every(12, labels)
    chosen = held_out if split == "held-out" else ~held_out
    return images[chosen], labels[chosen]


def locate(root: str | os.PathLike | None = None) -> Path:
    """Find or fetch Fashion-MNIST, check all four files, and return the directory they are in.

    Takes the `root` of `fashion_mnist`, and raises what it raises.
    """
    directory, _ = _data_files.read(_data_files.SHA256, root)
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
    is_test = _every(5, labels)
    chosen = is_test if split == "test" else ~is_test
    return images[chosen], labels[chosen]


def cifar10(split: str, root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-10 (Krizhevsky, 2009): 32×32 color images in ten classes, through torchvision.

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
    """Standardize images: ``(images / 255 - mean) / std`` per channel.

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
    mean, std = (images.new_tensor(s, dtype=torch.float32).view(-1, 1, 1) for s in _STATISTICS[images.shape[1]])
    # In place from the division on: for 60,000 images each copy would be 188 MB.
    return (images.float() / 255).sub_(mean).div_(std)


def as_input(images: torch.Tensor) -> torch.Tensor:
    """What a network reads: uint8 images are normalized (see `normalize`), float ones are taken as they are."""
    return normalize(images) if images.dtype == torch.uint8 else images


def _check_split(split, splits=("train", "test")):
    if split not in splits:
        *most, last = map(repr, splits)
        raise ValueError(f"split must be {', '.join(most)} or {last}, not {split!r}")


def _every(step, labels):
    """A mask of every ``step``-th image, in the order of their classes: stratified, and no random number in it."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[labels.argsort(stable=True)[::step]] = True
    return mask


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
    directory = _data_files.cache_directory("cifar") if root is None else Path(root).expanduser()
    try:
        with _data_files.impatient_network():
            source = getattr(datasets, name)(directory, train=split == "train", download=root is None)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{name} is missing or damaged in {str(directory)!r}"
            + (f" and cannot be downloaded: {error}" if root is None else "")
            + f". Remedy: unpack {getattr(datasets, name).url} into a directory and give it as root."
        ) from error
    # torchvision keeps (N, 32, 32, 3).
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets)
