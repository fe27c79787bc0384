// k-means on the weights of a real layer, run to its fixed point in the browser. Chapter 06.
// The algorithm of compress_lib.quantization.codebooks.kmeans's `cluster`, step by step in the same precision: sorted weights and
// prefix sums in float64, centroids rounded to float32, and no cluster ever empty.

export const labels = {
  rmse: ["RMS error", "number"],
  relative: ["of the RMS weight", "percent"],
  worst: ["largest change of a weight", "number"],
  steps: ["steps to the fixed point", "count"],
  code_bytes: ["codes", "bytes"],
  codebook_bytes: ["codebook, float32", "bytes"],
  nbytes: ["together", "bytes"],
  float_bytes: ["the weights, float32", "bytes"],
  ratio: ["ratio", "times"],
};

const STARTS = ["linear", "density", "random"];
const FLOAT = 4; // bytes of a float32
const BINS = 150;

/** How many of the ascending values are below x, or with `equal` not above it. */
function below(values, x, equal) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < x || (equal && values[middle] === x)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Prefix sums that run outwards from the middle, one more than there are terms. */
function outwards(terms) {
  const sums = new Float64Array(terms.length + 1);
  const middle = terms.length >> 1;
  for (let i = middle - 1, sum = 0; i >= 0; i -= 1) sums[i] = -(sum += terms[i]);
  for (let i = middle, sum = 0; i < terms.length; i += 1) sums[i + 1] = sum += terms[i];
  return sums;
}

/** Sorted weights as codebook.SortedWeights: `cuts` say where runs of them start and end. */
class Line {
  constructor(values) {
    this.values = values;
    this.median = values[values.length >> 1];
    const distances = Float64Array.from(values, (w) => w - this.median);
    this.sums = outwards(distances);
    this.squares = outwards(distances.map((d) => d * d));
  }

  /** The runs nearest to each of the ascending centroids; a tie goes to the lower one. */
  cuts(centroids) {
    const inner = centroids.slice(1).map((c, i) => below(this.values, (centroids[i] + c) / 2, true));
    return [0, ...inner, this.values.length];
  }

  mean(start, end) {
    const mean = this.median + (this.sums[end] - this.sums[start]) / (end - start);
    return Math.fround(Math.min(Math.max(mean, this.values[start]), this.values[end - 1]));
  }

  error(start, end) {
    const sum = this.sums[end] - this.sums[start];
    return this.squares[end] - this.squares[start] - (sum * sum) / (end - start);
  }

  /** As many runs, none of them empty: for each that was, one of the largest error is cut at its mean. */
  withoutEmpty(cuts) {
    let full = [...new Set(cuts)];
    while (full.length < cuts.length) {
      const runs = full.slice(1).map((end, i) => ({ start: full[i], end, error: this.error(full[i], end) }));
      const divisible = runs.filter(({ start, end }) => this.values[start] < this.values[end - 1]);
      const worst = divisible.sort((a, b) => b.error - a.error).slice(0, cuts.length - full.length);
      const cut = ({ start, end }) => Math.max(below(this.values, this.mean(start, end), false), below(this.values, this.values[start], true));
      full = [...full, ...worst.map(cut)].sort((a, b) => a - b);
    }
    return full;
  }
}

function start(line, drawn, k, init) {
  const { values } = line;
  const n = values.length;
  if (init === "random") return Array.from(drawn.slice(0, k)).sort((a, b) => a - b);
  if (init === "density") return Array.from({ length: k }, (_, i) => values[Math.floor(((2 * i + 1) * n) / (2 * k))]);
  const step = (values[n - 1] - values[0]) / (k - 1);
  return Array.from({ length: k }, (_, i) => (i < k - 1 ? i * step + values[0] : values[n - 1]));
}

