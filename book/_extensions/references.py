"""Words that are links: "Figure 7.2", "Result 6.4", "exercise 7.3", "chapter 6", "chapters 2, 3 and 6".

``captions.py`` notes in each page's metadata which labels it has. When a page is written, the words that name one
become a link. A chapter that does not exist yet is no link; a figure, result, exercise or question that does not exist
is a warning. A page is written again when a label to which it may point has come, gone or moved.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
NUMBER = r"\d+(?:\.\d+)?"
BETWEEN = r"(?:\s*\([^()\d]*\))?(?:,\s*(?:and\s+|or\s+)?|\s+(?:and|or|to)\s+|\s?–\s?)"  # ", " " and " " (folding) and "
WORDS = re.compile(
    rf"\b(?P<kind>chapter|figure|result|exercise|question)(?P<plural>s?)\s(?P<numbers>{NUMBER}(?:{BETWEEN}{NUMBER})*)"
    r"(?![\d.]*\d)",
    re.IGNORECASE,
)
NO_LINKS_IN = (
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.title,
    nodes.raw,
    nodes.math,
    nodes.math_block,
)


class References(SphinxPostTransform):
    """Make links of the words that name a chapter, a figure, a result, an exercise or a question."""

    default_priority = 600

    def run(self, **kwargs) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if WORDS.search(text) and not names_itself(text) and not within(text, NO_LINKS_IN):
                text.parent.replace(text, self.linked(text))

    def linked(self, text: nodes.Text) -> list[nodes.Node]:
        """The text in pieces, some of them links."""
        pieces, done = [], 0
        for words in WORDS.finditer(text):
            numbers = list(re.finditer(NUMBER, words["numbers"]))
            for number in numbers:
                begin, end = (words.start("numbers") + place for place in number.span())
                target = self.target(words["kind"].capitalize(), number[0], text)
                if number is numbers[0] and not words["plural"]:
                    begin = words.start()
                if target:
                    pieces += [nodes.Text(text[done:begin]), nodes.reference("", text[begin:end], refuri=target)]
                    pieces[-1]["internal"] = True
                    done = end
        return [*pieces, nodes.Text(text[done:])]

    def target(self, kind: str, number: str, text: nodes.Text) -> str | None:
        """Where a link to a label leads; None if it is not to be a link."""
        here = self.env.docname
        if kind == "Chapter":
            page = chapters(self.env).get(number)
            return None if page in (None, here) else self.app.builder.get_relative_uri(here, page)
        if "." not in number:
            return None  # "figure 5" of a paper
        page, anchor = labels(self.env).get(f"{kind} {number}", (None, None))
        if page is None:
            LOGGER.warning("there is no %s %s", kind, number, location=text.parent)
            return None
        return ("" if page == here else self.app.builder.get_relative_uri(here, page)) + f"#{anchor}"


def within(node: nodes.Node, kinds: tuple) -> bool:
    """Whether a node stands somewhere in one of the given kinds."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def names_itself(text: nodes.Text) -> bool:
    """Whether a text is the label of a caption or of a box, in bold with a full stop: "Result 1.5 (roofline)."."""
    bold = isinstance(text.parent, nodes.strong)
    return bold and bool(re.fullmatch(r"(Figure|Result) \d+\.\d+( \(.*\))?\.", text.parent.astext()))


def chapters(env) -> dict[str, str]:
    """Number → page, of the chapters that exist."""
    found = (re.match(r"notebooks/(\d\d)-", page) for page in env.found_docs)
    return {str(int(match[1])): match.string for match in found if match}


def labels(env) -> dict[str, tuple[str, str]]:
    """Label → page and anchor, of the whole book."""
    return {
        label: (page, anchor)
        for page, metadata in env.metadata.items()
        for label, anchor in metadata.get("labels", {}).items()
    }


def pages_to_write_again(app, env) -> list[str]:
    """All that were read, when labels or chapters have changed since they were written."""
    now = (chapters(env), labels(env))
    before, env.book_labels = getattr(env, "book_labels", now), now
    return [] if now == before else sorted(env.found_docs)


def setup(app):
    app.add_post_transform(References)
    app.connect("env-updated", pages_to_write_again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
