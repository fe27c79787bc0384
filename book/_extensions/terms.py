"""The glossary's letters, and its definitions where a chapter first uses a term.

``book/glossary.md`` is one sorted list of entries, ``English, other name · 中文``. Here it gets a heading for each
letter, a row of letters that lead to them, and ``lang="zh"`` on what is Chinese.

In a chapter the first place in the text that names a term becomes a quiet link to its entry. The definition comes with
the page, as a hidden tooltip that ``assets/terms.js`` shows. The front matter of the glossary lists ``everyday`` words,
which a chapter uses so often in their common sense that a link would only disturb. Pages are written again when the
glossary has changed.
"""

import re
from itertools import groupby

from docutils import nodes
from references import NO_LINKS_IN, within
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

GLOSSARY = "book/glossary"
CHAPTER = re.compile(r"notebooks/\d\d-")
CHINESE = re.compile(r"[\u4e00-\u9fff](?:[\u4e00-\u9fff、；/]*[\u4e00-\u9fff])?")
SEE = re.compile(r"See (.+)\.")
NO_TERMS_IN = (*NO_LINKS_IN, nodes.table, nodes.footnote, nodes.citation)
NO_LINKS_BELOW = {"quiz", "further-reading", "headline", "badges"}  # ids and classes


# The glossary's own page


class Letters(SphinxTransform):
    """Cut the list of entries into one section for each letter, below a row of links to them."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        if self.env.docname != GLOSSARY:
            return
        for glossary in list(self.document.findall(addnodes.glossary)):
            (entries,) = glossary.children
            row = nodes.bullet_list("", classes=["letters"])
            sections = []
            for letter, items in groupby(list(entries.children), key=first_letter):
                link = nodes.reference("", letter, refid=f"letter-{letter.lower()}")
                row += nodes.list_item("", nodes.paragraph("", "", link))
                entries_here = nodes.definition_list("", *items, **entries.attributes)
                sections.append(nodes.section("", nodes.title("", letter), addnodes.glossary("", entries_here)))
                sections[-1]["ids"].append(link["refid"])
                self.document.note_explicit_target(sections[-1])
            glossary.parent.insert(glossary.parent.index(glossary), row)
            glossary.replace_self(sections)


class Languages(SphinxTransform):
    """Say of each Chinese word of the glossary that it is Chinese."""

    default_priority = 501

    def apply(self, **kwargs) -> None:
        if self.env.docname == GLOSSARY:
            for text in list(self.document.findall(nodes.Text)):
                if not within(text, (addnodes.index,)) and CHINESE.search(text):
                    text.parent.replace(text, marked(text))


def first_letter(entry: nodes.definition_list_item) -> str:
    return entry.astext()[0].upper()


def marked(text: nodes.Text) -> list[nodes.Node]:
    """A text in pieces, the Chinese ones marked."""
    pieces, done = [], 0
    for words in CHINESE.finditer(text):
        pieces += [nodes.Text(text[done : words.start()]), nodes.inline("", words[0], classes=["language-zh"])]
        done = words.end()
    return [*pieces, nodes.Text(text[done:])]


# The chapters


class term_definition(nodes.General, nodes.Element):
    """The tooltip of a term: ``term_definition("", *content, ids=["about-term-sparsity"])``."""


def visit_definition(self, node) -> None:
    hidden = {"role": "tooltip", "popover": "manual", "data-pagefind-ignore": ""}
    self.body.append(self.starttag(node, "div", CLASS="term-definition", **hidden))


def depart_definition(self, node) -> None:
    self.body.append("</div>\n")


def skip(self, node) -> None:
    raise nodes.SkipNode


class FirstUses(SphinxPostTransform):
    """Link each term of the glossary where a chapter uses it first, and bring the definition along."""

    default_priority = 610  # after the references

    def run(self, **kwargs) -> None:
        if not CHAPTER.match(self.env.docname) or GLOSSARY not in self.env.found_docs:
            return
        found = entries(self.env)
        names = pattern(found)
        glossary = self.app.builder.get_relative_uri(self.env.docname, GLOSSARY)
        linked = set()
        for text in texts(self.document):
            pieces, done = [], 0
            for words in names.finditer(text) if may_link(text) else ():
                entry = found[plain(words[0])]
                anchor = entry[0]["ids"][0]
                if anchor not in linked:
                    link = nodes.reference("", words[0], refuri=f"{glossary}#{anchor}", internal=True, classes=["term"])
                    pieces += [nodes.Text(text[done : words.start()]), link]
                    done = words.end()
                    linked.add(anchor)
                    self.document += term_definition("", *explanation(entry), ids=[f"about-{anchor}"])
            if pieces:
                text.parent.replace(text, [*pieces, nodes.Text(text[done:])])


def texts(document: nodes.document) -> list[nodes.Text]:
    """All texts in their order, but those in ``<details>``, which few readers open, after the others."""
    open_ones, folded, depth = [], [], 0
    for node in document.findall(nodes.Text):
        if isinstance(node.parent, nodes.raw):
            depth += node.count("<details") - node.count("</details")
        else:
            (folded if depth else open_ones).append(node)
    return open_ones + folded


def may_link(text: nodes.Text) -> bool:
    """Whether a text is running text of a chapter: also that of a caption, but no cell's, label's or quiz's."""
    if within(text, NO_TERMS_IN) or (isinstance(text.parent, nodes.strong) and begins(text.parent)):
        return False
    node = text.parent
    while node is not None:
        if isinstance(node, nodes.caption):
            return True
        if node.get("nb_element") or not NO_LINKS_BELOW.isdisjoint(node["ids"] + node["classes"]):
            return False
        node = node.parent
    return True


