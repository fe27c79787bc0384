"""What readers read: no raw TeX, nothing promised that is not there, minutes counted by one rule."""

import importlib.util
import json
import re
import sys

import pytest
import yaml
from bs4 import BeautifulSoup
from chapters import CHAPTERS, ROOT
from docutils import nodes
from docutils.core import publish_doctree
from myst_parser.parsers.docutils_ import Parser

NO_TEXT = {"code", "pre", "script", "style"}  # nor are formulas; test_site.py looks at them


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    return loaded


minutes = module(ROOT / "book" / "tools" / "minutes.py")
coming = module(ROOT / "book" / "_extensions" / "coming.py")
displays = module(ROOT / "book" / "_extensions" / "displays.py")
sidebars = module(ROOT / "book" / "_extensions" / "sidebars.py")


def raw_tex(soup) -> list[str]:
    """Where a reader, a tooltip or a screen reader would meet a dollar or a TeX delimiter."""
    texts = soup.find_all(string=re.compile(r"\$|\\[()\[\]]"))
    words = [
        text for text in texts if not any(tag.name in NO_TEXT or "math" in tag.get("class", ()) for tag in text.parents)
    ]
    words += [tag[name] for name in ("title", "alt", "aria-label", "content") for tag in soup.select(f"[{name}]")]
    return [" ".join(word.split())[:100] for word in words if re.search(r"\$|\\[()\[\]]", word)]


def test_no_page_shows_tex(soups):
    shown = {page: raw_tex(soup) for page, soup in soups.items()}
    assert {page: words for page, words in shown.items() if words} == {}


def test_tex_would_be_seen():
    soup = BeautifulSoup(
        r"<p>a $b$ <code>$c</code> <i title='\(d\)'>e</i> <span class=math>\(f\)</span></p>", "html.parser"
    )
    assert raw_tex(soup) == ["a $b$", r"\(d\)"]


@pytest.mark.parametrize(
    ("markdown", "kinds"),
    [
        ("> **Result 1.** So\n> $$a = b.$$\n> And so on.", ["paragraph", "math_block", "paragraph"]),
        ("> So\n> $$\n> a = b\n> $$", ["paragraph", "math_block"]),
        ("> $$a = b$$\n> is so.", ["math_block", "paragraph"]),
        ("> So\n>\n> $$a = b$$", ["paragraph", "math_block"]),
        ("> So $a = b$.", ["paragraph"]),
    ],
)
def test_a_formula_may_follow_its_sentence(markdown, kinds):
    options = {"myst_enable_extensions": ["dollarmath"], "myst_dmath_double_inline": True}
    document = publish_doctree(markdown, parser=Parser(), settings_overrides=options)
    displays.SplitParagraphs(document).apply()
    assert [type(node).__name__ for node in document[0]] == kinds
    assert "$" not in "".join(
        text for node in document[0] if isinstance(node, nodes.paragraph) for text in node.astext()
    )
    assert all(node.astext().strip("$ \n").startswith("a = b") for node in document.findall(nodes.math_block))


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Chapter 12 is about it.", "Chapter 12 (coming) is about it."),
        ("see chapters 6, 9 and 10", "see chapters 6, 9 (coming) and 10"),
        ("chapters 9, 12", "chapters 9 (coming), 12 (coming)"),
        ("chapter 1 has 12 of them, and 9", "chapter 1 has 12 of them, and 9"),
        ("Result 9.1, 12 chapters", "Result 9.1, 12 chapters"),
    ],
)
def test_chapters_to_come_are_marked_in_the_text(text, marked):
    assert coming.mark(text, {9, 12}) == marked


