"""What the tests of explorers share: settings to try, and a page that runs one explorer as the book's pages do."""

import json
import random
from pathlib import Path

HOST = Path(__file__).parents[2] / "book" / "assets" / "explorer-host.js"
INSIDE = """async ([explorer, charts, source, packed, body, argument]) => {
    const load = (text) => import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    const [{ unpack }, { format }, module] = await Promise.all([explorer, charts, source].map(load));
    return new Function("module", "data", "format", "argument", body)(module, unpack(packed), format, argument);
}"""


def states_of(widget, count: int, seed: int = 0) -> list[dict]:
    """Random settings that the controls allow."""
    rng = random.Random(seed)
    return [{c["name"]: rng.choice(c["values"]) for c in widget.controls} for _ in range(count)]


def standalone(widget, theme: str = "light") -> str:
    """HTML with the static figure, the saved state and the host script, in the book's text width."""
    figure = f'<img alt="{widget.alt}" src="data:image/png;base64,{widget._fallback}">'
    return page_of(widget.get_state(), theme, figure)


def page_of(traits: dict, theme: str = "light", figure: str = "") -> str:
    """The same of what a notebook has stored."""
    stored = json.dumps({"state": {"one": {"state": traits}}}).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en" data-theme="{theme}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>An explorer</title>
<style>body {{ margin: 8px auto; max-width: 760px; background: {"#fff" if theme == "light" else "#121212"} }}</style>
<main><div class="explorer-place" data-model-id="one">{figure}</div></main>
<script type="application/vnd.jupyter.widget-state+json">{stored}</script>
<script>{HOST.read_text(encoding="utf-8")}</script></html>"""


def inside(page, widget, body: str, argument=None):
    """What a JavaScript function of ``module`` (the explorer's), ``data``, ``format`` and ``argument`` returns."""
    return page.evaluate(INSIDE, [widget._esm, widget._charts, widget._compute, widget.data, body, argument])
