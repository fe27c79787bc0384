"""The command line: ``python -m compress_lib COMMAND …`` runs what takes longer than a chapter may."""

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from compress_lib import cli, experiments


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m compress_lib", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in commands():
        text = module.__doc__ or ""
        subparser = subparsers.add_parser(name, help=text.partition("\n")[0], description=text)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog} {arguments.command}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\ninterrupted; the same command goes on from the last checkpoint\n")


def commands() -> Iterator[tuple[str, ModuleType]]:
    """Name and module of each command: what users call, then the experiments of the chapters."""
    for package in (cli, experiments):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            if hasattr(module, "add_arguments"):
                yield getattr(module, "COMMAND", found.name.rpartition(".")[2]), module


if __name__ == "__main__":
    main()
