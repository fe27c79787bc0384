"""What makes pages light takes nothing from them: no rule that applies, no script that is needed."""

import re
import sys

import pytest
from browsing import new_page, settle, unfold, watch
from building import ROOT

sys.path.insert(0, str(ROOT / "book" / "_extensions"))
import light

STYLES = """() => [...document.body.querySelectorAll('*')].filter((e) => !e.closest('svg *, math *')).map((e) => {
    const style = getComputedStyle(e), before = getComputedStyle(e, '::before'), after = getComputedStyle(e, '::after');
    return [e.localName, e.className, ...[style, before, after].map((s) => Array.from(s, (p) => p + ':' + s[p]).join(';'))];
})"""
ICONS = re.compile(r'font-family:"Font Awesome[^;]*;')  # of the few icons that are used there is a font of its own


def look(page):
    """The computed style of everything on the page, light and dark, unfolded, with a menu open, wide and narrow."""
    looks = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            unfold(page)
            looks.append(page.evaluate(STYLES))
    return looks


@pytest.mark.parametrize("path", ["book/index.html", "notebooks/02-pruning-weights.html"])
def test_every_element_looks_as_with_the_whole_style_sheets(browser, address, site, path):
    sources = re.match(r"/\* (.*?) \*/", (site / "_static/style.css").read_text(encoding="utf-8"))[1].split()
    page = new_page(browser, reduced_motion="reduce")
    settle(page, f"{address}/{path}")
    page.evaluate("document.querySelectorAll('.dropdown-menu').forEach((menu) => menu.classList.add('show'))")
    trimmed = look(page)
    page.evaluate(
        """async (sources) => {
            const own = document.querySelector('link[href*="_static/style.css"]');
            for (const name of sources) {
                const link = Object.assign(document.createElement('link'), {rel: 'stylesheet', href: own.href.replace(/style\\.css.*/, name)});
                const loaded = new Promise((resolve, reject) => ([link.onload, link.onerror] = [resolve, reject]));
                own.before(link);
                await loaded;
            }
            own.remove();
        }""",
        sources,
    )
    whole = look(page)
    page.close()
    assert len(sources) > 5 and len(trimmed[0]) > 100
    for one, other in zip(trimmed, whole, strict=True):
        different = [(a[:2], difference(a, b)) for a, b in zip(one, other, strict=True) if difference(a, b)]
        assert not different, different[:5]


def difference(one, other):
    return [
        (a, b)
        for left, right in zip(one[2:], other[2:], strict=True)
        for a, b in zip(left.split(";"), right.split(";"), strict=True)
        if a != b
    ]


def test_pages_have_the_scripts_that_they_need_and_none_that_holds_them_up(soups):
    for page, soup in soups.items():
        scripts = [script for script in soup.select("script[src]")]
        names = {script["src"].split("?")[0].split("/")[-1] for script in scripts}
        if page == "search.html":
            assert {"searchtools.js", "doctools.js"} <= names
            continue
        assert bool(soup.select("div.highlight")) == ("copybutton.js" in names), page
        assert bool(soup.select(".sd-tab-set")) == ("design-tabs.js" in names), page
        assert not names & {"doctools.js", "sphinx_highlight.js", "searchtools.js", "bootstrap.js"}, page
        waiting = [script["src"] for script in scripts if not {"defer", "async"} & script.attrs.keys() and script.get("type") != "module"]
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
