"""A real browser for the tests: Chromium, cut off from everything but this machine, and a server for a folder.

Also, for whoever opens them in it: which explorers there are, and what is true of all of them.
"""

import contextlib
import functools
import http.server
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from compress_lib import explore

# Chromium without windows opens a page in half the time, where it is installed.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What axe-core applies, without fetching style sheets again and without a list of all that is in order.
AXE = {"preload": False, "resultTypes": ["violations"]}
WCAG = AXE | {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
CONTRAST = AXE | {"runOnly": {"type": "rule", "values": ["color-contrast"]}}  # all that a theme changes

PATIENCE = 120_000  # milliseconds; a busy machine is no failure


@contextlib.contextmanager
def chromium():
    """The installed Chromium; there is nothing to download."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, "no Chromium; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def served(folder: Path):
    """Serve ``folder`` on this machine; gives the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for many files

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128  # a browser opens more connections at once than the usual five

    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def new_page(browser: Browser, **options) -> Page:
    """A page with nothing of the others in it."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page


def watch(page: Page, address: str) -> list[str]:
    """Refuse every request that leaves ``address``; the list fills with all that goes wrong on the page."""
    troubles = []

    def guard(route):
        url = route.request.url
        if url.startswith((address + "/", "data:", "blob:")):
            route.continue_()
        else:
            troubles.append(f"request to another site: {url}")
            route.abort()

    page.route("**/*", guard)
    page.on("response", lambda r: r.status >= 400 and troubles.append(f"{r.status}: {r.url}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("console", lambda m: m.type in ("error", "warning") and troubles.append(f"console: {m.text}"))
    return troubles


def settle(page: Page, url: str) -> None:
    """Open ``url`` and wait until it has loaded what it loads, and all explorers run."""
    page.goto(url)
    page.wait_for_load_state("networkidle")
    wake(page)
    page.evaluate("() => document.fonts.ready.then(() => true)")


def lay_out(page: Page) -> None:
    """Have all of the page laid out, not only what is near the window."""
    page.evaluate(  # a style tag added by Playwright would wait for a script, where there may be none
        """() => document.head.append(Object.assign(document.createElement("style"), {
            textContent: "section {content-visibility: visible !important}",
        }))"""
    )


def wake(page: Page) -> None:
    """`lay_out`, and come near every explorer, which is when it starts; then be where one was."""
    lay_out(page)
    at = page.evaluate("scrollY")
    for place in page.locator(".explorer-place[data-model-id]").all():
        place.scroll_into_view_if_needed()
        place.and_(page.locator("[data-live]")).wait_for()
    page.evaluate("(at) => scrollTo(0, at)", at)


def unfold(page: Page) -> None:
    """Open all that unfolds, and wait until nothing fades in any more."""
    page.evaluate(
        """async () => {
            document.querySelectorAll('details').forEach((d) => (d.open = true));
            const passing = (a) => Number.isFinite(a.effect.getComputedTiming().endTime);
            for (let running; (running = document.getAnimations().filter(passing)).length; )
                await Promise.allSettled(running.map((a) => a.finished));
        }"""
    )


def thin(page: Page) -> None:
    """Of what repeats, keep the first: kinds of tokens, code, figures, formulas, rows of a table, entries of a list.

    For axe-core, whose time grows with the elements of a page, and which would find the same in each of them.
    """
    page.evaluate(
        """() => {
            const seen = new Set();
            for (const token of document.querySelectorAll('pre span[class]'))
                if (seen.has(token.className)) token.replaceWith(...token.childNodes);
                else seen.add(token.className);
            const repeated = [...document.querySelectorAll('tbody')].map((body) => [...body.rows]);
            for (const kind of ['article .math', 'figure svg']) repeated.push([...document.querySelectorAll(kind)]);
            repeated.push([...document.querySelectorAll('pre')].filter((code) => !code.querySelector('span[class]')));
            repeated.push(...[...document.querySelectorAll('article :is(ul, ol)')].map((list) => [...list.children]));
            for (const all of repeated) for (const one of all.slice(5)) one.remove();
        }"""
    )


def explorer_modules() -> list[str]:
    """The names of the library's explorers: a Python and a JavaScript file each, and a function that makes one."""
    files = sorted(path for path in Path(explore.__file__).parent.glob("*.py") if path.with_suffix(".mjs").exists())
    return [path.stem for path in files if "\ndef explorer(" in path.read_text(encoding="utf-8")]


# Heights of a slider's explorer at all of its positions, or at about as many as are asked for; it ends where it was.
SWEEP = """(slider, most) => {
    const explorer = slider.closest(".explorer");
    const before = slider.value;
    const go = (value) => {
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        return explorer.offsetHeight;
    };
    const last = Number(slider.max);
    const step = Math.max(1, Math.ceil(last / (most ?? last)));
    const heights = Array.from({ length: Math.floor(last / step) + 1 }, (_, i) => go(last - i * step));
    go(before);
    return heights;
}"""
BOXES = """(explorer) => {
    explorer.scrollIntoView();
    const box = (node) => node.getBoundingClientRect().toJSON();
    const [chart, dock] = [".ex-stage .ex-chart", ".ex-dock"].map((name) => box(explorer.querySelector(name)));
    const controls = [...explorer.querySelectorAll(".ex-control")].map(box);
    return { chart, dock, controls, height: innerHeight, width: innerWidth };
}"""


def on_one_screen(page, root=None) -> None:
    """The first chart and all controls of an explorer are in the window together, and none lies over the chart."""
    found = (root or page.locator(".explorer")).evaluate(BOXES)
    chart = found["chart"]
    for box in (chart, *found["controls"]):
        assert box["top"] >= 0 and box["bottom"] <= found["height"], f"{box} of {found}"
        assert box["left"] >= 0 and box["right"] <= found["width"], f"{box} of {found}"
    dock = found["dock"]
    assert chart["bottom"] <= dock["top"] or chart["right"] <= dock["left"], "the controls cover the chart"


def unlock(place) -> None:
    """Skip the question of every explorer on a page, or of one."""
    for skip in place.locator(".ex-skip").all():
        skip.click()
