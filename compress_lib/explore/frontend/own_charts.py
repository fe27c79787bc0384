"""Chart types that one explorer alone needs: the file ``<module>_charts.mjs``, whose text continues ``charts.mjs``.

So ``charts.mjs`` stays as it is, and with it the chapters that carry its text.
"""

from compress_lib.explore.frontend.explorer import EXPLORERS, Explorer


def with_own_charts(explorer: Explorer) -> Explorer:
    """The same explorer, able to draw what ``<module>_charts.mjs`` adds to ``CHARTS``."""
    own = EXPLORERS / f"{explorer.module}_charts.mjs"
    explorer._charts += "\n" + own.read_text(encoding="utf-8")
    return explorer
