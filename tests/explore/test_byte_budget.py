"""The explorer of a file's bytes against files that compress_lib.container writes."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from browsing import new_page
from exploring import inside, states_of
from torch import nn

from compress_lib import container
from compress_lib.coding import sparse_index, tensors
from compress_lib.explore import byte_budget
from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.weights import magnitude
from compress_lib.quantization.codebooks import kmeans

ANSWERS = """return argument.map((state) => {
    const { sentence, details, results, charts, tables } = module.compute(data, state, format);
    return { state, sentence: `${sentence} ${details}`, results, charts, rows: tables()[0].rows };
});"""
KINDS = ["indices", "gaps", "codebook", "tables", "headers", "biases"]


class Small(nn.Module):
    """A convolution, a linear layer with long runs of zeros and without bias, one with few weights, and a dense one."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        sparse = rng.normal(size=(40, 100)) * (rng.random((40, 100)) < 0.1)
        sparse[10:14] = 0
        self.features = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU())
        self.hidden, self.head, self.full = nn.Linear(100, 40, bias=False), nn.Linear(40, 10), nn.Linear(20, 10)
        given = [rng.normal(size=(24, 3, 3, 3)) * (rng.random((24, 3, 3, 3)) < 0.4), sparse]
        given += [rng.integers(-3, 4, (10, 40)) * (rng.random((10, 40)) < 0.2), rng.normal(size=(10, 20))]
        for weight, values in zip((self.features[0], self.hidden, self.head, self.full), given, strict=True):
            weight.weight = nn.Parameter(torch.tensor(values, dtype=torch.float32))


def arguments(model):
    """The weights and biases of a network, by layer."""
    found = {"weight": {}, "bias": {}}
    for name, tensor in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        found[kind][layer] = tensor.numpy()
    return {"weights": found["weight"], "biases": found["bias"]}


@pytest.fixture(scope="module")
def lenet():
    model, _ = magnitude.prune(zoo.load("lenet-300-100"), {"fc1": 0.92, "fc2": 0.91, "fc3": 0.74}, scope="layer")
    return masks.deploy(model)


@pytest.fixture(scope="module")
def small():
    return byte_budget.explorer(**arguments(Small()), accuracies={16: 0.5})


@pytest.fixture(scope="module")
def answers(browser):
    """``answers(widget, states)``: what the page makes of these settings, of all of them without."""
    page = new_page(browser)

    def run(widget, states=None, body=ANSWERS):
        if states is None:
            states = [{}]
            for control in widget.controls:
                states = [{**state, control["name"]: value} for state in states for value in control["values"]]
        return inside(page, widget, body, states)

    yield run
    page.close()


def shared(model, k):
    """The network with k values in each layer, in half precision."""
    kept = {name: p[p != 0].unique().numel() for name, p in model.named_parameters() if p.dim() > 1}
    counts = {name.removesuffix(".weight"): min(k, distinct) for name, distinct in kept.items()}
    plain = kmeans.deploy(kmeans.convert(model, counts)[0])
    return plain.half().float()


