"""Progress bars, in terminals and in notebooks."""

from tqdm.auto import tqdm

__all__ = ["progress_bar"]


def progress_bar(show: bool = True, **options) -> tqdm:
    """A bar that vanishes when it is done. ``options`` are tqdm's: ``total``, ``desc``, ``unit``, …

    Where the bar is wanted, ``disable`` is not passed, so that the environment variable TQDM_DISABLE still decides.
    """
    return tqdm(leave=False, **options) if show else tqdm(disable=True, **options)
