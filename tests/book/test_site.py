"""The site in a real browser that can reach nothing but this machine."""

from urllib.parse import unquote, urldefrag, urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import new_page, settle, unfold, watch
from bs4 import BeautifulSoup

from compress_lib import ledger

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
PAGE_LIMIT = 3_000_000


@pytest.fixture(scope="module")
def soups(site, pages):
    return {page: BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser") for page in pages}


@pytest.fixture(scope="module")
def visits(browser, address, pages):
    """What happens when each page is opened afresh, in the light theme."""
    found = {}
    for path in pages:
        page = new_page(browser, color_scheme="light", viewport={"width": 1280, "height": 900})
        troubles = watch(page, address)
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        received = []
        network.on(
            "Network.loadingFinished", lambda event, received=received: received.append(event["encodedDataLength"])
        )
        settle(page, f"{address}/{path}")
        so_far = list(troubles)  # axe-core itself asks for style sheets that are not there
        found[path] = {
            "nbytes": sum(received),
            "formulas": page.locator(".math").count(),
            "typeset": page.locator(".math mjx-container").count(),
            "errors in formulas": page.locator("mjx-merror, [data-mjx-error]").count(),
            "axe": violations(page, "light"),
            "troubles": so_far,
        }
        page.close()
    return found


def violations(page, theme):
    """What axe-core finds on the open page, all that unfolds unfolded."""
    if "/book/" in page.url or "/notebooks/" in page.url:
        assert page.evaluate("document.documentElement.dataset.theme") == theme
    unfold(page)  # text that still fades in would have too little contrast
    found = Axe().run(page, options=WCAG).response["violations"]
    return [f"{v['id']}: {node['html'][:160]}" for v in found for node in v["nodes"][:3]]


def test_pages_load_without_trouble_and_without_the_internet(visits):
    assert {path: visit["troubles"] for path, visit in visits.items() if visit["troubles"]} == {}


def test_pages_are_light(visits):
    assert {path: visit["nbytes"] for path, visit in visits.items() if not 1_000 < visit["nbytes"] < PAGE_LIMIT} == {}


def test_formulas_are_typeset(visits):
    assert sum(visit["formulas"] for visit in visits.values()) > 20
    for path, visit in visits.items():
        assert visit["typeset"] >= visit["formulas"], path
        assert not visit["errors in formulas"], path


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


def test_axe_finds_nothing_in_the_light_theme(visits):
    assert {path: visit["axe"] for path, visit in visits.items() if visit["axe"]} == {}


def test_axe_finds_nothing_in_the_dark_theme(browser, address, pages):
    page = new_page(browser, color_scheme="dark", viewport={"width": 1280, "height": 900})
    found = {}
    for path in pages:
        settle(page, f"{address}/{path}")
        found[path] = violations(page, "dark")
    page.close()
    assert {path: bad for path, bad in found.items() if bad} == {}


def test_nothing_is_wider_than_a_phone(browser, address, pages):
    page = new_page(browser, viewport={"width": 360, "height": 780})
    wide = {}
    for page_path in pages:
        settle(page, f"{address}/{page_path}")
        unfold(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            wide[page_path] = width
    page.close()
    assert not wide


def test_the_landing_page_has_three_doors_and_every_chapter(soups):
    landing = soups["book/index.html"]
    doors = {link["href"] for link in landing.select(".doors a")}
    assert {"how-to-read.html", "how-to-run.html", "how-to-teach.html"} <= doors
    rows = landing.select(".chapter-map > li")
    assert len(rows) == 18
    for row in rows:
        number, link = row.select_one(".chapter-number").text, row.select_one(".chapter-title a")
        written = any(page.startswith(f"notebooks/{number}-") for page in soups)
        assert bool(link) == written
        assert row.select_one(".chapter-headline").text.strip()


def test_search_works_without_a_server(browser, address):
    page = new_page(browser)
    troubles = watch(page, address)
    page.goto(f"{address}/search.html?q=sparsity")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li", has_text="Glossary").count()
    page.close()
    assert not troubles


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
    page.wait_for_url("**#main-content")
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
