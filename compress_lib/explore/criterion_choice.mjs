// Which filters of a layer go under different criteria, and what it costs. Chapter 04.
// At a fraction f of n filters, the floor(f n) of lowest score go, never all; of equal scores the first goes first:
// compress_lib.pruning.channels.filters' prune. Huang et al. 2021, arXiv 2004.11627, ask how much the criteria agree.

export const labels = {
  removed: ["filters removed", "count"],
  overlap: ["also L1's choice", "count"],
  spearman: ["rank correlation with L1", "correlation"],
  accuracy: ["accuracy", "percent"],
  random: ["accuracy, random filters", "percent"],
  difference: ["difference from random", "points"],
};

const L1 = "L1 norm";
const RANDOM = "random";

/** Indices from the lowest score to the highest; equal scores stay in the order of the filters. */
const ascending = (scores) => Array.from(scores, (_, j) => j).sort((a, b) => scores[a] - scores[b]);

/** Ranks from 1; equal scores share the mean of their ranks. */
function ranks(scores) {
  const order = ascending(scores);
  const found = new Array(order.length);
  for (let i = 0, end; i < order.length; i = end) {
    for (end = i; end < order.length && scores[order[end]] === scores[order[i]]; ) end += 1;
    for (let k = i; k < end; k += 1) found[order[k]] = (i + 1 + end) / 2;
  }
  return found;
}

/** Spearman's rank correlation; null if one side ranks nothing. */
function spearman(one, other) {
  const centered = [one, other].map((scores) => ranks(scores).map((rank) => rank - (scores.length + 1) / 2));
  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  const norm = Math.sqrt(dot(centered[0], centered[0]) * dot(centered[1], centered[1]));
  return norm ? dot(...centered) / norm : null;
}

function curves(data, state, i, format) {
  const own = data.accuracy[state.criterion];
  const random = data.accuracy[RANDOM][state.recovery];
  const x = data.fractions;
  const series = Object.entries(own).map(([recovery, y]) => ({ label: `${state.criterion}, ${recovery}`, x, y, draw: "both" }));
  const deviation = data.deviation?.[state.recovery];
  const edge = (sign) => random.map((v, j) => Math.max(0, Math.min(1, v + sign * deviation[j])));
  const band = deviation && { low: edge(-1), high: edge(1) };
  series.push({ label: `random, ${state.recovery}${deviation ? ", ± 1 sd" : ""}`, x, y: random, draw: "both", band });
  return {
    type: "line",
    wide: true,
    title: "Measured accuracy",
    description: series.map((s) => `${s.label}: ${format.percent(s.y[i])}`).join("; ") + `; with ${data.percents[i]} % of the filters removed.`,
    x: { label: `filters of ${data.layer} removed`, format: "percent" },
    y: { label: "accuracy", format: "percent", min: 0, max: 1 },
    series,
    marker: { x: x[i], label: "here", y: [own[state.recovery][i], random[i]] },
    drag: { control: "percent", at: x },
  };
}

/** How many pairs of filters the two orders put the other way round: that many pairs of lines cross. */
function crossings(order, reference) {
  const place = [];
  reference.forEach((j, rank) => (place[j] = rank));
  let count = 0;
  for (let i = 1; i < order.length; i += 1) for (let k = 0; k < i; k += 1) count += place[order[k]] > place[order[i]];
  return count;
}

/** The question, with the largest fraction but one, and the recovery that repairs most. */
export function predict(data) {
  const percent = data.percents.at(-2);
  const recovery = Object.keys(data.accuracy[RANDOM]).at(-1);
  return {
    question: `${percent} % of the filters go at random; recovery: ${recovery}. What accuracy is left?`,
    kind: "number",
    min: 0,
    max: 100,
    result: "random",
    show: { percent, recovery },
  };
}

