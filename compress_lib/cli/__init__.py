"""What a user calls: one file per command of ``python -m compress_lib``."""
