// A 1×1 convolution of M → N channels, then a k×k convolution in t towers: from Inception to Xception. Chapter 16.
// No biases, stride 1, padded, so that the feature maps keep their size; MACs as in compress_lib.cost.

export const labels = {
  towers: ["towers", "count"],
  relative: ["of one full convolution", "percent"],
  extreme: ["at t = N", "percent"],
  break_even: ["break-even t", "number"],
  params: ["parameters", "count"],
  pointwise_params: ["parameters, 1 × 1", "count"],
  spatial_params: ["parameters, towers", "count"],
  full_params: ["parameters, full convolution", "count"],
  macs: ["multiply–adds", "count"],
  pointwise_macs: ["MACs, 1 × 1", "count"],
  spatial_macs: ["MACs, towers", "count"],
  full_macs: ["MACs, full convolution", "count"],
};

const MILLION = 1e6;

const some = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

function greatestCommonDivisor(a, b) {
  return b ? greatestCommonDivisor(b, a % b) : a;
}

/** a / b in lowest terms. */
function fraction(a, b) {
  const common = greatestCommonDivisor(a, b);
  return b === common ? `${a / common}` : `${a / common}/${b / common}`;
}

/** Parameters of the parts, and of what they are compared with. */
function costs({ inputs, channels, towers, kernel }) {
  const area = kernel ** 2;
  return {
    pointwise: inputs * channels,
    spatial: (channels * channels * area) / towers,
    full: inputs * channels * area,
    depthwise: inputs * area, // before the 1×1, on its inputs
  };
}

/** The curve of the cost against t, both axes in powers of two: the numbers on them are logarithms. */
function curve({ inputs, channels, kernel, towers, divisors, choices, relative, breakEven }, format) {
  const share = (t) => {
    const { pointwise, spatial, full } = costs({ inputs, channels, towers: t, kernel });
    return (pointwise + spatial) / full;
  };
  const y = divisors.map((t) => Math.log2(share(t)));
  const x = divisors.map(Math.log2);
  const ends = [0, x.at(-1)];
  const pointwise = -2 * Math.log2(kernel);
  const top = Math.max(1, Math.ceil(y[0]));
  const depth = top - Math.floor(pointwise);
  const low = top - (depth > 8 && depth <= 10 ? 11 : depth); // so that the ticks are whole powers
  const series = [
    { label: "1 × 1 and towers", x, y, draw: "both" },
    { label: "the 1 × 1 alone", x: ends, y: [pointwise, pointwise] },
    { label: "one full convolution", x: ends, y: [0, 0] },
  ];
  if (breakEven >= 1) series.push({ label: `break-even, t = ${format.number(breakEven)}`, x: [Math.log2(breakEven)], y: [0], draw: "points" });
  return {
    type: "line",
    title: "Cost against towers, both axes logarithmic",
    description: `Parameters, and multiply–adds, relative to one full convolution: ${divisors.map((t) => `${format.percent(share(t))} with ${some(t, "tower")}`).join(", ")}. The 1 × 1 alone: ${format.percent(2 ** pointwise)}. Break-even at t = ${format.number(breakEven)}.`,
    x: { label: "towers t", format: "power_of_two", whole: true },
    y: { label: "cost ÷ full convolution", format: "percent_of_power", min: low, max: top },
    series,
    marker: { x: Math.log2(towers), label: `t = ${towers}`, y: [Math.log2(relative)] },
    ...(choices && { drag: { control: "towers", at: choices.map(Math.log2) } }),
  };
}

