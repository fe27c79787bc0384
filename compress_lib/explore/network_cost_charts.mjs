// A convolution as blocks in proportion, with its window, and where it stands under the roofline. Chapter 01.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const SLIDING = { rest: 2600, across: 1300 }; // milliseconds: of sliding after a change, and from side to side
const LAYER_PARTS = {
  input: { color: "0", marks: "" },
  weights: { color: "1", marks: '<path d="M-1 1L1 -1M0 6L6 0M5 7L7 5"/>' },
  output: { color: "2", marks: '<circle cx="3" cy="3" r="1"/>' },
};
const windowsShown = new WeakMap(); // where a reader's window is, by chart.owner: {share, until, held}

/** A block seen from the front, its depth (the channels) going up to the right. */
function block({ x, y, width, height, dx, dy }, style, inside = "") {
  const [w, h] = [width, height].map((v) => v.toFixed(1));
  const face = (d) => `<path d="${d}" style="${style}"/>`;
  const top = face(`M${x} ${y}l${dx} ${-dy}h${w}l${-dx} ${dy}z`);
  const side = face(`M${x + width} ${y}l${dx} ${-dy}v${h}l${-dx} ${dy}z`);
  return `${top}${side}<rect x="${x}" y="${y}" width="${w}" height="${h}" style="${style}"/>${inside}`;
}

/** Where the blocks of a layer stand in a picture `width` wide: all heights on one scale, all depths on another. */
function layerPlaces({ side, output, inputs, outputs, kernel, padding, groups }, width) {
  const wide = width >= 480;
  const [size, depth, rise] = wide ? [150, 56, 0.7] : [Math.min(84, (width - 14) / 3 - 30), 30, 0.7];
  const unit = size / Math.max(side + 2 * padding, output ?? 1, kernel);
  const channel = depth / Math.max(inputs, outputs);
  const base = 6 + depth * rise + size; // the lower edge of all blocks
  const made = (pixels, channels) => {
    const [span, dx] = [Math.max(1.5, unit * pixels), Math.max(1.5, channel * channels)];
    return { width: span, height: span, dx, dy: dx * rise };
  };
  const put = (shape, x, low = base) => ({ ...shape, x, y: low - shape.height });
  const frame = unit * padding;
  const input = put(made(side, inputs), 2 + frame, base - frame);
  const filter = made(kernel, inputs / groups);
  const result = made(output ?? side, outputs);
  const last = put(result, width - 2 - result.width - result.dx);
  const free = [input.x + input.width + input.dx + frame, last.x];
  const middle = put(filter, (free[0] + free[1] - filter.width - filter.dx) / 2);
  return { unit, rise, base, input, filter: middle, output: last, frame, bottom: base };
}

/** The window at a share of the way over the output, and what it makes there: lines lead from one to the other. */
function slidingWindow({ stride, padding, output, kernel, outputs }, places, share) {
  const { unit, input, filter } = places;
  const column = Math.round(share * (output - 1));
  const row = Math.floor((output - 1) / 3);
  const at = (start, index, step) => start + unit * (index * step);
  const window_ = { ...filter, x: at(input.x, column, stride) - unit * padding, y: at(input.y, row, stride) - unit * padding };
  const cell = Math.max(2, unit);
  const dx = Math.max(1.5, places.output.dx / outputs);
  const made = { x: at(places.output.x, column, 1), y: at(places.output.y, row, 1), width: cell, height: cell, dx, dy: dx * places.rise };
  const lines = [0, 1].map((low) => `M${window_.x + window_.width} ${window_.y + low * window_.height}L${made.x} ${made.y + low * cell}`).join("");
  return (
    `<path d="${lines}" style="fill:none;stroke:var(--ex-ink);stroke-width:1;stroke-dasharray:3 3"/>` +
    block(window_, "fill:color-mix(in srgb, var(--ex-1) 35%, transparent);stroke:var(--ex-1);stroke-width:1.5") +
    block(made, "fill:var(--ex-ink);stroke:var(--ex-ink)")
  );
}

