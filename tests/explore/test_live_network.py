"""The live network in a browser: what it says is what the library computes; what is wrong is refused by its reason."""

import base64
import gzip
import importlib
import json
import re
import zlib
from pathlib import Path
from types import SimpleNamespace

import containers
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browsing import new_page, watch
from exploring import standalone
from live_page import encoded

from compress_lib import container, data, ledger, training
from compress_lib.experiments import live_network
from compress_lib.explore.live import LiveNetwork, joining
from compress_lib.explore.live.simplify import simplify

ROOT = Path(__file__).parents[2]
FILE = ledger.directory() / joining.FILE
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}

# Outlines as a reader would draw them, on the pad's 224 × 224 places: strokes of points, and what they are.
RIGHT = [(144, 30), (200, 60), (185, 100), (160, 90), (160, 200)]
TSHIRT = [(80, 30), *RIGHT, *((224 - x, y) for x, y in reversed(RIGHT))]
DRAWINGS = {
    "T-shirt": ("T-shirt/top", [TSHIRT]),
    "a small T-shirt in the corner": ("T-shirt/top", [[(x / 3 + 8, y / 3 + 140) for x, y in TSHIRT]]),
    "trousers": (
        "Trouser",
        [[(75, 20), (150, 20), (160, 205), (120, 205), (112, 80), (104, 205), (64, 205), (75, 20)]],
    ),
    "dress": ("Dress", [[(85, 20), (140, 20), (135, 80), (165, 205), (60, 205), (90, 80), (85, 20)]]),
    "bag": (
        "Bag",
        [[(40, 90), (184, 90), (200, 190), (24, 190), (40, 90)], [(70, 90), (80, 50), (112, 38), (144, 50), (154, 90)]],
    ),
    "bag without a handle": ("Bag", [[(30, 80), (194, 80), (200, 190), (24, 190), (30, 80)]]),
    "sneaker": (
        "Sneaker",
        [[(204, 120), (164, 110), (129, 90), (104, 85), (84, 110), (24, 130), (14, 160), (204, 160), (204, 120)]],
    ),
    "boot": ("Ankle boot", [[(110, 30), (180, 30), (185, 190), (30, 190), (30, 160), (110, 130), (110, 30)]]),
}
DRAW = """async ([file, drawings]) => {
    const load = (name) => import(`/${name}.mjs`);
    const [{ decode }, { network }, garment] = await Promise.all(["cnet", "forward", "garment"].map(load));
    const forward = network(decode(Uint8Array.from(atob(file), (c) => c.charCodeAt(0))));
    return drawings.map((strokes) => {
        let raster = new Uint8Array(garment.PAD ** 2);
        for (const points of strokes) {
            const before = garment.outside(raster);
            points.slice(1).forEach((to, i) => garment.line(raster, points[i], to, 5, garment.INK));
            raster = garment.filled(raster, before);
        }
        const image = garment.photographed(raster);
        return image && [[...image], [...forward(image)]];
    });
}"""
AGAIN = """async (images) => {
    const { enlarged, photographed } = await import("/garment.mjs");
    const bytes = Uint8Array.from(atob(images), (c) => c.charCodeAt(0));
    const image = (i) => bytes.subarray(784 * i, 784 * (i + 1));
    return Array.from({ length: bytes.length / 784 }, (_, i) => [...photographed(enlarged(image(i)))]);
}"""
SIMPLIFY = """async ([file, positions]) => {
    const [{ decode, crc32 }, { simplified }] = await Promise.all([import("/cnet.mjs"), import("/simplify.mjs")]);
    const { tensors } = decode(Uint8Array.from(atob(file), (c) => c.charCodeAt(0)));
    const checksum = (tensor) => crc32(new Uint8Array(tensor.values.buffer));
    return positions.map(([dropped, values]) => [...simplified(tensors, dropped, values).values()].map(checksum));
}"""


@pytest.fixture(scope="module")
def widget():
    return LiveNetwork()


