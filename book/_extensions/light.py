"""Pages that load fast: one small style sheet, only the scripts that a page needs, nothing that waits or jumps.

* All style sheets become ``_static/style.css``, without the rules whose classes and ids occur in no page and no script:
  a tenth of the theme's. Names that a script puts together from pieces must stand in SAFE.
* Font Awesome's font is cut down to the icons that are left in that style sheet.
* Scripts wait until the page is there, and those that have nothing to do on a page are not on it.
* An explorer's data stand after the text, not before it. Pictures say their size. Fonts are asked for at once.
"""

import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import struct
from base64 import b64encode
from pathlib import Path

import lightningcss
from fontTools import subset
from fontTools.ttLib import TTFont

BUNDLE = "style.css"
THEME_SHEETS = ["basic.css", "styles/pydata-sphinx-theme.css"]  # the theme's own template names them, not Sphinx
SAFE: set[str] = set()

# A script and what a page has for it to do; Sphinx's own two are for the search page alone.
PURPOSES = {
    "clipboard.min.js": 'class="highlight',
    "copybutton.js": 'class="highlight',
    "design-tabs.js": 'class="sd-tab-',
    "doctools.js": None,
    "quiz.js": 'id="quiz"',
    "sphinx_highlight.js": None,
    "terms.js": 'class="term-definition"',
}
SEARCH_SCRIPTS = re.compile(  # the theme puts them on every page for results as you type, which are off
    r'\s*<script src="[./]*(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>'
)
STATE = "application/vnd.jupyter.widget-state+json"

WORD = re.compile(r"-{0,2}[A-Za-z_][\w-]*")
NAMING = re.compile(r'\b(?:class|id|style)="([^"]*)"|<(?:script|style)\b[^>]*>(.*?)</(?:script|style)>', re.DOTALL)
NAMED = re.compile(r"(?<=[.#])-?[A-Za-z_][\w-]*|(?<=@keyframes )[\w-]+")
URL = re.compile(r"""url\(\s*["']?(?!data:|#|/|https?:)([^"')]+)["']?\s*\)""")


logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells each step

# While pages are written


def lighten(app, pagename, templatename, context, doctree) -> None:
    """What is settled page by page."""
    if app.builder.format != "html":
        return
    sheets = [sheet for sheet in context["css_files"] if not sheet.attributes.get("media")]
    note_sheets(app, [os.fspath(sheet.filename) for sheet in sorted(sheets, key=lambda sheet: sheet.priority)])
    style = next(sheet for sheet in sheets if os.fspath(sheet.filename) == f"_static/{BUNDLE}")
    context["css_files"] = [style, *(sheet for sheet in context["css_files"] if sheet not in sheets)]

    body = context.get("body", "")
    shown = body + ('class="highlight' if context.get("citation") else "")  # page-help.html has it to copy
    scripts, states = [], []
    for script in context["script_files"]:
        purpose = PURPOSES.get(Path(script.filename or "").name, "")
        if script.attributes.get("type") == STATE:
            states.append(context["js_tag"](script))
        elif pagename == "search" or (purpose is not None and purpose in shown):
            scripts.append(script)
            inline = not script.filename or Path(script.filename).name == "documentation_options.js"
            if not inline and pagename != "search" and not {"async", "type"} & script.attributes.keys():
                script.attributes["defer"] = "defer"
    context["script_files"] = scripts
    if body:
        context["body"] = with_sizes(app, body) + "".join(states)
    context["fonts"] = fonts(context)


def note_sheets(app, names: list[str]) -> None:
    """Remember the style sheets of all pages, of earlier builds too, in the order of the cascade."""
    path = Path(app.doctreedir) / "sheets.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if new := [name for name in names if name not in known and name != f"_static/{BUNDLE}"]:
        path.write_text(json.dumps(known + new if known else new), encoding="utf-8")


def fonts(context) -> list[str]:
    """The fonts that a page begins with, for the template: that of the text, and that of its formulas."""
    names = ["source-serif-4-roman.woff2", "stix-two-math.woff2"]
    return [
        context["pathto"](f"_static/fonts/{name}", resource=True)
        for name in names[: 1 + ("<math" in context.get("body", ""))]
    ]