/** Lloyd's algorithm, to its fixed point or for so many steps: centroids, steps, and what is lost. */
function solve({ line, drawn }, k, init, most = Infinity) {
  let centroids = start(line, drawn, k, init);
  let [before, steps] = [null, 0];
  for (; steps < most; steps += 1) {
    let cuts = line.cuts(centroids);
    if (cuts.some((cut, i) => i && cut === cuts[i - 1])) cuts = line.withoutEmpty(cuts);
    if (before && cuts.every((cut, i) => cut === before[i])) break;
    centroids = cuts.slice(1).map((end, i) => line.mean(cuts[i], end));
    before = cuts;
  }
  const cuts = line.cuts(centroids);
  let [squares, worst] = [0, 0];
  centroids.forEach((centroid, i) => {
    for (let j = cuts[i]; j < cuts[i + 1]; j += 1) {
      const change = Math.abs(line.values[j] - centroid);
      squares += change * change;
      worst = Math.max(worst, change);
    }
  });
  return { centroids, steps, worst, rmse: Math.sqrt(squares / line.values.length) };
}

const prepared = new WeakMap();

/** Each layer sorted, with all its codebooks, once per explorer and layer. */
export function prepare(data, name) {
  if (!prepared.has(data)) prepared.set(data, new Map());
  const known = prepared.get(data);
  if (!known.has(name)) {
    const layer = data.layers.find((candidate) => candidate.name === name);
    const { values } = layer;
    const line = new Line(values);
    const rms = Math.sqrt(values.reduce((a, w) => a + w * w, 0) / values.length);
    const found = STARTS.map((init) => [init, new Map(data.ks.map((k) => [k, solve({ line, drawn: layer.drawn }, k, init)]))]);
    known.set(name, { ...layer, line, count: values.length, rms, found: Object.fromEntries(found) });
  }
  return known.get(name);
}

/** The weights, and the centroids as ticks that hang from the axis. */
function histogram({ name, values, count }, { centroids }, format) {
  const [low, high] = [values[0], values[count - 1]];
  const width = (high - low) / BINS;
  const edges = Array.from({ length: BINS + 1 }, (_, i) => low + i * width);
  const counts = new Array(BINS).fill(0);
  for (const w of values) counts[Math.min(BINS - 1, Math.floor((w - low) / width))] += 1;
  // Bars may follow in any order and go below zero, so each centroid is one more: a step to its left edge, which is
  // empty, and the tick itself.
  const depth = -0.08 * Math.max(...counts);
  const half = (high - low) / 450;
  for (const c of centroids) {
    edges.push(c - half, c + half);
    counts.push(0, depth);
  }
  edges.push(high);
  counts.push(0);
  const shown = centroids.length > 16 ? [centroids[0], centroids.at(-1)] : centroids;
  const list = shown.map((c) => format.number(c)).join(centroids.length > 16 ? " to " : ", ");
  return {
    type: "histogram",
    wide: true,
    title: `The weights of ${name}, and their centroids`,
    description: `Histogram of ${format.count(count)} weights from ${format.number(low)} to ${format.number(high)}; ${centroids.length} centroids: ${list}.`,
    x: { label: "weight; ticks are the centroids" },
    y: { label: "weights", format: "count" },
    edges,
    values: counts,
  };
}

/** What the start of k-means decides. */
export function predict(data) {
  const [{ name }] = data.layers;
  const setting = (init) => ({ k: 64, init, weights: name, ...(data.steps && { step: data.steps.at(-1) }) });
  const least = (at) => STARTS.reduce((best, init, i) => (at(setting(init)).worst < at(setting(STARTS[best])).worst ? i : best), 0);
  return {
    question: "With 64 centroids, from which start is the largest change of any single weight the smallest?",
    kind: "choice",
    options: STARTS,
    answer: least,
    show: (at) => setting(STARTS[least(at)]),
  };
}

/** k-means as far as the slider lets it go; its last value, or none, is the fixed point. */
function reached(data, layer, { k, init, step }) {
  const end = layer.found[init].get(k);
  const unlimited = step === undefined || step === data.steps.at(-1);
  const found = unlimited || step >= end.steps ? end : solve(layer, k, init, step);
  return { ...found, end, unlimited };
}

