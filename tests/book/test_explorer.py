"""The explorers on the pages: they react, without a kernel and without the internet, and show the library's numbers."""

import json
import random
import re

import pytest
import torch
from browsing import SWEEP, explorer_modules, new_page, on_one_screen, settle, unlock, wake, watch
from bs4 import BeautifulSoup
from chapters import CHAPTERS, ROOT, code_cells, output_text, read
from scipy.stats import spearmanr

from compress_lib import cost, data, ops
from compress_lib.binary import binarization, ternary
from compress_lib.explore.frontend.explorer import sources
from compress_lib.models import mobilenet, shuffle_units, squeezenet, xception, zoo
from compress_lib.pruning import criteria, surgery
from compress_lib.pruning.weights import csr, magnitude
from compress_lib.quantization.codebooks import kmeans
from compress_lib.quantization.integer import affine

MODULES = explorer_modules()
STATE = 'script[type="application/vnd.jupyter.widget-state+json"]'


@pytest.fixture(scope="module")
def explorers(site, pages):
    """(page, traits) of every explorer that a chapter has stored."""
    found = []
    for page in pages:
        soup = BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")
        models = {}
        for script in soup.select(STATE):
            models |= json.loads(script.string)["state"]
        for place in soup.select(".explorer-place"):
            traits = models[place["data-model-id"]]["state"]
            if "module" in traits:  # the live network has none
                found.append((page, traits))
    assert {traits["module"] for _, traits in found} == {*MODULES}, "a chapter shows each explorer of the library"
    return found


@pytest.fixture(scope="module")
def open_pages(browser, address, explorers):
    """Pages that tests share, each opened once; what goes wrong on one of them, ever."""
    opened = {}

    def open_page(path):
        if path not in opened:
            page = new_page(browser, viewport={"width": 1280, "height": 800})
            opened[path] = page, watch(page, address)
            settle(page, f"{address}/{path}")
        return opened[path]

    yield open_page
    for page, _ in opened.values():
        page.close()


@pytest.fixture
def opened(browser, address, explorers, open_pages):
    """Open a page on which an explorer of the given module runs; gives the page, its root and its traits.

    A page with options is a fresh one. One without is shared with other tests, which leave any state behind.
    """
    own, all_troubles = [], []

    def open_page(module, **options):
        path, traits = next((path, traits) for path, traits in explorers if traits["module"] == module)
        if options:
            page = new_page(browser, **options)
            own.append(page)
            troubles = watch(page, address)
            settle(page, f"{address}/{path}")
        else:
            page, troubles = open_pages(path)
        all_troubles.append(troubles)
        root = page.locator(".explorer", has=page.locator(".ex-title", has_text=traits["title"])).first
        root.wait_for()
        unlock(root)
        return page, root, traits

    yield open_page
    for page in own:
        page.close()
    assert not any(all_troubles)


def numbers(root) -> dict[str, float | None]:
    """What the page shows, by the name of the result."""
    read = "(all) => Object.fromEntries(all.map((d) => [d.dataset.result, d.value === '' ? null : Number(d.value)]))"
    return root.locator("data[data-result]").evaluate_all(read)


SET = """(root, positions) => {
    for (const [name, position] of Object.entries(positions)) {
        const field = root.querySelector(`[name="${name}"]`);
        const [property, kind] = field.matches("select") ? ["selectedIndex", "change"] : ["value", "input"];
        if (Number(field[property]) === position) continue;
        field[property] = position;
        field.dispatchEvent(new Event(kind, { bubbles: true }));
    }
}"""


def choose(root, traits, state) -> None:
    """Set the controls as a reader would, native events included, in one call: a call takes longer than an event."""
    controls = {control["name"]: control["values"] for control in traits["controls"]}
    root.evaluate(SET, {name: values.index(state[name]) for name, values in controls.items()})


def test_every_explorer_of_every_page_is_live(open_pages, explorers):
    for path in {path for path, _ in explorers}:
        page, troubles = open_pages(path)
        page.wait_for_function("document.querySelectorAll('.explorer-place:not([data-live])').length === 0")
        assert page.locator(".explorer .ex-sentence").count() == sum(p == path for p, _ in explorers)
        figures = page.locator(".explorer-figure")
        assert figures.locator("visible=true").count() == 0, "the figure makes room for the explorer"
        assert figures.evaluate_all("all => all.every((image) => image.loading === 'lazy')")
        assert not troubles


