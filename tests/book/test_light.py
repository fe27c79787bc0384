"""What makes pages light takes nothing from them: no rule that applies, no script that is needed."""

import json
import os
import re
import sys

import pytest
from browsing import new_page, settle, unfold, watch
from building import ROOT
from chapters import CHAPTERS

sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import light

# One element of each kind: its name and classes, with those of all around it.
KINDS = """() => {
    const kind = (e) => (e === document.body ? '' : kind(e.parentElement) + ' ' + e.localName + '.' + e.className);
    window.kinds = new Map();
    for (const e of document.body.querySelectorAll('*')) if (!e.closest('svg *, math *')) kinds.set(kind(e), e);
}"""
STYLES = """(named) => Object.fromEntries([...kinds].map(([kind, e]) => [kind, ['', '::before', '::after'].map((part) =>
{
    const style = getComputedStyle(e, part);
    if (part && style.content === 'none') return {};  // to ask for more of what is not there takes long
    return Object.fromEntries(named.map((property) => [property, style[property]]));
})]))"""
DIFFERENT = """() => {
    const plain = (value) => String(value).replaceAll('0%', '0px');  // the minifier writes the one for the other
    const found = [];
    for (const [theme, kinds] of Object.entries(looks[0]))
        for (const [kind, parts] of Object.entries(kinds))
            for (const [i, part] of parts.entries())
                for (const [property, value] of Object.entries(part)) {
                    const whole = looks[1][theme][kind][i][property];
                    if (plain(value) !== plain(whole)) found.push([theme, kind.slice(-80), i, property, value, whole]);
                }
    return found;
}"""


def look(page, named):
    """Note the computed styles of everything on the page: light and dark, unfolded, wide and narrow."""
    page.evaluate("(window.looks ??= []).push({})")
    for theme, width in (("light", 1280), ("dark", 390)):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(f"looks.at(-1)['{theme}'] = ({STYLES})({json.dumps(named)})")


@pytest.mark.parametrize("path", ["book/index.html", f"notebooks/{min(CHAPTERS, key=os.path.getsize).stem}.html"])
def test_every_element_looks_as_with_the_whole_style_sheets(browser, address, site, path):
    style = (site / "_static/style.css").read_text(encoding="utf-8")
    sources = re.match(r"/\* (.*?) \*/", style)[1].split()
    icons = re.search(r'"(data:font/woff2[^"]+)"', style)[1]
    assert len(sources) > 5
    sheets = "".join((site / "_static" / name).read_text(encoding="utf-8") for name in sources)
    named = sorted(set(re.findall(r"(?<=[{;\s])[a-z][a-z-]+(?=\s*:)", sheets)))
    page = new_page(browser, reduced_motion="reduce")
    settle(page, f"{address}/{path}")
    unfold(page)
    page.evaluate("document.querySelectorAll('.dropdown-menu').forEach((menu) => menu.classList.add('show'))")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('style'),"
        " {textContent: '* {transition: none !important}'}))"
    )
    page.evaluate(KINDS)
    look(page, named)
    page.evaluate(
        """async ([sources, icons]) => {
            const own = document.querySelector('link[href*="_static/style.css"]');
            for (const name of sources) {
                const href = own.href.replace(/style\\.css.*/, name);
                const link = Object.assign(document.createElement('link'), {rel: 'stylesheet', href});
                const loaded = new Promise((resolve, reject) => ([link.onload, link.onerror] = [resolve, reject]));
                own.before(link);
                await loaded;
            }
            const face = new FontFace('Font Awesome 6 Free', `url("${icons}")`, {weight: 900});
            document.fonts.add(await face.load());
            own.remove();
        }""",
        [sources, icons],
    )
    look(page, named)
    assert page.evaluate("kinds.size") > 100
    assert page.evaluate(DIFFERENT)[:5] == []
    page.close()


def test_pages_have_the_scripts_that_they_need_and_none_that_holds_them_up(soups):
    for page, soup in soups.items():
        scripts = [script for script in soup.select("script[src]")]
        names = {script["src"].split("?")[0].split("/")[-1] for script in scripts}
        assert bool(soup.select("div.highlight")) == ("copybutton.js" in names), page
        assert bool(soup.select(".sd-tab-set")) == ("design-tabs.js" in names), page
        assert not names & {"doctools.js", "sphinx_highlight.js", "searchtools.js", "bootstrap.js"}, page
        waiting = [
            script["src"]
            for script in scripts
            if not {"defer", "async"} & script.attrs.keys() and script.get("type") != "module"
        ]
        assert page == "index.html" or not waiting, page


def test_pictures_say_their_size(soups):
    silent = [
        f"{page}: {image['src']}"
        for page, soup in soups.items()
        for image in soup.select('article img[src*="_images/"]')
        if image["src"].endswith(".png") and not (image.get("width") and image.get("height"))
    ]
    assert not silent


def test_sizes_of_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x02\0\0\0\x07")
    (tmp_path / "a.svg").write_text('<?xml version="1.0"?><svg xmlns="x" width="12.4pt" height="7">', encoding="utf-8")
    (tmp_path / "b.svg").write_text('<svg viewBox="0 0 1 2">', encoding="utf-8")
    assert [light.picture_size(tmp_path / name) for name in ("a.png", "a.svg", "b.svg")] == [(258, 7), (12, 7), None]


def test_the_menu_opens_and_closes(browser, address):
    page = new_page(browser)
    troubles = watch(page, address)
    settle(page, f"{address}/notebooks/02-pruning-weights.html")
    button, menu = page.locator('[data-bs-toggle="dropdown"]:visible').first, page.locator(".dropdown-menu.show")
    button.focus()
    page.keyboard.press("Enter")
    assert menu.is_visible() and button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.matches('.dropdown-menu.show .dropdown-item')")
    page.keyboard.press("Escape")
    assert not menu.count() and button.get_attribute("aria-expanded") == "false"
    assert button.evaluate("button => button === document.activeElement")
    button.click()
    assert menu.count()
    page.mouse.click(5, 400)
    assert not menu.count()
    page.close()
    assert not troubles