def test_no_page_speaks_of_a_missing_chapter_as_if_it_were_there(soups):
    planned = [c for part in yaml.safe_load((ROOT / "book" / "chapters.yml").read_text()) for c in part["chapters"]]
    missing = {int(c["file"][:2]) for c in planned} - {int(path.name[:2]) for path in CHAPTERS}
    for page, soup in soups.items():
        article = soup.select_one("article")
        for named in re.findall(r"\b[Cc]hapter (\d+)(?! \(coming\))(?!\d)", article.get_text() if article else ""):
            assert int(named) not in missing, (page, named)


def cell(kind, source, tags=(), widget=False):
    outputs = [{"output_type": "display_data", "data": {minutes.WIDGET: {}} if widget else {}}]
    return {"cell_type": kind, "source": [source], "metadata": {"tags": list(tags)}, "outputs": outputs}


@pytest.fixture
def chapter():
    """Sections of 2 × 200 words and 3 formulas' worth; a result and two code cells; an explorer."""
    folded = "<details><summary>More</summary>\n" + "word " * 900 + "\n</details>"
    return [
        cell("markdown", "# 1. Title\n\n**A promise.**\n\n*7 minutes to read and run. Prerequisites: none.*"),
        cell("code", "set_up()"),
        cell("markdown", "## Objectives\n\none"),
        cell(
            "markdown", "## The problem: a lot (1 min)\n\n" + "word " * 390 + "$a + b + c$ and $$d + e$$\n\n" + folded
        ),
        cell("markdown", "## The derivation (9 min)\n\n> **Result 1.1.** " + "word " * 500),
        cell("code", "assert result()"),
        cell("code", "print('claim: True')", tags=["claims"]),
        cell("code", "prepare()", tags=["hide-input"]) | {"outputs": []},
        cell("code", "plot()", tags=["hide-input"]),
        cell("markdown", "## Predict, explore, reveal (1 min)"),
        cell("code", "explorer()", widget=True),
        cell("markdown", "## Exercises\n\n" + "word " * 800),
    ]


def test_minutes_follow_the_rule(chapter):
    counted = minutes.sections(chapter)
    assert counted == pytest.approx(
        {
            "Objectives": 1 / 200,
            "The problem: a lot": 393 / 200,  # two formulas and an "and"; nothing of the fold
            "The derivation": 3 + 2,
            "Predict, explore, reveal": 5,
            "Exercises": 4,
        }
    )


def test_minutes_are_written_into_headings_and_under_the_title(chapter):
    minutes.write(chapter)
    sources = ["".join(c["source"]) for c in chapter]
    assert "*13 minutes to read and run. Prerequisites: none.*" in sources[0]  # 1 + 2 + 5 + 5
    assert [re.findall(r"^## .*", source) for source in sources if source.startswith("##")] == [
        ["## Objectives"],
        ["## The problem: a lot (2 min)"],
        ["## The derivation (5 min)"],
        ["## Predict, explore, reveal (5 min)"],
        ["## Exercises"],
    ]
    again = json.loads(json.dumps(chapter))
    minutes.write(again)
    assert again == chapter


def test_the_chapters_show_the_minutes_that_are_counted(capsys):
    assert minutes.main(["--check"]) == 0, capsys.readouterr().out


def test_how_to_read_tells_the_shortest_and_the_longest_chapter(soups):
    totals = []
    for path in CHAPTERS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        counted = minutes.sections(cells).items()
        totals.append(sum(max(1, round(m)) for title, m in counted if title not in minutes.NOT_READ_THROUGH))
    text = " ".join(soups["book/how-to-read.html"].select_one("article").get_text().split())
    assert f"takes {min(totals)} to {max(totals)} minutes" in text


def test_names_in_the_sidebar_are_short_and_have_joints():
    html = '<a href="x">compress_lib.pruning.magnitude</a><span>to_levels()</span><a>One. Two</a><a>Quiz</a>'
    assert sidebars.jointed(html, "compress_lib.pruning.", "compress_lib.") == (
        '<a href="x">magnitude</a><span>to_<wbr>levels()</span><a>One. Two</a><a>Quiz</a>'
    )
    assert sidebars.jointed(None) == ""
