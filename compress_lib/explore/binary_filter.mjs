// Real filters in one bit or two: signs and a scale. Chapter 08; the product bit by bit is in xnor_popcount.mjs.
// B has the signs of W (compress_lib.binary.binarization), or these with 0 wherever |W| ≤ 0.7 mean |W| (its ternary); the best
// α is the mean magnitude of what is not 0.

export const labels = {
  alpha: ["scale α", "number"],
  error: ["error, of ‖W‖²", "percent"],
  kept: ["weights not 0", "count"],
  nbytes: ["filter, packed", "bytes"],
  signs: ["sign x·B", "number"],
  scaled: ["αK (sign x·B)", "number"],
  real_input: ["α (x·B)", "number"],
  exact: ["exact x·W", "number"],
};

const TERNARY = "ternary";
const BINS = 48;
const BYTE = 8;
const NBSP = "\u00a0";
const ENDS = [1, 1.5, 2, 2.5, 3, 3.5, 5, 6, 7.5, 10]; // of an axis around 0 that has ticks on both sides
const PERCENTS = Array.from({ length: 41 }, (_, i) => 5 * i); // of the slider: PERCENTS in binary_filter.py

const sign = (value) => (value >= 0 ? 1 : -1);
const sum = (values) => values.reduce((a, b) => a + b, 0);
const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0);
const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

export const predict = {
  question: "In the product x·W, which step does more harm: the signs of W for W, or then also the signs of x for x?",
  kind: "choice",
  options: ["the signs of W", "the signs of x"],
  show: { percent: 100, weights: "binary" },
  answer: (at) => {
    const { exact, real_input, scaled } = at({ percent: 100, weights: "binary" });
    return Math.abs(real_input - exact) > Math.abs(scaled - real_input) ? 0 : 1;
  },
};

/** Signs of the weights, or signs and zeros, with the best scale and the part of ‖W‖² that this explains. */
function approximate(w, power, threshold) {
  const b = w.map((value) => (Math.abs(value) > threshold ? sign(value) : 0));
  const kept = sum(b.map(Math.abs));
  const best = sum(b.map((value, i) => value * w[i])) / kept;
  return { b, kept, best, explained: (kept * best ** 2) / power };
}

const prepared = new WeakMap();

/** Patch and filters as plain numbers, with both forms of each filter, once per explorer. */
function prepare(data) {
  if (prepared.has(data)) return prepared.get(data);
  const [channels, rows, columns] = data.patch.shape;
  const filters = data.filters.map(({ name, values }) => {
    const w = Array.from(values);
    const power = sum(w.map((value) => value ** 2));
    const binary = approximate(w, power, -1);
    return { name, w, binary, ternary: approximate(w, power, data.ratio * binary.best) };
  });
  const x = Array.from(data.patch);
  const words = rows * columns * Math.ceil(channels / data.word); // each place of the kernel has words of its own
  const made = { x, signs: x.map(sign), filters, words, shape: data.patch.shape, mean: sum(x.map(Math.abs)) / x.length };
  prepared.set(data, made);
  return made;
}

/** The three products with the patch: exact, with αB, and with the signs of x too. */
function products({ x, signs, mean }, w, { b }, alpha) {
  const both = dot(signs, b);
  return { signs: both, scaled: alpha * mean * both, real_input: alpha * dot(x, b), exact: dot(x, w) };
}

/** ‖W − αB‖² / ‖W‖² with α as a share of the best: what no scale removes, and what the wrong scale adds. */
const error = ({ explained }, share) => 1 - explained + explained * (1 - share) ** 2;

/** The weights; what becomes 0 is hatched, ±α are marked. */
function histogram(filter, form, alpha, threshold, format) {
  const needed = Math.max(largest(filter.w), 2 * filter.ternary.best);
  const magnitude = 10 ** Math.floor(Math.log10(needed));
  const reach = magnitude * ENDS.find((end) => end * magnitude >= needed);
  const width = (2 * reach) / BINS;
  const counts = new Array(BINS).fill(0);
  for (const value of filter.w) counts[Math.min(BINS - 1, Math.floor((value + reach) / width))] += 1;
  const edges = Array.from({ length: BINS + 1 }, (_, i) => -reach + i * width);
  const zeros = filter.w.length - form.kept;
  const chart = {
    type: "histogram",
    title: `Weights of ${filter.name}`,
    description: `Histogram of ${filter.w.length} weights, the largest magnitude ${format.number(largest(filter.w))}. ${zeros ? `${zeros} of them, up to ${format.number(threshold)} in magnitude, become 0, the` : "The"} others plus or minus ${format.number(alpha)}.`,
    x: { label: "weight" },
    y: { label: "weights", format: "count" },
    edges,
    values: counts,
    markers: [
      { x: -alpha, label: "" },
      { x: alpha, label: "±α" },
    ],
    drag: { control: "percent", at: PERCENTS.map((percent) => (percent / 100) * form.best), mirror: true },
  };
  if (!threshold) return chart;
  return { ...chart, off: counts.map((_, i) => Math.abs(-reach + (i + 0.5) * width) <= threshold), key: ["±α", "become 0"] };
}