export function compute(data, state, format) {
  const { channels_in: inputs, channels_out: channels, kernel, size } = state;
  const divisors = Array.from({ length: channels }, (_, i) => i + 1).filter((t) => channels % t === 0);
  const possible = (wanted) => divisors.findLast((t) => t <= wanted);
  const towers = possible(state.towers);
  const choices = data.towers?.map(possible); // for each place of the slider
  const shape = { inputs, channels, towers, kernel };
  const { pointwise, spatial, full, depthwise } = costs(shape);
  const positions = size ** 2;
  const params = pointwise + spatial;
  const relative = params / full;
  const extreme = (pointwise + costs({ ...shape, towers: channels }).spatial) / full;
  const area = kernel ** 2;
  const breakEven = (channels * area) / (inputs * (area - 1));
  const results = {
    towers,
    relative,
    extreme,
    break_even: breakEven,
    params,
    pointwise_params: pointwise,
    spatial_params: spatial,
    full_params: full,
    macs: params * positions,
    pointwise_macs: pointwise * positions,
    spatial_macs: spatial * positions,
    full_macs: full * positions,
  };

  const k = `${kernel} × ${kernel}`;
  const width = channels / towers;
  const missing = towers === state.towers ? "" : `Not ${state.towers}: ${channels} channels allow `;
  const sentence = `${missing}${some(towers, "tower")}${towers === channels ? ", one for each channel" : ""}: ${format.percent(relative)} of a full ${k} of ${inputs} → ${channels}, ${format.count(results.macs)} multiply–adds at ${size} × ${size}.`;
  const refused = state.towers > channels ? `${state.towers} towers would be more than the ${channels} channels. ` : `${channels} channels do not split into ${state.towers} equal towers; these are ${towers}. `;
  const kind = towers === 1 ? "an ordinary convolution after a 1 × 1" : towers === channels ? "a filter for each channel, the “extreme” Inception module" : `of ${some(width, "channel")} each`;
  const cheaper = divisors.find((t) => t * inputs * (area - 1) > channels * area);
  const details =
    `${missing && refused}${some(towers, "tower")}, ${kind}: ${format.count(params)} parameters, of which ${format.count(pointwise)} are in the 1 × 1 convolution ` +
    `${inputs} → ${channels}. With the towers that is ${format.percent(relative)} of one full ${k} convolution: ` +
    `N/(tM) + 1/k² = ${fraction(channels, towers * inputs)} + 1/${area}. ` +
    `It is cheaper than the full one from t = ${cheaper} on${breakEven < 1 ? "" : ` (break-even ${format.number(breakEven)})`}; ` +
    `at t = N = ${channels} it costs ${channels === inputs ? "1/N" : "1/M"} + 1/k² = ${format.percent(extreme)}.`;

  const names = [`one full ${k}`, `1 × 1, then ${some(towers, "tower")}`];
  const bars = [full, params, pointwise, spatial].map((n) => (n * positions) / MILLION);
  const charts = [
    {
      type: "towers",
      wide: true,
      title: `1 × 1, then ${some(towers, "tower")}: areas are weights`,
      description: `${inputs} channels go into a 1 × 1 convolution that makes ${channels}. These are dealt to ${some(towers, "tower")} of ${some(width, "channel")}; each has a ${k} convolution that reads and writes ${width === 1 ? "its channel" : `its ${width} channels`} alone. Of the weights of one full ${k} convolution, a dashed frame, the 1 × 1 has ${format.percent(pointwise / full)} and the towers ${format.percent(spatial / full)}.`,
      owner: data,
      ...{ inputs, channels, towers, kernel },
      choices,
    },
    curve({ inputs, channels, kernel, towers, divisors, choices, relative, breakEven }, format),
    {
      type: "bars",
      title: "Multiply–adds in millions",
      description: `${names[0]}: ${format.number(bars[0])}; ${names[1]}: ${format.number(bars[1])}, of which the 1 × 1 ${format.number(bars[2])} and the towers ${format.number(bars[3])}.`,
      labels: [...names, "of it the 1 × 1", "of it the towers"],
      values: bars,
    },
  ];
  const row = (name, n) => [name, format.count(n), format.count(n * positions), format.percent(n / full)];
  const rows = [row(names[0], full), row(names[1], params)];
  if (towers < channels) rows.push(row(`1 × 1, then ${channels} towers`, extreme * full));
  rows.push(row(`${k} on each input, then 1 × 1`, depthwise + pointwise));
  const caption = `${inputs} → ${channels} channels of ${size} × ${size}`;
  const tables = [{ caption, columns: ["design", "parameters", "multiply–adds", "÷ full"], rows }];
  return { sentence, spoken: `${some(towers, "tower")}: ${format.percent(relative)} of a full convolution`, details, results, charts, tables };
}

export const play = { control: "towers", interval: 900 };

const ASKED = { channels_in: 256, channels_out: 256, kernel: 3, size: 14 };
export const predict = {
  question: "A 3 × 3 layer of 256 → 256 channels gets 4 towers. How many times cheaper does it get with 256 towers?",
  kind: "number",
  unit: "×",
  min: 1,
  max: 300,
  show: { ...ASKED, towers: 256 },
  answer: (at) => at({ ...ASKED, towers: 4 }).macs / at({ ...ASKED, towers: 256 }).macs,
};
