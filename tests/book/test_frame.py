"""The frame around the text: each control does something, at every width, by pointer and by keyboard."""

import pytest
from browsing import new_page, settle, watch

WIDTHS = [390, 820, 1280, 1920]
PLACE = "document.getElementById('ways-through-the-book')"
CHAPTERS_IN_DRAWER, CONTENTS_IN_DRAWER = 992, 1200  # below these widths
PAGE = "book/how-to-read.html"

CONTROLS = "body :is(button, summary):not(article *):visible"  # the parts of the article have tests of their own
CHAPTERS, CONTENTS, SEARCH = ".bd-docs-nav", "nav.page-toc", "#pst-search-dialog input"


@pytest.fixture(params=WIDTHS)
def page(request, browser, address):
    page = new_page(browser, viewport={"width": request.param, "height": 800}, reduced_motion="reduce")
    troubles = watch(page, address)
    page.add_init_script("window.printed = 0; window.print = () => printed++")
    settle(page, f"{address}/{PAGE}")
    yield page
    page.close()
    assert not troubles


def width(page) -> int:
    return page.viewport_size["width"]


def still(page) -> None:
    """Wait until nothing moves any more."""
    page.evaluate(
        """async () => {
            const frame = () => new Promise(requestAnimationFrame);
            const seen = (animation) => animation.effect.target.checkVisibility(); // what is folded away never ends
            await frame();
            await Promise.allSettled(document.getAnimations().filter(seen).map((animation) => animation.finished));
            await frame();
        }"""
    )


def shown(page, selector: str) -> bool:
    """Is it where a reader can see it, not only in the page?"""
    still(page)
    return page.locator(selector).first.evaluate(
        """(element) => {
            const { left, right, top, bottom } = element.getBoundingClientRect();
            const visible = element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
            return visible && right > 0 && left < innerWidth && bottom > 0 && top < innerHeight;
        }"""
    )


def look(page) -> tuple:
    """What a reader notices, while the pointer is elsewhere and nothing has the focus."""
    page.mouse.move(width(page) / 2, 700)
    page.evaluate("document.activeElement.blur()")
    still(page)
    return page.screenshot(), page.evaluate("printed"), page.url


def test_every_control_does_something(page):
    controls = page.locator(CONTROLS)
    names = [control.get_attribute("aria-label") or control.inner_text().strip() for control in controls.all()]
    assert len(names) >= 4 and all(names), names
    idle = []
    for index, name in enumerate(names):
        page.reload()
        before = look(page)
        controls.nth(index).click()
        if look(page) == before:
            idle.append(name)
    assert not idle


def test_every_entry_of_the_download_menu_does_something(page):
    menu = page.get_by_role("button", name="Download this page")
    entries = page.locator(".dropdown-download-buttons .dropdown-menu :is(a, button)")
    menu.click()
    assert entries.count() >= 2
    for entry in entries.all():
        assert shown(page, ".dropdown-download-buttons .dropdown-menu")
        if entry.get_attribute("href"):
            assert page.request.get(entry.evaluate("link => link.href")).ok
        else:
            entry.click()
            assert page.evaluate("printed") == 1
            menu.click()
    page.keyboard.press("Escape")
    assert not shown(page, ".dropdown-download-buttons .dropdown-menu")


def test_the_list_of_chapters_opens_and_closes(page):
    toggle = page.get_by_role("button", name="list of chapters")
    assert toggle.count() == 1
    if width(page) >= CHAPTERS_IN_DRAWER:
        assert shown(page, CHAPTERS)
        toggle.click()
        assert not shown(page, CHAPTERS)
        toggle.press("Enter")
        assert shown(page, CHAPTERS)
        return
    assert_drawer(page, toggle, CHAPTERS)
    toggle.click()
    page.locator(CHAPTERS).get_by_role("link", name="Notation").click()
    page.wait_for_url("**/notation.html")


def test_the_contents_of_the_page_open_and_close(page):
    toggle = page.get_by_role("button", name="contents of this page")
    if width(page) >= CONTENTS_IN_DRAWER:
        assert shown(page, CONTENTS) and not toggle.count()
    else:
        assert_drawer(page, toggle, CONTENTS)
    for _ in range(2):  # the second time the address leads there already
        page.evaluate("scrollTo(0, 0)")
        if toggle.count():
            toggle.click()
        page.locator(CONTENTS).get_by_role("link", name="Ways through the book").click()
        page.wait_for_function("location.href.endsWith('#ways-through-the-book')")
        page.wait_for_function(
            "Math.abs(document.getElementById('ways-through-the-book').getBoundingClientRect().y) < 200"
        )
        assert not toggle.count() or not shown(page, CONTENTS), "what was asked for is not behind the drawer"


