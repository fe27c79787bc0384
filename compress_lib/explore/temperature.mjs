// A teacher's and a student's logits, softened by a temperature. Chapter 12.
// p = softmax(v / T) and q = softmax(z / T), and the gradient of T² KL(p ‖ q), the loss of
// compress_lib.distillation.logits, in z: T (q − p). Without the factor T² it is (q − p) / T.

export const labels = {
  teacher_entropy: ["entropy of the teacher, bits", "number"],
  student_entropy: ["entropy of the student, bits", "number"],
  first: ["teacher's first class", "percent"],
  second: ["teacher's second class", "percent"],
  student_first: ["the student's share of the first", "percent"],
  student_second: ["the student's share of the second", "percent"],
  kl: ["KL(p ‖ q), nats", "number"],
  loss: ["soft loss", "number"],
  largest: ["largest gradient", "number"],
  norm: ["length of the gradient", "number"],
  smoothing: ["label smoothing ε", "number"],
  smoothing_norm: ["length of its gradient", "number"],
};

const SQUARED = "T² · KL";
const MATCHED = "match teacher";
const FIRST = 1; // temperature
const NBSP = "\u00a0";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const length = (values) => Math.hypot(...values);
const largest = (values) => values.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);

/** The logarithms of the softened probabilities: finite, where a probability may be too small for a number. */
function softened(logits, temperature) {
  const scaled = logits.map((value) => value / temperature);
  const most = Math.max(...scaled);
  const total = most + Math.log(sum(scaled.map((value) => Math.exp(value - most))));
  return scaled.map((value) => value - total);
}

const exp = (logs) => logs.map(Math.exp);
const entropy = (logs) => sum(logs.map((log) => -Math.exp(log) * log)) / Math.LN2;

/** Label smoothing; MATCHED gives the label as much as the teacher gives its first class. */
function smoothed({ label, hard }, choice, first) {
  const classes = hard.length;
  const strength = choice === MATCHED ? ((1 - first) * classes) / (classes - 1) : Number(choice);
  const target = hard.map((_, i) => (i === label ? 1 - strength : 0) + strength / classes);
  return { strength, target, gradient: hard.map((q, i) => q - target[i]) };
}

const prepared = new WeakMap();

/** One image with its classes in the teacher's order, which is the same at every temperature; once per explorer. */
function prepare(data, name) {
  if (!prepared.has(data)) prepared.set(data, new Map());
  const known = prepared.get(data);
  if (known.has(name)) return known.get(name);
  const at = data.images.findIndex((image) => image.name === name);
  const { length: classes } = data.classes;
  const row = (logits) => Array.from(logits.slice(at * classes, (at + 1) * classes));
  const v = row(data.teacher);
  const order = v.map((_, i) => i).sort((a, b) => v[b] - v[a] || a - b);
  const ordered = (values) => order.map((i) => values[i]);
  const { pixels, label } = data.images[at];
  const image = { name, pixels, classes: ordered(data.classes), label: order.indexOf(label), v: ordered(v), z: ordered(row(data.student)) };
  image.hard = exp(softened(image.z, FIRST));
  const all = data.temperatures.map((temperature) => [softened(image.v, temperature), softened(image.z, temperature)]);
  image.first = all.map(([teacher]) => Math.exp(teacher[0]));
  image.entropies = [0, 1].map((i) => all.map((both) => entropy(both[i])));
  // The axis of the gradients has room for all settings, so that they are seen to grow and to shrink.
  const soft = all.flatMap(([p, q], i) => p.map((log, j) => data.temperatures[i] * (Math.exp(q[j]) - Math.exp(log))));
  const smooth = data.smoothing.flatMap((choice) => smoothed(image, choice, image.first.at(-1)).gradient);
  image.reach = Math.abs(largest([...soft, ...smooth]));
  known.set(name, image);
  return image;
}

/** The share of the teacher's second class, which no reader sees at T = 1. */
export function predict(data) {
  const [{ name }] = data.images;
  const { classes } = prepare(data, name);
  return {
    question: `At T = 4, what probability does the teacher give to its second class, ${classes[1]}?`,
    kind: "number",
    result: "second",
    show: { temperature: 4, image: name },
    mark: "x",
  };
}

export const play = { control: "temperature", interval: 200 };

/** Probabilities of both as bars, and below them their entropies against T. */
function distributions(data, image, p, q, temperature, format) {
  const { classes, label, pixels, entropies, first } = image;
  const [teacher, student] = entropies.map((values) => values[data.temperatures.indexOf(temperature)]);
  return {
    type: "softened",
    title: "Probabilities, the confused pair shaded",
    description: `At T = ${temperature}: ${classes.map((name, i) => `${name} ${format.percent(p[i])} (teacher), ${format.percent(q[i])} (student)`).join("; ")}. Entropy ${format.number(teacher)} and ${format.number(student)} of at most ${format.number(Math.log2(classes.length))} bits. The label is ${classes[label]}.`,
    classes,
    label,
    pixels,
    teacher: p,
    student: q,
    temperatures: data.temperatures,
    temperature,
    entropies,
    first,
  };
}

