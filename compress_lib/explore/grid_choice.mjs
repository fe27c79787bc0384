// Bits, range and rounding of a quantizer, on real weights and activations. Chapter 05.
// The range [−t, t], or what of it the numbers reach, gets the grid of compress_lib.quantization.integer.affine's `choose_qparams`;
// every number is rounded as by its `fake_quantize`, in float32. Clipped is what has no gradient there: its code, before
// the clamp, is none of the grid's. So a number up to half a step beyond the last level still counts as rounded.

export const labels = {
  scale: ["step Δ of the grid", "number"],
  levels: ["levels in use", "count"],
  clipped: ["values clipped", "count"],
  mse: ["mean squared error", "number"],
  rounding: ["of it, rounding", "number"],
  predicted: ["Δ²/12 predicts", "number"],
  clipping: ["of it, clipping", "number"],
  sqnr: ["signal to noise, dB", "number"],
};

const SYMMETRIC = "symmetric";
const BINS = 120;
const NBSP = "\u00a0";

/** To the nearest whole number, from the middle between two to the even one; below 2^51. */
const round = (value) => value + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Scale, zero point and codes for numbers in [low, high]: symmetric ones without the lowest code, or unsigned ones. */
function parameters(low, high, bits, symmetric) {
  const highest = symmetric ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  const lowest = symmetric ? -highest : 0;
  const [from, to] = [Math.min(low, 0), Math.max(high, 0)];
  const exact = symmetric ? Math.max(from / lowest, to / highest) : (to - from) / (highest - lowest);
  const scale = Math.fround(Math.max(exact, 2 ** -126));
  return { scale, lowest, highest, zero: symmetric ? 0 : clamp(round(lowest - from / scale), lowest, highest) };
}

/** The grid at this range and what it does to the numbers: mean squared errors, clipped numbers, levels in use. */
function quantize(tensor, bits, percent, symmetric) {
  const { values, low, high } = tensor;
  const t = (percent / 100) * Math.max(-low, high);
  const grid = symmetric ? parameters(-t, t, bits, true) : parameters(Math.max(low, -t), Math.min(high, t), bits, false);
  const { scale, lowest, highest, zero } = grid;
  const inverse = Math.fround(1 / scale);
  const used = new Uint8Array(highest - lowest + 1);
  let [rounding, clipping, clipped] = [0, 0, 0];
  for (const x of values) {
    const wanted = round(Math.fround(x * inverse)) + zero;
    const code = clamp(wanted, lowest, highest);
    const error = (Math.fround((code - zero) * scale) - x) ** 2;
    used[code - lowest] = 1;
    if (code === wanted) rounding += error;
    else {
      clipping += error;
      clipped += 1;
    }
  }
  const n = values.length;
  const predicted = ((1 - clipped / n) * scale ** 2) / 12;
  const levels = used.reduce((a, b) => a + b, 0);
  return { ...grid, percent, levels, clipped, predicted, rounding: rounding / n, clipping: clipping / n, mse: (rounding + clipping) / n };
}

const prepared = new WeakMap();

/** Each tensor with its numbers, and memory for its sweeps, once per explorer. */
function prepare(data) {
  if (!prepared.has(data)) {
    const open = ({ name, values }) => {
      const count = values.length;
      const power = values.reduce((a, x) => a + x * x, 0) / count;
      const zeros = values.reduce((a, x) => a + (x === 0), 0);
      return { name, values, low: values[0], high: values[count - 1], power, zeros, sweeps: new Map() };
    };
    prepared.set(data, data.tensors.map(open));
  }
  return prepared.get(data);
}

/** `quantize` at every range of the slider, and the one with the least error. */
function sweep(tensor, bits, percents, symmetric) {
  const key = `${bits} ${symmetric}`;
  if (!tensor.sweeps.has(key)) {
    const all = percents.map((percent) => quantize(tensor, bits, percent, symmetric));
    tensor.sweeps.set(key, { all, best: all.reduce((a, b) => (b.mse < a.mse ? b : a)) });
  }
  return tensor.sweeps.get(key);
}

