// The charts an explorer draws, as plain SVG, and the number formats of the book.
// A chart is an object {type, title, description, ...}; draw(chart, width) returns an HTML element.
// Colours come from explorer.css; series also differ by dash and marker, so that charts read in grey.

const NBSP = "\u00a0";
const MINUS = "\u2212";

/** The book's number formats: format.bytes(12345) is "12.3 kB" (1 kB = 1000 bytes). */
export const format = {
  number(value, digits = 3) {
    if (!Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const power = Math.floor(Math.log10(Math.abs(value)));
    const text = power < -4 ? value.toExponential(digits - 1) : value.toFixed(Math.max(0, Math.min(20, digits - 1 - power)));
    return (text.includes(".") && power >= -4 ? text.replace(/\.?0+$/, "") : text).replace("-", MINUS);
  },
  count: (value) => (Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : "–"),
  bytes(value) {
    if (!Number.isFinite(value)) return "–";
    const power = value < 1000 ? 0 : Math.min(3, Math.floor(Math.log10(value) / 3));
    const scaled = value / 1000 ** power;
    return `${power === 0 ? Math.round(scaled) : scaled.toPrecision(Math.max(3, String(Math.floor(scaled)).length))}${NBSP}${["B", "kB", "MB", "GB"][power]}`;
  },
  percent: (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)}${NBSP}%` : "–"),
  times: (value) => `${format.number(value)}${Number.isFinite(value) ? "×" : ""}`,
};

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** About `count` round numbers from `low` to `high`. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = magnitude * [1, 2, 2.5, 5, 10].find((m) => m * magnitude >= raw * 0.999);
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

/** Axes with ticks and labels; returns the drawing and the two scales. */
function frame(chart, width, height, [x0, x1], [y0, y1]) {
  const box = { left: 66, right: width - 22, top: 14, bottom: height - 46 };
  const x = (v) => box.left + ((v - x0) / (x1 - x0)) * (box.right - box.left);
  const y = (v) => box.bottom - ((v - y0) / (y1 - y0)) * (box.bottom - box.top);
  const across = ticks(x0, x1, Math.max(2, Math.min(8, Math.floor(width / 90))));
  const up = ticks(y0, y1, 4);
  let body = up.map((v) => `<line class="ex-rule" x1="${box.left}" x2="${box.right}" y1="${y(v)}" y2="${y(v)}"/><text class="ex-tick" text-anchor="end" x="${box.left - 7}" y="${y(v) + 4}">${tick(v, chart.y.format)}</text>`).join("");
  body += across.map((v) => `<line class="ex-axis" x1="${x(v)}" x2="${x(v)}" y1="${box.bottom}" y2="${box.bottom + 4}"/><text class="ex-tick" text-anchor="middle" x="${x(v)}" y="${box.bottom + 18}">${tick(v, chart.x.format)}</text>`).join("");
  body += `<line class="ex-axis" x1="${box.left}" x2="${box.right}" y1="${box.bottom}" y2="${box.bottom}"/>`;
  body += `<text class="ex-label" text-anchor="middle" x="${(box.left + box.right) / 2}" y="${height - 8}">${escape(chart.x.label)}</text>`;
  body += `<text class="ex-label" text-anchor="middle" transform="translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)">${escape(chart.y.label)}</text>`;
  return { box, x, y, body };
}

/** A vertical line at `marker.x` with its label on the side where there is room. */
function rule(marker, { box, x }) {
  const at = x(marker.x);
  const left = at > (box.left + box.right) / 2;
  return `<line class="ex-marker" x1="${at}" x2="${at}" y1="${box.top}" y2="${box.bottom}"/><text class="ex-note" text-anchor="${left ? "end" : "start"}" x="${at + (left ? -6 : 6)}" y="${box.top + 11}">${escape(marker.label)}</text>`;
}

const SHAPES = [
  (x, y) => `<circle cx="${x}" cy="${y}" r="4"/>`,
  (x, y) => `<rect x="${x - 3.5}" y="${y - 3.5}" width="7" height="7"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 9h-10z"/>`,
  (x, y) => `<path d="M${x} ${y - 5}l5 5-5 5-5-5z"/>`,
];

/** {x: {label, format, min?, max?}, y: same, series: [{label, x: [], y: [], draw: "line"|"points"|"both"}], marker?: {x, label, y?}} */
function line(chart, width) {
  const height = 300;
  const values = (axis) => chart.series.flatMap((s) => Array.from(s[axis]));
  const range = (axis) => [chart[axis].min ?? Math.min(...values(axis)), chart[axis].max ?? Math.max(...values(axis))];
  const f = frame(chart, width, height, range("x"), range("y"));
  let body = f.body;
  chart.series.forEach((series, i) => {
    const points = Array.from(series.x, (v, j) => [f.x(v).toFixed(1), f.y(series.y[j]).toFixed(1)]);
    const draw = series.draw ?? "line";
    body += `<g class="ex-series ex-series-${i}">`;
    if (draw !== "points") body += `<polyline points="${points.map((p) => p.join()).join(" ")}"/>`;
    if (draw !== "line") body += points.map(([x, y]) => SHAPES[i % SHAPES.length](Number(x), Number(y))).join("");
    body += "</g>";
  });
  if (chart.marker) {
    body += rule(chart.marker, f);
    for (const v of chart.marker.y ?? []) body += `<circle class="ex-here" cx="${f.x(chart.marker.x)}" cy="${f.y(v)}" r="5.5"/>`;
  }
  const key = chart.series.map((s, i) => `<li><svg width="30" height="12" aria-hidden="true"><g class="ex-series ex-series-${i}">${s.draw === "points" ? "" : '<polyline points="0,6 30,6"/>'}${(s.draw ?? "line") === "line" ? "" : SHAPES[i % SHAPES.length](15, 6)}</g></svg>${escape(s.label)}</li>`);
  return svg(chart, width, height, body) + (key.length > 1 ? `<ul class="ex-key">${key.join("")}</ul>` : "");
}

