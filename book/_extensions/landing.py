"""The landing page's directives; titles come from ``book/chapters.yml``, numbers from ``results/``.

``{hero} CHAPTER``  the promise, the number of that chapter, the button, and the place of the live network
``{chapter-map}``   a card for each chapter that is written, and one line about those that are coming
"""

from docutils import nodes
from measured import Measured

PICTURES = "book/diagrams/cover-{}.svg"


class Hero(Measured):
    """The first screen. Where scripts run, ``assets/live-network`` takes the place of the picture."""

    required_arguments = 1
    has_content = True

    def run(self):
        words = nodes.container(classes=["hero-words"])
        self.state.nested_parse(self.content, self.content_offset, words)
        headline = self.ledger.headlines().get(self.arguments[0])
        if headline:
            number, _, unit = headline["value"].partition(" ")
            words += nodes.paragraph(
                "", "", nodes.strong("", number), nodes.inline("", f" {unit}"), classes=["hero-number"]
            )
            words += nodes.paragraph(
                "", f"{headline['label']} · ", self.link(self.arguments[0], "how"), classes=["hero-source"]
            )
        first = self.written[0]["file"]
        words += nodes.paragraph("", "", self.link(first, f"Start with chapter {int(first[:2])}"), classes=["start"])
        picture = self.file("book/images/stages.html")
        return [
            nodes.container(
                "", words, nodes.raw("", f'<div id="live-network">\n{picture}</div>', format="html"), classes=["hero"]
            )
        ]


class ChapterMap(Measured):
    """The chapters as cards, with the number that each one ends with."""

    def run(self):
        headlines = self.ledger.headlines()
        cards = nodes.bullet_list("", classes=["chapter-map"])
        cards += [self.card(chapter, headlines.get(chapter["file"])) for chapter in self.written]
        coming = [chapter["title"] for chapter in self.chapters if chapter not in self.written]
        if not coming:
            return [cards]
        return [cards, nodes.paragraph("", f"Coming: {'; '.join(coming)}.", classes=["chapters-coming"])]

    def card(self, chapter: dict, headline: dict | None) -> nodes.list_item:
        name = chapter["file"]
        card = nodes.list_item("", classes=["written"])
        if picture := self.file(PICTURES.format(name[:2])):
            card += nodes.raw("", f'<div class="chapter-picture" aria-hidden="true">{picture}</div>', format="html")
        card += nodes.paragraph("", chapter["part"], classes=["chapter-part"])
        card += nodes.paragraph(
            "",
            "",
            nodes.inline("", str(int(name[:2])), classes=["chapter-number"]),
            nodes.Text(" "),
            self.link(name, chapter["title"]),
            classes=["chapter-title"],
        )
        card += nodes.paragraph("", chapter["summary"], classes=["chapter-summary"])
        if headline:
            card += nodes.paragraph(
                "",
                "",
                nodes.strong("", headline["value"]),
                nodes.Text(" "),
                nodes.inline("", headline["label"]),
                classes=["chapter-headline"],
            )
        return card


def setup(app):
    app.add_directive("hero", Hero)
    app.add_directive("chapter-map", ChapterMap)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
