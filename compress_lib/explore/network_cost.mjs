// What a convolution costs: output size, parameters, multiply-adds, bytes. Chapter 01.
// Activations and weights are float32; MACs leave the bias out, as in compress_lib.cost.

export const labels = {
  output: ["output height = width", "count"],
  params: ["parameters", "count"],
  macs: ["multiply–adds", "count"],
  weight_bytes: ["weights", "bytes"],
  activation_bytes: ["activations, in + out", "bytes"],
  intensity: ["MACs per byte moved", "number"],
  saving: ["fewer MACs than with one group", "times"],
  bound_ms: ["the roofline’s least time, ms", "number"],
};

const FLOAT = 4;

const BY = " × ";

/** One layer's numbers; `side` and `output` are the heights (= widths) of its input and output. */
function layer({ side, output, inputs, outputs, kernel, groups, bias }) {
  const weights = (kernel * kernel * inputs * outputs) / groups;
  const params = weights + (bias ? outputs : 0);
  const macs = weights * output * output;
  const bytes = [inputs * side * side, params, outputs * output * output].map((count) => FLOAT * count); // of input, weights and output
  return { params, macs, bytes, intensity: macs / (bytes[0] + bytes[1] + bytes[2]) };
}

const NONE = { params: null, macs: null, bytes: [0, 0, 0], intensity: null }; // where there is no such layer

/** What is wrong with a layer, or nothing. */
function refusal({ size, channels_in: inputs, channels_out: outputs, kernel, groups }, padding) {
  const which = [inputs % groups ? `${inputs} input channels` : "", outputs % groups ? `${outputs} output channels` : ""].filter(Boolean);
  if (which.length) return `There is no such layer: ${groups} groups do not divide ${which.join(" or ")} evenly.`;
  if (kernel > size + 2 * padding) return `There is no such layer: a ${kernel}${BY}${kernel} kernel does not fit into a ${size}${BY}${size} image padded by ${padding}.`;
  return "";
}

/** This layer, the same with one group, and the two halves of a depthwise separable one. */
function designs(state, padding, refused) {
  const { size, channels_in: inputs, channels_out: outputs, kernel, stride, groups } = state;
  const output = kernel > size + 2 * padding ? null : Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const shape = { side: size, output, inputs, outputs, kernel, groups, bias: state.bias === "yes" };
  const whole = { output, now: refused ? NONE : layer(shape) };
  if (output === null) return { ...whole, ungrouped: NONE, depthwise: NONE, pointwise: NONE };
  return {
    ...whole,
    ungrouped: layer({ ...shape, groups: 1 }),
    depthwise: layer({ ...shape, outputs: inputs, groups: inputs }),
    pointwise: layer({ ...shape, side: output, kernel: 1, groups: 1 }),
  };
}

/** Where the layer, and what could stand in its place, stand under the roof of the machine that was measured. */
function underTheRoof({ peak, bandwidth, threads }, { now, ungrouped, depthwise, pointwise }, format) {
  const points = Object.entries({ "one group": ungrouped, depthwise, [`1${BY}1`]: pointwise }).map(([label, { intensity }]) => ({ label, intensity }));
  const words = ({ label, intensity }) => `${label} ${format.number(intensity)}`;
  const here = now.intensity === null ? null : { label: "this layer", intensity: now.intensity };
  const found = [...(here ? [here] : []), ...points.filter(({ intensity }) => intensity !== null)];
  return {
    type: "roofline",
    title: "Under the roofline of the chapter’s machine",
    description: `With ${threads} thread${threads === 1 ? "" : "s"} at most ${format.number(peak / 1e9)} billion multiply–adds a second, and ${format.number(bandwidth / 1e9)} for each multiply–add per byte: the ridge is at ${format.number(peak / bandwidth)} per byte. Multiply–adds per byte: ${found.map(words).join(", ") || "none"}.`,
    peak,
    bandwidth,
    named: "this layer",
    here,
    points: points.filter(({ intensity }) => intensity !== null),
  };
}

