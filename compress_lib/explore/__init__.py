"""Explorers: a chapter's computation with sliders, which works on the static page as in a live notebook.

Each explorer is a pair of files of one name. The ``.mjs`` file computes, in the browser; the ``.py`` file collects the
data and the controls and offers ``explorer(...)``, which a chapter calls.
"""

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

__all__ = ["Explorer", "choice", "slider"]
