// The front end of compress_lib.explore.Explorer: a chart and the controls that move it on one screen, a sentence, and
// behind them further charts, numbers and tables. An ES module in anywidget's front-end format, so JupyterLab, Colab,
// VS Code and the book's pages all run it. parts.json says of which files it, the charts and the style are joined.
//
// The chapter's own module is pure: it draws nothing and keeps nothing but what it computed before. It exports
//
//   labels    {result: [what it is, how it is written]}, the second a key of `format` in charts.mjs
//   compute(data, state, format) -> {
//     sentence  the result in one sentence of at most 150 characters. It stands under the first chart, in a box whose
//               height is fixed. What cannot be (4 groups of 10 channels) is said here too
//     spoken?   one clause of at most 80 characters, read out when the reader has rested for 400 ms; else the sentence
//     details?  all further sentences, as one text; folded with the numbers
//     results   {result: number or null}, folded, and sent to Python; null where there is no answer
//     charts?   [as described in charts.mjs]. The first is what the hand moves: it and all controls are on one screen,
//               so on a phone (354 px wide) it is at most 320 px high. No chart changes its height, or comes or goes,
//               while a slider moves. A `wide` one takes the whole width; the others stand two by two where there is room
//     tables?   [{caption, columns: [text], rows: [[text or number, ...]]}], or a function that returns them: it is
//               called when the reader unfolds them, so what is costly belongs there
//   }
//   predict?  what the reader guesses before the controls unlock; or a function (data, format) that returns it.
//             The same can be given in Python, which comes first. The question must not be answered by what is drawn
//             at the start. The reader can skip it; the guess stays on the reader's machine
//     question  one sentence, at most 120 characters
//     kind      "number", "choice" or "order"
//     show?     {control: value}: the setting that holds the answer. The explorer goes there when the guess is made
//     unit?     "number": text after the field; a result written as percent has "%" by itself
//     min, max  "number": what can be typed, in the unit
//     options   "choice", "order": [text, ...], two to five
//     result    "number": the name of the result that is the answer at `show`
//     answer    else: a number, the index of an option, or all indices in the right order; or a function
//               (at) => that, where at({control: value}) gives the results with these controls changed
//     mark?     "number": "x" or "y", the axis of the first chart on which the guess is drawn, and the truth beside it
//   play?     {control, interval?, step?}: a button moves this slider by `step` places (1) every `interval` ms (700),
//             from the start if it stands at the end. With reduced motion a press is one step
//
// To be moved by hand, a chart says which control it stands for (see charts.mjs): `drag` for a line or a dot that
// follows the pointer, `pick` for what can be clicked. The native controls remain the way for keys.

const loaded = new Map();

/** Import the text of an ES module, once. */
function load(source) {
  if (!loaded.has(source)) loaded.set(source, import(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))));
  return loaded.get(source);
}

const ARRAYS = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };

/** IEEE half precision as a number. */
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The counterpart of compress_lib.explore.frontend.sorted_floats: numbers in ascending order. */
function ascending(bytes, count) {
  const keys = new Uint32Array(count);
  for (let i = 0, at = 0, key = 0; i < count; i += 1) {
    let place = 1;
    for (; bytes[at] > 127; at += 1, place *= 128) key += (bytes[at] - 128) * place;
    key += bytes[at] * place;
    at += 1;
    keys[i] = key < 2 ** 31 ? ~key : key - 2 ** 31;
  }
  return new Float32Array(keys.buffer);
}

const READERS = {
  float16: ({ buffer }) => Float32Array.from(new Uint16Array(buffer), half),
  "sorted float32": (bytes, [count]) => ascending(bytes, count),
};

/** The counterpart of compress_lib.explore.frontend.packing.pack: arrays become typed arrays with a `shape`. */
export function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if (!("base64" in value && "dtype" in value)) return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v)]));
  const bytes = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
  const read = READERS[value.dtype] ?? (({ buffer }) => new ARRAYS[value.dtype](buffer));
  const array = read(bytes, value.shape);
  return Object.assign(array, { shape: value.shape });
}

/** element("p", {className: "x"}, child, "text", ...) */
function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

let serial = 0;