/** {x, y: as in line, edges: n+1 numbers, values: n numbers, off?: n booleans (drawn hatched), markers?: [{x, label}], key?: [on, off]} */
function histogram(chart, width) {
  const height = 300;
  const f = frame(chart, width, height, [chart.edges[0], chart.edges.at(-1)], [0, Math.max(...chart.values, 1e-12) * 1.04]);
  const hatch = `explorer-hatch-${(serial += 1)}`;
  const bar = (v, i) => {
    const left = f.x(chart.edges[i]);
    return v > 0 ? `M${left.toFixed(1)} ${f.box.bottom}V${f.y(v).toFixed(1)}H${f.x(chart.edges[i + 1]).toFixed(1)}V${f.box.bottom}z` : "";
  };
  const paths = { on: "", off: "" };
  Array.from(chart.values).forEach((v, i) => (paths[chart.off?.[i] ? "off" : "on"] += bar(v, i)));
  const pattern = `<pattern id="${hatch}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ex-off-ground" width="5" height="5"/><line class="ex-off-stroke" x1="0" x2="0" y1="0" y2="5"/></pattern>`;
  const body = `<defs>${pattern}</defs>${f.body}<path class="ex-off" d="${paths.off}" fill="url(#${hatch})"/><path class="ex-on" d="${paths.on}"/>${(chart.markers ?? []).map((m) => rule(m, f)).join("")}`;
  const key = chart.key ? `<ul class="ex-key"><li><span class="ex-swatch"></span>${escape(chart.key[0])}</li><li><span class="ex-swatch ex-swatch-off"></span>${escape(chart.key[1])}</li></ul>` : "";
  return svg(chart, width, height, body) + key;
}

/** {labels: [], values: [], format, off?: [], max?}: horizontal bars, each with its value written beside it. */
function bars(chart, width) {
  const row = 46;
  const height = row * chart.labels.length + 6;
  const room = width - 96;
  const max = chart.max ?? Math.max(...chart.values, 1e-12);
  const body = chart.labels.map((label, i) => {
    const length = Math.max(1, (chart.values[i] / max) * room);
    return `<text class="ex-label" x="0" y="${i * row + 16}">${escape(label)}</text><rect class="${chart.off?.[i] ? "ex-bar-off" : "ex-on"}" x="0" y="${i * row + 22}" width="${length}" height="16" rx="2"/><text class="ex-value" x="${length + 7}" y="${i * row + 35}">${format[chart.format ?? "number"](chart.values[i])}</text>`;
  });
  return svg(chart, width, height, body.join(""));
}

/**
 * {images: [{label, values, rows, cols, off?}], max?: the magnitude drawn in full colour}
 * One colour above zero, another below, blank at zero; `colours` is {plus: "rgb(...)", minus: "rgb(...)"}.
 */
function grid(chart, width, colours) {
  const peak = chart.max ?? Math.max(...chart.images.flatMap((image) => Array.from(image.values, Math.abs)), 1e-12);
  const [plus, minus] = [colours.plus, colours.minus].map((colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number));
  const list = document.createElement("div");
  list.className = "ex-grid";
  list.setAttribute("role", "img");
  list.setAttribute("aria-label", `${chart.title}. ${chart.description}`);
  for (const image of chart.images) {
    const cell = document.createElement("div");
    cell.className = image.off ? "ex-cell ex-cell-off" : "ex-cell";
    const canvas = Object.assign(document.createElement("canvas"), { width: image.cols, height: image.rows });
    const pixels = new ImageData(image.cols, image.rows);
    Array.from(image.values).forEach((v, i) => pixels.data.set([...(v > 0 ? plus : minus), 255 * Math.min(1, Math.abs(v) / peak)], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    cell.append(canvas, Object.assign(document.createElement("span"), { textContent: image.label }));
    list.append(cell);
  }
  return list;
}

const CHARTS = { line, histogram, bars, grid };

/** The chart under its title, drawn `width` pixels wide. */
export function draw(chart, width, colours) {
  const holder = document.createElement("div");
  holder.className = "ex-chart";
  holder.append(Object.assign(document.createElement("p"), { textContent: chart.title, className: "ex-chart-title" }));
  const drawn = CHARTS[chart.type](chart, Math.max(240, Math.round(width)), colours);
  if (typeof drawn === "string") holder.insertAdjacentHTML("beforeend", drawn);
  else holder.append(drawn);
  return holder;
}
