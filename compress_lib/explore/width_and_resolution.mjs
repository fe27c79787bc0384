// Multiply-adds, parameters and traffic to memory of MobileNetV1 at any width and image size. Chapter 14.
// Howard et al. 2017, arXiv 1704.04861. Counted as in compress_lib.cost: the convolutions have no biases, MACs leave the
// normalization and the classifier's bias out, and a layer moves its weights, its input and its output once, in float32.

export const labels = {
  params: ["parameters", "count"],
  macs: ["multiply–adds", "count"],
  fewer_macs: ["fewer MACs than full convolutions", "times"],
  fewer_params: ["fewer parameters than these", "times"],
  fewer_than_largest: ["fewer MACs than full, α = 1, 224\u00a0px", "times"],
  depthwise_share: ["MACs in depthwise layers", "percent"],
  pointwise_share: ["MACs in pointwise layers", "percent"],
  depthwise_intensity: ["this block, depthwise: MACs per byte", "number"],
  pointwise_intensity: ["pointwise: MACs per byte", "number"],
  full_intensity: ["full convolution: MACs per byte", "number"],
};

const FLOAT = 4;
const MILLION = 1e6;
const NBSP = "\u00a0";
const BY = `${NBSP}×${NBSP}`;
const SEPARABLE = "depthwise separable";
const STEM_KERNEL = 3;
const NORMALISED = 2; // parameters that batch normalization has for a channel
const LARGEST = { alpha: 1, size: 224 };

const sum = (values) => values.reduce((a, b) => a + b, 0);

/** A convolution padded to keep the size at stride 1, without bias; `side` is that of its input. */
function layer(kind, { inputs, outputs, kernel, stride, side, depthwise = false }) {
  const output = Math.ceil(side / stride);
  const params = kernel ** 2 * outputs * (depthwise ? 1 : inputs);
  const macs = params * output ** 2;
  const bytes = FLOAT * (params + inputs * side ** 2 + outputs * output ** 2);
  return { kind, params, macs, bytes, intensity: macs / bytes, side, output, inputs, outputs };
}

/** The two halves of a separable block and the full convolution that could stand in their place. */
function halves({ inputs, outputs, kernel, stride, side }) {
  const depthwise = layer("depthwise", { inputs, outputs: inputs, kernel, stride, side, depthwise: true });
  const pointwise = layer("pointwise", { inputs, outputs, kernel: 1, stride: 1, side: depthwise.output });
  return { depthwise, pointwise, full: layer("full", { inputs, outputs, kernel, stride, side }) };
}

/** The network: its blocks with both forms of each, and what it costs in the chosen one, by kind and by place. */
function network(data, { alpha, size, convolutions, kernel }) {
  const wide = (width) => Math.round(width * alpha); // never a half here, where Python would round to even
  const stem = layer("rest", { inputs: data.inputs, outputs: wide(data.stem.width), kernel: STEM_KERNEL, stride: data.stem.stride, side: size });
  let [inputs, side] = [stem.outputs, stem.output];
  const blocks = data.blocks.map(({ width, stride }) => {
    const block = halves({ inputs, outputs: wide(width), kernel, stride, side });
    [inputs, side] = [block.full.outputs, block.full.output];
    return block;
  });
  const separable = convolutions === SEPARABLE;
  const classifier = { kind: "rest", params: (inputs + 1) * data.classes, macs: inputs * data.classes };
  const places = [[stem], ...blocks.map(({ depthwise, pointwise, full }) => (separable ? [depthwise, pointwise] : [full])), [classifier]];
  const convolved = places.slice(0, -1).flat();
  const normalization = { kind: "rest", params: NORMALISED * sum(convolved.map(({ outputs }) => outputs)), macs: 0 };
  const all = [...places.flat(), normalization];
  const of = (kind, key) => sum(all.filter((one) => one.kind === kind).map((one) => one[key]));
  return { blocks, places, of, params: sum(all.map(({ params }) => params)), macs: sum(all.map(({ macs }) => macs)) };
}

