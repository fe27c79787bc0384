// Softened probabilities, the gradients that they give, and what was measured over T and α. Chapter 12.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const SOFT = { check: 14, names: 94, column: 52, head: 24, entropy: 22, ticks: 18, marks: [1, 2, 4, 8, 20] };
const PAINTS = { teacher: "fill:var(--ex-0)", student: "stroke:var(--ex-1);stroke-width:1.5" };

const place = (value) => value.toFixed(1);
const words = (text, x, y, kind, anchor = "start", style = "") => `<text class="${kind}" text-anchor="${anchor}" x="${place(x)}" y="${place(y)}"${style && ` style="${style}"`}>${escape(text)}</text>`;
const box = (x, y, width, height, paint) => `<rect x="${place(x)}" y="${place(y)}" width="${place(width)}" height="${place(height)}" ${paint}/>`;

/** Stripes in the color of a series, on the ground of the page. */
function stripes(color) {
  const id = `explorer-stripes-${(serial += 1)}`;
  const defs = `<defs><pattern id="${id}" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="4" height="4" style="fill:var(--ex-raised)"/><line x1="0" x2="0" y1="0" y2="4" style="stroke:var(--ex-${color});stroke-width:3"/></pattern></defs>`;
  return { defs, fill: `url(#${id})` };
}

/** A share as its row shows it. */
const shortly = (share) => (share >= 0.0995 ? `${Math.round(100 * share)}` : share < 0.0005 ? "<0.1" : (100 * share).toFixed(1)) + NBSP + "%";

/** A number with so many places after the point, zeros included: such numbers stand in a column. */
const aligned = (value, places) => value.toFixed(places).replace(/^-(?=[0.]*[1-9])/, MINUS).replace(/^-/, "");

const check = (x, y) => `<path d="M${x} ${y}l2.5 3 5 -7" style="fill:none;stroke:var(--ex-2);stroke-width:2"/>`;

const pictured = new WeakMap();

