// Which inputs an output sees through stacked 1×1 group convolutions, with a shuffle between them or without. Chapter 15.
// The shuffle is compress_lib.models.shufflenet.channel_shuffle; the layers have no bias; MACs as in compress_lib.cost.

export const labels = {
  seen: ["inputs that this output sees", "count"],
  fewest: ["fewest that any output sees", "count"],
  complete: ["outputs that see all inputs", "count"],
  groups: ["groups", "count"],
  params: ["parameters", "count"],
  params_one_group: ["parameters, one group", "count"],
  macs: ["multiply–adds", "count"],
  macs_one_group: ["multiply–adds, one group", "count"],
};

const MOST_LAYERS = 4;

const upTo = (n) => Array.from({ length: n }, (_, i) => i);
const some = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** For each place that a layer reads, the output of the layer before that stands there. */
const sources = (channels, groups, shuffled) => upTo(channels).map((place) => (shuffled ? (place % groups) * (channels / groups) + Math.floor(place / groups) : place));

/** Back from outputs of the last layer: for each layer, the first layer first, which places it reads and what it writes. */
function trace(channels, groups, layers, shuffled, outputs) {
  const size = channels / groups;
  const from = sources(channels, groups, shuffled);
  const steps = [];
  for (let writes = outputs; steps.length < layers; ) {
    const active = new Set(writes.map((k) => Math.floor(k / size)));
    const reads = upTo(channels).filter((place) => active.has(Math.floor(place / size)));
    steps.unshift({ reads, writes });
    writes = reads.map((place) => from[place]).sort((a, b) => a - b);
  }
  return steps;
}

/** How many inputs the outputs of each group see; those of one group read the same. */
const counts = (channels, groups, layers, shuffled) => upTo(groups).map((group) => trace(channels, groups, layers, shuffled, [(group * channels) / groups])[0].reads.length);