def check(answer, model, short, path):
    """One answer against a file that is written now; ``short`` is the network with shared values."""
    state, found = answer["state"], answer["results"]
    bits, on = state["bits"], state["huffman"] == "on"
    budget = container.save(short, path, index_bits=bits, huffman=on)
    rows = {row.layer: row for row in budget.rows}
    chosen = set(rows) - {"(file)"} if state["layer"] == "all layers" else {state["layer"]}
    nbytes = path.stat().st_size if state["layer"] == "all layers" else rows[state["layer"]].nbytes
    assert found["nbytes"] == nbytes

    before, after = model.state_dict(), short.state_dict()
    of = {layer: [name for name in before if name.rpartition(".")[0] == layer] for layer in chosen}
    assert found["ratio"] == 4 * sum(before[name].numel() for names in of.values() for name in names) / nbytes
    entries = fillers = kept = 0
    squares = 0.0
    for layer in chosen:
        name = f"{layer}.weight"
        nonzero = before[name] != 0
        kept += int(nonzero.sum())
        squares += (before[name].double() - after[name].double())[nonzero].square().sum().item()
        if rows[layer].indices:
            positions = np.flatnonzero(after[name].numpy())
            gaps, is_filler = sparse_index.encode(positions, after[name].numel(), bits)
            assert rows[layer].entries == len(gaps)
            entries, fillers = entries + len(gaps), fillers + int(is_filler.sum())
    assert found["fillers"] == (fillers / entries if entries else None)
    assert found["rmse"] == pytest.approx(math.sqrt(squares / kept), rel=1e-9)

    treemap = answer["charts"][0]
    shown = areas_of(treemap)
    assert treemap["total"] == nbytes == sum(sum(sizes.values()) for sizes in shown.values())
    assert treemap["smallest"] == found["best_nbytes"]
    assert set().union(*shown.values()) == chosen | ({"the file"} if state["layer"] == "all layers" else set())
    table = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in answer["rows"]}
    for name, row in rows.items():
        name_of_tile = "the file" if name == "(file)" else name
        parts = [row.codes, row.indices, row.codebook, row.tables + row.header, row.biases]
        assert table[name] == [row.nbytes, *parts[:3], sum(parts[3:])], (state, name)
        if name in chosen or (name == "(file)" and state["layer"] == "all layers"):
            areas = {kind: sizes.get(name_of_tile, 0) for kind, sizes in shown.items()}
            expected = [row.codes, row.indices, row.codebook, row.tables, row.header, row.biases]
            assert list(areas.values()) == expected, (state, name)
    total = [sum(cells) for cells in zip(*(table[name] for name in rows), strict=True)]
    assert table["total"] == total and total[0] == path.stat().st_size
    if state["layer"] == "all layers":
        biases = sum(row.biases for row in rows.values())
        sums = {kind: sum(sizes.values()) for kind, sizes in shown.items()}
        assert [sums[kind] for kind in KINDS[:3]] == total[1:4]
        assert (sums["tables"] + sums["headers"], sums["biases"]) == (total[4] - biases, biases)
    without = listed([layer for layer in rows if layer in chosen and not rows[layer].codebook])
    assert re.findall(r"In ([^:]*) the encoder uses no codebook", answer["sentence"]) == ([without] if without else [])


def areas_of(treemap):
    """Kind to name (a layer, or the file itself) to bytes."""
    groups = [group for row in treemap["rows"] for group in row]
    assert [group["kind"] for group in groups] == KINDS
    return {group["kind"]: {part["name"]: part["nbytes"] for part in group["parts"]} for group in groups}


def listed(names):
    return " and ".join([", ".join(names[:-1]), *names[-1:]]) if len(names) > 1 else "".join(names)


def test_a_small_network(answers, small, tmp_path):
    model = Small()
    found = answers(small)
    assert len(found) == 8 * 8 * 2 * 5
    networks = {k: shared(model, k) for k in byte_budget.KS}
    for answer in found[::13]:
        check(answer, model, networks[answer["state"]["k"]], tmp_path / "small.cnet")
    assert any(a["results"]["fillers"] is None and a["state"]["layer"] == "hidden" for a in found)