def test_pages_run_the_librarys_present_code(explorers):
    for _, traits in explorers:
        for trait, text in sources(traits["module"]).items():
            assert traits[trait] == text


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("module", MODULES)
def test_arrow_keys_and_dragging_change_what_is_said(opened, module, width):
    page, root, traits = opened(module) if width == 1280 else opened(module, viewport={"width": width, "height": 844})
    choose(root, traits, traits["state"])
    on_one_screen(page, root)
    sliders = [control for control in traits["controls"] if control["kind"] == "slider"]
    operate(page, root, traits, sliders if width == 1280 else sliders[:1])  # explore/test_pages.py has all, as narrow
    for chart in root.locator(".ex-chart").all():
        assert chart.bounding_box()["width"] <= root.bounding_box()["width"]


def operate(page, root, traits, sliders) -> None:
    """Move sliders by key and by pointer; each move must change what is said, and no height."""
    height = root.bounding_box()["height"]

    def said() -> str:
        return " ".join(root.locator(".ex-sentence, .ex-details").all_text_contents())

    for control in traits["controls"]:
        field = root.locator(f'[name="{control["name"]}"]')
        assert page.locator(f'label[for="{field.get_attribute("id")}"]').inner_text() == control["label"]
    for control in sliders:
        field = root.locator(f'[name="{control["name"]}"]')
        before, words = field.get_attribute("aria-valuetext"), said()
        at_end = int(field.input_value()) == len(control["values"]) - 1
        field.press("ArrowLeft" if at_end else "ArrowRight")
        assert field.get_attribute("aria-valuetext") != before
        assert said() != words
    field = root.locator(f'[name="{sliders[0]["name"]}"]')
    words, box = said(), field.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert int(field.input_value()) == len(sliders[0]["values"]) - 1
    assert said() != words
    some = field.evaluate(SWEEP, 8)  # explore/test_pages.py tries all sliders, and all that they can be
    assert len(set(some)) == 1 and root.bounding_box()["height"] == height
    choose(root, traits, traits["state"])


def test_charts_and_names_follow_the_data(opened):
    _page, root, traits = opened("weight_threshold")
    choose(root, traits, traits["state"])
    named = root.locator("svg[role=img] desc").first
    before, drawn = named.text_content(), root.locator("svg[role=img]").first.inner_html()
    choose(root, traits, traits["state"] | {"k": 3})
    assert named.text_content() != before
    assert root.locator("svg[role=img]").first.inner_html() != drawn


def test_the_cost_on_the_page_is_the_librarys(opened):
    _, root, traits = opened("network_cost")
    draw = random.Random(1)
    allowed = {control["name"]: control["values"] for control in traits["controls"]}
    shapes = [traits["state"]]
    while len(shapes) < 12:
        state = {name: draw.choice(values) for name, values in allowed.items()}
        fits = state["channels_in"] % state["groups"] == 0 == state["channels_out"] % state["groups"]
        if (
            fits
            and state["padding"] == "same"
            and state["size"] <= 64
            and state["channels_in"] * state["channels_out"] < 1e5
        ):
            shapes.append(state)
    for state in shapes:
        choose(root, traits, state)
        layer = torch.nn.Conv2d(
            state["channels_in"],
            state["channels_out"],
            state["kernel"],
            state["stride"],
            state["kernel"] // 2 if state["padding"] == "same" else state["padding"],
            groups=state["groups"],
            bias=state["bias"] == "yes",
        )
        counted = cost.count(layer, (state["channels_in"], state["size"], state["size"]))
        shown = numbers(root)
        assert (shown["params"], shown["macs"], shown["weight_bytes"]) == (counted.params, counted.macs, counted.nbytes)


