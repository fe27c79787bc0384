// The charts an explorer draws, as plain SVG, and the number formats of the book.
// A chart is an object {type, title, description, wide?, ...}; draw(chart, width) returns an HTML element.
// Colors come from explorer.css; series also differ by dash and marker, so that charts read in gray.
//
// Charts that the hand moves:
//   drag: {control, at?: [number for each value of the control], mirror?}   of `line` and `histogram`
//         The place on the x-axis of each value, if it is not the value itself. Pressing or dragging anywhere in the
//         plot moves the control to the nearest; with `mirror` −x counts as x.
//   pick: {control, values: [value or null, ...]}                          of `tiles`, `bars`, `histogram`, `grid`
//         The value that a click on each tile, bar or image sets; null: nothing.
// A chart type of an explorer's own marks what can be moved itself, in any SVG or HTML that it draws:
//   <rect ${dragged("k", "x", [12, 15.5, ...])}/>   the place of each value of the control, in units of the viewBox;
//         axis "x", "y", or "xy" with [[x, y], ...]. Dragging from this element follows the nearest place
//   <g ${picked("layer", "fc1")}>                   a click sets the control to this value
// and draws the reader's guess, where `chart.guess` is {axis, value, label} in the unit of the axis.

const NBSP = "\u00a0";
const MINUS = "\u2212";
const grouped = new Intl.NumberFormat("en-US"); // made once: toLocaleString makes one for each number

/** The book's number formats: format.bytes(12345) is "12.3 kB" (1 kB = 1000 bytes). */
export const format = {
  number(value, digits = 3) {
    if (!Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const power = Math.floor(Math.log10(Math.abs(value)));
    const text = power < -4 ? value.toExponential(digits - 1) : value.toFixed(Math.max(0, Math.min(20, digits - 1 - power)));
    return (text.includes(".") && power >= -4 ? text.replace(/\.?0+$/, "") : text).replace("-", MINUS);
  },
  count: (value) => (Number.isFinite(value) ? grouped.format(Math.round(value)) : "–"),
  bytes(value) {
    if (!Number.isFinite(value)) return "–";
    const power = value < 1000 ? 0 : Math.min(3, Math.floor(Math.log10(value) / 3));
    const scaled = value / 1000 ** power;
    return `${power === 0 ? Math.round(scaled) : scaled.toPrecision(Math.max(3, String(Math.floor(scaled)).length))}${NBSP}${["B", "kB", "MB", "GB"][power]}`;
  },
  percent: (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1).replace("-", MINUS)}${NBSP}%` : "–"),
  correlation: (value) => (Number.isFinite(value) ? value.toFixed(2).replace("-", MINUS) : "–"),
  /** A difference of two percentages, with its sign. */
  points(value) {
    if (!Number.isFinite(value)) return "–";
    const text = (100 * value).toFixed(1);
    return `${Number(text) > 0 ? "+" : ""}${Number(text) === 0 ? "0" : text.replace("-", MINUS)}${NBSP}points`;
  },
  times: (value) => `${format.number(value)}${Number.isFinite(value) ? "×" : ""}`,
};

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** About `count` round numbers from `low` to `high`; `whole` ones for what is counted. */
function ticks(low, high, count, whole) {
  const raw = Math.max((high - low) / count, whole ? 1 : 0);
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = magnitude * (whole ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10]).find((m) => m * magnitude >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

let serial = 0;

/** An SVG with a name and a description for those who cannot see it. */
function svg(chart, width, height, body) {
  const id = `explorer-chart-${(serial += 1)}`;
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="${id}-t ${id}-d">
<title id="${id}-t">${escape(chart.title)}</title><desc id="${id}-d">${escape(chart.description)}</desc>${body}</svg>`;
}

/** A number beside an axis: round, so shorter than in a sentence. */
const tick = (value, name) => (name === "percent" ? `${format.number(100 * value)}${NBSP}%` : format[name ?? "number"](value));