/** What each map measures, and what the chosen block does, in the form that is chosen. */
function drawing(data, state, now, chosen, words, format) {
  const separable = state.convolutions === SEPARABLE;
  const maps = (blocks, stem) => [stem, ...blocks.map((block) => block.full)].map(({ outputs, output }) => ({ width: outputs, side: output }));
  const largest = network(data, { ...state, ...LARGEST });
  const shown = maps(now.blocks, now.places[0][0]);
  const kinds = separable ? ["depthwise", "pointwise"] : ["full"];
  const bars = kinds.map((kind) => ({ kind, label: words[kind], macs: chosen[kind].macs, words: `${format.count(chosen[kind].macs)}, ${format.number(chosen[kind].intensity)} a byte` }));
  const here = largest.blocks[state.block - 1];
  return {
    type: "network",
    wide: true,
    title: "Maps, as wide as their channels are many",
    description: `Maps after the first convolution and the ${now.blocks.length} blocks, channels × side: ${shown.map(({ width, side }) => `${width} × ${side}`).join(", ")}; dashed, the same at α = 1 and ${LARGEST.size} pixels. Block ${state.block}: ${bars.map((bar) => `${bar.label} ${bar.words}`).join("; ")}.`,
    maps: shown,
    full: maps(largest.blocks, largest.places[0][0]),
    alphas: data.alphas.map((alpha) => Math.round(data.blocks.at(-1).width * alpha)), // wide is the last map
    sizes: data.sizes.map((size) => Math.ceil(size / data.stem.stride)), // and high the first
    block: state.block,
    blocks: data.blocks.map((_, i) => i + 1),
    bars,
    most: Math.max(...kinds.map((kind) => here[kind].macs)),
  };
}

/** Measured accuracies of small networks against their multiply–adds; a live dot where the chosen α was measured. */
function accuracies(data, state, format) {
  const kinds = Object.entries(data.measured);
  const millions = (kind, alpha) => network(data.measured[kind], { alpha, size: data.measured[kind].size, convolutions: kind, kernel: 3 }).macs / MILLION;
  const series = kinds.map(([label, { points }]) => ({ label, x: points.map(({ alpha }) => millions(label, alpha)), y: points.map(({ accuracy }) => accuracy), draw: "points" }));
  const all = series.flatMap(({ y }) => y);
  const words = kinds.map(([label, { points }]) => `${label} ${points.map(({ alpha, accuracy }) => `${format.percent(accuracy)} with α = ${alpha}`).join(", ")}`);
  const chart = {
    type: "line",
    wide: true,
    title: `Measured accuracy of small networks, ${kinds[0][1].size}${NBSP}px`,
    description: `${words.join("; ")}. The axis does not start at 0.`,
    x: { label: "multiply–adds, millions", min: 0, max: 1.05 * Math.max(...kinds.map(([kind]) => millions(kind, data.alphas.at(-1)))) },
    y: { label: "accuracy", format: "percent", min: Math.max(0, Math.floor(100 * Math.min(...all) - 1e-9) / 100), max: Math.max(Math.ceil(100 * Math.max(...all)) / 100, 0.01) },
    series,
  };
  const now = data.measured[state.convolutions];
  if (!now) return chart;
  const here = now.points.filter(({ alpha }) => alpha === state.alpha).map(({ accuracy }) => accuracy);
  const label = `α = ${state.alpha}${here.length ? "" : ": not measured"}`;
  return {
    ...chart,
    marker: { x: millions(state.convolutions, state.alpha), label, y: here.length ? [sum(here) / here.length] : [] },
    drag: { control: "alpha", at: data.alphas.map((alpha) => millions(state.convolutions, alpha)) },
  };
}

/** Multiply-adds against α, a curve for each image size, the largest first. */
function widths(data, state, now, format) {
  const series = data.sizes.toReversed().map((size) => ({ label: `${size}${NBSP}px`, x: data.alphas, y: data.alphas.map((alpha) => network(data, { ...state, alpha, size }).macs / MILLION) }));
  return {
    type: "line",
    title: "Multiply–adds against the width",
    description: `In millions, from α = ${data.alphas[0]} to ${data.alphas.at(-1)}: ${series.map(({ label, y }) => `${label} ${format.number(y[0])} to ${format.number(y.at(-1))}`).join("; ")}.`,
    x: { label: "width multiplier α" },
    y: { label: "multiply–adds, millions", min: 0 },
    series,
    marker: { x: state.alpha, label: "here", y: [now.macs / MILLION] },
    drag: { control: "alpha", at: data.alphas },
  };
}