def test_the_threshold_on_the_page_prunes_what_the_library_prunes(opened):
    _, root, traits = opened("weight_threshold")
    model = zoo.load("lenet-300-100")
    for k in (0, 0.5, 1, 2.05, 3):
        pruned, report = magnitude.prune_by_sigma(model, k, center="zero")
        for layer in ("all layers", "fc1", "fc3"):
            choose(root, traits, {"k": k, "layer": layer})
            rows = [row for row in report.rows if layer in ("all layers", row.layer)]
            shown = numbers(root)
            assert shown["kept"] == sum(row.kept for row in rows)
            assert shown["csr_bytes"] == sum(csr.nbytes(pruned.get_submodule(row.layer).weight) for row in rows)
            assert f"{shown['kept']:,.0f}" in root.locator(".ex-sentence").inner_text()


def test_removed_filters_on_the_page_cost_what_surgery_leaves(opened):
    _, root, traits = opened("filter_surgery")
    model, image = zoo.load("vgg-small"), torch.zeros(1, 1, 28, 28)
    smallest_first = criteria.l1_norm(model.get_submodule("features.3")).argsort().tolist()
    for removed in (0, 1, 4, 15):
        choose(root, traits, traits["state"] | {"removed": removed, "order": "smallest norm first"})
        smaller, _ = surgery.remove(model, image, {"features.3": smallest_first[:removed]})
        counted, shown = cost.count(smaller, (1, 28, 28)), numbers(root)
        layers = {row.name: row for row in counted.layers}
        assert (shown["params"], shown["macs"]) == (counted.params, counted.macs)
        assert shown["layer_params"] == layers["features.3"].params
        assert shown["reader_macs"] == layers["features.7"].macs
        assert 0 < shown["accuracy"] < 1 and 0 < shown["recovered"] < 1


def test_criteria_on_the_page_rank_as_the_library_ranks(opened):
    _, root, traits = opened("criterion_choice")
    model = zoo.load("vgg-small")
    layer = model.get_submodule("features.14")
    norms = {"L2 norm": criteria.l2_norm(layer), "geometric median": criteria.geometric_median(layer)}
    l1 = criteria.l1_norm(layer)
    for name, scores in norms.items():
        for percent, removed in ((25, 16), (50, 32), (87.5, 56)):
            choose(root, traits, traits["state"] | {"criterion": name, "percent": percent})
            shown = numbers(root)
            lowest, lowest_l1 = (set(order.argsort()[:removed].tolist()) for order in (scores, l1))
            assert (shown["removed"], shown["overlap"]) == (removed, len(lowest & lowest_l1))
            assert shown["spearman"] == pytest.approx(spearmanr(scores, l1).statistic)
    measured = json.loads((ROOT / "results" / "criteria.json").read_text(encoding="utf-8"))["rows"]
    choose(root, traits, traits["state"] | {"criterion": "Taylor", "percent": 75, "recovery": "least squares"})
    wanted = {"experiment": "layer", "method": "taylor", "fraction": 0.75, "recovery": "least squares"}
    (row,) = [row for row in measured if row.items() >= wanted.items()]
    assert numbers(root)["accuracy"] == row["accuracy"]


def test_without_scripts_the_figure_is_there(browser, address, explorers):
    page = new_page(browser, java_script_enabled=False)
    for path, traits in explorers:
        page.goto(f"{address}/{path}")
        figure = page.locator(f'.explorer-place img[alt="{traits["alt"]}"]')
        assert figure.is_visible() and figure.bounding_box()["width"] > 200
    page.close()


def test_explorers_run_from_a_folder_without_any_server(browser, site, explorers):
    page = new_page(browser)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path, _ in explorers:
        page.goto((site / path).as_uri())
        wake(page)
        page.wait_for_function("document.querySelectorAll('.explorer-place:not([data-live])').length === 0")
    page.close()
    assert not errors


def test_an_explorer_starts_when_the_reader_comes_near_or_follows_a_link(browser, address, explorers):
    path, traits = next((path, traits) for path, traits in explorers if traits["module"] == "weight_threshold")
    live = ".explorer-place[data-live]"
    page = new_page(browser)
    page.goto(f"{address}/{path}")
    page.wait_for_load_state("networkidle")
    assert not page.locator(live).count()
    page.locator(".explorer-place[data-model-id]").first.scroll_into_view_if_needed()
    page.locator(live).first.wait_for()
    page.goto("about:blank")
    page.goto(f"{address}/{path}#explorer={traits['module']}&k=2")
    page.locator(live).first.wait_for()
    page.close()


