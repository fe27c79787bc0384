"""How long a step of an explorer takes: the handler of a control and the layout that follows, over all its positions.

    python benchmarks/explorers.py [--module grid_choice] [--width 1280] [--rounds 3]

Each explorer has the data that its chapter has stored, and the library's present code. A step is one event of a
control, dispatched by a script, and then the layout that the page needs: what a frame of a drag waits for. Every
control moves through all of its values, the others at their start. The first round stands by itself, as it fills the
memories of what was computed; then each step counts with the fastest of the other rounds. Painting is not counted.
Goal on a quiet machine: median at most 8 ms, worst 50.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "explore")]

from browsing import chromium, new_page, unlock
from exploring import page_of

from compress_lib.explore.frontend.explorer import sources

WIDGETS = "application/vnd.jupyter.widget-state+json"
STEPS = """(rounds) => {
    const explorer = document.querySelector(".explorer");
    const time = (field, at) => {
        const [key, kind] = field.type === "range" ? ["value", "input"] : ["selectedIndex", "change"];
        field[key] = at;
        const before = performance.now();
        field.dispatchEvent(new Event(kind, { bubbles: true }));
        explorer.offsetHeight;
        return performance.now() - before;
    };
    return [...explorer.querySelectorAll(".ex-control :is(input, select)")].map((field) => {
        const range = field.type === "range";
        const count = range ? Number(field.max) + 1 : field.options.length;
        const start = range ? field.value : field.selectedIndex;
        const all = Array.from({ length: rounds }, () => Array.from({ length: count }, (_, at) => time(field, at)));
        time(field, start);
        return { name: field.name, all };
    });
}"""


def stored() -> list[dict]:
    """The traits of every explorer that a chapter shows, with the library's present code."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        for entry in metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {}).values():
            if "_compute" in (traits := entry["state"]):
                found.append(traits | sources(traits["module"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--module", action="append", help="only this explorer; may be repeated")
    parser.add_argument("--width", type=int, default=1280, help="of the window")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'ms':37} {'steps':>5} {'first median':>12} {'first worst':>12} {'median':>8} {'worst':>8}")
    steps = {"first": [], "then": []}
    with chromium() as browser:
        for traits in stored():
            if arguments.module and traits["module"] not in arguments.module:
                continue
            page = new_page(browser, viewport={"width": arguments.width, "height": 800})
            page.set_content(page_of(traits))
            page.locator(".explorer-place[data-live]").wait_for()
            unlock(page)
            for control in page.evaluate(STEPS, arguments.rounds):
                first, *others = control["all"]
                then = [min(times) for times in zip(*(others or [first]), strict=True)]
                steps["first"] += first
                steps["then"] += then
                numbers = [statistics.median(first), max(first), statistics.median(then), max(then)]
                print(
                    f"{traits['module']:22} {control['name']:14} {len(first):5} "
                    f"{numbers[0]:12.1f} {numbers[1]:12.1f} {numbers[2]:8.1f} {numbers[3]:8.1f}"
                )
            page.close()
    for name, times in steps.items():
        if times:
            print(f"{name}: {len(times)} steps, median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms")


if __name__ == "__main__":
    main()