/** The picture as a data URL in the color of a canvas; 0 is blank. Kept, as each step of a slider draws anew. */
function picture(pixels, color) {
  if (pictured.get(pixels)?.color !== color) {
    const [rows, columns] = pixels.shape;
    const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
    const image = new ImageData(columns, rows);
    const channels = color.match(/[\d.]+/g).slice(0, 3).map(Number);
    pixels.forEach((value, i) => image.data.set([...channels, value], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
    pictured.set(pixels, { color, url: canvas.toDataURL() });
  }
  return pictured.get(pixels).url;
}

/**
 * {classes, label: index, pixels, teacher, student: probabilities, temperatures, temperature, entropies: [teacher's,
 *  student's] and `first`, the teacher's largest probability, at each temperature}: two bars for each class; the first
 * two classes are shaded. Dragging over the bars moves the end of the teacher's longest one, and so the control
 * `temperature`; dragging over the entropies below moves it along its axis, which is logarithmic.
 */
CHARTS.softened = function softened(chart, width, colors) {
  const { classes, label, teacher, student, temperatures, temperature, entropies, first } = chart;
  const narrow = width < 480;
  const [row, thick, thin, plot] = narrow ? [18, 8, 5, 46] : [22, 10, 7, 66];
  const [left, right] = [SOFT.names, width - 2 * SOFT.column - 6];
  const x = (share) => left + share * (right - left);
  const foot = SOFT.head + row * classes.length;
  const columns = [width - SOFT.column, width];
  const hatch = stripes("1");
  const second = `fill="${hatch.fill}" style="${PAINTS.student}"`;

  let body = hatch.defs + box(0, SOFT.head, width, 2 * row, 'rx="3" style="fill:var(--ex-rule);opacity:.6"');
  const equal = 1 / classes.length;
  for (const [share, text] of [[0, "0"], [equal, `1/${classes.length}`], [0.5, `50${NBSP}%`], [1, `100${NBSP}%`]]) {
    const dash = share === equal ? ' style="stroke:var(--ex-soft);stroke-dasharray:3 3"' : "";
    body += `<line class="${share ? "ex-rule" : "ex-axis"}" x1="${place(x(share))}" x2="${place(x(share))}" y1="${SOFT.head - 5}" y2="${foot}"${dash}/>`;
    if (share && (share === 1 || right - left > 130 || share !== 0.5)) body += words(text, x(share), SOFT.head - 9, "ex-tick", share === 1 ? "end" : "middle");
  }
  body += check(2, SOFT.head - 13) + words("label", SOFT.check, SOFT.head - 9, "ex-tick");
  ["teacher", "student"].forEach((who, i) => {
    body += words(who, columns[i], SOFT.head - 12, "ex-tick", "end", "fill:var(--ex-ink)");
    body += box(columns[i] - 38, SOFT.head - 8, 38, 5, i ? second : `style="${PAINTS.teacher}"`);
  });
  classes.forEach((name, i) => {
    const top = SOFT.head + i * row + (row - thick - thin - 1) / 2;
    const base = SOFT.head + (i + 0.5) * row + 4;
    const bold = i < 2 ? "font-weight:650;" : "";
    body += words(name, SOFT.check, base, "ex-tick", "start", `${bold}fill:var(--ex-ink)`);
    if (i === label) body += check(2, base - 4);
    body += `<rect class="ex-soft-teacher" x="${left}" y="${place(top)}" width="${place(x(teacher[i]) - left)}" height="${thick}" style="${PAINTS.teacher}"/>`;
    body += `<rect class="ex-soft-student" x="${left}" y="${place(top + thick + 1)}" width="${place(x(student[i]) - left)}" height="${thin - 1}" ${second}/>`;
    body += words(shortly(teacher[i]), columns[0], base, "ex-tick", "end", `${bold}fill:var(--ex-ink)`) + words(shortly(student[i]), columns[1], base, "ex-tick", "end");
  });
  if (chart.guess) body += guessed(chart.guess, { box: { left, right, top: SOFT.head, bottom: foot }, x });
  body += `<circle class="ex-knob" cx="${place(x(teacher[0]))}" cy="${SOFT.head + row / 2}" r="6"/>`;

  // The entropies, with the picture to their left and their values to the right.
  const bits = Math.log2(classes.length);
  const [top, bottom] = [foot + SOFT.entropy, foot + SOFT.entropy + plot];
  const along = (t) => left + (Math.log(t) / Math.log(temperatures.at(-1))) * (right - left);
  const up = (value) => bottom - (value / bits) * plot;
  const now = temperatures.indexOf(temperature);
  body += words(`entropy ≤ log₂ ${classes.length} = ${format.number(bits)} bits`, left, top - 6, "ex-tick");
  body += `<line x1="${left}" x2="${right}" y1="${top}" y2="${top}" style="stroke:var(--ex-soft);stroke-dasharray:3 3"/><line class="ex-axis" x1="${left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>`;
  for (const t of SOFT.marks) body += `<line class="ex-axis" x1="${place(along(t))}" x2="${place(along(t))}" y1="${bottom}" y2="${bottom + 4}"/>${words(String(t), along(t), bottom + 16, "ex-tick", "middle")}`;
  body += words("T", left - 12, bottom + 16, "ex-tick", "end");
  entropies.forEach((values, i) => (body += `<g class="ex-series ex-series-${i}"><polyline points="${values.map((value, j) => `${place(along(temperatures[j]))},${place(up(value))}`).join(" ")}"/></g>`));
  body += `<line class="ex-marker" x1="${place(along(temperature))}" x2="${place(along(temperature))}" y1="${top - 2}" y2="${bottom}"/>`;
  entropies.forEach((values, i) => {
    body += `<circle class="ex-here" cx="${place(along(temperature))}" cy="${place(up(values[now]))}" r="4"/>`;
    body += words(aligned(values[now], 2), columns[i], top + plot / 2 + 2, "ex-value", "end") + words("bits", columns[i], top + plot / 2 + 17, "ex-tick", "end");
  });
  body += `<circle class="ex-knob" cx="${place(along(temperature))}" cy="${bottom}" r="7"/>`;
  const side = Math.min(SOFT.names - 30, plot + SOFT.entropy - 6);
  body += `<image href="${picture(chart.pixels, colors.plus)}" x="2" y="${bottom - side}" width="${side}" height="${side}" style="image-rendering:pixelated"/>`;

  const grip = (y, height, places) => `<rect class="ex-grip" x="0" y="${y}" width="${width}" height="${height}" ${dragged("temperature", "x", places)}/>`;
  body += grip(SOFT.head, foot - SOFT.head, first.map(x)) + grip(foot, plot + SOFT.entropy + SOFT.ticks, temperatures.map(along));
  return svg(chart, width, bottom + SOFT.ticks, body);
};

const PULL = { names: 88, column: 50, head: 26, row: 22, foot: 24 };

/**
 * {classes, values, others, points: a number for each class, reach: the largest magnitude of all, key: [three texts]}:
 * a wide bar, a thin one and a point, on both sides of 0, and the value of the wide bar.
 */
CHARTS.pulls = function pulls(chart, width) {
  const { classes, values, others, points, reach, key } = chart;
  const [left, right] = [PULL.names, width - PULL.column - 8];
  const [middle, half] = [(left + right) / 2, (right - left) / 2];
  const x = (value) => middle + (value / reach) * half;
  const bottom = PULL.head + PULL.row * classes.length;
  const hatch = stripes("1");
  const ghost = `fill="${hatch.fill}" style="${PAINTS.student}"`;
  const bar = (value, y, height, paint) => box(Math.min(middle, x(value)), y, Math.max(0.5, Math.abs(x(value) - middle)), height, paint);
  const point = (at, y) => `<path d="M${place(at)} ${place(y - 5)}l5 5-5 5-5-5z" style="fill:var(--ex-surface);stroke:var(--ex-2);stroke-width:2"/>`;
  let body = hatch.defs + words("← the logit rises", left, 13, "ex-tick") + words("it falls →", right, 13, "ex-tick", "end");
  for (const tick of ticks(-reach, reach, half < 90 ? 3 : 4)) {
    body += `<line class="${tick ? "ex-rule" : "ex-axis"}" x1="${place(x(tick))}" x2="${place(x(tick))}" y1="${PULL.head - 4}" y2="${bottom}"/>${words(format.number(tick), x(tick), bottom + 16, "ex-tick", "middle")}`;
  }
  classes.forEach((name, i) => {
    const top = PULL.head + i * PULL.row;
    body += words(name, 2, top + PULL.row / 2 + 4, "ex-tick", "start", `${i < 2 ? "font-weight:650;" : ""}fill:var(--ex-ink)`);
    body += bar(values[i], top + 3, 9, 'class="ex-pull" style="fill:var(--ex-0)"') + bar(others[i], top + 13, 5, `class="ex-pull-other" ${ghost}`) + point(x(points[i]), top + 10);
    body += words(aligned(values[i], 3), width, top + PULL.row / 2 + 4, "ex-value", "end", "font-size:12px");
  });
  const swatches = [box(0, 1, 22, 9, 'style="fill:var(--ex-0)"'), box(1, 3, 20, 5, ghost), point(11, 6)];
  const list = key.map((text, i) => `<li><svg width="22" height="12" aria-hidden="true">${swatches[i]}</svg>${escape(text)}</li>`);
  return `${svg(chart, width, bottom + PULL.foot, body)}<ul class="ex-key">${list.join("")}</ul>`;
};

const CELL = { names: 40, head: 46, height: 34 };

/**
 * {temperatures, weights, accuracies: (temperatures, weights), temperature, settings}: a cell for each pair, the darker
 * the more accurate. A triangle stands at `temperature`, and its column is framed. A click on a column sets the control
 * `temperature` where that is one of its `settings`.
 */
CHARTS.surface = function surface(chart, width) {
  const { temperatures, weights, accuracies, temperature, settings } = chart;
  const wide = Math.min(72, (width - CELL.names - 4) / temperatures.length);
  const [low, high] = [Math.min(...accuracies.flat()), Math.max(...accuracies.flat())];
  const bottom = CELL.head + weights.length * CELL.height;
  const left = (i) => CELL.names + i * wide;
  /** Between two columns in proportion to log T. */
  const along = (t) => {
    const next = temperatures.findIndex((other) => other >= t);
    if (next < 0 || t < temperatures[0]) return null;
    const [from, to] = [temperatures[Math.max(0, next - 1)], temperatures[next]].map(Math.log);
    return left(next + 0.5 - (to === from ? 0 : (to - Math.log(t)) / (to - from)));
  };
  let body = words("α", 2, CELL.head - 9, "ex-tick") + words("T", CELL.names - 14, CELL.head - 9, "ex-tick", "middle");
  weights.forEach((weight, j) => (body += words(String(weight), 2, CELL.head + (j + 0.5) * CELL.height + 4, "ex-tick")));
  temperatures.forEach((t, i) => {
    const what = settings.includes(t) ? picked("temperature", t) : "";
    let column = words(String(t), left(i + 0.5), CELL.head - 9, t === temperature ? "ex-value" : "ex-tick", "middle");
    weights.forEach((_, j) => {
      const share = high > low ? (accuracies[i][j] - low) / (high - low) : 0.5;
      const y = CELL.head + j * CELL.height;
      column += box(left(i) + 1, y + 1, wide - 2, CELL.height - 2, `class="ex-measured" rx="2" style="fill:color-mix(in srgb, var(--ex-0) ${Math.round(5 + 40 * share)}%, var(--ex-raised))"`);
      column += words((100 * accuracies[i][j]).toFixed(1), left(i + 0.5), y + CELL.height / 2 + 4, "ex-tick", "middle", "fill:var(--ex-ink)");
    });
    const frame = t === temperature ? box(left(i), CELL.head - 1, wide, bottom - CELL.head + 2, 'rx="3" style="fill:none;stroke:var(--ex-ink);stroke-width:2"') : "";
    body += `<g ${what}>${box(left(i), 16, wide, bottom - 16, 'style="fill:transparent"')}${column}${frame}</g>`;
  });
  const at = along(temperature);
  if (at !== null) body += `<path class="ex-surface-here" d="M${place(at)} 22l-6 -10h12z" style="fill:var(--ex-ink)"/>`;
  return svg(chart, width, bottom + 4, body);
};
