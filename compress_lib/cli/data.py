"""Find Fashion-MNIST, or fetch it, and say where it is."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", help="directory with the four files (default: wherever they are found)")


def run(arguments: argparse.Namespace) -> None:
    from compress_lib.data import locate

    print(f"Fashion-MNIST: {locate(arguments.root)}")
