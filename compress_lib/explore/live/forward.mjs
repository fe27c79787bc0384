// The forward pass of the networks that the book stores as *.cnet files. Chapter 07.
//
//   network({metadata, tensors}) -> (levels) => logits
//
// takes what cnet.mjs decoded; `levels` are the gray levels of a square image, 0 to 255. A weight that is zero is not
// multiplied: each layer keeps its other weights in a list, which is what makes LeNet-5 quick enough to draw with.

const MEAN = 0.286; // of Fashion-MNIST's training pixels, as in compress_lib.data.normalize
const STD = 0.353;

export class UnknownNetwork extends Error {}

/** Planes of numbers, one after the other: what goes from layer to layer. */
const planes = (count, side) => ({ count, side, values: new Float64Array(count * side * side) });

/** In place. */
function relu(x) {
  for (let i = 0; i < x.values.length; i += 1) if (x.values[i] < 0) x.values[i] = 0;
  return x;
}

/** A fully connected layer; its input is read as one row. */
function linear(weight, bias) {
  const [outputs, inputs] = weight.shape;
  const rows = Array.from({ length: outputs }, (_, o) => nonzero(weight.values, o * inputs, inputs));
  return (x) => {
    const y = planes(outputs, 1);
    rows.forEach(({ at, values }, o) => {
      let sum = bias.values[o];
      for (let i = 0; i < at.length; i += 1) sum += values[i] * x.values[at[i]];
      y.values[o] = sum;
    });
    return y;
  };
}

/** Of `length` values from `from` on: those that are not zero, and where they are. */
function nonzero(values, from, length) {
  const at = [];
  for (let i = 0; i < length; i += 1) if (values[from + i] !== 0) at.push(i);
  return { at: Uint32Array.from(at), values: Float64Array.from(at, (i) => values[from + i]) };
}

/** A convolution with stride 1: each weight adds its input plane, shifted, to its output plane. */
function convolution(weight, bias, padding) {
  const [outputs, inputs, size] = weight.shape;
  const taps = Array.from({ length: outputs }, (_, o) => nonzero(weight.values, o * inputs * size * size, inputs * size * size));
  return (x) => {
    const wide = x.side + 2 * padding;
    const side = wide - size + 1;
    const padded = padding ? pad(x, padding) : x;
    const y = planes(outputs, side);
    taps.forEach(({ at, values }, o) => {
      const plane = y.values.subarray(o * side * side, (o + 1) * side * side).fill(bias.values[o]);
      for (let i = 0; i < at.length; i += 1) {
        const [channel, row, column] = [Math.floor(at[i] / size / size), Math.floor(at[i] / size) % size, at[i] % size];
        const start = channel * wide * wide + row * wide + column;
        for (let r = 0; r < side; r += 1) {
          for (let c = 0; c < side; c += 1) plane[r * side + c] += values[i] * padded.values[start + r * wide + c];
        }
      }
    });
    return y;
  };
}

/** Zeros around each plane. */
function pad(x, width) {
  const y = planes(x.count, x.side + 2 * width);
  for (let p = 0; p < x.count; p += 1) {
    for (let r = 0; r < x.side; r += 1) {
      const row = x.values.subarray((p * x.side + r) * x.side, (p * x.side + r + 1) * x.side);
      y.values.set(row, (p * y.side + r + width) * y.side + width);
    }
  }
  return y;
}

/** The largest of each window; a window at the edge may hang over, as in Caffe. */
function maxPool(x, size, stride) {
  const y = planes(x.count, Math.ceil((x.side - size) / stride) + 1);
  y.values.forEach((_, i) => {
    const [p, r, c] = [Math.floor(i / y.side / y.side), Math.floor(i / y.side) % y.side, i % y.side];
    let largest = -Infinity;
    for (let row = r * stride; row < Math.min(r * stride + size, x.side); row += 1) {
      for (let column = c * stride; column < Math.min(c * stride + size, x.side); column += 1) {
        largest = Math.max(largest, x.values[(p * x.side + row) * x.side + column]);
      }
    }
    y.values[i] = largest;
  });
  return y;
}

/** The planes of both, which have the same side. */
function concatenated(x, y) {
  const z = planes(x.count + y.count, x.side);
  z.values.set(x.values);
  z.values.set(y.values, x.values.length);
  return z;
}