export const predict = {
  question: `A 3${BY}3 layer from 64 to 64 channels gets 64 groups. By what factor do the bytes moved fall?`,
  kind: "number",
  unit: "×",
  min: 1,
  max: 64,
  show: { size: 28, channels_in: 64, channels_out: 64, kernel: 3, stride: 1, padding: "same", bias: "yes", groups: 64 },
  answer: (at) => {
    const [before, after] = [1, 64].map((groups) => at({ ...predict.show, groups }));
    const bytes = ({ weight_bytes, activation_bytes }) => weight_bytes + activation_bytes;
    return bytes(before) / bytes(after);
  },
};

export function compute(data, state, format) {
  const { size, channels_in: inputs, channels_out: outputs, kernel, stride, groups } = state;
  const padding = state.padding === "same" ? Math.floor(kernel / 2) : state.padding;
  const refused = refusal(state, padding);
  const found = designs(state, padding, refused);
  const { output, now, ungrouped, depthwise, pointwise } = found;
  const separable = { params: depthwise.params + pointwise.params, macs: depthwise.macs + pointwise.macs };
  const roof = data.roofline;
  const [input_bytes, weight_bytes, output_bytes] = now.bytes;
  const bound = roof && !refused ? now.macs / Math.min(roof.peak, roof.bandwidth * now.intensity) : null;
  const results = {
    output,
    params: now.params,
    macs: now.macs,
    weight_bytes,
    activation_bytes: input_bytes + output_bytes,
    intensity: now.intensity,
    saving: ungrouped.macs / now.macs,
    bound_ms: bound === null ? null : 1000 * bound,
  };
  if (refused) Object.keys(results).forEach((name) => (results[name] = null));

  const shapes = `${inputs}${BY}${size}${BY}${size} becomes ${outputs}${BY}${output}${BY}${output}`;
  const limit = roof && !refused ? `: ${now.intensity < roof.peak / roof.bandwidth ? "it waits for memory" : "arithmetic limits it"}, at least ${format.number(results.bound_ms)} ms` : "";
  const sentence = refused || `${shapes}: ${format.count(now.macs)} multiply–adds, ${format.number(now.intensity)} per byte moved${limit}.`;
  const heavier = weight_bytes > results.activation_bytes ? "The weights outweigh the activations" : "The activations outweigh the weights";
  const details = refused ? "" : `${format.count(now.params)} parameters, ${format.count(now.macs)} multiply–adds, ${format.number(now.intensity)} per byte moved. ${heavier}.`;

  const [all, names] = [[now, ungrouped, separable], ["this layer", "one group", `depthwise, then 1${BY}1`]];
  const counts = (key) => all.map((design) => design[key] ?? 0);
  const charts = [
    {
      type: "layer",
      wide: true,
      title: "The filter slides over the input",
      description: refused || `${shapes} by ${outputs} filters of ${inputs / groups}${BY}${kernel}${BY}${kernel}, moved by ${stride}. Heights are in proportion, and so are depths, the channels. Bytes moved: input ${format.bytes(input_bytes)}, weights ${format.bytes(weight_bytes)}, output ${format.bytes(output_bytes)}.`,
      owner: data,
      ...{ side: size, output: refused ? null : output, inputs, outputs, kernel, padding, stride, groups },
      macs: now.macs,
      bytes: now.bytes,
    },
    ...(roof ? [underTheRoof(roof, found, format)] : []),
    {
      type: "bars",
      title: "Multiply–adds of three designs of this size",
      description: names.map((name, i) => `${name}: ${all[i].macs === null ? "none" : format.count(all[i].macs)}`).join("; ") + ".",
      labels: names,
      values: counts("macs"),
      format: "count",
    },
  ];
  const cell = (value) => (value === null ? "–" : format.count(value));
  const tables = () => [{ caption: "The same input and output, three designs", columns: ["design", "parameters", "multiply–adds"], rows: names.map((name, i) => [name, cell(all[i].params), cell(all[i].macs)]) }];
  return { sentence, spoken: refused ? "there is no such layer" : `${format.count(now.macs)} multiply–adds, ${format.number(now.intensity)} per byte`, details, results, charts, tables };
}