/** {owner, side, output, inputs, outputs, kernel, padding, stride, groups, macs, bytes: [input, weights, output]}; output and macs null if there is none. */
CHARTS.layer = function layer(chart, width) {
  const { owner, side, output, inputs, outputs, kernel, padding, groups, macs, bytes } = chart;
  const places = layerPlaces(chart, width);
  const id = `explorer-layer-${(serial += 1)}`;
  const defs = Object.entries(LAYER_PARTS).map(([name, { color, marks }]) => `<pattern id="${id}-${name}" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" style="fill:color-mix(in srgb, var(--ex-${color}) 20%, var(--ex-raised))"/><g style="fill:none;stroke:var(--ex-${color});opacity:.6">${marks}</g></pattern>`);
  const paint = (name) => `fill:url(#${id}-${name});stroke:var(--ex-${LAYER_PARTS[name].color});stroke-width:1.2`;
  const { input, filter, frame, bottom } = places;
  const text = (words, x, y, anchor, kind = "ex-tick") => `<text class="${kind}" text-anchor="${anchor}" x="${x.toFixed(1)}" y="${y}">${words}</text>`;
  const padded = padding ? `<rect x="${input.x - frame}" y="${input.y - frame}" width="${input.width + 2 * frame}" height="${input.height + 2 * frame}" style="fill:none;stroke:var(--ex-soft);stroke-dasharray:3 3"/>` : "";
  const each = Number.isInteger(inputs / groups) ? inputs / groups : `${inputs}/${groups}`;
  const result = output === null ? text("no such layer", places.output.x + places.output.width / 2, bottom - 30, "middle", "ex-note") : block(places.output, paint("output"));
  const named = [
    ["input", `${inputs} × ${side} × ${side}`, 2, "start"],
    [`${outputs} filters`, `of ${each} × ${kernel} × ${kernel}`, filter.x + (filter.width + filter.dx) / 2, "middle"],
    ["output", output === null ? "none" : `${outputs} × ${output} × ${output}`, width - 2, "end"],
  ].map(([what, shape, x, anchor]) => text(what, x, bottom + 18, anchor, "ex-value") + text(shape, x, bottom + 34, anchor));

  const middle = (input.x + input.width + input.dx + places.output.x) / 2;
  const work = macs === null ? "" : text(format.count(macs), middle, 16, "middle", "ex-note") + text("multiply–adds", middle, 32, "middle");
  const total = bytes.reduce((a, b) => a + b, 0);
  let from = 1;
  const bar = Object.keys(LAYER_PARTS).map((name, i) => {
    const part = total ? (bytes[i] / total) * (width - 2) : 0;
    const rect = `<rect class="ex-part-${name}" x="${from.toFixed(1)}" y="${bottom + 64}" width="${part.toFixed(1)}" height="18" style="${paint(name)}"/>`;
    from += part;
    return rect;
  });
  const moved = [[1, "start"], [width / 2, "middle"], [width - 1, "end"]].map(([x, anchor], i) => text(`${Object.keys(LAYER_PARTS)[i]} ${format.bytes(total ? bytes[i] : NaN)}`, x, bottom + 98, anchor));
  const body =
    `<defs>${defs.join("")}</defs>${padded}${block(input, paint("input"))}${block(filter, paint("weights"))}${result}` +
    `<g class="ex-window"></g>${work}${named.join("")}${text(total ? `${format.bytes(total)} moved for one image` : "nothing is moved", 1, bottom + 58, "start", "ex-value")}${bar.join("")}${moved.join("")}`;
  const holder = document.createElement("template");
  holder.innerHTML = svg(chart, width, bottom + 104, body);
  if (output !== null) slide(holder.content.firstElementChild, chart, places, owner);
  return holder.content;
};

