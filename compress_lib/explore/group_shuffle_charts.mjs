// The wiring diagram of the shuffle explorer, a chart type that it alone needs. Chapter 15.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const WIRING = { left: 58, top: 40, tallest: 96, bottom: 40, milliseconds: 500, label: 20 };
const wiringsShown = new WeakMap(); // what a reader sees now, by chart.owner; the next diagram moves on from there

/** The heights of the diagram, of a layer and of what lies between two: the same diagram for any number of layers. */
function wiringHeights(layers, width) {
  const height = width < 440 ? 268 : 320;
  const room = height - WIRING.top - WIRING.bottom;
  const layer = Math.min(WIRING.tallest, room / (1.85 * layers - 0.85));
  const between = 0.85 * layer;
  return { height, layer, between, start: WIRING.top + (room - layers * layer - (layers - 1) * between) / 2 };
}

/** Where things stand, from 0 to 1: the channels, and for each output the place that it is wired to. */
function wiringPlaces({ channels, groups, from }) {
  const size = channels / groups;
  const apart = Math.min(1.2, 0.35 * size); // between groups, in distances between channels
  const whole = channels - 1 + (groups - 1) * apart;
  const x = Array.from({ length: channels }, (_, p) => (p + Math.floor(p / size) * apart) / whole);
  const to = [];
  from.forEach((k, place) => (to[k] = x[place]));
  return { x, to, groups, left: 0 };
}

/** On the way from one diagram to another; `left` is how much of the old connections is still to be seen. */
function wiringBetween(old, now, share) {
  const mix = (a, b) => a.map((v, i) => v + (b[i] - v) * share);
  return { x: mix(old.x, now.x), to: mix(old.to, now.to), groups: now.groups, was: old.groups, left: 1 - share };
}

/** The inside of the picture, with the channels at `places`. */
function wiringBody({ channels, steps, shuffled, output }, places, width) {
  const span = width - WIRING.left - 14;
  const px = (share) => (WIRING.left + 4 + share * span).toFixed(1);
  const pitch = span / (channels - 1 + 0.35 * channels);
  const radius = Math.max(2.4, Math.min(6, 0.42 * pitch));
  const heights = wiringHeights(steps.length, width);
  const top = (layer) => heights.start + layer * (heights.layer + heights.between);
  const foot = (layer) => top(layer) + heights.layer;
  const every = Array.from({ length: channels }, (_, i) => i);
  const group = (k, groups) => Math.floor((k * groups) / channels);
  const together = (i, k, groups) => group(i, groups) === group(k, groups);
  const was = places.was ?? places.groups;
  const paths = { stay: "", come: "", go: "", strong: "" };
  let [boxes, nodes, words] = ["", "", ""];

  steps.forEach(({ reads, writes }, layer) => {
    const [high, low] = [top(layer), foot(layer)];
    const [read, written] = [new Set(reads), new Set(writes)];
    for (let g = 0; g < places.groups; g += 1) {
      const [first, last] = [(g * channels) / places.groups, ((g + 1) * channels) / places.groups - 1].map((k) => Number(px(places.x[k])));
      const pad = radius + 2.5;
      boxes += `<rect x="${(first - pad).toFixed(1)}" y="${high - pad}" width="${(last - first + 2 * pad).toFixed(1)}" height="${low - high + 2 * pad}" rx="5"/>`;
    }
    for (const i of every)
      for (const k of every) {
        const [now, before] = [together(i, k, places.groups), together(i, k, was)];
        if (!now && !before) continue;
        const kind = now && written.has(k) ? "strong" : now && before ? "stay" : now ? "come" : "go";
        paths[kind] += `M${px(places.x[i])} ${high}L${px(places.x[k])} ${low}`;
      }
    if (layer < steps.length - 1) {
      const next = top(layer + 1);
      for (const k of every) {
        const [a, b, half] = [px(places.x[k]), px(places.to[k]), ((low + next) / 2).toFixed(1)];
        paths[written.has(k) ? "strong" : "stay"] += `M${a} ${low}C${a} ${half} ${b} ${half} ${b} ${next}`;
      }
      if (shuffled) words += `<text class="ex-tick" x="0" y="${(low + next) / 2 + 4}">shuffle</text>`;
    }
    words += `<text class="ex-label" x="0" y="${(high + low) / 2 + 4}">layer ${layer + 1}</text>`;
    for (const [marked, y] of [[read, high], [written, low]])
      for (const k of every) nodes += `<circle cx="${px(places.x[k])}" cy="${y}" r="${radius.toFixed(1)}" style="fill:var(--ex-${marked.has(k) ? "0" : "raised"});stroke:var(--ex-${marked.has(k) ? "0" : "off"})"/>`;
  });

  const low = foot(steps.length - 1);
  const [x, seen] = [px(places.x[output]), new Set(steps[0].reads)];
  nodes += `<circle class="ex-here" cx="${x}" cy="${low}" r="${(radius + 2.5).toFixed(1)}"/><circle class="ex-on" cx="${x}" cy="${low}" r="${(radius - 0.5).toFixed(1)}"/>`;
  const stride = [1, 2, 3, 4, 6, 8].find((n) => n * pitch >= WIRING.label) ?? 12;
  const number = (k, y, bold) => `<text class="${bold ? "ex-value" : "ex-tick"}" text-anchor="middle" x="${px(places.x[k])}" y="${y}">${k}</text>`;
  words += `<text class="ex-label" x="0" y="${top(0) - 14}">inputs</text><text class="ex-label" x="0" y="${low + 23}">outputs</text>`;
  for (const k of every) {
    if (k % stride === 0) words += number(k, top(0) - 14, seen.has(k));
    const near = k !== output && Math.abs(places.x[k] - places.x[output]) * span < WIRING.label;
    if (k === output || (k % stride === 0 && !near)) words += number(k, low + 23, k === output);
  }
  const room = (pitch * places.groups) / channels; // in crowded layers thick lines would become one surface
  const [thin, thick] = [Math.max(0.35, Math.min(1, room)), Math.max(0.6, Math.min(2, 1.5 * room))].map((w) => w.toFixed(2));
  const line = (path, style) => `<path d="${path}" style="fill:none;${style}"/>`;
  return (
    `<g style="fill:var(--ex-raised);stroke:var(--ex-rule)">${boxes}</g>` +
    line(paths.stay, `stroke:var(--ex-off);stroke-width:${thin}`) +
    line(paths.come, `stroke:var(--ex-off);stroke-width:${thin};opacity:${1 - places.left}`) +
    line(paths.go, `stroke:var(--ex-off);stroke-width:${thin};opacity:${places.left}`) +
    line(paths.strong, `stroke:var(--ex-0);stroke-width:${thick}`) +
    `<g style="stroke-width:1.2">${nodes}</g>${words}` +
    `<path class="ex-grip" d="M0 ${low - 12}H${width}V${low + 32}H0z" ${dragged("output", "x", every.map((k) => Number(px(places.x[k]))))}/>`
  );
}