# --- drawings ---------------------------------------------------------------------------------------------------------


def test_drawings_are_recognized(modules):
    strokes = [strokes for _, strokes in DRAWINGS.values()]
    found = modules.evaluate(DRAW, [encoded(FILE.read_bytes()), strokes])
    answers = {name: data.CLASSES[int(np.argmax(logits))] for name, (_, logits) in zip(DRAWINGS, found, strict=True)}
    assert answers == {name: expected for name, (expected, _) in DRAWINGS.items()}
    for name, (image, _) in zip(DRAWINGS, found, strict=True):
        rows, columns = np.nonzero(np.reshape(image, (28, 28)))
        ends = [rows.min(), rows.max(), columns.min(), columns.max()]
        assert ends[:2] == [0, 27] or ends[2:] == [0, 27], f"the longest side of the {name} is the image's"
        assert abs(ends[0] + ends[1] - 27) <= 1 and abs(ends[2] + ends[3] - 27) <= 1, f"the {name} is in the center"


def test_a_drawing_of_nothing_is_none(modules):
    assert modules.evaluate(DRAW, [encoded(FILE.read_bytes()), [[], [[(5, 5)]]]]) == [None, None]


def test_a_test_image_put_on_the_pad_is_read_back(modules):
    """But for what is hardly visible, if its longest side is 28 pixels; and it is hardly ever taken for another."""
    images = data.fashion_mnist("test")[0][:300]
    again = torch.tensor(modules.evaluate(AGAIN, encoded(images.numpy().tobytes())), dtype=torch.uint8)
    same = ((again.int() - images.flatten(1).int()).abs() <= 0.05 * 255).all(1)  # what is less is cut off
    cloth = images[:, 0] > 0.05 * 255
    whole = (cloth.any(2).sum(1) == 28) | (cloth.any(1).sum(1) == 28)
    centered = whole & torch.tensor([_centered(image) for image in cloth.numpy()])
    assert same[centered].all() and centered.float().mean() > 0.75
    model = container.load(FILE)
    before, after = (training.predict(model, x.view(-1, 1, 28, 28)).argmax(1) for x in (images, again))
    print(f"of {len(images)}, {int(same.sum())} come back, {int((before == after).sum())} are taken for the same")
    assert (before == after).float().mean() >= 0.99


def _centered(cloth: np.ndarray) -> bool:
    """Whether an odd row or column that is left over is where most images have it."""
    rows, columns = np.flatnonzero(cloth.any(1)), np.flatnonzero(cloth.any(0))
    return all(ends[0] - (27 - ends[-1]) in (0, 1) for ends in (rows, columns))


def test_what_a_stroke_closes_in_is_filled_and_what_the_eraser_took_is_not(modules):
    body = """async () => {
        const g = await import("/garment.mjs");
        const ring = (raster, [x, y], r) => {
            const before = g.outside(raster);
            const at = (t) => [x + r * Math.cos(t), y + r * Math.sin(t)];
            for (let t = 0; t < 6.3; t += 0.1) g.line(raster, at(t), at(t + 0.1), 3, g.INK);
            return g.filled(raster, before);
        };
        const level = (raster, x, y) => raster[y * g.PAD + x];
        let raster = ring(new Uint8Array(g.PAD ** 2), [80, 100], 50);
        const first = level(raster, 80, 100);
        g.line(raster, [80, 100], [80, 100], 10, 0);
        raster = ring(raster, [190, 100], 20);
        return [first, level(raster, 80, 100), level(raster, 190, 100), level(raster, 5, 5)];
    }"""
    assert modules.evaluate(body) == [171, 0, 171, 0]


# --- the sliders ------------------------------------------------------------------------------------------------------