export function compute(data, state, format) {
  const scores = data.scores[state.criterion];
  const n = scores.length;
  const i = data.percents.indexOf(state.percent);
  const cuts = data.fractions.map((fraction) => Math.min(Math.floor(fraction * n + 1e-9), n - 1));
  const removed = cuts[i];
  const order = ascending(scores);
  const byL1 = ascending(data.scores[L1]);
  const gone = new Set(order.slice(0, removed));
  const reference = new Set(byL1.slice(0, removed));
  const overlap = [...gone].filter((j) => reference.has(j)).length;
  const correlation = spearman(scores, data.scores[L1]);
  const accuracy = data.accuracy[state.criterion][state.recovery][i];
  const random = data.accuracy[RANDOM][state.recovery][i];
  const difference = accuracy - random;
  const results = { removed, overlap, spearman: correlation, accuracy, random, difference };

  const followed = state.filter === undefined ? "" : ` Filter ${state.filter}: number ${byL1.indexOf(state.filter) + 1} from below under L1, ${order.indexOf(state.filter) + 1} here.`;
  const sentence = `${state.criterion} removes ${removed} of ${n}, ${overlap} of them also L1’s: ${format.percent(accuracy)} accuracy, ${format.percent(random)} at random.${followed}`;
  const deviation = data.deviation ? ` ± ${format.percent(data.deviation[state.recovery][i])}` : "";
  const agrees =
    state.criterion === L1
      ? ""
      : `; ${overlap} of them would go under L1 as well (${format.number((removed * removed) / n)} by chance), and ` +
        `${correlation === null ? "it ranks nothing" : `its rank correlation with L1 is ${format.correlation(correlation)}`}`;
  const details =
    `${state.criterion} removes ${removed} of the ${n} filters of ${data.layer}${agrees}. Recovery: ${state.recovery}. The network scores ` +
    `${format.percent(accuracy)}, and ${format.percent(random)}${deviation} if filters are drawn at random: a difference of ${format.points(difference)}.`;

  const both = (a, b) => order.map((_, j) => j).filter((j) => gone.has(j) === a && reference.has(j) === b);
  const list = (numbers) => numbers.join(", ") || "none";
  const crossed = crossings(order, byL1);
  const charts = [
    {
      type: "slope",
      wide: true,
      title: `${n} filters in the order of two criteria`,
      description: `A line joins the rank of each filter under L1 with that under ${state.criterion}; ${format.count(crossed)} of ${format.count((n * (n - 1)) / 2)} pairs of lines cross. Removed by both: ${list(both(true, true))}. Only by ${state.criterion}: ${list(both(true, false))}. Only by L1: ${list(both(false, true))}. The other filters stay.`,
      left: { label: L1, order: byL1 },
      right: { label: state.criterion, order },
      removed,
      cuts,
      filter: state.filter,
    },
    {
      type: "histogram",
      wide: true,
      title: `${state.criterion}, lowest first`,
      description: order.map((j) => `filter ${j}: ${format.number(scores[j])}${gone.has(j) ? ", removed" : ""}`).join("; ") + ".",
      x: { label: "rank of the filter", whole: true },
      y: { label: "score" },
      edges: [...order.map((_, rank) => rank + 0.5), n + 0.5],
      values: order.map((j) => scores[j]),
      off: order.map((_, rank) => rank < removed),
      gap: 0.25,
      key: ["kept", "removed"],
      ...(state.filter === undefined ? {} : { pick: { control: "filter", values: order } }),
    },
    curves(data, state, i, format),
  ];
  return { sentence, spoken: `${overlap} of ${removed} agree, ${format.percent(accuracy)} accuracy`, details, results, charts, tables: () => [table(data, state, i, reference, format)] };
}

/** All criteria beside L1 and beside chance. */
function table(data, state, i, reference, format) {
  const removed = reference.size;
  const rows = Object.entries(data.scores).map(([name, values]) => {
    const under = ascending(values).slice(0, removed);
    const rho = spearman(values, data.scores[L1]);
    return [name, under.filter((j) => reference.has(j)).length, rho === null ? "–" : format.correlation(rho), format.percent(data.accuracy[name][state.recovery][i])];
  });
  rows.push([RANDOM, "–", "–", format.percent(data.accuracy[RANDOM][state.recovery][i])]);
  return { caption: `All criteria, ${removed} filters removed; recovery: ${state.recovery}`, columns: ["criterion", "also L1's", "correlation", "accuracy"], rows };
}
