"""Nothing on a page comes from elsewhere: remote images are refused. What no page uses of the theme is not there."""

import shutil
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
COLAB_BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


class LocalImages(SphinxTransform):
    """Show the Colab badge that notebooks carry from a file of ours; warn about any other image from elsewhere."""

    default_priority = 400  # before Sphinx collects the images

    def apply(self, **kwargs) -> None:
        for image in self.document.findall(nodes.image):
            if image["uri"] == COLAB_BADGE:
                image["uri"] = "/book/assets/open-in-colab.svg"
            elif "://" in image["uri"]:
                LOGGER.warning("image from another site: %s", image["uri"], location=image)


def drop_unused(app, exception) -> None:
    """The theme's scripts and icons that light.py replaces; its maps help nobody here."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for path in [*static.glob("scripts/*.map"), *static.glob("styles/*.map"), *static.glob("scripts/fontawesome.js*")]:
        path.unlink(missing_ok=True)
    for path in static.glob("scripts/bootstrap.js*"):
        path.unlink()
    shutil.rmtree(static / "vendor", ignore_errors=True)


def setup(app):
    app.add_transform(LocalImages)
    app.add_config_value("comments_config", {}, "")  # Jupyter Book sets it for an extension that is not loaded
    app.connect("build-finished", drop_unused)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