def test_an_explorer_follows_the_theme(opened):
    page, root, _ = opened("weight_threshold", color_scheme="dark")
    color = "(e) => getComputedStyle(e).backgroundColor"
    dark = root.evaluate(color)
    pixels = "(c) => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).join()"
    canvas = root.locator("canvas").first
    drawn = canvas.evaluate(pixels) if canvas.count() else ""
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function(
        "(old) => getComputedStyle(document.querySelector('.explorer')).backgroundColor !== old", arg=dark
    )
    if drawn:
        assert root.locator("canvas").first.evaluate(pixels) != drawn


def test_the_grid_on_the_page_is_the_librarys(opened):
    _, root, traits = opened("grid_choice")
    weight = zoo.load("vgg-small").get_submodule("features.10").weight.detach().flatten()
    largest = weight.abs().max().item()
    for bits, percent in ((2, 30), (4, 65), (8, 100)):
        state = {"bits": bits, "percent": percent, "grid": "symmetric", "tensor": "weights of features.10"}
        choose(root, traits, state)
        scale, _ = affine.choose_qparams(
            -percent / 100 * largest, percent / 100 * largest, bits, symmetric=True, narrow=True
        )
        rounded = affine.fake_quantize(weight, scale, 0, bits, narrow=True)
        shown = numbers(root)
        assert shown["scale"] == scale.item()
        assert shown["mse"] == pytest.approx((rounded.double() - weight.double()).square().mean().item(), rel=1e-9)
        assert shown["levels"] == rounded.unique().numel()


def test_the_centroids_on_the_page_are_the_librarys(opened):
    _, root, traits = opened("centroids")
    weight = zoo.load("lenet-300-100").fc2.weight.detach()
    for k, init in ((2, "linear"), (32, "density"), (256, "random")):
        choose(root, traits, traits["state"] | {"k": k, "init": init, "weights": "fc2"})
        error = kmeans.sse(weight, *kmeans.cluster(weight, k, init=init)) / weight.numel()
        assert numbers(root)["rmse"] == pytest.approx(error**0.5, rel=1e-9)
        assert numbers(root)["code_bytes"] == weight.numel() * (k - 1).bit_length() / 8


def test_the_bytes_on_the_page_are_those_of_the_files_that_the_chapter_wrote(opened):
    _, root, traits = opened("byte_budget")
    chapter = next(path for path in CHAPTERS if path.stem == "07-deep-compression")
    outputs = [output_text(cell) for cell in code_cells(read(chapter))]
    table = next(text for text in outputs if "Bytes of the whole file by the bits of a gap" in text)
    rows = re.findall(r"^ *(\d+)  (packed|Huffman) +((?:[\d,]+ *){8})$", table, re.MULTILINE)
    assert len(rows) == 4
    for k, coding, nbytes in rows:
        for bits, expected in enumerate(nbytes.split(), start=1):
            state = {"k": int(k), "bits": bits, "huffman": "on" if coding == "Huffman" else "off"}
            choose(root, traits, traits["state"] | state)
            assert numbers(root)["nbytes"] == int(expected.replace(",", ""))


def patch_of_the_chapter():
    """What features.20 of vgg-small sees at one place of the first test image."""
    vgg = zoo.load("vgg-small")
    with torch.no_grad():
        return vgg, vgg.features[:19](data.normalize(data.fashion_mnist("test")[0][:1]))[:, :, 2:5, 2:5]


def test_the_scales_on_the_page_are_the_librarys(opened):
    _, root, traits = opened("binary_filter")
    vgg, patch = patch_of_the_chapter()
    for index in (0, 7, 21):
        weight = vgg.features[20].weight.detach()[index : index + 1]
        state = {"filter": f"features.20, filter {index}", "weights": "binary", "percent": 100}
        choose(root, traits, state)
        shown = numbers(root)
        assert shown["signs"] == ops.binary_conv2d(patch, ops.pack_conv_weight(weight), 64, 3).item()
        assert shown["exact"] == pytest.approx((patch * weight).sum().item(), abs=1e-4)
        assert shown["alpha"] == pytest.approx(binarization.scale(weight).item(), rel=1e-5)
        choose(root, traits, state | {"weights": "ternary"})
        kept, alpha = ternary.approximate(weight, per_filter=True)
        assert (numbers(root)["kept"], numbers(root)["alpha"]) == (kept.sum(), pytest.approx(alpha.item(), rel=1e-5))