/** A bar for each place: all its MACs, hatched, and over it, by a step back, what is not depthwise. */
function places(now, separable, format) {
  const macs = (place, test) => sum(place.filter(test).map((one) => one.macs)) / MILLION;
  const shown = now.places.map((place) => ({ all: macs(place, () => true), other: macs(place, ({ kind }) => kind !== "depthwise") }));
  const last = now.places.length - 1;
  const chart = {
    type: "histogram",
    title: "Multiply–adds, block by block",
    description: `In millions. First convolution ${format.number(shown[0].all)}; blocks 1 to ${last - 1}: ${shown.slice(1, -1).map(({ all, other }) => (separable ? `${format.number(other)} pointwise and ${format.number(all - other)} depthwise` : format.number(all))).join(", ")}; classifier ${format.number(shown[last].all)}.`,
    x: { label: `block; 0 and ${last}: first and last layer`, whole: true },
    y: { label: "multiply–adds, millions" },
    edges: [...shown.flatMap((_, i) => [i - 0.5, i + 0.5, i - 0.5, i + 0.5]), last + 0.5],
    values: shown.flatMap(({ all, other }) => [all, 0, other, 0]),
    off: shown.flatMap(() => [true, false, false, false]),
    gap: 0.25,
  };
  return separable ? { ...chart, key: ["pointwise, first, last", "depthwise"] } : chart;
}

/** How much there is to do for each byte, in every block. */
function intensities(now, state, chosen, separable, format) {
  const names = { depthwise: "depthwise", pointwise: "pointwise", full: `full ${state.kernel}${BY}${state.kernel}` };
  const x = now.blocks.map((_, i) => i + 1);
  const series = Object.entries(names).map(([kind, label]) => ({ label, x, y: now.blocks.map((block) => block[kind].intensity), draw: "both" }));
  return {
    type: "line",
    wide: true,
    title: "Multiply–adds for each byte moved",
    description: series.map(({ label, y }) => `${label}: ${y.map((v) => format.number(v)).join(", ")}`).join("; ") + `, in blocks 1 to ${x.length}.`,
    x: { label: "block", whole: true },
    y: { label: "MACs per byte", min: 0 },
    series,
    marker: { x: state.block, label: `block ${state.block}`, y: (separable ? ["depthwise", "pointwise"] : ["full"]).map((kind) => chosen[kind].intensity) },
    drag: { control: "block", at: x },
  };
}