/** What makes an element of a chart follow the pointer: the place of each of the control's values, in units of the viewBox. */
function dragged(control, axis, places, mirrored) {
  const short = (value) => (Array.isArray(value) ? value.map(short) : Math.round(10 * value) / 10);
  const again = mirrored ? ` data-mirrored="${JSON.stringify(short(mirrored))}"` : "";
  return `data-drag="${control}" data-axis="${axis}" data-places="${JSON.stringify(short(places))}"${again}`;
}

/** What makes a click on an element of a chart set a control. */
const picked = (control, value) => `data-pick="${control}" data-value="${escape(JSON.stringify(value))}"`;

/** `picked` for the i-th of a chart's tiles, bars or images, if it stands for a value. */
const pickable = (chart, i) => ((chart.pick?.values[i] ?? null) === null ? "" : picked(chart.pick.control, chart.pick.values[i]));

/** About how wide a text of 12 px is. */
const breadth = (text) => 6.6 * text.length;

/** Axes with ticks and labels; returns the drawing and the two scales. What a drag can reach is the plot with a margin. */
function frame(chart, width, [x0, x1], [y0, y1]) {
  const height = chart.height ?? (width < 440 ? 250 : 290);
  const up = ticks(y0, y1, height < 270 ? 4 : 5).map((v) => [v, tick(v, chart.y.format)]);
  const box = { left: 12 + Math.max(...up.map(([, text]) => breadth(text))), right: width - 14, top: 30, bottom: height - 42 };
  const x = (v) => box.left + ((v - x0) / (x1 - x0)) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - y0) / (y1 - y0)) * (box.bottom - box.top);
  const across = ticks(x0, x1, Math.max(2, Math.min(9, Math.floor((box.right - box.left) / (chart.x.whole ? 44 : 62)))), chart.x.whole);
  let body = up.map(([v, text]) => `<line class="ex-rule" x1="${box.left}" x2="${box.right}" y1="${y(v)}" y2="${y(v)}"/><text class="ex-tick" text-anchor="end" x="${box.left - 7}" y="${y(v) + 4}">${text}</text>`).join("");
  const inside = (v, text) => Math.min(x(v), width - breadth(text) / 2); // the last number is not cut
  body += across.map((v) => [v, tick(v, chart.x.format)]).map(([v, text]) => `<line class="ex-axis" x1="${x(v)}" x2="${x(v)}" y1="${box.bottom}" y2="${box.bottom + 4}"/><text class="ex-tick" text-anchor="middle" x="${inside(v, text)}" y="${box.bottom + 18}">${text}</text>`).join("");
  body += `<line class="ex-axis" x1="${box.left}" x2="${box.right}" y1="${box.bottom}" y2="${box.bottom}"/>`;
  body += `<text class="ex-label" x="0" y="13">${escape(chart.y.label)}</text>`;
  body += `<text class="ex-label" text-anchor="end" x="${box.right}" y="${height - 5}">${escape(chart.x.label)}</text>`;
  if (chart.guess) body += guessed(chart.guess, { box, x, y });
  let grip = "";
  if (chart.drag?.at) {
    const { control, at, mirror } = chart.drag;
    const places = at.map(x);
    grip = `<rect class="ex-grip" x="0" y="${box.top - 10}" width="${width}" height="${box.bottom - box.top + 34}" ${dragged(control, "x", places, mirror && at.map((v) => x(-v)))}/>`;
  }
  return { height, box, x, y, body, grip };
}

/** The reader's guess as a line across the plot, with its label where there is room. */
function guessed({ axis, value, label }, { box, x, y }) {
  if (axis === "x") {
    const at = Math.min(box.right, Math.max(box.left, x(value)));
    const left = at > (box.left + box.right) / 2;
    return `<line class="ex-guessed" x1="${at}" x2="${at}" y1="${box.top}" y2="${box.bottom}"/><text class="ex-note ex-guessed" text-anchor="${left ? "end" : "start"}" x="${at + (left ? -6 : 6)}" y="${box.bottom - 8}">${escape(label)}</text>`;
  }
  const at = Math.min(box.bottom, Math.max(box.top, y(value)));
  return `<line class="ex-guessed" x1="${box.left}" x2="${box.right}" y1="${at}" y2="${at}"/><text class="ex-note ex-guessed" text-anchor="end" x="${box.right - 4}" y="${at - 6 < box.top + 8 ? at + 15 : at - 6}">${escape(label)}</text>`;
}