def begins(node: nodes.Element) -> bool:
    """Whether a node is what its paragraph begins with, as a label is: **Result 2.1.**, **No.**"""
    return next(child for child in node.parent.children if child.astext()) is node


def entries(env) -> dict[str, nodes.definition_list_item]:
    """Each way to write a term, in small letters → its entry in the glossary."""
    everyday = {word.strip() for word in env.metadata[GLOSSARY].get("everyday", "").split(",")}
    items = list(env.get_doctree(GLOSSARY).findall(nodes.definition_list_item))
    by_name = {name: item for item in items for name in names_of(item)}
    found = {}
    for name, item in by_name.items():
        if everyday.isdisjoint(names_of(item)):
            see = SEE.fullmatch(item[-1].astext())
            found |= dict.fromkeys(map(plain, (name, plural(name))), by_name[see[1]] if see else item)
    return found


def names_of(entry: nodes.definition_list_item) -> list[str]:
    """The English names of a term: "multiply–add" and "MAC"."""
    return entry[0].astext().partition(" · ")[0].split(", ")


def plural(name: str) -> str:
    if name.endswith("y"):
        return name[:-1] + "ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def plain(words: str) -> str:
    return re.sub(r"[\s–-]+", " ", words).casefold()


def pattern(found) -> re.Pattern:
    """What matches any of the names, the longest first; "rank" is not found in "rank-one", nor in "ranking"."""
    names = sorted(map(re.escape, found), key=len, reverse=True)
    joined = "|".join(names).replace(r"\ ", r"[\s–-]+")
    return re.compile(rf"(?<![\w–-])(?:{joined})(?![\w–-])", re.IGNORECASE)


def explanation(entry: nodes.definition_list_item) -> list[nodes.Node]:
    """The content of a tooltip: the term in both languages, and what the glossary says of it."""
    term, content = entry[0], entry[-1]
    words = [child.deepcopy() for child in term.children if not isinstance(child, addnodes.index)]
    return [nodes.paragraph("", "", *words, classes=["term-name"]), *(part.deepcopy() for part in content.children)]


def pages_to_write_again(app, env) -> list[str]:
    """The chapters, when the glossary is not what it was when they were written."""
    now = env.get_doctree(GLOSSARY).pformat() + str(env.metadata[GLOSSARY]) if GLOSSARY in env.found_docs else ""
    before, env.book_glossary = getattr(env, "book_glossary", now), now
    return [] if now == before else sorted(filter(CHAPTER.match, env.found_docs))


def setup(app):
    app.add_node(term_definition, html=(visit_definition, depart_definition), latex=(skip, None), text=(skip, None))
    app.add_transform(Letters)
    app.add_transform(Languages)
    app.add_post_transform(FirstUses)
    app.connect("env-updated", pages_to_write_again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
