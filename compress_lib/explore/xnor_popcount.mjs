// The product of two rows of signs, bit by bit: XNOR, then count the ones. Chapter 08.
// Bits are those of compress_lib.ops' packed words, 1 for +1 and 0 for −1, the least significant first; each place of the
// kernel has words of its own. Courbariaux, Hubara et al. 2016, arXiv 1602.02830.

export const labels = {
  pairs: ["pairs compared so far", "count"],
  agree: ["popcount so far", "count"],
  dot: ["2 · popcount − pairs", "count"],
  total: ["sum of all products", "count"],
};

export const play = { control: "bits", interval: 220 };

export const predict = {
  question: "Input and filter agree in 40 of 64 signs. What is the sum of the 64 products of +1 and −1?",
  kind: "number",
  min: -64,
  max: 64,
  answer: 2 * 40 - 64,
};

const BYTE = 8;
const NBSP = "\u00a0";

/** The bits of a word, from its bytes. */
const bitsOf = (words, word, size) => Array.from({ length: size }, (_, i) => (words[word * BYTE + (i >> 3)] >> (i & 7)) & 1);

/** A word as a program writes it, the most significant byte first. */
const hexadecimal = (bytes) => `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).reverse().join("")}`;

const signed = (value, format) => format.count(value).replace("-", "\u2212");

export function compute(data, state, format) {
  const { size, kernel, patch } = data;
  const { words } = data.filters.find(({ name }) => name === state.filter);
  const count = patch.length / BYTE;
  const at = (state.word ?? 1) - 1; // one word needs no control
  const equal = Array.from({ length: count }, (_, word) => {
    const [x, w] = [bitsOf(patch, word, size), bitsOf(words, word, size)];
    return x.map((bit, i) => Number(bit === w[i]));
  });
  const ones = (bits) => bits.reduce((a, b) => a + b, 0);
  const before = ones(equal.slice(0, at).map(ones));
  const here = ones(equal[at].slice(0, state.bits));
  const pairs = at * size + state.bits;
  const agree = before + here;
  const results = { pairs, agree, dot: 2 * agree - pairs, total: 2 * ones(equal.map(ones)) - count * size };

  const dot = signed(results.dot, format);
  const formula = `2${NBSP}·${NBSP}${agree}${NBSP}−${NBSP}${pairs}${NBSP}=${NBSP}${dot}`;
  const whole = pairs === count * size;
  const last = state.bits ? equal[at][state.bits - 1] : null;
  const step = last === null ? "no pair of this word is compared" : `pair ${state.bits} is ${last ? "equal: a one" : "not equal: a zero"}`;
  const sentence = `Word ${at + 1} of ${count}: ${step}. ${agree} ones of ${pairs} pairs so far: ${formula}${whole ? ", the product of all signs" : ""}.`;
  const [row, column] = [Math.floor(at / (count / (kernel[0] * kernel[1])) / kernel[1]), Math.floor(at / (count / (kernel[0] * kernel[1]))) % kernel[1]];
  const details =
    `The word is of kernel place (${row}, ${column}). In it, ${here} of the ${state.bits} pairs compared are equal. ` +
    `All ${count} words together have ${(results.total + count * size) / 2} equal pairs of ${count * size}: the sum of the products of all signs is ${signed(results.total, format)}. ` +
    `A processor compares all ${size} pairs with one XNOR and counts the ones with one popcount.`;
  const chart = {
    type: "bits",
    wide: true,
    title: `${state.filter}, word ${at + 1} of ${count}`,
    description: `${size} bits of the input, ${size} of the filter, and their XNOR, a one where the two are equal, for the first ${state.bits}. ${here} ones here, ${before} in the words before: ${formula}.`,
    x: bitsOf(patch, at, size),
    w: bitsOf(words, at, size),
    done: state.bits,
    agree,
    pairs,
    dot,
    whole,
  };
  const tables = () => {
    let sum = 0;
    const rows = equal.map((bits, word) => {
      sum += ones(bits);
      const [x, w] = [patch, words].map((all) => hexadecimal(all.slice(word * BYTE, (word + 1) * BYTE)));
      return [word + 1, x, w, ones(bits), sum];
    });
    return [{ caption: "Word by word", columns: ["word", "input", "filter", "ones", "sum"], rows }];
  };
  return { sentence, spoken: `${agree} of ${pairs} equal, product ${dot}`, details, results, charts: [chart], tables };
}