def test_a_pruned_lenet(answers, lenet, tmp_path):
    widget = byte_budget.explorer(**arguments(lenet), accuracies={2: 0.25, 16: 0.8125})
    states = [*states_of(widget, 10), {"bits": 1, "k": 256, "huffman": "on", "layer": "all layers"}]
    for answer in answers(widget, states):
        k = answer["state"]["k"]
        check(answer, lenet, shared(lenet, k), tmp_path / "lenet.cnet")
        assert answer["results"]["accuracy"] == {2: 0.25, 16: 0.8125}.get(k)

    found = {tuple(a["state"].values()): a for a in answers(widget)}
    for (bits, k, huffman, layer), answer in found.items():
        now = answer["results"]
        sizes = {b: found[b, k, huffman, layer]["results"]["nbytes"] for b in range(1, 9)}
        assert now["best_nbytes"] == min(sizes.values()) == sizes[now["best_bits"]]
        assert all(sizes[b] > now["best_nbytes"] for b in range(1, now["best_bits"]))
        other = {h: found[bits, k, h, layer]["results"]["nbytes"] for h in ("off", "on")}
        assert now["huffman_saves"] == other["off"] - other["on"] >= 0
        half = found.get((bits, k // 2, huffman, layer))
        assert now["halving_saves"] == (now["nbytes"] - half["results"]["nbytes"] if half else None)
    check_charts(found, 16, "off", "all layers")
    check_charts(found, 64, "on", "fc2")
    check_words(found)


def check_charts(found, k, huffman, layer):
    for bits in range(1, 9):
        _, curve, stack = found[bits, k, huffman, layer]["charts"]
        sizes = [[found[b, k, h, layer]["results"]["nbytes"] / 1000 for b in range(1, 9)] for h in ("off", "on")]
        assert [series["y"] for series in curve["series"]] == [*sizes, [min(line) for line in sizes]]
        assert curve["series"][2]["x"] == [1 + int(np.argmin(line)) for line in sizes]
        assert curve["marker"]["x"] == bits and curve["marker"]["y"] == [sizes[huffman == "on"][bits - 1]]
        assert ("smallest" in curve["marker"]["label"]) == (curve["marker"]["y"] == [min(sizes[huffman == "on"])])
        shown = [areas_of(found[b, k, huffman, layer]["charts"][0]) for b in range(1, 9)]
        shares = [[sum(areas[kind].values()) for kind in KINDS[:3]] for areas in shown]
        assert stack["values"][0::4] == [sum(parts) / 1000 for parts in shares]
        assert stack["values"][2::4] == [(parts[0] + parts[2]) / 1000 for parts in shares]
        assert not any(stack["values"][1::2]) and stack["off"] == [True, False, False, False] * 8
        assert stack["edges"] == [b + side for b in range(1, 9) for side in (-0.5, 0.5, -0.5, 0.5)] + [8.5]


def check_words(found):
    """What the sentence says is so, in every setting."""
    sentences = {state: answer["sentence"] for state, answer in found.items()}
    assert len(set(sentences.values())) == len(sentences), "every move of a slider says something else"
    for (bits, k, huffman, layer), said in sentences.items():
        answer = found[bits, k, huffman, layer]
        now = answer["results"]
        assert "NaN" not in said and "undefined" not in said and "  " not in said
        best = now["nbytes"] == now["best_nbytes"]
        assert ("would save" in said.split("Huffman coding")[1]) != best
        if not best:
            assert re.search(rf"\b{now['best_bits']} bits? would save", said)
        if match := re.search(r"all from (\d) to (\d) bits", said):
            near = {b for b in range(1, 9) if found[b, k, huffman, layer]["results"]["nbytes"] <= 1.1 * now["nbytes"]}
            assert near >= set(range(int(match[1]), int(match[2]) + 1)) and bits in near
        if match := re.search(r"No gap needs more than (\d) bits", said):
            assert now["fillers"] == 0 and now["nbytes"] == found[int(match[1]), k, huffman, layer]["results"]["nbytes"]
            assert int(match[1]) < bits
        assert ("every weight instead" in said) == (now["fillers"] is None)
        if "short words" in said:
            assert huffman == "on" and now["huffman_saves"] > 0
    assert {s[0] for s in sentences if s[2:] == ("off", "all layers") and "fillers, and each" in sentences[s]} >= {
        1,
        2,
        3,
        4,
    }


def test_a_shared_value_can_come_out_as_zero(answers, tmp_path):
    weight = np.array([[1e-3, -1e-3, 0, 5, 5.5, 0, 0, 0, 0, 0, 0, 0]] * 3, np.float32)
    model = nn.Sequential(nn.Linear(12, 3, bias=False))
    model[0].weight.data = torch.tensor(weight)
    found = answers(byte_budget.explorer({"0": weight}))
    short = shared(model, 2)
    assert short[0].weight.count_nonzero() == 6, "half of the weights are gone"
    for answer in found:
        if answer["state"]["k"] == 2:
            check(answer, model, short, tmp_path / "small.cnet")


def test_a_record_of_one_layer_is_what_the_encoder_writes(answers):
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(30, 30)) * (rng.random((30, 30)) < 0.2)).astype(np.float32)
    kept = torch.tensor(weight[weight != 0])
    short = torch.tensor(weight) + 0  # −0 becomes 0, as in kmeans.convert
    values, codes = kmeans.cluster(kept, 4)
    short[short != 0] = values.half().float()[codes.long()]
    for answer in answers(byte_budget.explorer({"a": weight})):
        bits, k, huffman, layer = answer["state"].values()
        if k == 4 and layer == "a":
            record = tensors.encode(short, index_bits=bits, huffman=huffman == "on")
            assert answer["results"]["nbytes"] == len(record) and tensors.decode(record).equal(short)


