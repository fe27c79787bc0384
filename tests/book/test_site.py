"""The site in a real browser that can reach nothing but this machine."""

import datetime
import random
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import CONTRAST, WCAG, new_page, settle, thin, unfold, watch
from chapters import CHAPTERS

from compress_lib import ledger

PAGE_LIMIT = 3_000_000
TYPESET = """[...document.querySelectorAll('.math')].filter((formula) => {
    const all = [...formula.querySelectorAll('math')];
    const seen = (math) => math.closest('details:not([open]), [popover]') || math.getClientRects().length;
    return all.length && all.every(seen);
}).length"""
API, API_PAGES = "book/api/", 3  # generated from one template: on each day other ones are opened
DARK_CHAPTERS = 4  # on each day others; a color is wrong in all of them, or in one diagram


@pytest.fixture(scope="module")
def visits(browser, address, pages):
    """What happens when a page is opened afresh, in the light theme; then, when it turns dark; then, on a phone."""
    generated = [path for path in pages if path.startswith(API)]
    day = random.Random(datetime.date.today().toordinal())
    looked_at = {*pages} - {*generated} | {*day.sample(generated, API_PAGES)}
    chapters = [f"notebooks/{path.stem}.html" for path in CHAPTERS]
    dark = looked_at - {*chapters} | {*day.sample(chapters, DARK_CHAPTERS)}
    return {path: visit(browser, address, path, path in dark) for path in sorted(looked_at)}


def visit(browser, address, path, dark):
    page = new_page(browser, color_scheme="light", viewport={"width": 1280, "height": 900})
    troubles = watch(page, address)
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    received = []
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    settle(page, f"{address}/{path}")
    found = {
        "troubles": troubles,
        "nbytes": sum(received),
        "formulas": page.locator(".math").count(),
        "typeset": page.evaluate(TYPESET),
        "math font": page.evaluate("document.fonts.check('16px \"STIX Two Math\"')"),
    }
    page.set_viewport_size({"width": 360, "height": 780})
    unfold(page)
    found["width"] = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    thin(page)
    found["light"] = violations(page, "light", WCAG)
    if dark:
        page.emulate_media(color_scheme="dark")
        found["dark"] = violations(page, "dark", CONTRAST)
    page.close()
    return found


def violations(page, theme, rules):
    """What axe-core finds on the open page, all that unfolds unfolded."""
    if page.url != "about:blank":
        page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
    unfold(page)  # text that still fades in would have too little contrast
    found = Axe().run(page, options=rules).response
    assert found["passes"] or found["violations"], "no rule was applied"
    return [f"{v['id']}: {node['html'][:160]}" for v in found["violations"] for node in v["nodes"][:3]]


def test_pages_load_without_trouble_and_without_the_internet(visits):
    assert {path: visit["troubles"] for path, visit in visits.items() if visit["troubles"]} == {}


def test_pages_are_light(visits):
    assert {path: visit["nbytes"] for path, visit in visits.items() if not 1_000 < visit["nbytes"] < PAGE_LIMIT} == {}


def test_formulas_are_typeset(visits):
    assert sum(visit["formulas"] for visit in visits.values()) > 20
    for path, visit in visits.items():
        assert visit["typeset"] == visit["formulas"], path
        assert visit["math font"] or not visit["formulas"], path


def test_no_page_needs_a_script_for_formulas_or_lets_the_tab_key_stop_at_them(soups):
    for page, soup in soups.items():
        assert not [script["src"] for script in soup.select("script[src]") if "mathjax" in script["src"].lower()], page
        assert not soup.select(".math [tabindex], .math[tabindex]"), page


