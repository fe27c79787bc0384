"""Files that are written whole or not at all, and refused if they were altered. Only tensors need torch."""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_tensors", "replacing", "save_tensors", "write"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name beside ``path`` to write a file to, which takes its place when the block ends without an error.

    If the block fails, what was there before stays, and what was written goes.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write(path: str | os.PathLike, content: bytes) -> None:
    """Write a file whole or not at all: an interrupted write leaves what was there before."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def save_tensors(
    path: str | os.PathLike, tensors: Mapping[str, "Tensor"], kind: str, metadata: Mapping[str, str]
) -> None:
    """Write tensors to a safetensors file with a checksum over everything in it.

    Parameters
    ----------
    path : of the file.
    tensors : by name, contiguous and on the CPU.
    kind : what the file holds, and the version of that format.
    metadata : further strings.
    """
    import safetensors.torch

    metadata = {**metadata, "format": kind}
    content = safetensors.torch.save(dict(tensors), {**metadata, "sha256": _digest(tensors, metadata)})
    write(path, content)


def load_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """The tensors and the metadata of a file that `save_tensors` wrote.

    Raises
    ------
    ValueError
        If the file is truncated, altered or of another kind.
    """
    import safetensors.torch

    content = Path(path).read_bytes()  # not mapped into memory: what is loaded stays what it was checked to be
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    metadata = _metadata(content)
    if metadata.get("format") != kind:
        raise ValueError(f"{path} does not hold a {kind}: its format is {metadata.get('format')!r}")
    checksum = metadata.pop("sha256", None)
    if checksum != _digest(tensors, metadata):
        raise ValueError(f"{path} was altered after it was written: its checksum does not match")
    return tensors, metadata


def _metadata(content: bytes) -> dict[str, str]:
    """What the header of a safetensors file says besides the tensors: its length in 8 bytes, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__", {})


def _digest(tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> str:
    """SHA-256 over the metadata and every tensor's name, type, shape and bytes."""
    import torch

    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