/** {channels, groups, from, shuffled, steps: [{reads, writes}], output, owner}: layers of groups, and what leads to one output. */
CHARTS.wiring = function wiring(chart, width) {
  const goal = wiringPlaces(chart);
  const start = wiringsShown.get(chart.owner);
  const differs = (a, b) => a.some((v, i) => Math.abs(v - b[i]) > 1e-9);
  const moves = start?.x.length === goal.x.length && (differs(start.x, goal.x) || differs(start.to, goal.to)) && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const { height } = wiringHeights(chart.steps.length, width);
  const sample = (color, fill, thick) => `<svg width="30" height="12" aria-hidden="true"><path d="M0 6H30" style="stroke:var(--ex-${color});stroke-width:${thick}"/><circle cx="15" cy="6" r="4.5" style="fill:var(--ex-${fill});stroke:var(--ex-${color})"/></svg>`;
  const key = `<ul class="ex-key"><li>${sample("0", "0", 2)}leads to output ${chart.output}</li><li>${sample("off", "raised", 1)}does not</li></ul>`;
  const holder = document.createElement("template");
  holder.innerHTML = svg(chart, width, height, `<g>${wiringBody(chart, goal, width)}</g>`) + key;
  const picture = holder.content.querySelector("g");
  wiringsShown.set(chart.owner, moves ? start : goal);
  let begun;
  const step = (now) => {
    if (!picture.isConnected) return; // a later diagram has taken its place
    begun ??= now;
    const share = Math.min(1, (now - begun) / WIRING.milliseconds);
    const places = share < 1 ? wiringBetween(start, goal, share * share * (3 - 2 * share)) : goal;
    picture.innerHTML = wiringBody(chart, places, width);
    wiringsShown.set(chart.owner, places);
    if (share < 1) requestAnimationFrame(step);
  };
  if (moves) requestAnimationFrame(step);
  return holder.content;
};
