// Real filters in one bit or two, and their product with a patch of signs, word by word. Chapter 08.
// B has the signs of W (compress_lib.binary.binarization), or these with 0 wherever |W| ≤ 0.7 mean |W| (its ternary); the best
// α is the mean magnitude of what is not 0. Elements are in the order of compress_lib.ops' packed weights: each place of
// the kernel has words of its own, of 64 channels each.

export const labels = {
  alpha: ["scale α", "number"],
  error: ["error, of ‖W‖²", "percent"],
  kept: ["weights not 0", "count"],
  nbytes: ["filter, packed", "bytes"],
  agree: ["popcount so far", "count"],
  signs: ["sign x·B so far", "number"],
  scaled: ["αK (sign x·B)", "number"],
  real_input: ["α (x·B)", "number"],
  exact: ["exact x·W", "number"],
};

const TERNARY = "ternary";
const BINS = 48;
const BYTE = 8;
const NBSP = "\u00a0";
const BLANK = "\u2012"; // as wide as a digit
const ENDS = [1, 1.5, 2, 2.5, 3, 3.5, 5, 6, 7.5, 10]; // of an axis around 0 that has ticks on both sides

const sign = (value) => (value >= 0 ? 1 : -1);
const sum = (values) => values.reduce((a, b) => a + b, 0);
const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

/** Signs of the weights, or signs and zeros, with the best scale and the part of ‖W‖² that this explains. */
function approximate(w, power, threshold) {
  const b = w.map((value) => (Math.abs(value) > threshold ? sign(value) : 0));
  const kept = sum(b.map(Math.abs));
  const best = sum(b.map((value, i) => value * w[i])) / kept;
  return { b, kept, best, explained: (kept * best ** 2) / power };
}

const prepared = new WeakMap();

/** Patch, filters and words in the order of the products, once per explorer. */
function prepare(data) {
  if (prepared.has(data)) return prepared.get(data);
  const [channels, rows, columns] = data.patch.shape;
  const words = [];
  for (let place = 0; place < rows * columns; place += 1)
    for (let first = 0; first < channels; first += data.word)
      words.push({ place, first, start: place * channels + first, count: Math.min(data.word, channels - first) });
  const arrange = (values) => words.flatMap(({ place, first, count }) => Array.from({ length: count }, (_, i) => values[(first + i) * rows * columns + place]));
  const filters = data.filters.map(({ name, values }) => {
    const w = arrange(values);
    const power = sum(w.map((value) => value ** 2));
    const binary = approximate(w, power, -1);
    return { name, w, binary, ternary: approximate(w, power, data.ratio * binary.best) };
  });
  const x = arrange(data.patch);
  const made = { x, filters, words, columns, mean: sum(x.map(Math.abs)) / x.length };
  prepared.set(data, made);
  return made;
}

/** After each number of elements in `steps`: the popcount of agreeing signs, and the sums of the three products. */
function walk(x, w, { b }, alpha, mean, steps) {
  let [agree, signs, real, exact, i] = [0, 0, 0, 0, 0];
  return steps.map((step) => {
    for (; i < step; i += 1) {
      agree += b[i] !== 0 && sign(x[i]) === b[i];
      signs += sign(x[i]) * b[i];
      real += x[i] * b[i];
      exact += x[i] * w[i];
    }
    return { agree, signs, scaled: alpha * mean * signs, real_input: alpha * real, exact };
  });
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
  };
}

/** Real numbers and signs of the word that is being multiplied, eight to a row. */
function pictures({ x, mean }, filter, form, share, word, name, done) {
  const cols = Math.min(BYTE, word.count);
  const rows = Math.ceil(word.count / cols);
  const [peakX, peakW] = [3 * mean, 3 * filter.binary.best]; // in full color; the largest would leave the rest pale
  const image = (label, value) => {
    const values = Array.from({ length: rows * cols }, (_, i) => (i < word.count ? value(word.start + i) : 0));
    return { label, values, rows, cols };
  };
  const { w } = filter;
  const { b, best } = form;
  return {
    type: "grid",
    wide: true,
    title: `${name}, eight channels to a row`,
    description: `Positive numbers in one color, negative ones in another: of the input and of the filter, each with its signs. Last, where the signs multiplied so far agree and where they differ.`,
    images: [
      image("x", (i) => x[i] / peakX),
      image("sign x", (i) => sign(x[i])),
      image("W", (i) => w[i] / peakW),
      image("αB", (i) => (share * best * b[i]) / peakW),
      image("XNOR", (i) => (i < done ? sign(x[i]) * b[i] : 0)),
    ],
    max: 1,
  };
}