def test_internal_links_and_anchors_resolve(site, soups):
    anchors = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    dead, external = [], 0
    for page, soup in soups.items():
        for link in soup.select("a[href], link[href], script[src], img[src], source[src], iframe[src]"):
            target = link.get("href") or link.get("src")
            if "://" in target or target.startswith(("mailto:", "data:")):
                external += 1
                if link.name != "a" and not (link.name == "link" and "canonical" in link.get("rel", [])):
                    dead.append(f"{page}: {link.name} from elsewhere, {target}")
                continue
            path, fragment = urldefrag(urljoin(f"/{page}", target))
            path = unquote(path.split("?")[0]).lstrip("/")
            if not (site / path).is_file():
                dead.append(f"{page}: no file {target}")
            elif fragment and path in anchors and unquote(fragment) not in anchors[path] | {"top"}:
                dead.append(f"{page}: no anchor {target}")
    assert not dead
    assert external, "the bibliography links to arXiv"


def test_images_say_what_they_show(soups):
    silent = [
        f"{page}: {image['src']}"
        for page, soup in soups.items()
        for image in soup.select("img")
        if not image.get("alt", "").strip()
    ]
    # MyST-NB and Sphinx fall back to the file's path
    silent += [
        f"{page}: {image['alt']}"
        for page, soup in soups.items()
        for image in soup.select("img")
        if image.get("alt", "").endswith((".png", ".svg"))
    ]
    assert not silent


def test_block_quotes_that_begin_with_their_kind_are_boxes(soups):
    quotes = [quote for soup in soups.values() for quote in soup.select("article blockquote")]
    for kind in ("Result", "Predict"):
        of_kind = [quote for quote in quotes if quote.get_text().strip().startswith(kind)]
        assert of_kind
        assert all(f"box-{kind.lower()}" in quote.get("class", []) for quote in of_kind)


def test_each_page_has_one_title(soups):
    titles = {
        page: len(soup.select("article h1"))
        for page, soup in soups.items()
        if page not in ("index.html", "search.html")
    }
    assert {page: count for page, count in titles.items() if count != 1} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visits, theme):
    assert {path: visit[theme] for path, visit in visits.items() if visit.get(theme)} == {}


def test_axe_would_find_something(browser):
    page = new_page(browser)
    page.set_content("<p style='color: #777; background: #888'>A sentence, hard to read.</p><img src='data:,'>")
    kinds = [{found.partition(":")[0] for found in violations(page, "light", rules)} for rules in (WCAG, CONTRAST)]
    assert kinds[0] >= {"color-contrast", "image-alt"} and kinds[1] == {"color-contrast"}
    page.close()


def test_nothing_is_wider_than_a_phone(visits):
    assert {path: visit["width"] for path, visit in visits.items() if visit["width"] > 360} == {}


def test_every_page_that_is_written_is_looked_at(visits, pages):
    written = {f"notebooks/{path.stem}.html" for path in CHAPTERS} | {p for p in pages if not p.startswith(API)}
    assert written <= visits.keys()
    assert sum(path.startswith(API) for path in visits) == API_PAGES < sum(path.startswith(API) for path in pages)


def test_the_dark_theme_can_be_chosen_and_is_remembered(browser, address):
    page = new_page(browser, color_scheme="light")
    settle(page, f"{address}/book/notation.html")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for _ in range(3):
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
        page.locator(".theme-switch-button:visible").first.click()
    page.wait_for_function(f"{background} !== '{light}'")
    page.goto(f"{address}/book/glossary.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.close()


def test_the_keyboard_reaches_the_text_first(browser, address):
    page = new_page(browser)
    settle(page, f"{address}/book/how-to-read.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    page.wait_for_function("location.href.endsWith('#main-content')")
    page.close()


def test_the_ledger_has_a_line_for_each_setting_with_the_mean_of_its_seeds(soups):
    settings = {}
    for row in ledger.read():
        key = (row["chapter"], *(str(row[name]) for name in ("method", "model", "data", "recipe")))
        settings.setdefault(key, []).append(row)
    lines = soups["book/ledger.html"].select("table.measured tbody tr")
    assert len(lines) == len(settings)
    shown = sorted(float(line.select("td")[3].text.split(" %")[0]) for line in lines)
    means = sorted(100 * sum(row["accuracy_after"] for row in rows) / len(rows) for rows in settings.values())
    assert shown == pytest.approx(means, abs=0.00501)