/** Keep the window moving for a while after each change, and let the pointer lead it over the input. */
function slide(picture, chart, places, owner) {
  const shown = windowsShown.get(owner) ?? { share: 0.3, held: false };
  windowsShown.set(owner, shown);
  const group = picture.querySelector(".ex-window");
  const show = () => (group.innerHTML = slidingWindow(chart, places, shown.share));
  show();
  picture.addEventListener("pointermove", ({ clientX, clientY }) => {
    const box = picture.getBoundingClientRect();
    const zoom = box.width / picture.viewBox.baseVal.width;
    const [x, y] = [(clientX - box.x) / zoom, (clientY - box.y) / zoom];
    shown.held = y < places.bottom && x < places.input.x + places.input.width + places.input.dx;
    if (!shown.held) return;
    shown.share = Math.max(0, Math.min(1, (x - places.input.x) / places.input.width));
    show();
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  shown.until = performance.now() + SLIDING.rest;
  let last;
  const step = (now) => {
    if (!picture.isConnected || shown.held || now > shown.until) return; // another picture, or the reader's hand, has taken over
    if (last !== undefined) shown.share = (shown.share + (now - last) / SLIDING.across) % 1;
    last = now;
    show();
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/**
 * {peak, bandwidth, points: [{label, intensity}], here: {label, intensity} or null}: multiply–adds per second against
 * multiply–adds per byte, both logarithmic, under what a machine that was measured can do.
 */
CHARTS.roofline = function roofline(chart, width) {
  const { peak, bandwidth, points, here } = chart;
  const height = 270;
  const box = { left: 52, right: width - 14, top: 16, bottom: height - 46 };
  const [low, high] = [-2, 3]; // powers of ten of the intensity
  const attainable = (intensity) => Math.min(peak, bandwidth * intensity);
  const [bottom, top] = [Math.log10(attainable(10 ** low)), Math.log10(peak) + 0.25];
  const x = (intensity) => box.left + ((Math.max(low, Math.min(high, Math.log10(intensity))) - low) / (high - low)) * (box.right - box.left);
  const y = (rate) => box.bottom - ((Math.log10(rate) - bottom) / (top - bottom)) * (box.bottom - box.top);
  const at = (intensity) => [x(intensity), y(attainable(Math.max(10 ** low, intensity)))].map((v) => Number(v.toFixed(1)));
  const text = (words, left, up, kind, anchor) => `<text class="${kind}" text-anchor="${anchor}" x="${left}" y="${up}">${escape(words)}</text>`;
  const ridge = peak / bandwidth;
  const power = (n) => (n < 0 ? (10 ** n).toFixed(-n) : String(10 ** n));
  let body = "";
  for (let n = low; n <= high; n += 1) body += `<line class="ex-axis" x1="${x(10 ** n)}" x2="${x(10 ** n)}" y1="${box.bottom}" y2="${box.bottom + 4}"/>${text(power(n), x(10 ** n), box.bottom + 18, "ex-tick", "middle")}`;
  for (let n = Math.ceil(bottom); n <= top; n += 1) body += `<line class="ex-rule" x1="${box.left}" x2="${box.right}" y1="${y(10 ** n)}" y2="${y(10 ** n)}"/>${text(format.number(10 ** (n - 9)), box.left - 7, y(10 ** n) + 4, "ex-tick", "end")}`;
  const [a, b, c] = [10 ** low, ridge, 10 ** high].map(at);
  body += `<line class="ex-axis" x1="${box.left}" x2="${box.right}" y1="${box.bottom}" y2="${box.bottom}"/>`;
  body += `<line class="ex-marker" x1="${b[0]}" x2="${b[0]}" y1="${b[1]}" y2="${box.bottom}"/>`;
  body += `<polyline class="ex-roof" points="${[a, b, c].join(" ")}" style="fill:none;stroke:var(--ex-ink);stroke-width:2.5;stroke-linejoin:round"/>`;
  body += text("waits for memory", b[0] - 7, box.bottom - 8, "ex-tick", "end") + text("computes", b[0] + 7, box.bottom - 8, "ex-tick", "start");
  body += points.map(({ intensity }, i) => `<g class="ex-series ex-series-${i + 1}" style="stroke:var(--ex-surface)">${SHAPES[i + 1](...at(intensity))}</g>`).join("");
  if (here) {
    const [left, up] = at(here.intensity);
    body += `<path d="M${left} ${up}V${box.bottom}M${left} ${up}H${box.left}" style="fill:none;stroke:var(--ex-0);stroke-dasharray:2 3"/><circle class="ex-roof-here" cx="${left}" cy="${up}" r="7" style="fill:var(--ex-0);stroke:var(--ex-surface);stroke-width:2"/>`;
  }
  body += text("multiply–adds per byte moved", (box.left + box.right) / 2, height - 8, "ex-label", "middle");
  body += text("billion multiply–adds a second", box.left - 44, 11, "ex-label", "start");
  const sample = (inside) => `<svg width="16" height="14" aria-hidden="true">${inside}</svg>`;
  const key = [`<li>${sample('<circle cx="8" cy="7" r="6" style="fill:var(--ex-0)"/>')}${escape(chart.named)}</li>`, ...points.map(({ label }, i) => `<li>${sample(`<g class="ex-series ex-series-${i + 1}">${SHAPES[i + 1](8, 7)}</g>`)}${escape(label)}</li>`)];
  return `${svg(chart, width, height, body)}<ul class="ex-key ex-key-left">${key.join("")}</ul>`;
};
