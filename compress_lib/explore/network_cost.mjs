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
};

const FLOAT = 4;

/** One layer's numbers; `side` and `output` are the heights (= widths) of its input and output. */
function layer({ side, output, inputs, outputs, kernel, groups, bias }) {
  const weights = (kernel * kernel * inputs * outputs) / groups;
  const params = weights + (bias ? outputs : 0);
  const macs = weights * output * output;
  const input_bytes = FLOAT * inputs * side * side;
  const output_bytes = FLOAT * outputs * output * output;
  return { params, macs, weight_bytes: FLOAT * params, input_bytes, output_bytes };
}

export function compute(data, state, format) {
  const { size, channels_in: inputs, channels_out: outputs, kernel, stride, groups } = state;
  const padding = state.padding === "same" ? Math.floor(kernel / 2) : state.padding;
  const none = (sentence) => ({ sentence, results: Object.fromEntries(Object.keys(labels).map((name) => [name, null])) });
  if (inputs % groups || outputs % groups) {
    const which = [inputs % groups ? `${inputs} input channels` : "", outputs % groups ? `${outputs} output channels` : ""];
    return none(`There is no such layer: ${groups} groups do not divide ${which.filter(Boolean).join(" or ")} evenly.`);
  }
  if (kernel > size + 2 * padding) {
    return none(`There is no such layer: a ${kernel} × ${kernel} kernel does not fit into a ${size} × ${size} image padded by ${padding}.`);
  }
  const output = Math.floor((size + 2 * padding - kernel) / stride) + 1;
  const bias = state.bias === "yes";
  const shape = { side: size, output, inputs, outputs, kernel, groups, bias };
  const this_ = layer(shape);
  const ungrouped = layer({ ...shape, groups: 1 });
  const depthwise = layer({ ...shape, outputs: inputs, groups: inputs });
  const pointwise = layer({ ...shape, side: output, kernel: 1, groups: 1 });
  const separable = { params: depthwise.params + pointwise.params, macs: depthwise.macs + pointwise.macs };

  const activation_bytes = this_.input_bytes + this_.output_bytes;
  const results = {
    output,
    params: this_.params,
    macs: this_.macs,
    weight_bytes: this_.weight_bytes,
    activation_bytes,
    intensity: this_.macs / (activation_bytes + this_.weight_bytes),
    saving: ungrouped.macs / this_.macs,
  };
  const heavier = this_.weight_bytes > activation_bytes ? "The weights outweigh the activations" : "The activations outweigh the weights";
  const sentence =
    `${inputs} × ${size} × ${size} becomes ${outputs} × ${output} × ${output}: ${format.count(results.params)} parameters, ` +
    `${format.count(results.macs)} multiply–adds, ${format.number(results.intensity)} per byte moved. ${heavier}.`;
  const parts = [this_.input_bytes, this_.weight_bytes, this_.output_bytes];
  const designs = [this_, ungrouped, separable];
  const names = ["this layer", "one group", "depthwise, then 1 × 1"];
  return {
    sentence,
    results,
    charts: [
      {
        type: "bars",
        title: "Bytes moved for one image",
        description: `Input ${format.bytes(parts[0])}, weights ${format.bytes(parts[1])}, output ${format.bytes(parts[2])}.`,
        labels: ["input", "weights", "output"],
        values: parts,
        format: "bytes",
      },
      {
        type: "bars",
        title: "Multiply–adds of three designs of this size",
        description: names.map((name, i) => `${name}: ${format.count(designs[i].macs)}`).join("; ") + ".",
        labels: names,
        values: designs.map((design) => design.macs),
        format: "count",
      },
    ],
    tables: [
      {
        caption: "The same input and output, three designs",
        columns: ["design", "parameters", "multiply–adds"],
        rows: names.map((name, i) => [name, format.count(designs[i].params), format.count(designs[i].macs)]),
      },
    ],
  };
}