def assert_drawer(page, toggle, content: str) -> None:
    """A drawer opens by pointer and keyboard; it closes by its button, by Escape and by a press beside it."""
    assert not shown(page, content)
    close = page.get_by_role("button", name="Close", exact=True)
    for open_it, close_it in [
        (toggle.click, close.click),
        (lambda: toggle.press("Enter"), lambda: page.keyboard.press("Escape")),
        (lambda: toggle.press("Space"), lambda: close.press("Enter")),
        (toggle.click, lambda: page.mouse.click(*beside(page, content))),
    ]:
        open_it()
        assert shown(page, content)
        assert page.evaluate("document.activeElement.closest('dialog') !== null"), "the keyboard is in the drawer"
        close_it()
        assert not shown(page, content)


def beside(page, content: str) -> tuple[float, float]:
    left, right = page.locator("dialog[open]").evaluate(
        "d => [d.getBoundingClientRect().left, d.getBoundingClientRect().right]"
    )
    return (left / 2 if left > 20 else (right + width(page)) / 2), 400


def test_search_opens_from_a_button_and_from_the_keyboard(page):
    page.get_by_role("button", name="Search", exact=True).click()
    assert shown(page, SEARCH)
    page.keyboard.press("Escape")
    assert not shown(page, SEARCH)
    page.keyboard.press("Control+k")
    assert shown(page, SEARCH)
    page.keyboard.type("sparsity")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=sparsity")


def test_a_browser_that_stores_nothing_has_the_same_controls(browser, address):
    page = new_page(browser, color_scheme="light", viewport={"width": 1280, "height": 800})
    troubles = watch(page, address)
    page.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) {
            const get = () => { throw new DOMException("storage is off", "SecurityError"); };
            Object.defineProperty(window, name, { configurable: true, get });
        }"""
    )
    settle(page, f"{address}/{PAGE}")
    page.get_by_role("button", name="Color mode").click()
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    page.get_by_role("button", name="list of chapters").click()
    assert not shown(page, CHAPTERS)
    page.close()
    assert not troubles


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_scripts_all_is_there_and_nothing_is_dead(browser, address, scheme):
    page = browser.new_page(java_script_enabled=False, color_scheme=scheme, viewport={"width": 390, "height": 844})
    page.goto(f"{address}/{PAGE}")
    assert [button.inner_text() for button in page.locator("button:visible").all()] == []
    red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert (red > 200) == (scheme == "light")
    link = page.locator(CHAPTERS).get_by_role("link", name="Notation")
    assert link.bounding_box()["y"] > page.locator("article h2").last.bounding_box()["y"], "below the text"
    link.click()
    page.wait_for_url("**/notation.html")
    page.close()


def test_nothing_is_wider_than_the_smallest_phone(browser, address):
    page = new_page(browser, viewport={"width": 320, "height": 640})
    wide = {}
    for path in ("book/index.html", PAGE, "book/glossary.html", "book/ledger.html", "book/api/compress_lib/index.html"):
        page.goto(f"{address}/{path}")
        wide[path] = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert {path: width for path, width in wide.items() if width > 320} == {}


def test_the_library_s_names_break_at_their_joints(browser, address):
    page = new_page(browser, viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/book/api/compress_lib/quantization/codebooks/index.html")
    entries = page.locator("nav.bd-links .toctree-l2 a, nav.page-toc a").all_inner_texts()
    assert len(entries) > 20 and not [entry for entry in entries if entry.startswith("compress_lib.")]
    broken = page.evaluate(
        """() => [...document.querySelectorAll("nav.bd-links a, nav.page-toc a")].flatMap((link) => {
            const words = [], walker = document.createTreeWalker(link, NodeFilter.SHOW_TEXT);
            for (let node; (node = walker.nextNode()); )
                for (const { index, 0: word } of node.data.matchAll(/[\\w().-]+/g)) {
                    const range = document.createRange();
                    range.setStart(node, index);
                    range.setEnd(node, index + word.length);
                    if (range.getClientRects().length > 1) words.push(word);
                }
            return words;
        })"""
    )
    page.close()
    assert not broken
