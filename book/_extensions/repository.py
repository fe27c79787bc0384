"""Colab, source and issue buttons from one value, ``repository.url`` in _config.yml; none while it is empty."""

from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def add_buttons(app, config) -> None:
    options = config.html_theme_options
    if not options.get("repository_url"):
        LOGGER.info("No repository address yet, so no Colab and source buttons: python book/tools/address.py URL")
        return
    options["launch_buttons"] = {"colab_url": "https://colab.research.google.com"}
    options |= {"use_repository_button": True, "use_source_button": True, "use_issues_button": True}


def setup(app):
    app.connect("config-inited", add_buttons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