/** What moves each logit of the student: with the factor T², without it, and by label smoothing. */
function pulls(image, both, squared, smoothing, format) {
  const { classes, reach } = image;
  const [chosen, other] = squared ? both : [...both].reverse();
  const words = ["T² · KL: T (q − p)", "KL: (q − p) ÷ T"];
  return {
    type: "pulls",
    title: "Gradient of each of the student's logits",
    description: `${classes.map((name, i) => `${name} ${format.number(chosen[i], 2)}, ${squared ? "without" : "with"} T² ${format.number(other[i], 2)}, with label smoothing ${format.number(smoothing[i], 2)}`).join("; ")}. Where it is negative the logit rises.`,
    classes,
    values: chosen,
    others: other,
    points: smoothing,
    reach,
    key: [...(squared ? words : words.toReversed()), "label smoothing, T = 1"],
  };
}

/** Measured accuracies by temperature and weight. */
function measured({ temperatures, weights, accuracies, standard_error }, temperature, settings, format) {
  const spread = standard_error === null ? "" : `${NBSP}±${NBSP}${format.number(100 * standard_error, 2)}`;
  return {
    type: "surface",
    title: `Accuracy measured at T and α, %${spread}`,
    description: `${temperatures.map((t, i) => `T = ${t}: ${weights.map((weight, j) => `${format.percent(accuracies[i][j])} at α = ${weight}`).join(", ")}`).join("; ")}.`,
    temperatures,
    weights,
    accuracies,
    temperature,
    settings,
  };
}

export function compute(data, state, format) {
  const image = prepare(data, state.image);
  const { classes, label, v, z } = image;
  const { temperature } = state;
  const squared = state.loss === SQUARED;
  const [logP, logQ] = [v, z].map((logits) => softened(logits, temperature));
  const [p, q] = [logP, logQ].map(exp);
  const smoothing = smoothed(image, state.smoothing, p[0]);
  const both = [temperature, 1 / temperature].map((factor) => q.map((value, i) => factor * (value - p[i])));
  const gradient = both[squared ? 0 : 1];
  const kl = sum(p.map((value, i) => value * (logP[i] - logQ[i])));
  const results = {
    teacher_entropy: entropy(logP),
    student_entropy: entropy(logQ),
    first: p[0],
    second: p[1],
    student_first: q[0],
    student_second: q[1],
    kl,
    loss: squared ? temperature ** 2 * kl : kl,
    largest: largest(gradient),
    norm: length(gradient),
    smoothing: smoothing.strength,
    smoothing_norm: length(smoothing.gradient),
  };

  const number = (value) => format.number(value);
  const pulled = classes[gradient.indexOf(results.largest)];
  const pull = results.largest === 0 ? "the student agrees, so no logit moves" : `the largest gradient${squared ? "" : " without T²"}, ${format.number(results.largest, 2)}, ${results.largest < 0 ? "raises" : "lowers"} the logit of ${pulled}`;
  const sentence = `At T = ${temperature} the teacher gives ${classes[1]} ${format.percent(p[1])}, after ${classes[0]}; ${pull}.`;
  const spoken = results.largest === 0 ? `T = ${temperature}, no gradient` : `T = ${temperature}, ${classes[1]} ${format.percent(p[1])}, ${pulled} ${results.largest < 0 ? "rises" : "falls"} most`;
  const factor = number(temperature ** 2);
  const share = (1 - smoothing.target[label]) / (classes.length - 1);
  const details =
    `The teacher's entropy is ${number(results.teacher_entropy)} bits and the student's ${number(results.student_entropy)}, of at most log₂ ${classes.length} = ${number(Math.log2(classes.length))}. ` +
    `${label === 0 ? "The teacher's first class is the label." : `The teacher is wrong here: the label is ${classes[label]}.`} Its order of the classes is the same at every T. ` +
    `With T² the gradients are T (q − p), without it (q − p) ÷ T, ${temperature === FIRST ? "the same at T = 1" : `${factor} times smaller`}. ` +
    `The target of label smoothing with ε = ${number(smoothing.strength)} is ${format.percent(smoothing.target[label])} for ${classes[label]} and ${format.percent(share)} for every other class, whatever the image shows.`;

  const charts = [distributions(data, image, p, q, temperature, format), pulls(image, both, squared, smoothing.gradient, format)];
  if (data.surface) charts.push(measured(data.surface, temperature, data.temperatures, format));
  const tables = () => [
    {
      caption: `Logits and probabilities at T = ${temperature}`,
      columns: ["class", "teacher v", "p", "student z", "q"],
      rows: classes.map((name, i) => [name, number(v[i]), format.percent(p[i]), number(z[i]), format.percent(q[i])]),
    },
    {
      caption: `Gradients of the student's logits at T = ${temperature}; label smoothing at T${NBSP}=${NBSP}1`,
      columns: ["class", "T (q − p)", "(q − p) ÷ T", "label smoothing"],
      rows: classes.map((name, i) => [name, number(both[0][i]), number(both[1][i]), number(smoothing.gradient[i])]),
    },
  ];
  return { sentence, spoken, details, results, charts, tables };
}