/** A vertical line at `marker.x` with its label on the side where there is room; a knob where it can be dragged. */
function rule(marker, { box, x, grip }) {
  const at = x(marker.x);
  const left = at > (box.left + box.right) / 2;
  const knob = grip ? `<circle class="ex-knob" cx="${at}" cy="${box.bottom}" r="8"/>` : "";
  return `<line class="ex-marker" x1="${at}" x2="${at}" y1="${box.top}" y2="${box.bottom}"/>${knob}<text class="ex-note" text-anchor="${left ? "end" : "start"}" x="${at + (left ? -6 : 6)}" y="${box.top + 11}">${escape(marker.label)}</text>`;
}

const SHAPES = [
  (x, y) => `<circle cx="${x}" cy="${y}" r="4"/>`,
  (x, y) => `<rect x="${x - 3.5}" y="${y - 3.5}" width="7" height="7"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 9h-10z"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 5-5 5-5-5z"/>`,
];

/**
 * {x: {label, format, min?, max?, whole?}, y: same, height?, marker?: {x, label, y?},
 *  series: [{label, x: [], y: [], draw: "line"|"points"|"both", band?: {low: [], high: []}}]}
 */
function line(chart, width) {
  const values = (axis) => chart.series.flatMap((s) => Array.from(s[axis]));
  const range = (axis) => [chart[axis].min ?? Math.min(...values(axis)), chart[axis].max ?? Math.max(...values(axis))];
  const f = frame(chart, width, range("x"), range("y"));
  let body = f.body;
  chart.series.forEach((series, i) => {
    const points = Array.from(series.x, (v, j) => [f.x(v).toFixed(1), f.y(series.y[j]).toFixed(1)]);
    const draw = series.draw ?? "line";
    body += `<g class="ex-series ex-series-${i}">`;
    if (series.band) {
      const edge = (values) => Array.from(series.x, (v, j) => `${f.x(v).toFixed(1)},${f.y(values[j]).toFixed(1)}`);
      body += `<polygon class="ex-band" points="${[...edge(series.band.low), ...edge(series.band.high).reverse()].join(" ")}"/>`;
    }
    if (draw !== "points") body += `<polyline points="${points.map((p) => p.join()).join(" ")}"/>`;
    if (draw !== "line") body += points.map(([x, y]) => SHAPES[i % SHAPES.length](Number(x), Number(y))).join("");
    body += "</g>";
  });
  if (chart.marker) {
    body += rule(chart.marker, f);
    for (const v of chart.marker.y ?? []) body += `<circle class="ex-here" cx="${f.x(chart.marker.x)}" cy="${f.y(v)}" r="5.5"/>`;
  }
  const key = chart.series.map((s, i) => `<li><svg width="30" height="12" aria-hidden="true"><g class="ex-series ex-series-${i}">${s.draw === "points" ? "" : '<polyline points="0,6 30,6"/>'}${(s.draw ?? "line") === "line" ? "" : SHAPES[i % SHAPES.length](15, 6)}</g></svg>${escape(s.label)}</li>`);
  return svg(chart, width, f.height, body + f.grip) + (key.length > 1 ? `<ul class="ex-key">${key.join("")}</ul>` : "");
}

/** What is removed is hatched: the pattern, and the paint that refers to it. */
function hatching() {
  const id = `explorer-hatch-${(serial += 1)}`;
  const defs = `<defs><pattern id="${id}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ex-off-ground" width="5" height="5"/><line class="ex-off-stroke" x1="0" x2="0" y1="0" y2="5"/></pattern></defs>`;
  return { defs, fill: `url(#${id})` };
}