export function compute(data, state, format) {
  const separable = state.convolutions === SEPARABLE;
  const now = network(data, state);
  const full = network(data, { ...state, convolutions: "full" });
  const largest = network(data, { ...state, ...LARGEST, convolutions: "full" });
  const chosen = now.blocks[state.block - 1];
  const share = (kind) => (separable ? now.of(kind, "macs") / now.macs : null);
  const results = {
    params: now.params,
    macs: now.macs,
    fewer_macs: full.macs / now.macs,
    fewer_params: full.params / now.params,
    fewer_than_largest: largest.macs / now.macs,
    depthwise_share: share("depthwise"),
    pointwise_share: share("pointwise"),
    depthwise_intensity: separable ? chosen.depthwise.intensity : null,
    pointwise_intensity: separable ? chosen.pointwise.intensity : null,
    full_intensity: chosen.full.intensity,
  };

  const kernel = `${state.kernel}${BY}${state.kernel}`;
  const number = (value) => format.number(value);
  const { side, output, inputs, outputs } = chosen.full;
  const rho = `${state.size}${NBSP}px (ρ = ${number(state.size / LARGEST.size)})`;
  const least = separable ? chosen.depthwise.intensity : chosen.full.intensity;
  const sentence = `α = ${state.alpha}, ${state.size}${NBSP}px: ${format.count(now.macs)} multiply–adds, ${format.count(now.params)} parameters; block ${state.block} makes ${outputs}${BY}${output}${BY}${output}.`;
  const details =
    `With α = ${state.alpha} and images of ${rho}, ${separable ? "MobileNetV1" : `the network of full ${kernel} convolutions`}${separable && state.kernel !== 3 ? ` with ${kernel} depthwise layers` : ""} has ${format.count(now.params)} parameters, whatever the image, and ${format.count(now.macs)} multiply–adds` +
    (separable ? `: ${format.times(results.fewer_macs)} fewer than with full ${kernel} convolutions of these widths, ` : ": ") +
    `${results.fewer_than_largest === 1 ? "the most of all widths and images" : `${format.times(results.fewer_than_largest)} fewer than with full ones at α = 1 and ${LARGEST.size}${NBSP}px`}. ` +
    (separable ? `${format.percent(results.pointwise_share)} of them are pointwise, ${format.percent(results.depthwise_share)} depthwise. ` : "") +
    `Block ${state.block} makes ${outputs}${BY}${output}${BY}${output} of ${inputs}${BY}${side}${BY}${side}: ` +
    (separable
      ? `${number(least)} multiply–adds for each byte that its depthwise half moves, ${number(chosen.pointwise.intensity)} for one of its pointwise half. A machine that does more than ${number(least)} in the time of a byte waits for memory in the depthwise half.`
      : `${number(least)} multiply–adds for each byte that it moves.`);

  const parts = separable ? ["depthwise", "pointwise", "rest"] : ["full", "rest"];
  const words = { depthwise: `depthwise ${kernel}`, pointwise: `pointwise 1${BY}1`, full: `full ${kernel}`, rest: "the rest" };
  const split = (key) => parts.map((part) => `${words[part]}: ${format.count(now.of(part, key))}, ${format.percent(now.of(part, key) / now[key])}`).join("; ") + ".";
  const bars = { type: "bars", labels: parts.map((part) => words[part]) };
  const charts = [
    drawing(data, state, now, chosen, words, format),
    ...(data.measured ? [accuracies(data, state, format)] : []),
    widths(data, state, now, format),
    places(now, separable, format),
    { ...bars, title: "Multiply–adds by kind of layer, in millions", description: split("macs"), values: parts.map((part) => now.of(part, "macs") / MILLION) },
    { ...bars, title: "Parameters by kind of layer", description: split("params"), values: parts.map((part) => now.of(part, "params")), format: "count" },
    intensities(now, state, chosen, separable, format),
  ];
  const spoken = `${format.count(now.macs)} multiply–adds, ${format.count(now.params)} parameters`;
  return { sentence, spoken, details, results, charts, tables: () => tables(data, state, now, largest, words, format) };
}

export const predict = {
  question: "The depthwise filters become 5 × 5 and not 3 × 3. By how many percent do the multiply–adds grow?",
  kind: "number",
  unit: "%",
  min: 0,
  max: 200,
  show: { alpha: 1, size: 224, convolutions: SEPARABLE, kernel: 5 },
  answer: (at) => {
    const [small, large] = [3, 5].map((kernel) => at({ ...predict.show, kernel }).macs);
    return 100 * (large / small - 1);
  },
};

/** This network beside others, and the chosen block in its two forms. */
function tables(data, state, now, largest, words, format) {
  const separable = state.convolutions === SEPARABLE;
  const chosen = now.blocks[state.block - 1];
  const other = { ...state, convolutions: separable ? "full" : SEPARABLE };
  const rows = [
    [separable ? "separable, here" : "full, here", now],
    [separable ? "full, same α and image" : "separable, same α and image", network(data, other)],
    [`separable, α = 1, ${LARGEST.size}${NBSP}px`, network(data, { ...state, ...LARGEST, convolutions: SEPARABLE })],
    [`full, α = 1, ${LARGEST.size}${NBSP}px`, largest],
  ].map(([name, { params, macs }]) => [name, format.count(params), format.count(macs)]);
  const block = ["depthwise", "pointwise", "full"].map((kind) => [words[kind], format.count(chosen[kind].macs), format.count(chosen[kind].bytes), format.number(chosen[kind].intensity)]);
  return [
    { caption: `Beside other networks, K = ${state.kernel}`, columns: ["convolutions", "parameters", "multiply–adds"], rows },
    { caption: `Block ${state.block}: either its two halves, or a full convolution`, columns: ["layer", "MACs", "bytes moved", "MACs per byte"], rows: block },
  ];
}
