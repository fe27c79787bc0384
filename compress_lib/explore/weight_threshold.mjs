// What a threshold of k standard deviations leaves of real weights. Chapter 02.
// A weight is removed where |w| < kσ, σ being the standard deviation of its layer: compress_lib.pruning.weights.magnitude's
// prune_by_sigma with center="zero". The bins of the data end at the slider's steps, so the counts are exact.

export const labels = {
  kept: ["weights kept", "count"],
  sparsity: ["sparsity", "percent"],
  dense_bytes: ["dense", "bytes"],
  csr_bytes: ["CSR", "bytes"],
  bitmask_bytes: ["bit mask + values", "bytes"],
  accuracy: ["accuracy, not retrained", "percent"],
  retrained: ["accuracy, retrained", "percent"],
};

const ALL = "all layers";
const VALUE = 4; // bytes of a float32 weight
const INDEX = 4; // bytes of a column index or a row offset

const REACH = 5; // standard deviations drawn on either side

const sum = (values) => Array.from(values).reduce((a, b) => a + b, 0);

/** Linear interpolation between measured points; null outside of them. */
function interpolate(x, xs, ys) {
  const i = xs.findIndex((v) => v >= x);
  if (i < 0 || (i === 0 && xs[0] > x)) return null;
  if (xs[i] === x) return ys[i];
  return ys[i - 1] + ((x - xs[i - 1]) / (xs[i] - xs[i - 1])) * (ys[i] - ys[i - 1]);
}

/** The bytes of the chosen layers: dense, in CSR, and as one bit per weight followed by the surviving values. */
function storage(layers, kept) {
  const rows = sum(layers.map((layer) => layer.rows + 1));
  const size = sum(layers.map((layer) => layer.size));
  const bits = sum(layers.map((layer) => Math.ceil(layer.size / 8)));
  return { dense_bytes: VALUE * size, csr_bytes: kept * (VALUE + INDEX) + rows * INDEX, bitmask_bytes: kept * VALUE + bits };
}

/** Signed histogram in units of σ, with the removed bins marked. */
function histogram(layers, cut, step, name, format) {
  const half = Math.round(REACH / step);
  const at = (counts, i) => sum(layers.map((layer) => layer[counts][i] ?? 0));
  const values = Array.from({ length: 2 * half }, (_, i) => (i >= half ? at("positive", i - half) : at("negative", half - 1 - i)));
  const edges = Array.from({ length: 2 * half + 1 }, (_, i) => (i - half) * step);
  const off = values.map((_, i) => (i >= half ? i - half : half - 1 - i) < cut);
  const k = Number((cut * step).toPrecision(6));
  const markers = cut ? [{ x: -k, label: "" }, { x: k, label: `${k} σ` }] : [];
  return {
    type: "histogram",
    title: `Weights of ${name}`,
    description: `Histogram of the weights of ${name} in standard deviations; the middle part, up to ${k} on either side of zero, is removed.`,
    x: { label: `weight ÷ σ of its layer, from ${format.number(-REACH)} to ${REACH}` },
    y: { label: "weights", format: "count" },
    edges,
    values,
    off,
    markers,
    key: ["kept", "removed"],
    drag: { control: "k", mirror: true },
  };
}

/** The first threshold at which CSR takes fewer bytes than the dense weights. */
export function predict(data) {
  const ks = Array.from({ length: Math.round(REACH / data.step) + 1 }, (_, i) => Number((i * data.step).toPrecision(6)));
  const isSmaller = ({ csr_bytes, dense_bytes }) => csr_bytes < dense_bytes;
  const breakEven = (at) => ks.find((k) => isSmaller(at({ k, layer: ALL })));
  return {
    question: "At how many σ does CSR begin to take fewer bytes than the dense weights?",
    kind: "number",
    unit: "σ",
    max: REACH,
    answer: breakEven,
    show: (at) => ({ k: breakEven(at), layer: ALL }),
    mark: "x",
  };
}

