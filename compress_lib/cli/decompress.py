"""Read a compressed network from its file and write it as an ordinary safetensors file."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="what ``compress`` wrote")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the safetensors file to write")


def run(arguments: argparse.Namespace) -> None:
    import safetensors.torch

    from compress_lib import container, files

    opened = container.open(arguments.file)
    model = container.load(arguments.file)
    metadata = {key: str(value) for key, value in opened.metadata.items()}
    files.write(arguments.out, safetensors.torch.save(model.state_dict(), metadata))
    print(opened.budget())
    print(f"{arguments.out}: {opened.budget().nbytes:,} → {arguments.out.stat().st_size:,} bytes")