def test_the_sliders_leave_the_weights_that_python_leaves(modules):
    positions = [(d, v) for d in live_network.DROPPED for v in live_network.VALUES][::7]
    found = modules.evaluate(SIMPLIFY, [encoded(FILE.read_bytes()), positions])
    state = container.load(FILE).state_dict()
    for (dropped, values), checksums in zip(positions, found, strict=True):
        expected = [tensor.numpy() for tensor in state.values()]
        expected = [simplify(x, dropped, values) if x.ndim == 2 else x for x in expected]
        assert checksums == [zlib.crc32(weights.tobytes()) for weights in expected], (dropped, values)
        kept = [np.unique(w[w != 0]) for w in expected if w.ndim == 2]
        assert all(len(values_left) == min(values, 16 - dropped) for values_left in kept)


def test_merging_costs_the_least():
    """Of three values to two: the best of both ways, by their squared error."""
    weights = np.float32([[1, 1, 1, 2, 4.5, 4.5, 0]])
    assert simplify(weights, 0, 2).tolist() == [[1.25] * 4 + [4.5, 4.5, 0]]
    assert simplify(weights, 1, 2).tolist() == [[0, 0, 0, 2, 4.5, 4.5, 0]]
    assert simplify(np.float32([-2, 2, 3, 0]), 1, 3).tolist() == [-2, 0, 3, 0], "of ±2 the positive one"
    assert simplify(np.float32([1, 2, 5]), 0, 1).tolist() == [np.float16(8 / 3)] * 3


def test_what_was_measured_is_so():
    measured = json.loads((ledger.directory() / "live-network.json").read_text(encoding="utf-8"))
    images, labels = data.fashion_mnist("test")
    shown = images[: live_network.IMAGES]
    assert base64.b64decode(measured["images"]) == shown.numpy().tobytes()
    assert measured["labels"] == labels[: live_network.IMAGES].tolist()
    logits = training.predict(live_network.zoo.load(live_network.NAME), shown)
    assert np.abs(np.array(measured["dense"]["logits"]) - logits.numpy()).max() < 1e-3
    recipe = {"k": {"fc1": 16, "fc2": 16, "fc3": 16}, "share_epochs": 2}
    (row,) = ledger.read("07-deep-compression", model=live_network.NAME, seed=0, recipe=recipe)
    sliders = measured["sliders"]
    assert (measured["dense"]["nbytes"], sliders["nbytes"][0][0]) == (row["nbytes_before"], row["nbytes_after"])
    assert measured["dense"]["accuracy"] == pytest.approx(row["accuracy_before"], abs=5e-4)
    assert sliders["accuracy"][0][0] == pytest.approx(row["accuracy_after"], abs=5e-4)
    smaller = live_network.simplified(container.load(FILE), 4, 4)
    d, v = sliders["dropped"].index(4), sliders["values"].index(4)
    nbytes, accuracy = live_network._measured(smaller, images, labels)
    assert nbytes == sliders["nbytes"][d][v]
    assert accuracy == pytest.approx(sliders["accuracy"][d][v], abs=5e-4)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(browser, widget):
    """The widget on a wide page, its demonstration over."""
    page = new_page(browser, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    troubles = watch(page, "about:blank")
    page.set_content(standalone(widget))
    page.locator(".explorer-place[data-live]").wait_for()
    yield page
    assert not troubles
    page.close()


def answer(page) -> str:
    return page.locator(".live-winner .live-class").inner_text()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390), ("light", 320)])
def test_it_is_in_order(browser, widget, theme, width):
    page = new_page(browser, viewport={"width": width, "height": 844}, reduced_motion="reduce")
    troubles = watch(page, "about:blank")
    page.set_content(standalone(widget, theme))
    page.locator(".explorer-place[data-live]").wait_for()
    page.wait_for_function("document.querySelector('.live-winner')?.textContent.startsWith('T-shirt')")
    page.wait_for_function("document.querySelector('.live-byte').textContent.includes('Touch one')")
    assert not troubles
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page, options=WCAG).response["violations"]
    assert [f"{v['id']}: {node['html'][:160]}" for v in found for node in v["nodes"]] == []
    small = """(all) => all.map((e) => e.getBoundingClientRect())
        .filter((box) => box.width && Math.min(box.width, box.height) < 24)"""
    assert page.locator(".live :is(button, input[type=range])").evaluate_all(small) == []
    page.close()


