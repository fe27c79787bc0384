"""A browser page that has the live network's modules, for its tests."""

import base64
import contextlib
from pathlib import Path

from browsing import new_page, served, watch

from compress_lib import explore

MODULES = Path(explore.__file__).parent / "live"


@contextlib.contextmanager
def opened(browser):
    """An empty page that can import ``/cnet.mjs`` and the others."""
    with served(MODULES) as address:
        page = new_page(browser)
        troubles = watch(page, address)
        page.route(address + "/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        page.goto(address + "/")
        yield page
        assert not troubles
        page.close()


def encoded(content: bytes) -> str:
    """How bytes reach the page."""
    return base64.b64encode(content).decode()