def test_the_signs_on_the_page_multiply_to_what_the_kernels_give(opened):
    _, root, traits = opened("xnor_popcount")
    vgg, patch = patch_of_the_chapter()
    for index in (0, 7, 21):
        weight = vgg.features[20].weight.detach()[index : index + 1]
        choose(root, traits, {"filter": f"features.20, filter {index}", "word": 9, "bits": 64})
        assert numbers(root)["dot"] == ops.binary_conv2d(patch, ops.pack_conv_weight(weight), 64, 3).item()


def test_compact_networks_on_the_pages_are_the_librarys(opened):
    _, root, traits = opened("squeeze_ratio")
    for ratio in (0.125, 0.5, 1):
        choose(root, traits, traits["state"] | {"ratio": ratio, "percent": 50})
        counted = cost.count(squeezenet.squeezenet1_0(squeeze_ratio=ratio), (3, 224, 224))
        assert (numbers(root)["params"], numbers(root)["macs"]) == (counted.params, counted.macs)
    _, root, traits = opened("width_and_resolution")
    for alpha, size in ((1, 224), (0.5, 160)):
        choose(root, traits, traits["state"] | {"alpha": alpha, "size": size, "kernel": 3})
        counted = cost.count(mobilenet.mobilenet_v1(alpha=alpha), (3, size, size))
        assert (numbers(root)["params"], numbers(root)["macs"]) == (counted.params, counted.macs)


def test_the_squeeze_ratios_on_the_page_have_the_accuracies_of_the_ledger(opened):
    _, root, traits = opened("squeeze_ratio")
    rows = json.loads((ROOT / "results" / "ledger" / "13-squeezenet.json").read_text(encoding="utf-8"))
    for ratio in (0.125, 0.25, 0.5, 1.0):
        wanted = zoo.options("squeezenet-small") | {"squeeze_ratio": ratio}
        measured = [row["accuracy_after"] for row in rows if row["recipe"].get("options") == wanted]
        choose(root, traits, traits["state"] | {"ratio": ratio, "percent": 50})
        assert numbers(root)["accuracy"] == pytest.approx(sum(measured) / len(measured))


def test_the_wiring_on_the_page_is_that_of_the_librarys_shuffle(opened):
    _, root, traits = opened("group_shuffle")
    for groups, shuffled in ((4, True), (8, True), (8, False)):
        x = torch.eye(24).view(24, 24, 1, 1)
        layer = torch.nn.Conv2d(24, 24, 1, groups=groups, bias=False)
        torch.nn.init.ones_(layer.weight)
        with torch.no_grad():
            y = layer(shuffle_units.channel_shuffle(layer(x), groups) if shuffled else layer(x))
        state = {"channels": 24, "groups": groups, "layers": 2, "shuffle": "on" if shuffled else "off", "output": 5}
        choose(root, traits, traits["state"] | state)
        assert numbers(root)["seen"] == (y[:, 5] > 0).sum()


def test_as_many_towers_as_channels_are_the_librarys_separable_layer(opened):
    _, root, traits = opened("towers")
    choose(root, traits, {"channels_in": 128, "channels_out": 256, "towers": 256, "kernel": 3, "size": 14})
    counted = cost.count(xception.SeparableConv2d(128, 256, pointwise_first=True), (128, 14, 14))
    assert (numbers(root)["params"], numbers(root)["macs"]) == (counted.params, counted.macs)


def test_the_live_network_runs_on_the_landing_page(browser, address):
    page = new_page(browser, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    troubles = watch(page, address)
    settle(page, f"{address}/book/index.html")
    page.locator("#live-network .live-winner", has_text="T-shirt").wait_for()
    page.locator(".live-pick").first.click()
    page.locator("#live-network .live-winner", has_text="Ankle boot").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not troubles
    page.close()
