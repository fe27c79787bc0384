// A network whose maps shrink with α and ρ, and one of its blocks. Chapter 14.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

/**
 * {maps: [{width, side}], full: the same at α = 1 and the largest image, alphas, sizes, block, blocks,
 *  bars: [{label, macs, words, kind}], most}: each map as wide as its channels and as high as its side, over a dashed
 * outline of the largest. Dragging the edge of the last map sets the control `alpha` (`alphas`: how wide it is for each
 * value), dragging that of the first `size` (`sizes`: how high). A click elsewhere sets `block`, whose work is below.
 */
CHARTS.network = function network(chart, width) {
  const { maps, full, alphas, sizes, block, blocks, bars, most } = chart;
  const gap = width < 480 ? 3 : 5;
  const wide = (width - 4 - gap * (full.length - 1)) / full.reduce((sum, { width: channels }) => sum + channels, 0);
  const tallest = Math.max(...full.map(({ side }) => side));
  const high = width < 480 ? 136 : 190;
  const tall = high / tallest;
  const middle = 4 + high / 2;
  let at = 2;
  const slots = full.map((map) => {
    const slot = { x: at, width: wide * map.width, height: tall * map.side };
    at += slot.width + gap;
    return slot;
  });
  const rect = ({ x, width: w, height: h }, style, kind) => `<rect class="${kind}" x="${x.toFixed(2)}" y="${(middle - h / 2).toFixed(2)}" width="${w.toFixed(2)}" height="${h.toFixed(2)}" style="${style}"/>`;
  const inside = maps.map((map, i) => {
    const [w, h] = [wide * map.width, tall * map.side];
    return { x: slots[i].x + (slots[i].width - w) / 2, width: w, height: h };
  });
  const center = slots.map(({ x, width: w }) => x + w / 2);
  const paint = (i) => (i === block ? "fill:var(--ex-1);stroke:var(--ex-1)" : "fill:color-mix(in srgb, var(--ex-0) 55%, var(--ex-raised));stroke:var(--ex-0)");
  const text = (words, x, y, kind, anchor = "middle") => `<text class="${kind}" text-anchor="${anchor}" x="${x.toFixed(1)}" y="${y.toFixed(1)}">${escape(words)}</text>`;
  const foot = 4 + high + 8;
  const label = `block ${block}`;
  const named = Math.max(26, Math.min(width - 26, center[block]));
  const pointer = `<path d="M${center[block].toFixed(1)} ${foot - 4}l-5 7h10z" style="fill:var(--ex-1)"/>${text(label, named, foot + 17, "ex-value")}`;
  const grip = `<rect x="0" y="0" width="${width}" height="${foot + 20}" style="fill:transparent" ${dragged("block", "x", blocks.map((each) => center[each]))}/>`;
  const shapes = [maps[0], maps.at(-1)].map(({ width: channels, side }) => `${channels} × ${side} × ${side}`);
  const [first, last] = [0, center.length - 1].map((i) => ({ center: center[i], ...inside[i] }));
  const knob = (x, y) => `<circle class="ex-knob" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="7"/>`;
  const [right, upper] = [last.x + last.width - 7, middle - first.height / 2 + 7]; // inside, so that they are seen whole
  const edges = (sign, scale, values, from, back) => values.map((value) => from + sign * ((scale * value) / 2 - back));
  const handle = (x, y, w, h, what) => `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${w}" height="${h}" style="fill:transparent" ${what}/>`;
  const handles =
    knob(right, middle) +
    knob(8, upper) +
    handle(right - 22, middle - 22, 44, 44, dragged("alpha", "x", edges(1, wide, alphas, last.center, 7))) +
    handle(0, upper - 22, 30, 44, dragged("size", "y", edges(-1, tall, sizes, middle, 7)));
  const hatch = hatching();
  const row = (i) => foot + 38 + i * 40;
  const drawn = bars.map(({ label: what, macs, words, kind }, i) => {
    const fill = kind === "depthwise" ? `fill="${hatch.fill}" style="stroke:var(--ex-off)"` : 'style="fill:var(--ex-1)"';
    return `${text(what, 0, row(i), "ex-label", "start")}${text(words, width, row(i), "ex-value", "end")}<rect class="ex-work" x="1" y="${row(i) + 6}" width="${Math.max(1.5, ((width - 2) * macs) / most).toFixed(1)}" height="12" ${fill}/>`;
  });
  const body =
    hatch.defs +
    slots.map((slot) => rect(slot, "fill:none;stroke:var(--ex-soft);stroke-dasharray:2 2", "ex-largest")).join("") +
    inside.map((map, i) => rect(map, paint(i), "ex-map")).join("") +
    text(`from ${shapes[0]} to ${shapes[1]}`, width, 14, "ex-tick", "end") +
    pointer +
    drawn.join("") +
    grip +
    handles;
  return svg(chart, width, row(2) - 14, body);
};