def test_charts_can_be_drawn(compute, small):
    for answer in compute(small, states_of(small, 30)):
        assert answer["charts"][2].count("ex-off") >= 1


def test_areas_are_in_proportion_to_bytes_and_fill_the_picture(compute, small):
    tile = re.compile(
        r'data-pick="layer" data-value="([^"]*)"><title>(\w+) of ([\w. ]+): ([\d,]+) bytes[^<]*</title>'
        r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    )
    for state, answer in zip(states := states_of(small, 40), compute(small, states), strict=True):
        found = [(*t[:3], int(t[3].replace(",", "")), *map(float, t[4:])) for t in tile.findall(answer["charts"][0])]
        nbytes = answer["results"]["nbytes"]
        assert sum(count for *_, count, _, _, _, _ in found) == nbytes
        whole = 318 * 224  # the picture is 320 × 226, with a margin of 1
        for pick, _, name, count, x, y, width, height in found:
            assert width * height == pytest.approx(whole * count / nbytes, abs=0.01 * (width + height))
            assert 0.99 <= x and x + width <= 319.02 and 0.99 <= y and y + height <= 225.02
            alone = state["layer"] != "all layers" or name == "the file"
            assert pick == f"&quot;{'all layers' if alone else name}&quot;"
        for i, (*_, x, y, width, height) in enumerate(found):
            for *_, a, b, w, h in found[:i]:
                apart = x + 0.02 >= a + w or a + 0.02 >= x + width or y + 0.02 >= b + h or b + 0.02 >= y + height
                assert apart, "tiles lie side by side"
        outline = re.search(r'ex-smallest" x="2" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', answer["charts"][0])
        _, width, height = map(float, outline.groups())
        share = answer["results"]["best_nbytes"] / nbytes
        assert width * height == pytest.approx(316 * 222 * share, rel=0.01)


def test_the_question_is_answered_by_the_files(answers):
    """The answer that the page gives is what the results say at the setting it shows."""
    body = """const { predict, compute } = module;
        const at = (changes) => compute(data, { ...argument, ...changes }, format).results;
        return [predict.options[predict.answer(at)], at(predict.show)];"""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(60, 60)) * (rng.random((60, 60)) < 0.1)
    widget = byte_budget.explorer({"a": weight})
    answer, found = answers(widget, widget.state, body)
    assert (answer == "Huffman coding") == (found["huffman_saves"] > found["halving_saves"])


def test_the_start_is_inside(small):
    assert small.state == {"bits": 5, "k": 16, "huffman": "off", "layer": "all layers"}
    for control in small.controls[:2]:
        assert 1 < control["values"].index(control["value"]) < len(control["values"]) - 2


def test_arguments_stay_as_they_are():
    weights, biases = {"a": np.array([[0.1, 0], [0.3, -0.2]])}, {"a": np.array([0.1, 0.7])}
    before = copy.deepcopy((weights, biases))
    byte_budget.explorer(weights, biases=biases)
    np.testing.assert_equal((weights, biases), before)


WEIGHTS = {"a": np.eye(3)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {}}, "at least one layer"),
        ({"weights": {"a": np.ones(3)}}, r"weights\['a'\] must have two axes or more, got shape \(3,\)"),
        ({"weights": {"a": np.array([[1, np.nan]])}}, r"weights\['a'\] must be finite"),
        ({"weights": {"a": np.zeros((2, 3))}}, "must hold weights other than 0, got 6 zeros"),
        (
            {"weights": {"a": np.array([[1, 1e5]])}},
            r"weights\['a'\] must be finite and fit into float16, got up to 1e\+05",
        ),
        ({"biases": {"b": np.ones(3)}}, r"biases must be of the layers \['a'\], got \['b'\]"),
        ({"biases": {"a": np.array([np.inf])}}, r"biases\['a'\] must be finite"),
        ({"accuracies": {3: 0.5}}, r"accuracies must have keys among .* got \[3\]"),
        ({"accuracies": {4: 1.5}}, r"accuracies must lie in \[0, 1\]"),
        ({"gap_bits": 9}, "value of slider 'bits' must be one of"),
        ({"values": 3}, "value of slider 'k' must be one of"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        byte_budget.explorer(**{"weights": WEIGHTS} | changes)