/** {x, y, height?: as in line, edges: n+1 numbers, values: n numbers, off?: n booleans (drawn hatched), gap?: between bars, as part of their width, markers?: [{x, label}], key?: [on, off]} */
function histogram(chart, width) {
  const range = [Math.min(...chart.values, 0), Math.max(...chart.values, 1e-12)].map((v) => v * 1.04);
  const f = frame(chart, width, [chart.edges[0], chart.edges.at(-1)], range);
  const hatch = hatching();
  const base = f.y(0).toFixed(1);
  const bar = (v, i) => {
    const [left, right] = [f.x(chart.edges[i]), f.x(chart.edges[i + 1])];
    const side = ((right - left) * (chart.gap ?? 0)) / 2;
    return v ? `M${(left + side).toFixed(1)} ${base}V${f.y(v).toFixed(1)}H${(right - side).toFixed(1)}V${base}z` : "";
  };
  const paths = { on: "", off: "" };
  Array.from(chart.values).forEach((v, i) => (paths[chart.off?.[i] ? "off" : "on"] += bar(v, i)));
  const body = `${hatch.defs}${f.body}<path class="ex-off" d="${paths.off}" fill="${hatch.fill}"/><path class="ex-on" d="${paths.on}"/>${(chart.markers ?? []).map((m) => rule(m, f)).join("")}`;
  const key = chart.key ? `<ul class="ex-key"><li><span class="ex-swatch"></span>${escape(chart.key[0])}</li><li><span class="ex-swatch ex-swatch-off"></span>${escape(chart.key[1])}</li></ul>` : "";
  const picks = Array.from(chart.values, (_, i) => (pickable(chart, i) ? `<rect class="ex-grip" x="${f.x(chart.edges[i])}" y="${f.box.top}" width="${Math.max(0, f.x(chart.edges[i + 1]) - f.x(chart.edges[i]))}" height="${f.box.bottom - f.box.top}" ${pickable(chart, i)}/>` : ""));
  return svg(chart, width, f.height, body + f.grip + picks.join("")) + key;
}

/** {labels: n texts, off: n booleans (hatched), framed: n booleans, key: {off, framed, both, neither}}: a numbered tile for each thing. */
function tiles(chart, width) {
  const [across, down, gap] = [30, 26, 5]; // at least 24 px for a finger
  const fit = Math.floor((width + gap) / (across + gap));
  const columns = fit - (fit > 8 ? fit % 8 : 0); // rows of 8 or 16 are easy to count
  const hatch = hatching();
  const tile = (i, x, y, label = "") => {
    const kind = `${chart.off[i] ? "off" : "on"}${chart.framed[i] ? " ex-tile-framed" : ""}`;
    const ground = chart.off[i] ? ` fill="${hatch.fill}"` : "";
    return `<g class="ex-tile ex-tile-${kind}" ${label && pickable(chart, i)}><rect x="${x + 1.5}" y="${y + 1.5}" width="${across - 3}" height="${down - 3}" rx="2"${ground}/><text text-anchor="middle" x="${x + across / 2}" y="${y + 17.5}">${escape(label)}</text></g>`;
  };
  const body = chart.labels.map((label, i) => tile(i, (i % columns) * (across + gap), Math.floor(i / columns) * (down + gap), label));
  const kinds = { off: [true, false], framed: [false, true], both: [true, true], neither: [false, false] };
  const key = Object.entries(chart.key).map(([kind, words]) => {
    const at = chart.labels.findIndex((_, i) => chart.off[i] === kinds[kind][0] && chart.framed[i] === kinds[kind][1]);
    return at < 0 ? "" : `<li><svg width="${across}" height="${down}" aria-hidden="true">${tile(at, 0, 0)}</svg>${escape(words)}</li>`;
  });
  const height = Math.ceil(chart.labels.length / columns) * (down + gap);
  return `${svg(chart, width, height, hatch.defs + body.join(""))}<ul class="ex-key">${key.join("")}</ul>`;
}

