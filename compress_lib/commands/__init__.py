"""One file per command of ``python -m compress_lib``; each has ``add_arguments(parser)`` and ``run(arguments)``."""