const decibels = (power, mse) => (mse > 0 ? 10 * Math.log10(power / mse) : null);

/** 0.0000123 as 1.23 × 10⁻⁵. */
function scientific(value, format) {
  if (value === 0 || (value >= 0.001 && value < 1000)) return format.number(value);
  const [digits, power] = value.toExponential(2).split("e");
  const raised = Array.from(power.replace("+", ""), (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  return `${digits}${NBSP}×${NBSP}10${raised}`;
}

/** How many numbers are in each bin, zeros left out where they are a spike; remembered for the last bins. */
function binned(tensor, from, width, spike) {
  const key = `${from} ${width}`;
  if (tensor.bins?.key !== key) {
    const counts = new Array(BINS).fill(0);
    for (const x of tensor.values) if (x !== 0 || !spike) counts[Math.min(BINS - 1, Math.floor((x - from) / width))] += 1;
    tensor.bins = { key, counts };
  }
  return tensor.bins.counts;
}

/** The numbers, what is clipped of them hatched, and the levels as ticks that hang from the axis. */
function histogram(tensor, now, percents, format) {
  const { name, values, zeros } = tensor;
  const level = (code) => (code - now.zero) * now.scale;
  const reach = now.lowest < 0 ? Math.max(-tensor.low, tensor.high) : 0; // a symmetric grid shows the half it may waste
  const from = Math.min(tensor.low, -reach, level(now.lowest));
  const to = Math.max(tensor.high, reach, level(now.highest));
  const width = (to - from) / BINS;
  const spike = zeros > values.length / 10; // as after a ReLU: it would dwarf the rest
  const counts = Array.from(binned(tensor, from, width, spike));
  const edges = Array.from({ length: BINS + 1 }, (_, i) => from + i * width);
  const outside = (x) => x < level(now.lowest - 0.5) || x > level(now.highest + 0.5);
  const off = counts.map((_, i) => outside(from + (i + 0.5) * width));
  // Bars may follow in any order and go below zero, so each level is one more: a step to its left edge, which is empty,
  // and the tick itself.
  const depth = -0.07 * Math.max(...counts);
  const half = Math.min((to - from) / 300, now.scale / 4);
  for (let code = now.lowest; code <= now.highest; code += 1) {
    edges.push(level(code) - half, level(code) + half);
    counts.push(0, depth);
  }
  edges.push(to);
  counts.push(0);
  const number = (x) => format.number(x);
  return {
    type: "histogram",
    wide: true,
    title: `${name}${spike ? `, without the ${format.percent(zeros / values.length)} that are 0` : ""}`,
    description: `Histogram of ${name}, from ${number(tensor.low)} to ${number(tensor.high)}. The ${now.highest - now.lowest + 1} levels of the grid, ${number(now.scale)} apart, run from ${number(level(now.lowest))} to ${number(level(now.highest))}; ${format.count(now.clipped)} values beyond are clipped.`,
    x: { label: "value; ticks are the grid's levels" },
    y: { label: "values", format: "count" },
    edges,
    values: counts,
    off,
    markers: [
      { x: level(now.lowest), label: "" },
      { x: level(now.highest), label: `${now.percent}${NBSP}%` },
    ],
    key: ["rounded", "clipped"],
    drag: { control: "percent", at: percents.map((percent) => (percent / 100) * Math.max(-tensor.low, tensor.high)), mirror: true },
  };
}

/** Errors against the range, in powers of ten; parts far below the least error are left out. */
function curve({ all, best }, now, bits, format) {
  const floor = Math.log10(Math.min(...all.map((point) => point.mse || Infinity))) - 1;
  const series = (label, part, points) => {
    const shown = points.filter((point) => Math.log10(point[part]) >= floor);
    return { label, x: shown.map((point) => point.percent / 100), y: shown.map((point) => Math.log10(point[part])), draw: points.length > 1 ? "line" : "points" };
  };
  return {
    type: "line",
    title: `Error against range, at ${bits} bits`,
    description: `Mean squared error from ${scientific(all[0].mse, format)} at ${all[0].percent}${NBSP}% of the largest magnitude to ${scientific(all.at(-1).mse, format)} at ${all.at(-1).percent}${NBSP}%; the least, ${scientific(best.mse, format)}, is at ${best.percent}${NBSP}%.`,
    x: { label: "range ÷ largest magnitude", format: "percent", min: 0, max: 1 },
    y: { label: "log₁₀ of squared error", min: floor, max: Math.log10(Math.max(...all.map((point) => point.mse))) },
    series: [series("together", "mse", all), series("rounding", "rounding", all), series("clipping", "clipping", all), series(`least, at ${best.percent}${NBSP}%`, "mse", [best])],
    marker: { x: now.percent / 100, label: "here", y: now.mse > 0 ? [Math.log10(now.mse)] : [] },
  };
}

/** The best range at two bits. */
export function predict(data) {
  const [{ name }] = data.tensors;
  const best = () => sweep(prepare(data)[0], 2, data.percents, true).best.percent;
  return {
    question: `With 2 bits for the ${name}, which part of the range gives the least squared error?`,
    kind: "number",
    unit: "%",
    max: 100,
    answer: best,
    show: () => ({ bits: 2, percent: best(), grid: SYMMETRIC, tensor: name }),
  };
}

export function compute(data, state, format) {
  const tensor = prepare(data).find(({ name }) => name === state.tensor);
  const symmetric = state.grid === SYMMETRIC;
  const swept = sweep(tensor, state.bits, data.percents, symmetric);
  const now = swept.all[data.percents.indexOf(state.percent)];
  const { scale, levels, rounding, clipping, mse, predicted } = now;
  const results = { scale, levels, clipped: now.clipped, mse, rounding, predicted, clipping, sqnr: decibels(tensor.power, mse) };

  const written = (value) => scientific(value, format);
  const [n, size] = [tensor.values.length, now.highest - now.lowest + 1];
  const least =
    swept.best.percent === now.percent
      ? `At ${state.bits} bits, no other range of the slider does better.`
      : `At ${state.bits} bits the least error, ${written(swept.best.mse)}, is at ${swept.best.percent}${NBSP}%.`;
  const share = mse > 0 ? `, ${format.percent(rounding / mse)} of it from rounding` : "";
  const sentence = `At ${state.bits} bits over ${state.percent}${NBSP}% of the range, levels are ${format.number(scale)} apart; the mean squared error is ${written(mse)}${share}.`;
  const spoken = `squared error ${written(mse)}${share}`;
  const details =
    `The ${state.grid} grid has ${size} levels, ${levels === size ? "all" : levels} of them in use; it clips ${format.count(now.clipped)} of ${format.count(n)} values. ` +
    `Of the error, ${written(rounding)} is from rounding, where Δ²/12 predicts ${written(predicted)}, and ${written(clipping)} from clipping. ${least}`;

  const parts = ["rounding", "rounding, as Δ²/12 predicts", "clipping"];
  const errors = [rounding, predicted, clipping];
  const charts = [
    histogram(tensor, now, data.percents, format),
    { ...curve(swept, now, state.bits, format), drag: { control: "percent", at: data.percents.map((percent) => percent / 100) } },
    {
      type: "bars",
      title: "Mean squared error, in parts",
      description: parts.map((part, i) => `${part}: ${written(errors[i])}`).join("; ") + ".",
      labels: parts,
      values: errors,
      off: [false, true, false],
    },
  ];
  const row = (bits) => {
    const { all, best } = sweep(tensor, bits, data.percents, symmetric);
    const noise = (mean) => (mean > 0 ? decibels(tensor.power, mean).toFixed(1).replace("-", "−") : "–");
    return [bits, best.highest - best.lowest + 1, noise(all.at(-1).mse), `${best.percent}${NBSP}%`, noise(best.mse)];
  };
  const columns = ["bits", "levels", "range 100 %", "best range", "dB there"];
  const tables = () => [{ caption: `${tensor.name}, ${state.grid} grid: signal to noise, dB`, columns, rows: data.bits.map(row) }];
  return { sentence, spoken, details, results, charts, tables };
}
