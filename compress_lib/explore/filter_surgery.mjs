// What is left of a network when filters of one convolution are removed. Chapter 03.
// Result 3.1: with a filter goes its slice of the convolution, its pair in the batch normalization, and what the next
// layer reads of it: compress_lib.pruning.surgery's remove. MACs leave bias and normalization out, as in compress_lib.cost.

export const labels = {
  layer_params: ["parameters, this layer", "count"],
  reader_params: ["parameters, its reader", "count"],
  params: ["parameters, network", "count"],
  nbytes: ["network, 4 bytes each", "bytes"],
  layer_macs: ["MACs, this layer", "count"],
  reader_macs: ["MACs, its reader", "count"],
  macs: ["MACs, network", "count"],
  accuracy: ["accuracy, as it is", "percent"],
  recovered: ["accuracy, recovered", "percent"],
};

const FLOAT = 4; // bytes of a float32 parameter

const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

/** The layers when `left` of the n filters stay: shape of the weight, parameters, multiply-adds. */
function parts({ layer, batch_norm, reader }, n, left) {
  const [filters, ...slice] = layer.shape;
  const [outputs, inputs, ...kernel] = reader.shape; // a linear reader has several inputs per filter
  const cost = ({ name, bias, positions }, shape, part) => ({ name, shape, params: product(shape) + bias * part, macs: product(shape) * positions });
  const list = [cost(layer, [(filters * left) / n, ...slice], left / n), cost(reader, [outputs, (inputs * left) / n, ...kernel], 1)];
  if (batch_norm) list.splice(1, 0, { name: batch_norm.name, shape: [], params: (batch_norm.params * left) / n, macs: 0 });
  return list;
}

/** [name, before, now, change] for the network and the layers in which there is something to count. */
function rows(before, now, what, format) {
  const row = (part, { shape, [what]: left }) => [shape.length ? `${part.name}, ${shape.join(" × ")}` : part.name, format.count(part[what]), format.count(left), format.percent(left / part[what] - 1)];
  return before.flatMap((part, i) => (part[what] ? [row(part, now[i])] : []));
}

function maps(data, image, gone, layer) {
  const [, n, height, width] = data.maps.shape;
  const size = height * width;
  const { scale, zero, peak } = data.pixels;
  const at = image * n * size;
  const values = (j) => Array.from(data.maps.slice(at + j * size, at + (j + 1) * size), (v) => (v - zero) * scale);
  const drawn = Array.from({ length: n }, (_, j) => ({ label: `${j}`, values: values(j), rows: height, cols: width, off: gone.has(j) }));
  const [, rows, cols] = data.images.shape;
  const picture = Array.from(data.images.slice(image * rows * cols, (image + 1) * rows * cols), (v) => (v / 255) * peak);
  const crossed = gone.size ? `crossed out: ${[...gone].sort((a, b) => a - b).join(", ")}` : "none is crossed out";
  return {
    type: "grid",
    wide: true,
    title: `What the ${n} filters of ${layer} make of the image`,
    description: `The image, and its ${n} feature maps of ${height} × ${width}, numbered by filter; ${crossed}.`,
    images: [{ label: "image", values: picture, rows, cols }, ...drawn],
    max: peak,
  };
}

/** What half of the filters of one layer are to the whole network. */
export function predict(data) {
  const removed = data.norms.length / 2;
  return {
    question: `You remove half of the filters of ${data.layer.name}. How much of the network’s multiply–adds goes with them?`,
    kind: "number",
    unit: "%",
    max: 100,
    answer: (at) => 100 * (1 - at({ removed }).macs / at({ removed: 0 }).macs),
    show: { removed },
  };
}

export function compute(data, state, format) {
  const n = data.norms.length;
  const removed = state.removed;
  const gone = new Set(data.orders[state.order].slice(0, removed));
  const before = [...parts(data, n, n), { name: "network", shape: [], ...data.network }];
  const now = parts(data, n, n - removed);
  const saved = (what) => now.reduce((sum, part, i) => sum + before[i][what] - part[what], 0);
  now.push({ name: "network", shape: [], params: data.network.params - saved("params"), macs: data.network.macs - saved("macs") });
  const [layer, reader, network] = [now[0], now.at(-2), now.at(-1)];
  const accuracy = data.accuracy[state.order][removed];
  const recovered = data.recovered ? data.recovered[state.order][removed] : null;
  const results = {
    layer_params: layer.params,
    reader_params: reader.params,
    params: network.params,
    nbytes: FLOAT * network.params,
    layer_macs: layer.macs,
    reader_macs: reader.macs,
    macs: network.macs,
    accuracy,
    recovered,
  };
  const lost = (what) => format.percent(1 - network[what] / data.network[what]);
  const sentence =
    `Without ${removed} of the ${n} filters of ${layer.name} (${state.order}) the network scores ${format.percent(accuracy)}` +
    `${recovered === null ? "" : `, and ${format.percent(recovered)} ${data.recovery}`}.`;
  const spoken = `${removed} filters removed, accuracy ${format.percent(accuracy)}`;
  const details =
    `${layer.name} keeps ${format.count(layer.params)} of ${format.count(before[0].params)} parameters, and ${reader.name}, which reads it, ` +
    `${format.count(reader.params)} of ${format.count(before.at(-2).params)}. The whole network loses ${lost("params")} of its parameters ` +
    `and ${lost("macs")} of its multiply–adds.`;

  const counts = Array.from({ length: n }, (_, i) => i);
  const series = Object.entries(data.accuracy).map(([label, y]) => ({ label, x: counts, y, draw: "both" }));
  if (data.recovered) series.push({ label: `${state.order}, ${data.recovery}`, x: counts, y: data.recovered[state.order], draw: "both" });
  const order = data.orders[state.order];
  // A click on a filter takes it and all before it, or puts it and all after it back; one filter stays.
  const upTo = counts.map((j) => order.indexOf(j) + (gone.has(j) ? 0 : 1)).map((count) => (count < n ? count : null));
  const charts = [
    { ...maps(data, data.names.indexOf(state.image), gone, layer.name), pick: { control: "removed", values: [null, ...upTo] } },
    {
      type: "histogram",
      title: `${data.norm} of each filter`,
      description: counts.map((j) => `${j}: ${format.number(data.norms[j])}${gone.has(j) ? ", removed" : ""}`).join("; ") + ".",
      x: { label: "filter", whole: true },
      y: { label: data.norm },
      edges: [...counts.map((j) => j - 0.5), n - 0.5],
      values: data.norms,
      off: counts.map((j) => gone.has(j)),
      pick: { control: "removed", values: upTo },
      gap: 0.25,
      key: ["kept", "removed"],
    },
    {
      type: "line",
      title: "Measured accuracy",
      description: series.map((s) => `${s.label}: ${format.percent(s.y[0])} with all filters, ${format.percent(s.y[removed])} with ${removed} removed, ${format.percent(s.y.at(-1))} with one left`).join("; ") + ".",
      x: { label: "filters removed", whole: true },
      y: { label: "accuracy", format: "percent", min: 0, max: 1 },
      series,
      marker: { x: removed, label: "here", y: [accuracy, recovered].filter((v) => v !== null) },
      drag: { control: "removed" },
    },
  ];
  const columns = ["layer, weight now", "before", "now", "change"];
  const tables = () => [
    { caption: "Parameters", columns, rows: rows(before, now, "params", format) },
    { caption: "Multiply–adds for one image", columns, rows: rows(before, now, "macs", format) },
  ];
  return { sentence, spoken, details, results, charts, tables };
}
