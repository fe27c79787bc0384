// Parameters and multiply-adds of SqueezeNet 1.0 against the squeeze ratio and the share of 3×3 filters. Chapter 13.
// Iandola et al. 2016, arXiv 1602.07360. Convolutions have biases; MACs leave these out, as in compress_lib.cost. All
// widths are multiples of 128, so every setting makes whole numbers of filters.

export const labels = {
  params: ["parameters", "count"],
  nbytes: ["in float32", "bytes"],
  macs: ["multiply–adds", "count"],
  fewer_than_alexnet: ["fewer parameters than AlexNet", "times"],
  fewer_than_plain: ["fewer than with plain 3\u00a0×\u00a03", "times"],
  macs_to_alexnet: ["multiply–adds, of AlexNet’s", "times"],
  fire_params: ["parameters of this fire module", "count"],
  fire_macs: ["its multiply–adds", "count"],
  accuracy: ["measured accuracy, small net", "percent"],
};

const FLOAT = 4;
const MILLION = 1e6;
const NBSP = "\u00a0";
const STEPS = 16; // of the squeeze ratio, up to 1
const TAPS = 9;
const PERCENTS = Array.from({ length: 9 }, (_, i) => 12.5 * i); // of the slider: PERCENTS in squeeze_ratio.py
const HALF = 50;
const BY = `${NBSP}×${NBSP}`;
const KINDS = ["squeeze", `expand 1${BY}1`, `expand 3${BY}3`, "the rest"];

const sum = (values) => values.reduce((a, b) => a + b, 0);

/** One convolution that has a bias for each filter. */
const layer = (filters, inputs, taps, positions) => ({ filters, params: filters * (inputs * taps + 1), macs: filters * inputs * taps * positions });

/** The three convolutions of a fire module. */
function fire({ inputs, width, side }, ratio, percent) {
  const [s, e3] = [ratio * width, (percent / 100) * width];
  return [layer(s, inputs, 1, side ** 2), layer(width - e3, s, 1, side ** 2), layer(e3, s, TAPS, side ** 2)];
}

const together = (parts) => ({ params: sum(parts.map((part) => part.params)), macs: sum(parts.map((part) => part.macs)) });

/** The network by kind of layer: squeeze, expand 1×1, expand 3×3, the rest. */
function network(data, ratio, percent) {
  const fires = data.fires.map((each) => fire(each, ratio, percent));
  return [...[0, 1, 2].map((kind) => together(fires.map((parts) => parts[kind]))), data.rest];
}

/** 0.125 as 1/8. */
function fraction(ratio) {
  const gcd = (a, b) => (b ? gcd(b, a % b) : a);
  const top = Math.round(ratio * STEPS);
  const common = gcd(top, STEPS);
  return common === STEPS ? "1" : `${top / common}/${STEPS / common}`;
}

/** "48.8× fewer", or "1.2× more". */
const fewer = (ratio, format) => (ratio < 1 ? `${format.times(1 / ratio)} more` : `${format.times(ratio)} fewer`);

/** Parameters against the ratio, for three shares of 3×3 filters, beside the plain network. */
function curves(data, state, now, plain, format) {
  const line = (label, y) => ({ label, x: data.ratios, y });
  const shares = [0, HALF, 100].map((percent) => line(`${percent}${NBSP}% 3${BY}3`, data.ratios.map((ratio) => together(network(data, ratio, percent)).params / MILLION)));
  const ends = ({ y }) => `${format.number(y[0])} to ${format.number(y.at(-1))} million`;
  return {
    type: "line",
    title: "Parameters against the squeeze ratio",
    description: `From a squeeze ratio of 1/16 to 1: ${shares.map((each) => `${each.label} ${ends(each)}`).join("; ")}. With plain 3 × 3 convolutions ${format.number(plain.params / MILLION)} million.`,
    x: { label: "squeeze ratio", min: 0, max: 1 },
    y: { label: "parameters, millions", min: 0 },
    series: [...shares, line(`plain 3${BY}3`, data.ratios.map(() => plain.params / MILLION))],
    marker: { x: state.ratio, label: "here", y: [now.params / MILLION] },
    drag: { control: "ratio", at: data.ratios },
  };
}

