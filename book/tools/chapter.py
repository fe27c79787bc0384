"""Lay down the skeleton of a chapter, ``make chapter N=09 NAME=low-rank``: every slot of the anatomy, to be filled.

The form is whole: the tests of the form (order of the sections, first cell, set-up cell) hold at once. What is missing
is content, and the tests that ask for it are red until it is there. `CONTRIBUTING.md` lists what else a chapter
touches.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).parents[2]

FIRST = """# {n}. {title}

**TODO: the promise, in one sentence.**

*45 minutes (TODO) to read and run. Prerequisites: chapter 1.*"""

HEADLINE = """from compress_lib import ledger

CHAPTER = "{stem}"
rows = ledger.read(CHAPTER)  # TODO: the measured rows behind the headline
ledger.headline(CHAPTER, "TODO", "TODO: what the figure is, in a few words")"""

SECTIONS = """## Objectives

When you have worked through this chapter you can

1. TODO: a verb that can be checked;
2. TODO;
3. TODO.
---
## The problem: TODO (5 min)

TODO: picture first.
---
## The derivation: TODO (10 min)

> **Result {n}.1.** TODO
===
raise NotImplementedError("Result {n}.1 against the library")
---
> **Result {n}.2.** TODO
===
raise NotImplementedError("Result {n}.2 against the library")
---
> **Result {n}.3.** TODO
===
raise NotImplementedError("Result {n}.3 against the library")
---
## The method: TODO (5 min)

TODO: the library's own source, then the real baseline.
===
raise NotImplementedError("source.show(…)")
---
## Predict, explore, reveal (5 min)

> **Predict.** TODO
===
raise NotImplementedError("compress_lib/explore/{module}.py and .mjs")
---
**Reveal.** TODO
---
## The experiment: TODO (6 min)

TODO: where the method wins, then where it fails; before and after, from the ledger.
===
raise NotImplementedError("the rows of the ledger")
===claims
raise NotImplementedError("each line that this cell prints is a claim and True")
---
## What the papers report, what we measured (2 min)

| | paper | here |
|---|---|---|
| TODO | TODO | TODO |
---
## Exercises

### Exercise {n}.1 (derive): TODO

TODO

<details><summary>Hint</summary>

TODO
</details>

<details><summary>Solution</summary>

TODO
</details>
---
### Exercise {n}.2 (code): TODO

TODO

<details><summary>Hint</summary>

TODO
</details>

<details><summary>Solution</summary>

```python
raise NotImplementedError("a solution asserts its own claim")
```
</details>
---
### Exercise {n}.3 (experiment): TODO

TODO

<details><summary>Hint</summary>

TODO
</details>

<details><summary>Solution</summary>

TODO
</details>
---
### Exercise {n}.4 (open): TODO

TODO

<details><summary>Hint</summary>

TODO
</details>

<details><summary>Solution</summary>

TODO: a rubric.
</details>
---
## Quiz

{questions}
---
## Summary

TODO
---
## Further reading

TODO: keys of `book/references.bib`."""

QUESTION = """### Question {i}: TODO

<details><summary>TODO</summary>

**Right.** TODO
</details>

<details><summary>TODO</summary>

**No.** TODO
</details>

<details><summary>TODO</summary>

**No.** TODO
</details>"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", help="two digits, as in book/chapters.yml")
    parser.add_argument("name", help="words with hyphens between them, as in book/chapters.yml")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        path = write(arguments.number, arguments.name, arguments.root)
    except (ValueError, FileExistsError) as error:
        print(f"make chapter: {error}", file=sys.stderr)
        return 1
    print(f"{path.relative_to(arguments.root)} has every slot of a chapter; CONTRIBUTING.md lists what else it touches")
    return 0


def write(number: str, name: str, root: Path = ROOT) -> Path:
    """Write the skeleton beside the other chapters, from whose first the set-up cell is taken.

    Raises
    ------
    ValueError
        If the number or the name has another form, or ``book/chapters.yml`` does not plan the chapter.
    FileExistsError
        If there is a chapter of this number.
    """
    if not re.fullmatch(r"\d\d", number):
        raise ValueError(f"N={number!r} must be two digits, such as 09")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"NAME={name!r} must be lower-case words with hyphens between them, such as low-rank")
    stem = f"{number}-{name}"
    parts = yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))
    planned = {chapter["file"]: chapter["title"] for part in parts for chapter in part["chapters"]}
    if stem not in planned:
        raise ValueError(f"book/chapters.yml plans no chapter {stem}; it plans {', '.join(planned)}")
    chapters = sorted((root / "notebooks").glob("*.ipynb"))
    for there in chapters:
        if there.name.startswith(f"{number}-"):
            raise FileExistsError(f"there is notebooks/{there.name}")
    notebook = skeleton(stem, planned[stem], _set_up(chapters[0]))
    path = root / "notebooks" / f"{stem}.ipynb"
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return path


def skeleton(stem: str, title: str, set_up):
    """The notebook, with the set-up cell of the other chapters."""
    number, name = stem.split("-", 1)
    questions = "\n\n".join(QUESTION.format(i=i) for i in range(1, 5))
    words = {"n": int(number), "stem": stem, "title": title, "module": name.replace("-", "_"), "questions": questions}
    cells = [
        nbformat.v4.new_markdown_cell(FIRST.format(**words)),
        nbformat.v4.new_code_cell(set_up.source, metadata=set_up.metadata),
        nbformat.v4.new_code_cell(HEADLINE.format(**words), metadata={"tags": ["nbval-check-output", "hide-input"]}),
    ]
    for part in SECTIONS.split("\n---\n"):
        prose, *code = re.split(r"\n===(.*)\n", part.format(**words))
        cells.append(nbformat.v4.new_markdown_cell(prose))
        for tag, source in zip(code[::2], code[1::2], strict=True):
            tags = [tag] * bool(tag) + ["nbval-check-output"]
            cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def _set_up(path: Path):
    return next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


if __name__ == "__main__":
    sys.exit(main())