/** Error against α for both kinds of weights, with the least of each. */
function parabolas(filter, form, share, format) {
  const shares = Array.from({ length: 41 }, (_, i) => i / 20);
  const curve = (label, kind) => ({ label, x: shares.map((s) => s * kind.best), y: shares.map((s) => error(kind, s)) });
  const kinds = [filter.binary, filter.ternary];
  const least = { label: "least", x: kinds.map((kind) => kind.best), y: kinds.map((kind) => error(kind, 1)), draw: "points" };
  return {
    type: "line",
    title: "Squared error against the scale",
    description: `‖W − αB‖² ÷ ‖W‖² is 100${NBSP}% at α = 0. Its least is ${kinds.map((kind, i) => `${format.percent(error(kind, 1))} at α = ${format.number(kind.best)} with ${["binary", "ternary"][i]} weights`).join(" and ")}; at twice that α it is 100${NBSP}% again.`,
    x: { label: "scale α", min: 0 },
    y: { label: "error, of ‖W‖²", format: "percent", min: 0, max: 1 },
    series: [curve("binary", filter.binary), curve("ternary", filter.ternary), least],
    marker: { x: share * form.best, label: "here", y: [error(form, share)] },
    drag: { control: "percent", at: PERCENTS.map((percent) => (percent / 100) * form.best) },
  };
}

/** W, αB and what is between them: the channels side by side, each the size of the kernel. */
function pictures({ shape: [channels, rows, columns] }, filter, form, alpha) {
  const across = Math.ceil(Math.sqrt(channels));
  const [width, height] = [across * columns, Math.ceil(channels / across) * rows];
  const peak = 3 * filter.binary.best; // in full color; the largest would leave the rest pale
  const image = (label, value) => {
    const values = new Array(width * height).fill(0);
    filter.w.forEach((w, i) => {
      const [channel, place] = [Math.floor(i / (rows * columns)), i % (rows * columns)];
      const [y, x] = [Math.floor(channel / across) * rows + Math.floor(place / columns), (channel % across) * columns + (place % columns)];
      values[y * width + x] = value(w, i) / peak;
    });
    return { label, values, rows: height, cols: width };
  };
  return {
    type: "grid",
    wide: true,
    title: "The filter, its signs times α, and what is lost",
    description: `${channels} channels of ${rows} × ${columns} weights side by side. Positive numbers in one color, negative ones in another.`,
    images: [image("W", (w) => w), image("αB", (_, i) => alpha * form.b[i]), image("W − αB", (w, i) => w - alpha * form.b[i])],
    max: 1,
  };
}

export function compute(data, state, format) {
  const made = prepare(data);
  const filter = made.filters.find(({ name }) => name === state.filter);
  const form = filter[state.weights];
  const share = state.percent / 100;
  const n = made.x.length;
  const alpha = share * form.best;
  const two = state.weights === TERNARY;
  const nbytes = made.words * (data.word / BYTE) * (two ? 2 : 1) + 4; // the last for α
  const results = { alpha, error: error(form, share), kept: form.kept, nbytes, ...products(made, filter.w, form, alpha) };

  const number = (value) => format.number(value);
  const best = state.percent === 100;
  const sentence = `${filter.name}: ${state.weights} weights with α = ${number(alpha)}, ${state.percent}${NBSP}% of the best, lose ${format.percent(results.error)} of ‖W‖²${best ? ", the least of all α" : ""}.`;
  const split = best ? "the least that any α leaves" : `${format.percent(error(form, 1))} that no α removes, and ${format.percent(results.error - error(form, 1))} because this α is not the best`;
  const details =
    `With ${state.weights} weights B${two ? `, of which ${format.count(n - form.kept)} of ${format.count(n)} are 0,` : ""} ${filter.name} is off by ${format.percent(results.error)} of ‖W‖²: ${split}. ` +
    `Its product with the patch, x·W, is ${number(results.exact)}. With αB it is ${number(results.real_input)}, and with the signs of x and the mean of |x|, K = ${number(made.mean)}, it is ${number(results.scaled)}.`;

  const charts = [histogram(filter, form, alpha, two ? data.ratio * filter.binary.best : 0, format), parabolas(filter, form, share, format), pictures(made, filter, form, alpha)];
  const tables = () => {
    const rows = made.filters.map((each) => {
      const found = products(made, each.w, each[state.weights], share * each[state.weights].best);
      return [each.name, number(found.exact), number(found.real_input), number(found.scaled)];
    });
    return [{ caption: `Products with the patch of ${n} numbers, α at ${state.percent}${NBSP}% of each filter's best`, columns: ["filter", "exact x·W", "α (x·B)", "αK (sign x·B)"], rows }];
  };
  return { sentence, spoken: `error ${format.percent(results.error)} with α at ${state.percent} percent`, details, results, charts, tables };
}