/** The bits of the word, a row for each byte multiplied so far. */
function bits(x, { b }, word, done, name, two) {
  const agrees = (i) => b[i] === sign(x[i]);
  let agree = Array.from({ length: word.start }, (_, i) => i).filter(agrees).length;
  const rows = [];
  for (let start = word.start; start < done; start += BYTE) {
    const places = Array.from({ length: Math.min(BYTE, word.start + word.count - start) }, (_, i) => start + i);
    const written = (bit) => places.map((i) => Number(bit(i))).join("");
    const kept = (bit) => places.map((i) => (b[i] === 0 ? BLANK : Number(bit(i)))).join("");
    agree += places.filter(agrees).length;
    const [from, to] = [places[0], places.at(-1)].map((i) => i - word.start + word.first);
    rows.push([from === to ? from : `${from}–${to}`, written((i) => x[i] >= 0), kept((i) => b[i] > 0), kept(agrees), agree]);
  }
  const caption = `${name}: 1 for +1, 0 for −1${two ? `, ${BLANK} for no product` : ""}`;
  return { caption, columns: ["channel", "sign x", "B", "XNOR", "ones"], rows };
}

export function compute(data, state, format) {
  const { x, filters, words, columns, mean } = prepare(data);
  const filter = filters.find(({ name }) => name === state.filter);
  const form = filter[state.weights];
  const share = state.percent / 100;
  const done = state.elements;
  const n = x.length;
  const alpha = share * form.best;
  const two = state.weights === TERNARY;
  const path = walk(x, filter.w, form, alpha, mean, data.steps);
  const now = path[data.steps.indexOf(done)];
  const nbytes = words.length * (data.word / 8) * (two ? 2 : 1) + 4; // the last for α
  const results = { alpha, error: error(form, share), kept: form.kept, nbytes, ...now };

  const number = (value) => format.number(value);
  const counted = sum(form.b.slice(0, done).map(Math.abs));
  const least = format.percent(error(form, 1));
  const split = state.percent === 100 ? "the least that any α leaves" : `${least} that no α removes, and ${format.percent(results.error - error(form, 1))} because this α is not the best`;
  const sentence =
    `With ${state.weights} weights B${two ? `, of which ${format.count(n - form.kept)} of ${format.count(n)} are 0,` : ""} and α = ${number(alpha)}, ${state.percent}${NBSP}% of the best, ` +
    `${filter.name} is off by ${format.percent(results.error)} of ‖W‖²: ${split}. ` +
    `Of the first ${format.count(done)} of ${format.count(n)} products, ${two ? `${format.count(counted)} are not with a 0, and ${format.count(now.agree)} of these` : format.count(now.agree)} have equal signs: ` +
    `2${NBSP}·${NBSP}${now.agree} − ${counted} = ${number(now.signs)}. Times α and the mean of |x|, K = ${number(mean)}, that is ${number(now.scaled)}; exactly, x·W is ${number(now.exact)}${done < n ? " so far" : ""}.`;

  const at = Math.max(0, words.findLastIndex(({ start }) => start < done));
  const word = words[at];
  const name = `Word ${at + 1} of ${words.length}, kernel place (${Math.floor(word.place / columns)}, ${word.place % columns})`;
  const series = [
    ["exact x·W", "exact"],
    ["α (x·B)", "real_input"],
    ["αK (sign x·B)", "scaled"],
  ].map(([label, key]) => ({ label, x: data.steps, y: path.map((point) => point[key]) }));
  const charts = [
    histogram(filter, form, alpha, two ? data.ratio * filter.binary.best : 0, format),
    parabolas(filter, form, share, format),
    pictures({ x, mean }, filter, form, share, word, name, done),
    {
      type: "line",
      wide: true,
      title: "The sum so far",
      description: series.map(({ label, y }) => `${label}: ${number(y[data.steps.indexOf(done)])} after ${done} elements, ${number(y.at(-1))} after all ${n}`).join("; ") + ".",
      x: { label: "elements multiplied", whole: true },
      y: { label: "sum", max: Math.max(1e-30, ...series.flatMap(({ y }) => y)) }, // an axis, even where all is 0
      series,
      marker: { x: done, label: "here", y: [now.exact, now.real_input, now.scaled] },
    },
  ];
  const ends = filters.map((each) => {
    const kind = each[state.weights];
    const [end] = walk(x, each.w, kind, share * kind.best, mean, [n]);
    return [each.name, number(end.exact), number(end.real_input), number(end.scaled)];
  });
  const tables = [
    bits(x, form, word, done, name, two),
    { caption: `All ${n} elements, α at ${state.percent}${NBSP}% of each filter's best`, columns: ["filter", ...series.map(({ label }) => label)], rows: ends },
  ];
  return { sentence, results, charts, tables };
}
