// Where the bytes of a file of pruned layers with shared weights go. Chapter 07.
// Python has written the file in every setting, by compress_lib.coding.tensors' encode; here its bytes are added up,
// compared and drawn. Han, Mao, Dally 2016, arXiv 1510.00149.

export const labels = {
  nbytes: ["size", "bytes"],
  ratio: ["smaller than float32", "times"],
  fillers: ["fillers, of all entries", "percent"],
  best_bits: ["best bits of a gap", "count"],
  best_nbytes: ["size with these", "bytes"],
  huffman_saves: ["Huffman coding saves", "bytes"],
  halving_saves: ["half as many values save", "bytes"],
  rmse: ["RMS error", "number"],
  accuracy: ["accuracy, not fine-tuned", "percent"],
};

const ALL = "all layers";
const KB = 1000;
const NEAR = 0.1; // of the smallest size: what does not matter much
const FIELDS = ["entries", "codes", "gaps", "codebook", "tables", "header", "biases"]; // PARTS in byte_budget.py
const BYTES = FIELDS.slice(1);

const sum = (values) => values.reduce((a, b) => a + b, 0);

/** What one layer takes: k and bits by their places in the data's lists, huffman 0 or 1. */
function parts(layer, k, bits, huffman) {
  const [, widths, codings, fields] = layer.parts.shape;
  const from = ((k * widths + bits) * codings + huffman) * fields;
  const found = Object.fromEntries(FIELDS.map((field, i) => [field, layer.parts[from + i]]));
  const gapless = found.gaps === 0; // every weight is an entry, zeros too
  return { ...found, gapless, fillers: gapless ? 0 : found.entries - layer.left[k], nbytes: sum(BYTES.map((field) => found[field])) };
}

/** The same of what is shown: one layer, or the file with all of them. */
function together(data, name, k, bits, huffman) {
  const layers = data.layers.filter((layer) => name === ALL || layer.name === name);
  const found = layers.map((layer) => parts(layer, k, bits, huffman));
  const all = Object.fromEntries([...BYTES, "fillers", "nbytes"].map((field) => [field, sum(found.map((part) => part[field]))]));
  if (name === ALL) {
    const [, widths, codings] = data.layers[0].parts.shape;
    const around = data.around[(k * widths + bits) * codings + huffman];
    all.header += around;
    all.nbytes += around;
  }
  const indexed = found.filter((part) => !part.gapless);
  const named = (test) => layers.filter((layer, i) => test(found[i], layer)).map((layer) => layer.name);
  return {
    ...all,
    entries: sum(indexed.map((part) => part.entries)),
    dense: named((part, layer) => part.gapless && layer.kept === layer.size),
    gapless: named((part, layer) => part.gapless && layer.kept < layer.size),
    plain: named((part) => part.codebook === 0),
    every: layers.length,
  };
}

const bitsOf = (count) => `${count} bit${count === 1 ? "" : "s"}`;
const list = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

/** Why the gaps' width makes the size what it is: `all` widths, of which now is the one in place `at`. */
function reason(all, at, bits, format) {
  const now = all[at];
  const sizes = all.map((one) => one.nbytes);
  const smallest = Math.min(...sizes);
  const best = sizes.indexOf(smallest);
  const more = now.nbytes - smallest;
  const saves = `${bitsOf(bits[best])} would save ${format.bytes(more)} (${format.percent(more / now.nbytes)})`;
  if (now.dense.length === now.every) return "No weight is zero, so there are no gaps.";
  if (!now.entries) return `So narrow gaps would need too many fillers: the encoder stores every weight instead, a zero as one more value. ${more ? saves : "No width takes less"}.`;

  const enough = all.findIndex((one) => !one.fillers && one.entries === now.entries);
  if (enough >= 0 && enough < at) return `No gap needs more than ${bitsOf(bits[enough])}, so no gap takes more${more ? `: ${saves}` : ""}.`;
  const share = format.percent(now.fillers / now.entries);
  if (now.tables) {
    const why = "frequent gaps get short words whatever the width";
    const near = sizes.map((nbytes) => nbytes <= smallest * (1 + NEAR));
    const beyond = near.indexOf(false, best);
    const [from, to] = [near.lastIndexOf(false, best) + 1, (beyond < 0 ? near.length : beyond) - 1];
    if (more > NEAR * smallest) return at < best ? `${share} of the entries are fillers: coded they are cheap, but there are too many. ${saves}.` : `${saves}.`;
    if (more) return `${saves}, little: ${why}.`;
    return `No width takes less${from < to ? `, but all from ${bits[from]} to ${bitsOf(bits[to])} come within ${100 * NEAR} %` : ""}: ${why}.`;
  }
  if (at < best) return `${share} of the entries are fillers, and each takes an index and a gap like a weight: ${saves}.`;
  if (more) return `${now.fillers ? `Only ${share}` : "None"} of the entries are fillers, but the wider gaps cost more than the spared ones: ${saves}.`;
  return `No width takes less: narrower gaps need more fillers than the ${share} of the entries here, and wider ones give every entry bits that few need.`;
}

