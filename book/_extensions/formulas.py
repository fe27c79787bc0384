r"""Formulas as MathML, written when the site is built: a page needs no script to show them.

math-core converts the TeX of ``$…$``, ``$$…$$`` and of AMS environments; ``assets/formulas.css`` names the font.
A formula that it cannot convert is a warning, so the build fails. The TeX stays in the attribute ``data-tex``, and that
is what a reader copies (``assets/formulas.js``).
"""

import re
from functools import cache

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

LOGGER = logging.getLogger(__name__)
CONVERTER = LatexToMathML(fancy_error=False)

TOKEN = re.compile(r"\\(?:begin|end)\s*\{[^}]*\}|\\[a-zA-Z]+\*?|\\.|[{}]|[^\\{}]+", re.DOTALL)
OPENING = re.compile(r"\{|\\left|\\begin\b.*")
CLOSING = re.compile(r"\}|\\right|\\end\b.*")
NUMBERED = re.compile(r"\\(begin|end)\{(equation|align|alignat|gather|multline|eqnarray)\}")


def outermost(tex: str) -> list[tuple[str, bool]]:
    r"""The tokens of a formula, each with whether it stands outside of all braces, environments and \left…\right."""
    tokens, depth = [], 0
    for token in TOKEN.findall(tex):
        depth -= bool(CLOSING.fullmatch(token))
        tokens.append((token, depth == 0))
        depth += bool(OPENING.fullmatch(token))
    return tokens


def parts(tex: str) -> list[str]:
    r"""What stands between the \quad and \qquad of a formula: on a narrow screen each may have a line of its own."""
    found = [""]
    for token, outside in outermost(tex):
        if outside and token in (r"\quad", r"\qquad"):
            found.append("")
        else:
            found[-1] += token
    return [part.strip() for part in found if part.strip()]


@cache
def mathml(tex: str, display: bool) -> str:
    """One ``<math>`` element; raises ``LatexError``."""
    tokens = outermost(tex)
    if (r"\\", True) in tokens:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    # Sphinx numbers equations that have a label; the others have no number.
    return CONVERTER.convert_with_local_state(NUMBERED.sub(r"\\\1{\2*}", tex), displaystyle=display)


def render(self, node: nodes.math | nodes.math_block, tex: str, display: bool) -> str:
    """The elements of one formula, or its TeX and a warning."""
    try:
        return (" " if display else "\u2003\u2003").join(mathml(part, display) for part in parts(tex))
    except LatexError as error:
        LOGGER.warning("this formula cannot be shown: %s (%s)", tex, error, location=node, type="formulas")
        return f"<code>{self.encode(tex)}</code>"


def visit_inline(self, node: nodes.math) -> None:
    tex = node.astext().strip()
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight", **{"data-tex": tex}))
    self.body.append(render(self, node, tex, display=False) + "</span>")
    raise nodes.SkipNode


def visit_display(self, node: nodes.math_block) -> None:
    tex = node.astext().strip()
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight", **{"data-tex": tex}))
    for equation in filter(None, map(str.strip, tex.split("\n\n"))):
        self.body.append(f'<div class="equation">{render(self, node, equation, display=True)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def add_copying(app, pagename, templatename, context, doctree) -> None:
    """The script for who copies a formula, on the pages that have one."""
    if "<math" in context.get("body", ""):
        app.add_js_file("formulas.js", loading_method="defer")


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.config.html_math_renderer = "mathml"
    app.connect("html-page-context", add_copying)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