/** The measured accuracies, on an axis that shows their differences; none of them is at another share of 3×3. */
function accuracies(data, state, accuracy, format) {
  const [x, y] = [0, 1].map((i) => data.measured.map((pair) => pair[i]));
  const low = Math.floor(100 * Math.min(...y) - 1e-9) / 100; // so that the axis has a length even where all are equal
  const high = Math.ceil(100 * Math.max(...y)) / 100;
  return {
    type: "line",
    wide: true,
    title: `Measured accuracy of squeezenet-small, half of the expand filters 3${BY}3`,
    description: `${x.map((ratio, i) => `squeeze ratio ${fraction(ratio)}: ${format.percent(y[i])}`).join("; ")}. The axis does not start at 0.`,
    x: { label: "squeeze ratio", min: 0, max: 1 },
    y: { label: "accuracy", format: "percent", min: Math.max(0, low), max: Math.max(high, 0.01) },
    series: [{ label: "squeezenet-small", x, y, draw: "both" }],
    marker: { x: state.ratio, label: state.percent === HALF ? "here" : `here, but at 50${NBSP}% 3${BY}3`, y: accuracy === null ? [] : [accuracy] },
    drag: { control: "ratio", at: data.ratios },
  };
}

/** SqueezeNet as in its paper, against AlexNet. */
const PAPER = { ratio: 1 / 8, percent: HALF };
export function predict(data, format) {
  const { params } = together(network(data, PAPER.ratio, PAPER.percent));
  return {
    question: `SqueezeNet 1.0 has ${format.times(data.alexnet.params / params)} fewer parameters than AlexNet. Its multiply–adds are how many times AlexNet’s?`,
    kind: "number",
    unit: "×",
    min: 0.001,
    max: 100,
    result: "macs_to_alexnet",
    show: PAPER,
  };
}

