// What the explorer of towers draws beyond charts.mjs: weights as areas, and axes in powers of two. Chapter 16.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS and formats.

/** The power of two that a number on a logarithmic axis stands for. */
format.power_of_two = (value) => format.count(2 ** value);
format.percent_of_power = (value) => `${format.number(100 * 2 ** value)}${NBSP}%`;

const TOWERS = { milliseconds: 450, gap: 0.16, left: 4, right: 96, line: 15, lowest: 3, reach: 2.5 };
const towersShown = new WeakMap(); // what a reader sees now, by chart.owner; the next drawing moves on from there

/** How many rows of weights the picture is high, whatever the towers: it holds the full convolution, and one tower if that is not far above. */
function towersReach({ inputs, channels, kernel }) {
  const full = inputs * kernel ** 2;
  return Math.max(full, Math.min(inputs + channels * kernel ** 2, TOWERS.reach * full));
}

/** Upper edges in units of a row of weights: the 1×1 is `inputs` high, a tower k² for each of its channels. */
function towersHeights({ inputs, channels, towers, kernel }) {
  const area = kernel ** 2;
  return { count: towers, tower: (channels / towers) * area, full: inputs * area, pointwise: inputs, parted: 1 };
}

/** On the way: towers grow or shrink, and come apart or together; the finer division of the two is the one that shows. */
function towersBetween(old, now, share) {
  const mix = (a, b) => a + (b - a) * share;
  const splits = now.count > old.count;
  return {
    ...now,
    count: splits ? now.count : old.count,
    tower: mix(old.tower, now.tower),
    full: mix(old.full, now.full),
    pointwise: mix(old.pointwise, now.pointwise),
    parted: splits ? share : 1 - share,
  };
}

/** The boxes of the towers, side by side: [x, width] of each; the finer, the narrower the gaps. */
function towersBoxes(count, parted, left, width) {
  const pitch = width / count;
  const gap = count > 1 ? parted * Math.min(6, TOWERS.gap * pitch) : 0;
  return Array.from({ length: count }, (_, i) => [left + i * pitch + gap / 2, pitch - gap]);
}

/** The inside of the picture. */
function towersBody(chart, places, width, height) {
  const { inputs, channels, towers, kernel } = chart;
  const wide = width - TOWERS.left - TOWERS.right;
  const [top, base] = [6, height - 26];
  const scale = (base - top) / towersReach(chart);
  const [floor, above, full] = [places.pointwise, places.pointwise + places.tower, places.full].map((rows) => base - scale * rows);
  const roof = Math.max(0, above); // 0 where the towers are higher than the picture
  const right = TOWERS.left + wide;
  const rect = (x, y, w, h, style, kind = "") => `<rect ${kind}x="${x.toFixed(2)}" y="${y.toFixed(2)}" width="${w.toFixed(2)}" height="${Math.max(0, h).toFixed(2)}" style="${style}"/>`;
  const low = Math.max(TOWERS.lowest, floor - roof); // a tower for each channel is hardly higher than a line
  const boxes = towersBoxes(places.count, places.parted, TOWERS.left, wide).map(([x, w]) => rect(x, floor - low, w, low, "", 'class="ex-tower" '));
  const fine = wide / places.count < 5;
  const look = fine ? "fill:var(--ex-1)" : "fill:color-mix(in srgb, var(--ex-1) 30%, var(--ex-raised));stroke:var(--ex-1);stroke-width:1.2";

  // Words on the right, each beside its part, moved up where they would touch those below.
  const share = (rows) => format.percent(rows / places.full);
  const wanted = [
    { at: full + 12, words: [`full ${kernel}×${kernel}`, share(places.full)], color: "ink" },
    { at: (roof + floor) / 2, words: [towers === 1 ? "1 tower" : `${towers} towers`, share(places.tower)], color: "1" },
    { at: (floor + base) / 2, words: ["1×1", share(places.pointwise)], color: "0" },
  ].sort((a, b) => b.at - a.at);
  let below = base + TOWERS.line + 3;
  for (const label of wanted) {
    label.at = Math.min(label.at, below - 2 * TOWERS.line - 3);
    below = label.at;
  }
  const words = wanted.map(({ at, words: lines, color }) => lines.map((line, i) => `<text class="${i ? "ex-tick" : "ex-value"}" x="${right + 8}" y="${(at + i * TOWERS.line).toFixed(1)}" style="fill:var(--ex-${color})">${line}</text>`).join(""));
  const each = channels / towers;
  const caption = `${inputs} → ${channels} channels; each tower ${each} → ${each}${each === 1 ? ": depthwise" : ""}`;
  return (
    `<g style="${look}">${boxes.join("")}</g>` +
    rect(TOWERS.left, floor, wide, base - floor, "fill:color-mix(in srgb, var(--ex-0) 45%, var(--ex-raised));stroke:var(--ex-0);stroke-width:1.2", 'class="ex-pointwise" ') +
    rect(TOWERS.left, full, wide, base - full, "fill:none;stroke:var(--ex-soft);stroke-width:1.5;stroke-dasharray:5 4", 'class="ex-full" ') +
    (chart.choices ? `<circle class="ex-knob" cx="${TOWERS.left + wide / 2}" cy="${Math.max(9, floor - low).toFixed(1)}" r="8"/>` : "") +
    (roof === 0 ? `<text class="ex-note" text-anchor="middle" x="${TOWERS.left + wide / 2}" y="34">↑ higher than the picture</text>` : "") +
    words.join("") +
    `<text class="ex-tick" x="${TOWERS.left}" y="${height - 8}">${caption}</text>`
  );
}

/**
 * {inputs, channels, towers, kernel, owner, choices}: areas in proportion to weights. The 1×1 convolution lies at the
 * bottom, the towers stand on it, and a dashed frame is the full convolution. `choices`, if given, is the t of each value of
 * the control `towers`: dragging up and down sets the height of the towers.
 */
CHARTS.towers = function towers(chart, width) {
  const height = width < 480 ? 284 : 345;
  const goal = towersHeights(chart);
  const start = towersShown.get(chart.owner);
  const moves = start && start.count !== goal.count && start.full === goal.full && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const holder = document.createElement("template");
  holder.innerHTML = svg(chart, width, height, `<g></g>${towersGrip(chart, goal, width, height)}`);
  const picture = holder.content.querySelector("g");
  const show = (places) => {
    picture.innerHTML = towersBody(chart, places, width, height);
    towersShown.set(chart.owner, places);
  };
  show(moves ? towersBetween(start, goal, 0) : goal);
  let begun;
  const step = (now) => {
    if (!picture.isConnected) return; // a later drawing has taken its place
    begun ??= now;
    const share = Math.min(1, (now - begun) / TOWERS.milliseconds);
    show(share < 1 ? towersBetween(start, goal, share * share * (3 - 2 * share)) : goal);
    if (share < 1) requestAnimationFrame(step);
  };
  if (moves) requestAnimationFrame(step);
  return holder.content;
};

/** Where the pointer takes hold: the upper edge of the towers, for each number of them. */
function towersGrip(chart, goal, width, height) {
  if (!chart.choices) return "";
  const rows = chart.choices.map((t) => goal.pointwise + (chart.channels / t) * chart.kernel ** 2);
  const scale = (height - 32) / towersReach(chart);
  const places = rows.map((count) => Math.max(0, height - 26 - scale * count));
  return `<rect x="0" y="0" width="${width - TOWERS.right}" height="${height}" style="fill:transparent" ${dragged("towers", "y", places)}/>`;
}
