"""Draw the picture that messengers show of the book, book/assets/card.png, with the landing page's picture and type.

    python book/tools/card.py

It needs Chromium and Playwright, as the tests do, and is run by hand when the title or the picture changes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from browsing import chromium

ASSETS = ROOT / "book" / "assets"
SIZE = {"width": 1200, "height": 630}
STYLE = """
    body { box-sizing: border-box; height: 630px; margin: 0; padding: 50px 72px 44px; font-family: var(--serif);
           background: var(--ground); color: var(--ink);
           display: flex; flex-direction: column; justify-content: space-between; }
    h1 { margin: 0; font-size: 78px; font-weight: 600; line-height: 1.05; letter-spacing: -0.02em; }
    p { margin: 14px 0 0; font-size: 30px; color: var(--soft); }
    .stages { grid-template-columns: repeat(4, 1fr); max-width: none; margin: 0; gap: 0 40px; }
    .stages svg { height: 300px; margin: auto; }
"""
PAGE = """<!doctype html><html data-theme="light">
<link rel="stylesheet" href="book.css"><link rel="stylesheet" href="landing.css">
<style>{style}</style><body><div><h1>Neural Network<br>Compression, Measured</h1>
<p>Every method derived, programmed and measured on the page</p></div>{picture}</body></html>"""


def main() -> None:
    page_file = ASSETS / "card.html"
    picture = (ROOT / "book" / "images" / "stages.html").read_text(encoding="utf-8")
    page_file.write_text(PAGE.format(style=STYLE, picture=picture), encoding="utf-8")
    try:
        with chromium() as browser:
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            page.goto(page_file.as_uri())
            page.evaluate("() => document.fonts.ready.then(() => true)")
            page.screenshot(path=ASSETS / "card.png")
    finally:
        page_file.unlink()


if __name__ == "__main__":
    main()