/** Value and place, stacked: a bar for both, hatched, and before it one for the values alone, reached by a step back. */
function stack(data, state, found, format) {
  const values = found.flatMap((part) => [part.codes + part.codebook + part.gaps, 0, part.codes + part.codebook, 0]).map((nbytes) => nbytes / KB);
  const edges = data.bits.flatMap((b) => [b - 0.5, b + 0.5, b - 0.5, b + 0.5]);
  return {
    type: "histogram",
    title: "Which value, and where",
    description: data.bits.map((b, i) => `${bitsOf(b)}: values ${format.bytes(found[i].codes + found[i].codebook)}, gaps ${format.bytes(found[i].gaps)}`).join("; ") + ".",
    x: { label: "bits of a gap", whole: true },
    y: { label: "indices, codebook, gaps, kB" },
    edges: [...edges, data.bits.at(-1) + 0.5],
    values,
    off: values.map((_, i) => i % 4 === 0),
    gap: 0.25,
    markers: [{ x: state.bits, label: "here" }],
    drag: { control: "bits", at: data.bits },
    key: ["which value", "where"],
  };
}

function curves(data, state, sizes, now, format) {
  const names = ["without Huffman coding", "with Huffman coding"];
  const best = sizes.map((line) => line.indexOf(Math.min(...line)));
  const series = names.map((label, i) => ({ label, x: data.bits, y: sizes[i].map((nbytes) => nbytes / KB), draw: "both" }));
  series.push({ label: "smallest", x: best.map((at) => data.bits[at]), y: best.map((at, i) => sizes[i][at] / KB), draw: "points" });
  return {
    type: "line",
    title: `Size with ${state.k} values`,
    description: names.map((name, i) => `${name}: ${data.bits.map((b, at) => `${bitsOf(b)} ${format.bytes(sizes[i][at])}`).join(", ")}, smallest with ${bitsOf(data.bits[best[i]])}`).join("; ") + ".",
    x: { label: "bits of a gap", whole: true },
    y: { label: `${state.layer === ALL ? "whole file" : `layer ${state.layer}`}, kB`, min: 0 },
    series,
    marker: { x: state.bits, label: now.nbytes === Math.min(...sizes[state.huffman === "on" ? 1 : 0]) ? "here: smallest" : "here", y: [now.nbytes / KB] },
    drag: { control: "bits", at: data.bits },
  };
}

/** All bytes of what is shown, each an area: indices beside gaps, and below them what is small, by layer. */
function treemap(data, state, now, smallest, format) {
  const [k, bits, huffman] = [data.ks.indexOf(state.k), data.bits.indexOf(state.bits), state.huffman === "on" ? 1 : 0];
  const layers = data.layers.filter((layer) => state.layer === ALL || layer.name === state.layer);
  const found = layers.map((layer) => ({ name: layer.name, ...parts(layer, k, bits, huffman) }));
  const alone = state.layer !== ALL; // then a click leads back
  const group = (kind, field) => ({ kind, parts: found.map((part) => ({ name: part.name, nbytes: part[field], pick: alone ? ALL : part.name })) });
  const headers = group("headers", "header");
  if (!alone) headers.parts.push({ name: "the file", pick: ALL, nbytes: now.nbytes - sum(found.map((part) => part.nbytes)) });
  const rows = [
    [group("indices", "codes"), group("gaps", "gaps")],
    [group("codebook", "codebook"), group("tables", "tables"), headers, group("biases", "biases")],
  ];
  const words = ({ kind, parts: list }) => `${kind} ${format.bytes(sum(list.map(({ nbytes }) => nbytes)))}`;
  return {
    type: "treemap",
    wide: true,
    title: `What the ${format.bytes(now.nbytes)} of ${alone ? state.layer : "the file"} are for`,
    description: `Each area is in proportion to its bytes, divided by layer. Which value each entry has: ${words(rows[0][0])}, ${words(rows[1][0])}. Where it is: ${words(rows[0][1])}. Beside these: ${rows[1].slice(1).map(words).join(", ")}.`,
    rows,
    total: now.nbytes,
    smallest,
  };
}

