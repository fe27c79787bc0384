"""The explorer of shared weights against compress_lib.quantization.codebooks.kmeans, centroid by centroid."""

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside

from compress_lib.coding import bits
from compress_lib.explore import centroids
from compress_lib.models import zoo
from compress_lib.quantization.codebooks import kmeans

FOUND = """return Object.fromEntries(data.layers.map(({ name }) => [name, Object.fromEntries(
    Object.entries(module.prepare(data, name).found).map(([init, all]) => [init, Object.fromEntries(all)]))]));"""


def pruned():
    weight = zoo.load("lenet-300-100").fc2.weight.detach().numpy()
    return weight * (np.abs(weight) >= np.quantile(np.abs(weight), 0.9))


def weights():
    """A real layer, dense and pruned; and weights that leave clusters empty, meet ties, lie far from 0, lie close."""
    rng = np.random.default_rng(0)
    many = np.repeat(rng.normal(size=130).astype(np.float32), 50)
    return {
        "fc2": zoo.load("lenet-300-100").fc2.weight.detach().numpy(),
        "fc2, pruned": pruned(),
        "outliers": np.concatenate([rng.normal(size=900) * 1e-3, [8, 9, -10]]),
        "islands": np.concatenate([c + rng.normal(size=150) * 1e-4 for c in (-3, -0.5, 2, 2.5)]),
        "ties": rng.integers(-300, 301, 3000) / 64,
        "far": 1000 + rng.random(400),
        "neighbors": np.concatenate([many, np.nextafter(many[::50], np.float32(np.inf))]),  # means round to the lower
    }


@pytest.fixture(scope="module")
def widget():
    return centroids.explorer(weights(), seed=3)


@pytest.fixture(scope="module")
def found(browser, widget):
    """Name, init and k (as text) to what the page's k-means finds."""
    page = new_page(browser)
    yield inside(page, widget, FOUND)
    page.close()


def settings():
    return [(name, init, k) for name in weights() for init in centroids.STARTS for k in centroids.KS]


@pytest.fixture(scope="module")
def expected():
    """The library's centroids and codes, and the weights that are not zero, by name, init and k."""
    kept = {name: torch.tensor(np.float32(values[values != 0])) for name, values in weights().items()}
    return {
        (name, init, k): (kept[name], *kmeans.cluster(kept[name], k, init=init, seed=3)) for name, init, k in settings()
    }


def test_the_centroids_are_the_librarys_bit_for_bit(found, expected):
    for (name, init, k), (_, book, _) in expected.items():
        assert found[name][init][str(k)]["centroids"] == book.tolist(), (name, init, k)


def test_the_tests_weights_leave_clusters_empty(monkeypatch):
    """Else the rule for them would not be tried."""
    called = []
    original = kmeans.SortedWeights.without_empty
    monkeypatch.setattr(kmeans.SortedWeights, "without_empty", lambda *a: called.append(1) or original(*a))
    for name in ("fc2", "outliers", "islands"):
        called.clear()
        kmeans.cluster(torch.tensor(np.float32(weights()[name])), 256)
        assert called, name


def test_results_are_the_librarys_and_a_files(compute, widget, expected):
    states = [{"weights": name, "init": init, "k": k} for name, init, k in expected]
    for state, answer in zip(states, compute(widget, states), strict=True):
        kept, book, codes = expected[state["weights"], state["init"], state["k"]]
        shown, n, k = answer["results"], kept.numel(), state["k"]
        assert shown["rmse"] == pytest.approx((kmeans.sse(kept, book, codes) / n) ** 0.5, rel=1e-9)
        assert shown["relative"] == pytest.approx(shown["rmse"] / kept.double().square().mean().sqrt().item())
        changes = (kept.double() - kmeans.reconstruct(book, codes).double()).abs()
        assert shown["worst"] == changes.max().item()
        width = (k - 1).bit_length()
        assert shown["code_bytes"] == len(bits.pack(codes, width))
        assert shown["codebook_bytes"] == book.numpy().nbytes
        assert shown["float_bytes"] == kept.numpy().nbytes
        assert shown["nbytes"] == shown["code_bytes"] + shown["codebook_bytes"]
        assert 0 <= 8 * shown["nbytes"] - (n * width + 32 * k) < 8, "what is left of the last byte of codes"
        assert shown["ratio"] == pytest.approx(shown["float_bytes"] / shown["nbytes"])


