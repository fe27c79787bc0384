"""SVG pictures become part of the page, so that they take its fonts and colors and follow the theme switch.

Whether a cell's output or a Markdown image of ``book/diagrams``: the file's ``<svg>`` is written where the ``<img>``
would be, named by the image's alternative text. The book's own figures hold a second drawing for narrow places
(``compress_lib/figures/svg.py``); ``figures.css`` shows the one that fits. Other builders keep the image.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
ASSETS = "book/assets/"  # logo and badges stay images


class InlineSVG(SphinxPostTransform):
    """Put each local SVG of a page into it, but for the logo and badges and for what brings styles or scripts."""

    default_priority = 190  # after MyST-NB has chosen among an output's forms, and after those who look for images
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for number, image in enumerate(list(self.document.findall(nodes.image)), 1):
            uri, alt = image["uri"], image.get("alt", "").strip()
            if not uri.endswith(".svg") or "://" in uri or uri.startswith(ASSETS):
                continue
            root = ElementTree.parse(Path(self.env.srcdir) / uri).getroot()
            if any(element.tag.endswith(("}style", "}script")) for element in root.iter()):
                continue  # they would hold for the whole page
            if not alt:
                LOGGER.warning("%s has no alternative text", uri, location=image)
            image.replace_self(nodes.raw("", inlined(root, alt, f"picture-{number}"), format="html"))


def inlined(root: ElementTree.Element, alt: str, key: str) -> str:
    """The HTML of a picture: one drawing, or one for a page and one for a phone.

    Parameters
    ----------
    root : Element
        An ``<svg>``; it is changed.
    alt : str
        What it shows, in words.
    key : str
        Different for each picture of a page; the ids inside begin with it.
    """
    for element in root.iter():
        element.tag = element.tag.partition("}")[2] or element.tag
        for name in [name for name in element.attrib if name.startswith("{")]:
            element.set(name.partition("}")[2], element.attrib.pop(name))
    phone = root.find("svg[@class='phone']")
    if phone is None:
        return f'<span class="picture">{_drawing(root, alt, key)}</span>'
    root.remove(phone)
    page, phone = _drawing(root, alt, f"{key}-page"), _drawing(phone, alt, f"{key}-phone")
    return (
        '<span class="picture drawn-twice">'
        f'<span class="for-page">{page}</span><span class="for-phone">{phone}</span></span>'
    )


def _drawing(root: ElementTree.Element, alt: str, key: str) -> str:
    """As wide as it was drawn, or as there is room for; the page's own way of naming it is the only one."""
    for child in [*root.findall("title"), *root.findall("desc")]:
        root.remove(child)  # a browser shows a title as a tooltip over the whole picture
    _own_ids(root, key)
    width = root.get("width", "").removesuffix("px")  # a percentage, say, is not how wide it was drawn
    width = width if re.fullmatch(r"[\d.]+", width) else root.get("viewBox").split()[2]
    style = [root.get("style"), f"max-width:min(100%,{width}px)"]
    for name in ("width", "height", "display", "class", "aria-labelledby", "aria-describedby"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": alt, "style": ";".join(filter(None, style))})
    return ElementTree.tostring(root, encoding="unicode")


def _own_ids(root: ElementTree.Element, key: str) -> None:
    """No two drawings of a page share an id."""
    for element in root.iter():
        for name, value in element.items():
            if name == "id":
                element.set(name, f"{key}-{value}")
            elif name == "href" or "url(" in value:
                element.set(name, re.sub(r"^#|(?<=url\(#)", lambda m: f"{m[0]}{key}-", value))


def setup(app):
    app.add_post_transform(InlineSVG)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