def test_test_images_are_answered_as_in_python_by_keyboard_too(live):
    images, labels = data.fashion_mnist("test")
    logits = training.predict(container.load(FILE), images[: live_network.IMAGES])
    picks = live.locator(".live-pick")
    assert picks.count() == live_network.IMAGES
    picks.first.focus()
    for i, found in enumerate(logits.argmax(1).tolist()):
        live.keyboard.press("Enter")
        live.wait_for_function("(i) => document.querySelectorAll('.live-pick')[i].ariaPressed === 'true'", arg=i)
        assert answer(live) == data.CLASSES[found]
        share = logits[i].double().softmax(0)[found].item()
        assert live.locator(".live-winner .live-value").inner_text() == f"{round(100 * share)}\u00a0%"
        right = found == labels[i]
        mark = "right" if right else f"taken for {data.CLASSES[found]}"
        assert picks.nth(i).get_attribute("aria-label") == f"Test image {i + 1}, {data.CLASSES[labels[i]]}: {mark}"
        assert ("live-wrong" not in picks.nth(i).get_attribute("class")) == right
        assert live.locator(".live-dense").first.is_visible()
        live.keyboard.press("Tab")


def test_drawing_erasing_undoing_and_clearing(live):
    live.locator(".live-pick").nth(1).click()
    box = live.locator(".live-pad").bounding_box()

    def draw(points):
        at = [(box["x"] + x / 224 * box["width"], box["y"] + y / 224 * box["height"]) for x, y in points]
        live.mouse.move(*at[0])
        live.mouse.down()
        for point in at[1:]:
            live.mouse.move(*point, steps=4)
        live.mouse.up()
        live.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    draw(DRAWINGS["trousers"][1][0])
    assert answer(live) == "Trouser", "the pen began a new drawing"
    assert not live.locator(".live-dense").first.is_visible()
    assert "1,066,896 bytes" in live.locator(".live-beside").inner_text()
    live.get_by_role("button", name="Erase").click()
    draw([(64, 205), (64, 120), (160, 120), (160, 205)])
    erased = live.locator(".live-bars").inner_text()
    live.get_by_role("button", name="Undo").click()
    live.wait_for_function("(before) => document.querySelector('.live-bars').innerText !== before", arg=erased)
    assert answer(live) == "Trouser"
    live.get_by_role("button", name="Clear").click()
    live.locator(".live-hint").wait_for()
    assert live.locator(".live-verdict").inner_text() == "An empty pad is not put to the network."
    assert live.locator(".live-winner").count() == 0


def test_the_sliders_show_what_was_measured(live, widget):
    sliders, outcome = widget.data["sliders"], live.locator(".live-outcome")
    dropped, values = live.locator(".live-sliders input").all()
    for d, v in ((0, 0), (3, 0), (3, 4), (14, 7)):
        dropped.fill(str(d))
        values.fill(str(v))
        text = outcome.inner_text().replace("\u00a0", " ")
        assert f"{sliders['nbytes'][d][v]:,} bytes" in text and f"{sliders['accuracy'][d][v]:.2%}"[:-1] in text
        wrong = live.locator(".live-wrong").count()
        assert f"{live_network.IMAGES - wrong} of these {live_network.IMAGES} images right" in text
        smaller = live_network.simplified(container.load(FILE), sliders["dropped"][d], sliders["values"][v])
        images, labels = data.fashion_mnist("test")
        predicted = training.predict(smaller, images[: live_network.IMAGES]).argmax(1)
        assert wrong == int((predicted != labels[: live_network.IMAGES]).sum())
    dropped.fill("0")
    values.fill("0")