/** One native control: `set(value)` shows a value, `change` is called with the value the reader picks. */
function control(spec, change) {
  const id = `explorer-control-${(serial += 1)}`;
  const words = (value) => `${String(value).replace("-", "\u2212")}${spec.unit ? `\u00a0${spec.unit}` : ""}`;
  const label = element("label", { htmlFor: id }, spec.label);
  if (spec.kind === "choice") {
    const select = element("select", { id, name: spec.name }, ...spec.values.map((v) => element("option", {}, String(v))));
    select.addEventListener("change", () => change(spec.values[select.selectedIndex]));
    const set = (value) => (select.selectedIndex = spec.values.indexOf(value));
    return { set, node: element("div", { className: "ex-control" }, label, select) };
  }
  const output = element("output", {});
  output.setAttribute("for", id);
  const input = element("input", { id, name: spec.name, type: "range", min: 0, max: spec.values.length - 1, step: 1 });
  const set = (value) => {
    input.value = spec.values.indexOf(value);
    input.setAttribute("aria-valuetext", words(value));
    input.style.setProperty("--ex-filled", `${(100 * input.value) / input.max}%`);
    output.textContent = words(value);
  };
  input.addEventListener("input", () => change(spec.values[Number(input.value)]));
  return { set, node: element("div", { className: "ex-control" }, label, output, input) };
}

function table({ caption, columns, rows }) {
  const head = element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, String(first)), ...rest.map((text) => element("td", {}, String(text)))));
  return element("div", { className: "ex-table", role: "group", ariaLabel: caption }, element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body)));
}

async function render({ model, el }) {
  const [{ draw, format }, { compute, labels }] = await Promise.all([load(model.get("_charts")), load(model.get("_compute"))]);
  const data = unpack(model.get("data"));
  const titleId = `explorer-title-${(serial += 1)}`;
  const controls = model.get("controls").map((spec) => ({
    name: spec.name,
    ...control(spec, (value) => {
      model.set("state", { ...model.get("state"), [spec.name]: value });
      model.save_changes();
    }),
  }));
  const sentence = element("p", { className: "ex-sentence" });
  sentence.setAttribute("aria-live", "polite");
  const numbers = element("dl", { className: "ex-numbers" });
  const charts = element("div", { className: "ex-charts" });
  const tables = element("div", { className: "ex-tables" });
  const root = element("section", { className: "explorer" }, element("p", { className: "ex-title", id: titleId }, model.get("title")), element("div", { className: "ex-controls" }, ...controls.map((c) => c.node)), sentence, numbers, charts, tables);
  root.setAttribute("aria-labelledby", titleId);

  let answer;
  /** A color of explorer.css as "rgb(...)", for the canvases. */
  function resolve(name) {
    charts.style.color = `var(--ex-${name})`;
    const { color } = getComputedStyle(charts);
    charts.style.color = "";
    return color;
  }
  /** Draw the charts for the width and the colors of the page as it is now. */
  function redraw() {
    const colors = { plus: resolve("plus"), minus: resolve("minus") };
    const gap = 24;
    const columns = charts.clientWidth >= 560 && (answer.charts ?? []).length > 1 ? 2 : 1;
    const width = (charts.clientWidth - gap * (columns - 1)) / columns;
    charts.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    for (const holder of tables.children) {
      if (holder.scrollWidth > holder.clientWidth) holder.tabIndex = 0; // so that keys can scroll it
      else holder.removeAttribute("tabindex");
    }
    charts.replaceChildren(...(answer.charts ?? []).map((chart) => draw(chart, chart.wide ? charts.clientWidth : width, colors)));
  }
  function update() {
    const state = model.get("state");
    answer = compute(data, state, format);
    for (const { name, set } of controls) set(state[name]);
    if (sentence.textContent !== answer.sentence) sentence.textContent = answer.sentence;
    numbers.replaceChildren(
      ...Object.entries(labels).map(([name, [label, style]]) => {
        const value = answer.results[name];
        const shown = element("data", { value: value ?? "" }, value === null ? "–" : format[style](value));
        shown.dataset.result = name;
        return element("div", {}, element("dt", {}, label), element("dd", {}, shown));
      }),
    );
    tables.replaceChildren(...(answer.tables ?? []).map(table));
    if (charts.clientWidth) redraw();
    model.set("results", answer.results);
    model.save_changes();
  }

  el.replaceChildren(root);
  update();
  model.on("change:state", update);
  let width = charts.clientWidth;
  const resized = new ResizeObserver(() => {
    if (charts.clientWidth && charts.clientWidth !== width) redraw();
    width = charts.clientWidth;
  });
  resized.observe(charts);
  const recolored = new MutationObserver(redraw);
  recolored.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  recolored.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => {
    model.off("change:state", update);
    resized.disconnect();
    recolored.disconnect();
  };
}

export default { render };
