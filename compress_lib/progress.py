"""Progress bars, in terminals and in notebooks."""

import os
from typing import Any

from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(show: bool = True, **options: Any) -> tqdm:
    """A bar that vanishes when it is done. ``options`` are tqdm's: ``total``, ``desc``, ``unit``, …

    The environment variable TQDM_DISABLE switches all bars off. tqdm knows it too, but not in notebooks.
    """
    return tqdm(leave=False, disable=not show or bool(os.environ.get("TQDM_DISABLE")), **options)
