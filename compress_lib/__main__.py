"""The command line: ``python -m compress_lib COMMAND …`` runs what takes longer than a chapter may."""

import argparse

from compress_lib.commands import (
    binarize,
    compact,
    compress,
    criteria,
    data,
    decompress,
    prune,
    quantize,
    share,
    shrink,
    train,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m compress_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (data, train, prune, shrink, criteria, quantize, share, binarize, compact, compress, decompress):
        name = module.__name__.rpartition(".")[2]
        subparser = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog} {arguments.command}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\ninterrupted; the same command goes on from the last checkpoint\n")


if __name__ == "__main__":
    main()