/** The steps from the start to the fixed point, one after the other. */
export const play = { control: "step", interval: 400 };

export function compute(data, state, format) {
  const layer = prepare(data, state.weights);
  const { k, init } = state;
  const now = reached(data, layer, state);
  const bits = Math.ceil(Math.log2(k));
  const code_bytes = Math.ceil((layer.count * bits) / 8);
  const codebook_bytes = FLOAT * k;
  const nbytes = code_bytes + codebook_bytes;
  const float_bytes = FLOAT * layer.count;
  const ratio = float_bytes / nbytes;
  const { rmse, worst, steps } = now;
  const results = { rmse, relative: rmse / layer.rms, worst, steps, code_bytes, codebook_bytes, nbytes, float_bytes, ratio };

  const zeros = layer.size - layer.count;
  const rest = zeros ? ` The other ${format.count(zeros)} are zero and stay so; where they are is not counted here.` : "";
  const others = STARTS.filter((name) => name !== init).map((name) => `${format.number(layer.found[name].get(k).rmse)} from ${name}`);
  const sentence =
    `${k} centroids for the ${format.count(layer.count)} weights of ${layer.name}: ` +
    `RMS error ${format.number(rmse)}, ${format.percent(rmse / layer.rms)} of the RMS weight, and ${format.times(ratio)} smaller.`;
  const some = (count) => `${format.count(count)} step${count === 1 ? "" : "s"}`;
  const settled = {
    before: `This is after ${some(steps)} from the ${init} start; they settle after ${format.count(now.end.steps)}`,
    within: `Of at most ${format.count(state.step)} steps from the ${init} start, ${format.count(steps)} are enough to settle`,
    end: `They settle after ${some(steps)} from the ${init} start`,
  }[steps < now.end.steps ? "before" : now.unlimited ? "end" : "within"];
  const spoken = `${k} centroids, RMS error ${format.number(rmse)}`;
  const details =
    `${settled} (RMS error ${others.join(", ")}). ` +
    `Codes of ${bits} bit${bits === 1 ? "" : "s"} and ${k} floats take ${format.bytes(nbytes)} in place of ${format.bytes(float_bytes)}.${rest}`;

  const log = (values) => values.map((value) => Math.log10(value));
  const series = STARTS.map((name) => ({ label: `${name} start`, x: data.ks.map((count) => Math.log2(count)), y: log(data.ks.map((count) => layer.found[name].get(count).rmse)), draw: "both" }));
  const forms = ["float32", "codes", "codebook"];
  const sizes = [float_bytes, code_bytes, codebook_bytes];
  const charts = [
    histogram(layer, now, format),
    {
      type: "line",
      title: "RMS error against k",
      description: STARTS.map((name) => `${name} start: ${[2, k, 256].map((count) => `${format.number(layer.found[name].get(count).rmse)} with ${count} centroids`).join(", ")}`).join("; ") + ".",
      x: { label: "log₂ k", whole: true },
      y: { label: "log₁₀ of the RMS error" },
      series,
      marker: { x: Math.log2(k), label: `k = ${k}`, y: log([rmse]) },
      drag: { control: "k", at: data.ks.map((count) => Math.log2(count)) },
    },
    {
      type: "bars",
      title: "Bytes of these weights",
      description: forms.map((form, i) => `${form}: ${format.bytes(sizes[i])}`).join("; ") + ".",
      labels: forms,
      values: sizes,
      format: "bytes",
    },
  ];
  const rows = STARTS.map((name) => {
    const one = layer.found[name].get(k);
    return [name, format.number(one.rmse), format.number(one.worst), format.count(one.steps)];
  });
  const tables = [{ caption: `The three starts at k = ${k}`, columns: ["start", "RMS error", "largest change", "steps"], rows }];
  return { sentence, spoken, details, results, charts, tables };
}