/** {labels: [], values: [], format, off?: [], max?}: horizontal bars, each with its value written beside it. */
function bars(chart, width) {
  const row = 46;
  const height = row * chart.labels.length + 6;
  const room = width - 96;
  const max = chart.max ?? Math.max(...chart.values, 1e-12);
  const body = chart.labels.map((label, i) => {
    const length = Math.max(1, (chart.values[i] / max) * room);
    return `<g ${pickable(chart, i)}><text class="ex-label" x="0" y="${i * row + 16}">${escape(label)}</text><rect class="${chart.off?.[i] ? "ex-bar-off" : "ex-on"}" x="0" y="${i * row + 22}" width="${length}" height="16" rx="2"/><text class="ex-value" x="${length + 7}" y="${i * row + 35}">${format[chart.format ?? "number"](chart.values[i])}</text></g>`;
  });
  return svg(chart, width, height, body.join(""));
}

const CELLS = { most: 84, least: 24, gap: 8, label: 18, height: 270 };

/** The widest cells with which all images stay within a height. */
function cellWidth(images, width) {
  const shape = Math.max(...images.map(({ rows, cols }) => rows / cols));
  const { most, least, gap, label, height } = CELLS;
  for (let cell = most; cell > least; cell -= 1) {
    const across = Math.floor((width - 1 + gap) / (cell + gap)); // a pixel less: the width is rounded
    if (Math.ceil(images.length / across) * (cell * shape + label + gap) - gap <= height) return cell;
  }
  return least;
}

/**
 * {images: [{label, values, rows, cols, off?: faint and crossed out}], max?: the magnitude drawn in full color}
 * One color above zero, another below, blank at zero; `colors` is {plus: "rgb(...)", minus: "rgb(...)"}.
 */
function grid(chart, width, colors) {
  const peak = chart.max ?? Math.max(...chart.images.flatMap((image) => Array.from(image.values, Math.abs)), 1e-12);
  const [plus, minus] = [colors.plus, colors.minus].map((color) => color.match(/[\d.]+/g).slice(0, 3).map(Number));
  const list = document.createElement("div");
  list.className = "ex-grid";
  list.style.setProperty("--ex-cell", `${cellWidth(chart.images, width)}px`);
  list.setAttribute("role", "img");
  list.setAttribute("aria-label", `${chart.title}. ${chart.description}`);
  for (const [i, image] of chart.images.entries()) {
    const cell = document.createElement("div");
    cell.className = image.off ? "ex-cell ex-cell-off" : "ex-cell";
    const value = chart.pick?.values[i] ?? null;
    if (value !== null) Object.assign(cell.dataset, { pick: chart.pick.control, value: JSON.stringify(value) });
    const canvas = Object.assign(document.createElement("canvas"), { width: image.cols, height: image.rows });
    const pixels = new ImageData(image.cols, image.rows);
    for (let j = 0; j < image.values.length; j += 1) {
      const v = image.values[j];
      const [red, green, blue] = v > 0 ? plus : minus;
      pixels.data[4 * j] = red;
      pixels.data[4 * j + 1] = green;
      pixels.data[4 * j + 2] = blue;
      pixels.data[4 * j + 3] = 255 * Math.min(1, Math.abs(v) / peak);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const picture = Object.assign(document.createElement("div"), { className: "ex-picture" });
    picture.append(canvas);
    cell.append(picture, Object.assign(document.createElement("span"), { textContent: image.label }));
    list.append(cell);
  }
  return list;
}

const CHARTS = { line, histogram, tiles, bars, grid };

/** The chart under its title, drawn `width` pixels wide. */
export function draw(chart, width, colors) {
  const holder = document.createElement("div");
  holder.className = chart.wide ? "ex-chart ex-wide" : "ex-chart";
  holder.append(Object.assign(document.createElement("p"), { textContent: chart.title, className: "ex-chart-title" }));
  const drawn = CHARTS[chart.type](chart, Math.max(240, Math.round(width)), colors);
  if (typeof drawn === "string") holder.insertAdjacentHTML("beforeend", drawn);
  else holder.append(drawn);
  return holder;
}