/** All bytes as numbers, layer by layer. */
function table(data, k, bits, huffman, format) {
  const row = (name, part) => [name, ...[part.nbytes, part.codes, part.gaps, part.codebook, part.tables + part.header + part.biases].map(format.count)];
  const found = data.layers.map((layer) => parts(layer, k, bits, huffman));
  const file = together(data, ALL, k, bits, huffman);
  const nothing = Object.fromEntries(FIELDS.map((field) => [field, 0]));
  const around = file.nbytes - sum(found.map((part) => part.nbytes));
  const rows = [...data.layers.map((layer, i) => row(layer.name, found[i])), row("(file)", { ...nothing, header: around, nbytes: around }), row("total", file)];
  return { caption: "Bytes, layer by layer", columns: ["layer", "bytes", "indices", "gaps", "codebook", "all else"], rows };
}

/** With how many values and bits the chapter's question is answered: the middle of both sliders. */
export const predict = {
  question: "Packed with 4-bit gaps and 16 values, what saves more bytes of this file?",
  kind: "choice",
  options: ["Huffman coding", "half as many values"],
  show: { bits: 4, k: 16, huffman: "off", layer: ALL },
  answer: (at) => {
    const { huffman_saves, halving_saves } = at({ bits: 4, k: 16, huffman: "off", layer: ALL });
    return huffman_saves > halving_saves ? 0 : 1;
  },
};

export function compute(data, state, format) {
  const k = data.ks.indexOf(state.k);
  const bits = data.bits.indexOf(state.bits);
  const huffman = state.huffman === "on" ? 1 : 0;
  const layers = data.layers.filter((layer) => state.layer === ALL || layer.name === state.layer);
  const at = (...place) => together(data, state.layer, ...place);
  const all = [0, 1].map((coding) => data.bits.map((_, i) => at(k, i, coding)));
  const now = all[huffman][bits];
  const sizes = all.map((widths) => widths.map((one) => one.nbytes));
  const best_nbytes = Math.min(...sizes[huffman]);
  const results = {
    nbytes: now.nbytes,
    ratio: sum(layers.map((layer) => layer.dense)) / now.nbytes,
    fillers: now.entries ? now.fillers / now.entries : null,
    best_bits: data.bits[sizes[huffman].indexOf(best_nbytes)],
    best_nbytes,
    huffman_saves: sizes[0][bits] - sizes[1][bits],
    halving_saves: k ? now.nbytes - at(k - 1, bits, huffman).nbytes : null,
    rmse: Math.sqrt(sum(layers.map((layer) => layer.squares[k])) / sum(layers.map((layer) => layer.kept))),
    accuracy: data.accuracies[k],
  };

  const what = state.layer === ALL ? "the whole file" : `layer ${state.layer}`;
  const ratio = results.ratio > 1 ? `${format.times(results.ratio)} smaller` : `${format.times(1 / results.ratio)} larger`;
  const sentence = `${state.bits}-bit gaps, ${state.k} values, ${huffman ? "" : "no "}Huffman coding: ${what} takes ${format.bytes(now.nbytes)}, ${ratio} than in float32.`;
  const mixed = now.gapless.length && now.gapless.length < now.every ? ` In ${list(now.gapless)} the encoder uses no gaps: zeros as values take less.` : "";
  const plain = now.plain.length ? ` In ${list(now.plain)} the encoder uses no codebook: the values one by one take less.` : "";
  const halving = k && results.halving_saves > 0 ? `, half as many values ${format.bytes(results.halving_saves)}` : "";
  const details =
    `${reason(all[huffman], bits, data.bits, format)}${mixed}${plain} ` +
    `Huffman coding ${huffman ? "saves" : "would save"} ${results.huffman_saves ? format.bytes(results.huffman_saves) : "nothing"}${halving}.`;

  const charts = [treemap(data, state, now, best_nbytes, format), curves(data, state, sizes, now, format), stack(data, state, all[huffman], format)];
  return { sentence, spoken: `${format.bytes(now.nbytes)}, ${ratio}`, details, results, charts, tables: () => [table(data, k, bits, huffman, format)] };
}