export function compute(data, state, format) {
  const { ratio, percent } = state;
  const parts = network(data, ratio, percent);
  const now = together(parts);
  const plain = together([...data.fires.map(({ inputs, width, side }) => layer(width, inputs, TAPS, side ** 2)), data.rest]);
  const chosen = data.fires.find(({ name }) => name === state.fire);
  const pieces = fire(chosen, ratio, percent);
  const module = together(pieces);
  const instead = layer(chosen.width, chosen.inputs, TAPS, chosen.side ** 2);
  const measured = data.measured.find(([at]) => at === ratio);
  const accuracy = percent === HALF && measured ? measured[1] : null;
  const results = {
    params: now.params,
    nbytes: FLOAT * now.params,
    macs: now.macs,
    fewer_than_alexnet: data.alexnet.params / now.params,
    fewer_than_plain: plain.params / now.params,
    macs_to_alexnet: now.macs / data.alexnet.macs,
    fire_params: module.params,
    fire_macs: module.macs,
    accuracy,
  };

  const largest = (key) => parts.reduce((best, part, i) => (part[key] > parts[best][key] ? i : best), 0);
  const most = (key) => `${KINDS[largest(key)]} (${format.percent(parts[largest(key)][key] / now[key])})`;
  const [s, e1, e3] = pieces.map((piece) => piece.filters);
  const verb = s < chosen.inputs ? "squeezes" : s > chosen.inputs ? "does not squeeze but widens" : "does not squeeze but passes";
  const sentence = `SR = ${fraction(ratio)}, ${percent}${NBSP}% 3${BY}3: ${format.count(now.params)} parameters, ${fewer(results.fewer_than_alexnet, format)} than AlexNet; ${chosen.name} ${verb} ${chosen.inputs} channels to ${s}.`;
  const details =
    `With SR = ${fraction(ratio)} and ${percent}${NBSP}% of the expand filters 3${BY}3, SqueezeNet 1.0 has ${format.count(now.params)} parameters, ${format.bytes(results.nbytes)} in float32: ` +
    `${fewer(results.fewer_than_alexnet, format)} than AlexNet, ${fewer(results.fewer_than_plain, format)} than with plain 3${BY}3 convolutions. ` +
    `${results.macs_to_alexnet > 1 ? "But its" : "Its"} ${format.count(now.macs)} multiply–adds are ${format.times(results.macs_to_alexnet)} AlexNet’s. ` +
    `The largest part of the parameters is ${most("params")}, of the multiply–adds ${most("macs")}. ` +
    `${chosen.name} ${verb} ${chosen.inputs} channels to ${s}, read by ${e1} filters of 1${BY}1 and ${e3} of 3${BY}3: ${fewer(instead.params / module.params, format)} parameters than a plain 3${BY}3 convolution.` +
    (accuracy === null ? "" : ` The measured accuracy of squeezenet-small with this ratio is ${format.percent(accuracy)}.`);

  const split = (key) => KINDS.map((kind, i) => `${kind}: ${format.count(parts[i][key])}, ${format.percent(parts[i][key] / now[key])}`).join("; ") + ".";
  const names = ["this network", `plain 3${BY}3`, "AlexNet"];
  const networks = [now, plain, data.alexnet];
  const charts = [
    {
      type: "fire",
      wide: true,
      title: `${chosen.name} at ${chosen.side}${BY}${chosen.side}: bundles of channels`,
      description: `${chosen.inputs} channels go through ${s} filters of 1${BY}1 (${format.count(pieces[0].params)} parameters). All ${s} lead to ${e1} filters of 1${BY}1 (${format.count(pieces[1].params)}) and to ${e3} of 3${BY}3 (${format.count(pieces[2].params)}), which make ${chosen.width} channels. A plain 3${BY}3 convolution would have ${format.count(instead.params)} parameters, the module has ${format.count(module.params)}.`,
      inputs: chosen.inputs,
      squeezed: s,
      ones: e1,
      threes: e3,
      params: pieces.map((piece) => piece.params),
      plain: instead.params,
      ratios: data.ratios,
      percents: PERCENTS,
    },
    { type: "bars", title: "Where the parameters are", description: split("params"), labels: KINDS, values: parts.map((part) => part.params), format: "count" },
    { type: "bars", title: "Where the multiply–adds are, in millions", description: split("macs"), labels: KINDS, values: parts.map((part) => part.macs / MILLION) },
    curves(data, state, now, plain, format),
    {
      type: "bars",
      title: "Three networks in float32",
      description: names.map((name, i) => `${name}: ${format.bytes(FLOAT * networks[i].params)}`).join("; ") + ".",
      labels: names,
      values: networks.map(({ params }) => FLOAT * params),
      format: "bytes",
    },
  ];
  if (data.measured.length) charts.push(accuracies(data, state, accuracy, format));
  const cells = ({ params, macs }) => [format.count(params), format.count(macs)];
  const tables = () => [
    { caption: "The whole network", columns: ["part", "parameters", "multiply–adds"], rows: [...parts.map((part, i) => [KINDS[i], ...cells(part)]), ["total", ...cells(now)]] },
    {
      caption: `${chosen.name}: ${chosen.inputs} to ${chosen.width} channels at ${chosen.side}${BY}${chosen.side}`,
      columns: ["part", "filters", "parameters", "multiply–adds"],
      rows: [...pieces.map((piece, i) => [KINDS[i], piece.filters, ...cells(piece)]), ["total", s + e1 + e3, ...cells(module)], [`plain 3${BY}3`, instead.filters, ...cells(instead)]],
    },
    {
      caption: "Beside other networks",
      columns: ["network", "float32", "parameters", "multiply–adds"],
      rows: names.map((name, i) => [name, format.bytes(FLOAT * networks[i].params), ...cells(networks[i])]),
    },
  ];
  const spoken = `${format.count(now.params)} parameters, ${fewer(results.fewer_than_alexnet, format)} than AlexNet`;
  return { sentence, spoken, details, results, charts, tables };
}