def test_steps_are_those_in_which_centroids_moved(found, expected):
    for name, init, k in [("fc2", "linear", 16), ("fc2, pruned", "random", 64), ("ties", "density", 6)]:
        kept, book, _ = expected[name, init, k]
        steps = found[name][init][str(k)]["steps"]
        last, before = (kmeans.cluster(kept, k, init=init, seed=3, max_iterations=m)[0] for m in (steps, steps - 1))
        assert torch.equal(last, book) and not torch.equal(before, book)


def test_the_slider_stops_kmeans_after_so_many_steps(compute, widget, found):
    for name, init, k in [("fc2", "linear", 16), ("islands", "random", 6)]:
        end = found[name][init][str(k)]["steps"]
        kept = torch.tensor(np.float32(weights()[name]))
        states = [{"weights": name, "init": init, "k": k, "step": step} for step in centroids.STEPS]
        answers = compute(widget, states)
        assert answers[0]["results"]["steps"] == 0, "where k-means starts"
        for state, answer in zip(states[1:-1], answers[1:-1], strict=True):
            book, codes = kmeans.cluster(kept, k, init=init, seed=3, max_iterations=state["step"])
            assert answer["results"]["rmse"] == pytest.approx((kmeans.sse(kept, book, codes) / kept.numel()) ** 0.5)
            assert answer["results"]["steps"] == min(state["step"], end)
        assert answers[-1]["results"]["steps"] == end, "the last value lets it settle"
        assert len({answer["words"] for answer in answers}) == len(states), "each move is told"


def test_every_move_of_a_slider_changes_the_sentence(compute, widget):
    for init in centroids.STARTS:
        states = [{"weights": "fc2", "init": init, "k": k} for k in centroids.KS]
        assert len({answer["sentence"] for answer in compute(widget, states)}) == len(centroids.KS)


def test_zeros_take_no_part_and_are_told(compute, widget):
    (answer,) = compute(widget, [{"weights": "fc2, pruned", "init": "density", "k": 32}])
    assert "32 centroids for the 3,000 weights of fc2, pruned" in answer["words"]
    assert "The other 27,000 are zero" in answer["words"]
    (answer,) = compute(widget, [{"weights": "fc2", "init": "density", "k": 32}])
    assert "are zero" not in answer["words"]


def test_charts_and_table_hold_what_was_found(browser, widget, found):
    state = {"weights": "fc2, pruned", "init": "random", "k": 48}
    page = new_page(browser)
    answer = inside(page, widget, "return module.compute(data, argument, format);", state)
    page.close()
    histogram, curve, bars = answer["charts"]
    edges, values = np.array(histogram["edges"]), np.array(histogram["values"])
    kept = pruned()[pruned() != 0].astype(np.float64)
    counts, _ = np.histogram(kept, edges[:151])
    assert values[:150].sum() == len(kept) and np.abs(values[:150] - counts).sum() <= 4
    ticks = np.flatnonzero(values < 0)
    mine = found["fc2, pruned"]
    assert (edges[ticks] + edges[ticks + 1]) / 2 == pytest.approx(mine["random"]["48"]["centroids"])
    for series, init in zip(curve["series"], centroids.STARTS, strict=True):
        assert series["label"] == f"{init} start"
        assert 2 ** np.array(series["x"]) == pytest.approx(np.array(centroids.KS))
        assert 10 ** np.array(series["y"]) == pytest.approx([mine[init][str(k)]["rmse"] for k in centroids.KS])
    assert bars["values"] == [12_000, 3000 * 6 / 8, 4 * 48]
    rows = {row[0]: row[3] for row in answer["tables"][0]["rows"]}
    assert rows == {init: f"{mine[init]['48']['steps']:,}" for init in centroids.STARTS}


def test_the_page_stays_small():
    widget = centroids.explorer({"fc2": weights()["fc2"], "pruned": pruned()})
    assert sum(len(layer["values"]["base64"]) for layer in widget.data["layers"]) < 95_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {}}, "at least one layer"),
        ({"weights": {"a": np.array([1, np.inf])}}, r"weights\['a'\] must be finite"),
        ({"weights": {"a": np.arange(256)}}, r"must hold 256 different weights other than 0, got 255"),
        ({"weights": {"a": np.random.default_rng(0).normal(size=200_000)}}, "data must take at most"),
        ({"k": 17}, "value of slider 'k' must be one of"),
        ({"init": "forgy"}, "value of choice 'init' must be one of"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        centroids.explorer(**{"weights": {"a": np.arange(300)}} | changes)