def test_files_of_the_readers_own(live, tmp_path):
    status, strip = live.locator(".live-status"), live.locator(".live-bytes")

    def open_file(name, content):
        live.locator(".live-opener").set_input_files({"name": name, "mimeType": "", "buffer": content})
        said = "(name) => document.querySelector('.live-status').textContent.startsWith(name)"
        live.wait_for_function(said, arg=name)
        return status.inner_text()

    nothing = "is refused: this is no container: it does not begin with CNET."
    assert open_file("notes.txt", b"no network") == f"notes.txt {nothing}"
    assert open_file("empty", b"") == f"empty {nothing}"
    cut = FILE.read_bytes()[:-1]
    assert open_file("cut.cnet", cut).startswith("cut.cnet is refused: truncated")
    assert "24,458 bytes" in strip.get_attribute("aria-label"), "a refused file changes nothing"
    container.save(containers.Small(), tmp_path / "small")
    said = open_file("small.cnet", (tmp_path / "small").read_bytes())
    assert "It is read, but not run: its architecture is not named" in said
    path = ledger.directory() / "compressed" / "lenet-5.cnet"
    said = open_file("lenet-5.cnet", path.read_bytes())
    assert "41,560 bytes hold 431,080 values in 8 tensors. It is a lenet-5, and now it answers above" in said
    assert "41,560 bytes" in strip.get_attribute("aria-label")
    assert live.locator(".live-sliders input").first.is_disabled()
    images = data.fashion_mnist("test")[0][: live_network.IMAGES]
    found = training.predict(container.load(path), images).argmax(1)
    live.locator(".live-pick").nth(12).click()
    live.wait_for_function("document.querySelectorAll('.live-pick')[12].ariaPressed === 'true'")
    assert answer(live) == data.CLASSES[found[12]]
    live.get_by_role("button", name="Back to the book's file").click()
    assert "24,458 bytes" in strip.get_attribute("aria-label")
    assert live.locator(".live-sliders input").first.is_enabled()


def test_a_byte_says_what_it_is_for(live):
    live.wait_for_function("document.querySelector('.live-byte').textContent.includes('Touch one')")
    box, content = live.locator(".live-bytes").bounding_box(), FILE.read_bytes()
    for x, what in (
        (1, "the file's header"),
        (box["width"] / 4, "gaps of fc1.weight"),
        (box["width"] - 1, "fc3.weight"),
    ):
        live.mouse.move(box["x"] + x, box["y"] + 3)
        said = live.locator(".live-byte").inner_text()
        number, byte = re.match(r"Byte ([\d,]+) is ([0-9A-F]{2}): ", said).groups()
        assert content[int(number.replace(",", ""))] == int(byte, 16) and what in said
    chip = live.get_by_role("button", name="gaps: where a weight is 12,636")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"


# --- the landing page's script ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def landing(tmp_path_factory):
    """The files that the site's extension writes, and a page with the place for them."""
    out = tmp_path_factory.mktemp("landing")
    app = SimpleNamespace(srcdir=ROOT, outdir=out, builder=SimpleNamespace(format="html"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_extensions")
        importlib.import_module("live_network").write(app)
    (out / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
        '<script defer src="_static/live-network.js"></script>'
        '<main><div id="live-network"><p>It is 44 times smaller.</p></div></main></html>'
    )
    return out


def test_code_and_network_are_light(landing):
    size = len(gzip.compress((landing / "_static" / "live-network.js").read_bytes()))
    print(f"live network, gzipped: {size:,} bytes")
    assert size <= 100_000


def test_it_runs_from_the_disk_and_asks_for_nothing(browser, landing):
    page = new_page(browser, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((landing / "index.html").as_uri())
    page.locator(".live-winner").wait_for()
    assert answer(page) == "T-shirt/top"
    assert page.get_by_text("44 times").count() == 0 and page.locator(".live-sliders").count() == 0
    assert len(asked) == 2 and all(url.startswith("file://") for url in asked)
    page.close()


def test_without_scripts_the_place_keeps_what_it_holds(browser, landing):
    page = new_page(browser, java_script_enabled=False)
    page.goto((landing / "index.html").as_uri())
    assert page.get_by_text("It is 44 times smaller.").is_visible()
    page.close()