def with_sizes(app, body: str) -> str:
    """Give each picture of the book its width and height, so that the text below it does not move when it arrives."""
    sources = {name: source for source, name in app.builder.images.items()}

    def add(match: re.Match) -> str:
        tag, name = match.group(), match["name"]
        if name not in sources or " width=" in tag or "width:" in tag:
            return tag
        size = picture_size(Path(app.srcdir) / sources[name])
        return tag.replace("<img", f'<img width="{size[0]}" height="{size[1]}"', 1) if size else tag

    return re.sub(r'<img\b[^>]*\bsrc="[./]*_images/(?P<name>[^"]+)"[^>]*>', add, body)


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a PNG, or of an SVG that says them in numbers."""
    content = path.read_bytes()
    if content.startswith(b"\x89PNG"):
        return struct.unpack(">II", content[16:24])
    if path.suffix == ".svg":
        head = re.search(r"<svg\b[^>]*>", content.decode("utf-8"), re.DOTALL)
        found = (
            [re.search(rf'\b{side}="([\d.]+)(?:px|pt)?"', head.group()) for side in ("width", "height")] if head else []
        )
        if found and all(found):
            return tuple(round(float(match[1])) for match in found)
    return None


# When all pages are written


def finish(app, exception) -> None:
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = {
        path: path.read_text(encoding="utf-8")
        for path in Path(app.outdir).rglob("*.html")
        if static not in path.parents
    }
    style = bundle(app, static, known_words(static, pages.values()))
    style = with_own_icons(style)
    (static / BUNDLE).write_text(style, encoding="utf-8")
    version = hashlib.sha256(style.encode()).hexdigest()[:8]
    options = (static / "documentation_options.js").read_text(encoding="utf-8").strip()
    for path, page in pages.items():
        finished = re.sub(rf'(_static/{re.escape(BUNDLE)})(\?v=\w+)?"', rf'\1?v={version}"', page)
        finished = re.sub(
            r'<script src="[./]*_static/documentation_options\.js[^"]*"></script>',
            lambda match: f"<script>{options}</script>",
            finished,
        )
        if path.name != "search.html":
            finished = SEARCH_SCRIPTS.sub("", finished)
        if finished != page:
            path.write_text(finished, encoding="utf-8")


def known_words(static: Path, pages) -> set[str]:
    """All that may be the name of a class, an id or a variable: of the pages, and every word of the scripts."""
    words = set(SAFE)
    for page in pages:
        for match in NAMING.finditer(page):
            words.update(WORD.findall(match[1] or match[2] or ""))
    for script in [*static.rglob("*.js"), *static.rglob("*.mjs")]:
        if script.parent.name != "locales":
            words.update(WORD.findall(script.read_text(encoding="utf-8")))
    return words


def bundle(app, static: Path, words: set[str]) -> str:
    """All style sheets in one, without what no page can show."""
    names = json.loads((Path(app.doctreedir) / "sheets.json").read_text(encoding="utf-8"))
    paths = [Path(app.outdir) / name for name in [*(f"_static/{sheet}" for sheet in THEME_SHEETS), *names]]
    parts = []
    for path in paths:

        def from_static(match: re.Match, folder=path.parent) -> str:
            return f'url("{os.path.relpath(os.path.normpath(folder / match[1]), static)}")'

        parts.append(URL.sub(from_static, path.read_text(encoding="utf-8")))
    css = lightningcss.process_stylesheet("\n".join(parts), minify=False, error_recovery=True)
    css = lightningcss.process_stylesheet(css, unused_symbols=set(NAMED.findall(css)) - words)
    before = None
    while css != before:  # a variable may be used by another one that is not
        before, used = css, set(re.findall(r"var\((--[\w-]+)", css))
        unused = set(re.findall(r"(--[\w-]+):", css)) - used - words
        css = lightningcss.process_stylesheet(css, unused_symbols=unused)
    return f"/* {' '.join(os.path.relpath(path, static) for path in paths)} */\n{css}"


def with_own_icons(css: str) -> str:
    """Font Awesome's solid icons that are left, as a font in the style sheet; nothing else of it is needed."""
    icons = {ord(character) for character in re.findall(r"[\ue000-\uf8ff]", css)}
    icons |= {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", css)}
    theme = Path(importlib.util.find_spec("pydata_sphinx_theme").origin).parent
    source = next(theme.rglob("fa-solid-900.woff2"))
    font = TTFont(source)
    subsetter = subset.Subsetter(subset.Options(flavor="woff2", layout_features=[], hinting=False))
    subsetter.populate(unicodes=icons)
    subsetter.subset(font)
    font.flavor = "woff2"
    file = io.BytesIO()
    font.save(file)
    address = f"data:font/woff2;base64,{b64encode(file.getvalue()).decode()}"
    faces = re.findall(r"@font-face\{[^}]*vendor/fontawesome[^}]*\}", css)
    for face in faces:
        css = css.replace(face, "")
    return css + f'@font-face{{font-family:"Font Awesome 6 Free";font-weight:900;src:url("{address}")}}'


def setup(app):
    app.add_css_file(BUNDLE, priority=0)
    app.connect("html-page-context", lighten, priority=950)  # after all who add to a page
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
