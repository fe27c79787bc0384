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
    stored = json.dumps({"state": {"one": {"state": widget.get_state()}}}).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en" data-theme="{theme}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>An explorer</title>
<style>body {{ margin: 8px auto; max-width: 760px; background: {"#fff" if theme == "light" else "#121212"} }}</style>
<main><div class="explorer-place" data-model-id="one">
<img alt="{widget.alt}" src="data:image/png;base64,{widget._fallback}"></div></main>
<script type="application/vnd.jupyter.widget-state+json">{stored}</script>
<script>{HOST.read_text(encoding="utf-8")}</script></html>"""


# Heights of a slider's explorer at all of its positions; it ends where it was.
SWEEP = """(slider) => {
    const explorer = slider.closest(".explorer");
    const before = slider.value;
    const go = (value) => {
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        return explorer.offsetHeight;
    };
    const heights = Array.from({ length: Number(slider.max) + 1 }, (_, i) => go(i));
    go(before);
    return heights;
}"""
BOXES = """(explorer) => {
    explorer.scrollIntoView();
    const box = (node) => node.getBoundingClientRect().toJSON();
    const [chart, dock] = [".ex-stage .ex-chart", ".ex-dock"].map((name) => box(explorer.querySelector(name)));
    const controls = [...explorer.querySelectorAll(".ex-control")].map(box);
    return { chart, dock, controls, height: innerHeight, width: innerWidth };
}"""


def on_one_screen(page, root=None) -> None:
    """The first chart and all controls of an explorer are in the window together, and none lies over the chart."""
    found = (root or page.locator(".explorer")).evaluate(BOXES)
    chart = found["chart"]
    for box in (chart, *found["controls"]):
        assert box["top"] >= 0 and box["bottom"] <= found["height"], f"{box} of {found}"
        assert box["left"] >= 0 and box["right"] <= found["width"], f"{box} of {found}"
    dock = found["dock"]
    assert chart["bottom"] <= dock["top"] or chart["right"] <= dock["left"], "the controls cover the chart"


def unlock(place) -> None:
    """Skip the question of every explorer on a page, or of one."""
    for skip in place.locator(".ex-skip").all():
        skip.click()


def inside(page, widget, body: str, argument=None):
    """What a JavaScript function of ``module`` (the explorer's), ``data``, ``format`` and ``argument`` returns."""
    return page.evaluate(INSIDE, [widget._esm, widget._charts, widget._compute, widget.data, body, argument])