/** [0, 1, 2, 5] as "0–2, 5". */
function ranges(numbers) {
  const runs = [];
  for (const n of numbers) {
    if (runs.length && runs.at(-1)[1] === n - 1) runs.at(-1)[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([a, b]) => (a === b ? a : `${a}–${b}`)).join(", ");
}

/** Why the output sees no more, or all. */
function reason({ channels, groups, layers, shuffled, seen }) {
  const size = channels / groups;
  const sizes = `c/g = ${size}`;
  if (groups === 1) return "With one group every output reads every channel.";
  if (layers === 1) return `A single layer has nothing to shuffle: an output reads the ${sizes} ${size === 1 ? "channel" : "channels"} of its own group.`;
  if (!shuffled) return `Without a shuffle the groups never meet: ${sizes}, however many layers.`;
  if (size >= groups) return `${sizes} ≥ g = ${groups}, so each group reads channels from all groups: one shuffle mixes fully.`;
  const further = layers > 2 ? `, ${layers - 1} shuffles ${seen}` : "";
  return `${sizes} < g = ${groups}, so a group has room for channels from only ${size} of the groups: one shuffle reaches (c/g)² = ${size ** 2} of the inputs${further}.`;
}

/** The trace in words, for those who cannot see the lines. */
function story(steps, { channels, from, output }) {
  const words = (places) => (places.length === channels ? `all ${channels}` : ranges(places));
  const told = steps.map(({ reads }, i) => {
    if (i === 0) return `layer 1 reads inputs ${words(reads)}`;
    return `layer ${i + 1} reads places ${words(reads)}, where outputs ${words(reads.map((p) => from[p]).sort((a, b) => a - b))} of layer ${i} stand`;
  });
  return `Inputs at the top, outputs at the bottom. Back from output ${output}: ${told.reverse().join("; ")}.`;
}

/** One slider to play: with each layer more inputs lead to the output. */
export const play = { control: "layers", interval: 1500 };

export const predict = {
  question: "24 channels in 8 groups, two layers, a shuffle between them: how many of the 24 inputs does an output see?",
  kind: "number",
  result: "seen",
  max: 24,
  show: { channels: 24, groups: 8, layers: 2, shuffle: "on" },
};

export function compute(data, state, format) {
  const { channels, layers } = state;
  const divisors = upTo(channels + 1).filter((n) => n && channels % n === 0);
  const groups = divisors.findLast((n) => n <= state.groups);
  const output = Math.min(state.output, channels - 1);
  const shuffled = state.shuffle === "on";
  const steps = trace(channels, groups, layers, shuffled, [output]);
  const seen = steps[0].reads.length;
  const all = counts(channels, groups, layers, shuffled);
  const params = (layers * channels ** 2) / groups;
  const positions = data.size ** 2;
  const results = {
    seen,
    fewest: Math.min(...all),
    complete: all.filter((n) => n === channels).length * (channels / groups),
    groups,
    params,
    params_one_group: params * groups,
    macs: params * positions,
    macs_one_group: params * groups * positions,
  };

  const missing = [
    groups === state.groups ? "" : `${channels} channels have no ${state.groups} equal groups; this is ${groups}. `,
    output === state.output ? "" : `There is no output ${state.output}; the last is ${output}. `,
  ].join("");
  const through = `${some(layers, "layer")} of ${some(groups, "group")}${layers === 1 ? "" : shuffled ? ", shuffled" : ", not shuffled"}`;
  const cost = groups === 1 ? `They have ${format.count(params)} parameters and make ${format.count(results.macs)} multiply–adds.` : `The cost is 1/${groups} of that with one group: ${format.count(params)} parameters and ${format.count(results.macs)} multiply–adds.`;
  const sentence = `${missing}Output ${output} sees ${seen} of ${channels} inputs through ${through}.`;
  const spoken = `output ${output} sees ${seen} of ${channels} inputs`;
  const details = `${reason({ channels, groups, layers, shuffled, seen })} ${cost}`;

  const from = sources(channels, groups, shuffled);
  const depths = upTo(MOST_LAYERS).map((i) => i + 1);
  const growth = (on) => depths.map((depth) => trace(channels, groups, depth, on, [output])[0].reads.length);
  const series = [
    { label: "with shuffle", x: depths, y: growth(true), draw: "both" },
    { label: "without", x: depths, y: growth(false), draw: "both" },
  ];
  const here = `g = ${groups}`;
  const charts = [
    {
      type: "wiring",
      wide: true,
      title: `${some(channels, "channel")}, ${some(layers, "layer")} of ${some(groups, "group")}`,
      description: story(steps, { channels, from, output }),
      owner: data, // the same object as long as the reader moves the controls
      channels,
      groups,
      from,
      shuffled,
      steps,
      output,
    },
    {
      type: "line",
      title: `Inputs that output ${output} sees`,
      description: series.map(({ label, y }) => `${label}: ${y.join(", ")}`).join("; ") + ` of ${channels} inputs after 1 to ${MOST_LAYERS} layers.`,
      x: { label: "layers", whole: true },
      y: { label: "inputs seen", min: 0, max: channels },
      series,
      marker: { x: layers, label: "here", y: [seen] },
      drag: { control: "layers" },
    },
    {
      type: "bars",
      title: `Multiply–adds at ${data.size} × ${data.size}`,
      description: `${here}: ${format.count(results.macs)}; g = 1: ${format.count(results.macs_one_group)}.`,
      labels: [here, "g = 1"],
      values: [results.macs, results.macs_one_group],
      format: "count",
    },
  ];
  const row = (g) => {
    const size = channels / g;
    const fewest = depths.map((depth) => Math.min(...counts(channels, g, depth, true)));
    return [g === groups ? `${g}, here` : g, size, size >= g ? "yes" : "no", ...fewest];
  };
  const tables = () => [
    {
      caption: `Inputs of ${channels} that an output sees, with shuffles; the fewest, if outputs differ`,
      columns: ["groups g", "c/g", "c/g ≥ g", ...depths.map((depth) => some(depth, "layer"))],
      rows: divisors.map(row),
    },
    {
      caption: `${some(layers, "layer")} over ${channels} channels of ${data.size} × ${data.size}`,
      columns: ["cost", here, "g = 1", "saving"],
      rows: [
        ["parameters", format.count(params), format.count(params * groups), format.times(groups)],
        ["multiply–adds", format.count(results.macs), format.count(results.macs_one_group), format.times(groups)],
      ],
    },
  ];
  return { sentence, spoken, details, results, charts, tables };
}
