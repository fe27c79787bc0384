"""The search: chapters first, the library reference on demand, in either spelling, and by the number of a result."""

import pytest
from browsing import new_page, watch


@pytest.fixture(scope="module")
def search(browser, address):
    """``search(words, library=False)``: what is said, and the title, the link and the text of each result."""
    page = new_page(browser)
    troubles = watch(page, address)

    def ask(words, library=False):
        page.goto(f"{address}/search.html?q={words}{'&api=on' if library else ''}")
        page.wait_for_function("document.querySelector('.book-search-said').textContent")
        results = page.locator(".book-search-results > li").all()
        links = [result.locator("a").first for result in results]
        found = [
            (link.inner_text(), link.evaluate("(a) => a.href").removeprefix(f"{address}/"), result.inner_text())
            for link, result in zip(links, results, strict=True)
        ]
        return page.locator(".book-search-said").inner_text(), found

    yield ask
    page.close()
    assert not troubles


def test_chapters_come_first_and_the_library_on_demand(search):
    _, found = search("huffman")
    assert found[0][1] == "notebooks/07-deep-compression.html"
    assert not any("book/api/" in link for _, link, _ in found)
    _, found = search("huffman", library=True)
    assert any("book/api/" in link for _, link, _ in found)


def test_either_spelling_finds_the_same(search):
    said, found = search("quantisation")
    assert "“quantization”" in said and any(link == "notebooks/05-quantization.html" for _, link, _ in found[:3])
    assert found == search("quantization")[1]
    assert search("neighbour")[1] == search("neighbor")[1] != []


@pytest.mark.parametrize("words", ["Result 6.4", "figure 7.1", " result  6.4 "])
def test_a_number_leads_to_its_place(search, words):
    _, found = search(words)
    kind, number = words.lower().split()
    assert found[0][0] == f"{kind.capitalize()} {number}"
    assert found[0][1].endswith(f".html#{kind}-{number.replace('.', '-')}")


@pytest.mark.parametrize(
    ("words", "term", "anchor"),
    [("distillation temperature", "temperature", "term-temperature"), ("sparsity", "sparsity", "term-sparsity")],
)
def test_a_term_leads_to_its_definition(search, words, term, anchor):
    _, found = search(words)
    title, _, text = next(each for each in found if each[1] == f"book/glossary.html#{anchor}")
    assert title.startswith(term) and len(text) > len(title) + 20


def test_what_is_shown_is_text(search):
    for words in ("compression rate", "index", "straight-through"):
        _, found = search(words)
        assert found
        for _, _, text in found:
            assert not {"$", "\\"} & {*text}, text


def test_nothing_is_said_to_be_there_that_is_not(search):
    said, found = search("xyzzyq")
    assert said.startswith("No page has “xyzzyq”") and found == []


def test_typing_searches_and_the_address_follows(browser, address):
    page = new_page(browser)
    page.goto(f"{address}/search.html")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("sparsity")
    page.locator(".book-search-results li", has_text="sparsity").first.wait_for()
    page.wait_for_function("location.href.endsWith('?q=sparsity')")
    page.close()


def test_without_a_server_it_says_what_it_needs(browser, site):
    page = new_page(browser)
    page.goto((site / "search.html").as_uri() + "?q=sparsity")
    page.locator(".book-search-said", has_text="needs a server").wait_for()
    page.close()