/** The mean of each plane. */
function averages(x) {
  const y = planes(x.count, 1);
  const area = x.side * x.side;
  x.values.forEach((value, i) => (y.values[Math.floor(i / area)] += value / area));
  return y;
}

// Each builder takes its layers from the file by `layers`, which checks their shapes, and returns the forward pass.
const BUILDERS = {
  "lenet-300-100"(layers) {
    const [fc1, fc2, fc3] = [layers.linear("fc1", 784, 300), layers.linear("fc2", 300, 100), layers.linear("fc3", 100, 10)];
    return (x) => fc3(relu(fc2(relu(fc1(x)))));
  },

  "lenet-5"(layers) {
    const [conv1, conv2] = [layers.convolution("conv1", 1, 20, 5), layers.convolution("conv2", 20, 50, 5)];
    const [fc1, fc2] = [layers.linear("fc1", 800, 500), layers.linear("fc2", 500, 10)];
    const pool = (x) => maxPool(x, 2, 2);
    return (x) => fc2(relu(fc1(pool(conv2(pool(conv1(x)))))));
  },

  "squeezenet-small"(layers) {
    const fire = (name, inputs, squeezed, outputs) => {
      const squeeze = layers.convolution(`${name}.squeeze.0`, inputs, squeezed, 1);
      const expand1 = layers.convolution(`${name}.expand1x1.0`, squeezed, outputs / 2, 1);
      const expand3 = layers.convolution(`${name}.expand3x3.0`, squeezed, outputs / 2, 3, 1);
      return (x) => {
        const y = relu(squeeze(x));
        return concatenated(relu(expand1(y)), relu(expand3(y)));
      };
    };
    const pool = (x) => maxPool(x, 3, 2);
    const stem = layers.convolution("features.0.0", 1, 32, 3, 1);
    const early = [fire("features.2", 32, 8, 64), fire("features.3", 64, 8, 64)];
    const late = [fire("features.5", 64, 16, 128), fire("features.6", 128, 16, 128), fire("features.7", 128, 24, 192)];
    const scores = layers.convolution("scores", 192, 10, 1);
    const through = (fires, x) => fires.reduce((y, next) => next(y), x);
    return (x) => averages(scores(through(late, pool(through(early, pool(relu(stem(x))))))));
  },
};
// Options of the builders in compress_lib.models that change nothing here.
const ALLOWED = { "squeezenet-small": { batch_norm: false } };

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** The networks that can be run here. */
export const ARCHITECTURES = Object.keys(BUILDERS);

/** The forward pass of a decoded file; an UnknownNetwork says why there is none. */
export function network({ metadata, tensors }) {
  const refuse = (reason) => {
    throw new UnknownNetwork(reason);
  };
  const { architecture, options, form } = metadata;
  if (!ARCHITECTURES.includes(architecture)) refuse(`its architecture is ${JSON.stringify(architecture) ?? "not named"}; this page runs ${ARCHITECTURES.join(", ")}`);
  if (form) refuse(`it is in the form ${JSON.stringify(form.kind ?? form)}; this page runs ordinary weights`);
  if (!same(options ?? {}, ALLOWED[architecture] ?? {})) refuse(`it is built with the options ${JSON.stringify(options ?? {})}, which this page does not know`);

  const used = new Set();
  const take = (name, shape) => {
    const tensor = tensors.get(name) ?? refuse(`it has no tensor ${name}`);
    if (tensor.type !== "float32" || !same(tensor.shape, shape)) refuse(`its ${name} is ${tensor.type} of ${tensor.shape.join("×")}, not float32 of ${shape.join("×")}`);
    used.add(name);
    return tensor;
  };
  const forward = BUILDERS[architecture]({
    linear: (name, inputs, outputs) => linear(take(`${name}.weight`, [outputs, inputs]), take(`${name}.bias`, [outputs])),
    convolution: (name, inputs, outputs, size, padding = 0) => convolution(take(`${name}.weight`, [outputs, inputs, size, size]), take(`${name}.bias`, [outputs]), padding),
  });
  const unused = [...tensors.keys()].filter((name) => !used.has(name));
  if (unused.length) refuse(`it has a tensor ${unused[0]}, which ${architecture} does not have`);

  return (levels) => forward({ count: 1, side: Math.sqrt(levels.length), values: Float64Array.from(levels, (level) => (level / 255 - MEAN) / STD) }).values;
}

/** Probabilities of logits. */
export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
