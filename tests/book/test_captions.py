"""Captions join their pictures, labels become anchors, and the words that name a label become links to it."""

import pytest
from small_book import SmallBook, cell, notebook

PNG = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
picture = cell("plot()", image_png=PNG)
SEVEN = (
    "# 7. Deep compression",
    "A picture shows it. See Figure 7.2, figure 7.1 and Result 7.1.",
    picture,
    "**Figure 7.1.** Bytes fall, as Result 7.1 and chapter 2 say.\n\nMore text.",
    "![two boxes](boxes.svg)\n\n**Figure 7.2.** Boxes.",
    "> **Result 7.1 (the law).** It holds.\n\nThen exercise 7.1 asks more.",
    "## Exercises\n\n### Exercise 7.1 (derive): a bound\n\nUse Result 7.1.",
)
TWO = (
    "# 2. Pruning\n\nChapters 2, 7 (the files) and 9 are about files; "
    "so are Chapter 7 and [chapter 7](7.md). In `chapter 7` Result 7.1."
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'


@pytest.fixture
def book(tmp_path):
    pages = {
        "index.md": "# Book\n\n```{toctree}\nnotebooks/02-pruning\nnotebooks/07-deep\n```\n",
        "notebooks/02-pruning.md": TWO.replace("7.md", "07-deep.ipynb"),
        "notebooks/07-deep.ipynb": notebook(*SEVEN),
        "notebooks/boxes.svg": SVG,
    }
    return SmallBook(tmp_path, ["boxes", "captions", "references"], pages)


def links(page):
    return {a.text: a["href"] for a in page.select("p a.reference, figcaption a.reference")}


def test_pictures_and_captions_stand_in_one_figure(book):
    assert not book.build()
    first, second = book.page("notebooks/07-deep").select("figure")
    assert first["id"] == "figure-7-1" and second["id"] == "figure-7-2"
    assert first.find_parent(class_="cell_output") and first.img and not first.select("pre")
    assert first.figcaption.text.strip().startswith("Figure 7.1. Bytes fall, as Result 7.1")
    assert second.img["alt"] == "two boxes"
    assert second.figcaption.strong.text == "Figure 7.2." and not second.figcaption.strong.a


def test_words_become_links(book):
    book.build()
    assert links(book.page("notebooks/07-deep")) == {
        "Figure 7.2": "#figure-7-2",
        "figure 7.1": "#figure-7-1",
        "Result 7.1": "#result-7-1",
        "exercise 7.1": "#exercise-7-1",
        "chapter 2": "02-pruning.html",
    }
    page = book.page("notebooks/07-deep")
    assert page.select_one("blockquote#result-7-1") and not page.select("blockquote strong a, h3 a.internal")
    assert page.select_one("#exercise-7-1").find_parent("section").h3.text.startswith("Exercise 7.1 (derive)")


def test_what_is_here_or_not_there_or_code_or_a_link_already_is_left(book):
    book.build()
    found = [(a.text, a["href"]) for a in book.page("notebooks/02-pruning").select("p a")]
    seven = "07-deep.html"
    assert found == [("7", seven), ("Chapter 7", seven), ("chapter 7", seven), ("Result 7.1", f"{seven}#result-7-1")]
    assert book.page("notebooks/02-pruning").select_one("code").text == "chapter 7"


def test_a_page_follows_when_labels_of_another_change(book):
    assert not book.build()
    book.write("notebooks/07-deep.ipynb", notebook(*SEVEN[:5], "> **Result 7.1.** No\n\n> **Result 7.2.** Yes"))
    said = book.build()
    assert "exercise 7.1" not in said  # it is named nowhere any more
    book.write("notebooks/07-deep.ipynb", notebook(SEVEN[0]))
    said = book.build()
    assert "02-pruning.md" in said and "there is no Result 7.1" in said
    assert "Result 7.1" not in links(book.page("notebooks/02-pruning"))
    book.write("notebooks/07-deep.ipynb", notebook(*SEVEN))
    assert not book.build()
    assert links(book.page("notebooks/02-pruning"))["Result 7.1"] == "07-deep.html#result-7-1"


def test_two_processes_find_the_same(book):
    pages = {f"notebooks/{n}-more.md": f"# {n}. More\n\nSee Result 7.1 and chapter 7.\n" for n in range(20, 28)}
    for name, content in pages.items():
        book.write(name, f"---\norphan: true\n---\n{content}")
    assert not book.build(parallel=2)
    for name in pages:
        seven = "07-deep.html"
        assert links(book.page(name[:-3])) == {"Result 7.1": f"{seven}#result-7-1", "chapter 7": seven}


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        ((picture, "**Figure 7.2.** Too early."), "Figure 7.2 stands where Figure 7.1 should"),
        ((picture, "**Figure 8.1.** Elsewhere."), "Figure 8.1 stands where Figure 7.1 should"),
        ((picture, "Text.\n\n**Figure 7.1.** Too late."), "Figure 7.1 is the caption of no picture"),
        (("> **Result 7.1.** A\n\n> **Result 7.1.** B",), "Result 7.1 stands where Result 7.2 should"),
        (("As figure 7.9 shows, and figure 5 of a paper.",), "there is no Figure 7.9"),
    ],
)
def test_what_is_wrong_is_a_warning(tmp_path, cells, warning):
    pages = {"index.md": "# Book\n\n```{toctree}\nnotebooks/07-deep\n```\n"}
    pages["notebooks/07-deep.ipynb"] = notebook("# 7. Deep compression", *cells)
    said = SmallBook(tmp_path, ["boxes", "captions", "references"], pages).build()
    assert said.count("WARNING") == 1 and warning in said