export function compute(data, state, format) {
  const layers = data.layers.filter((layer) => state.layer === ALL || layer.name === state.layer);
  const cut = Math.round(state.k / data.step); // whole bins below the threshold
  const size = sum(layers.map((layer) => layer.size));
  const removedOf = (layer) => sum(layer.positive.slice(0, cut)) + sum(layer.negative.slice(0, cut));
  const kept = size - sum(layers.map(removedOf));
  const sparsity = 1 - kept / size;
  const bytes = storage(layers, kept);
  const curve = data.curves[state.layer];
  const accuracy = curve ? interpolate(sparsity, curve.sparsity, curve.accuracy) : null;
  const retrained = curve?.retrained ? interpolate(sparsity, curve.sparsity, curve.retrained) : null;
  const results = { kept, sparsity, ...bytes, accuracy, retrained };

  const ratio = bytes.dense_bytes / bytes.csr_bytes;
  const csr = ratio > 1 ? `${format.times(ratio)} smaller` : `${format.times(1 / ratio)} larger`;
  let scores = "";
  if (accuracy !== null) scores = `The network scores ${format.percent(accuracy)} without retraining`;
  if (retrained !== null) scores += ` and ${format.percent(retrained)} after it`;
  const name = state.layer === ALL ? "all layers" : `layer ${state.layer}`;
  const sentence =
    `At ${format.number(state.k)} σ, ${format.count(kept)} of the ${format.count(size)} weights of ${name} are kept ` +
    `(${format.percent(kept / size)}); in CSR they take ${format.bytes(bytes.csr_bytes)}, ${csr} than dense.`;
  const spoken = `${format.percent(kept / size)} of the weights are kept, in CSR ${csr}`;
  const details = scores && `${scores}.`;

  const forms = ["dense", "CSR", "bit mask + values"];
  const sizes = [bytes.dense_bytes, bytes.csr_bytes, bytes.bitmask_bytes];
  const charts = [
    histogram(layers, cut, data.step, name, format),
    {
      type: "bars",
      title: "Bytes of these weights",
      description: forms.map((form, i) => `${form}: ${format.bytes(sizes[i])}`).join("; ") + ".",
      labels: forms,
      values: sizes,
      format: "bytes",
    },
  ];
  if (curve) {
    const series = [{ label: "not retrained", x: curve.sparsity, y: curve.accuracy, draw: "both" }];
    if (curve.retrained) series.push({ label: "retrained", x: curve.sparsity, y: curve.retrained, draw: "both" });
    const here = [accuracy, retrained].filter((v) => v !== null);
    charts.push({
      type: "line",
      title: "Measured accuracy",
      description: `Accuracy on the test images against the sparsity of ${name}, from ${format.percent(curve.accuracy[0])} at sparsity ${format.percent(curve.sparsity[0])} to ${format.percent(curve.accuracy.at(-1))} at ${format.percent(curve.sparsity.at(-1))}, without retraining.`,
      x: { label: `sparsity of ${name}`, format: "percent", min: 0, max: 1 },
      y: { label: "accuracy", format: "percent", min: 0, max: 1 },
      series,
      marker: { x: sparsity, label: "here", y: here },
    });
  }
  const shown = data.images;
  if (shown && (state.layer === ALL || state.layer === shown.layer)) {
    const layer = data.layers.find((candidate) => candidate.name === shown.layer);
    const [count, rows, cols] = shown.values.shape;
    const threshold = state.k * layer.sigma;
    const images = Array.from({ length: count }, (_, i) => {
      const values = shown.values.slice(i * rows * cols, (i + 1) * rows * cols).map((w) => (Math.abs(w) < threshold ? 0 : w));
      return { label: shown.labels[i], values, rows, cols };
    });
    charts.push({
      type: "grid",
      title: `What is left of some weights of ${shown.layer}`,
      description: `${count} units drawn as images of their ${rows} × ${cols} incoming weights; removed weights are blank.`,
      images,
      max: shown.max,
    });
  }
  const rows = data.layers.map((layer) => {
    const left = layer.size - removedOf(layer);
    return [layer.name, format.count(layer.size), format.count(left), format.percent(1 - left / layer.size)];
  });
  const tables = [{ caption: `Each layer at ${format.number(state.k)} σ`, columns: ["layer", "weights", "kept", "sparsity"], rows }];
  return { sentence, spoken, details, results, charts, tables };
}
