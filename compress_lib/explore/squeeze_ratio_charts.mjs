// A fire module whose bundles of channels are as wide as they are many. Chapter 13.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const FIRE = { bar: 20, join: 12, margin: 9 };

/**
 * {inputs, squeezed, ones, threes, params: [squeeze, 1×1, 3×3], plain, ratios, percents}: bundles of channels from top to
 * bottom, and at the foot the parameters beside those of a plain 3×3 convolution. Dragging the edge of the narrow
 * bundle sets the control `ratio`, dragging the border between the expand layers `percent`.
 */
CHARTS.fire = function fire(chart, width) {
  const { inputs, squeezed, ones, threes, params, plain, ratios, percents } = chart;
  const outputs = ones + threes;
  const drop = width < 480 ? 54 : 72; // from one bundle to the next
  const middle = width / 2;
  const scale = (width - 2 * FIRE.margin - 8) / Math.max(inputs, outputs); // nothing is squeezed to more than the outputs
  const span = (channels) => scale * channels;
  const apart = ones && threes ? 8 : 0;
  const rows = { input: 2 };
  rows.squeezed = rows.input + FIRE.bar + drop;
  rows.expanded = rows.squeezed + FIRE.bar + drop;
  rows.output = rows.expanded + FIRE.bar + FIRE.join;
  rows.foot = rows.output + FIRE.bar + 20;
  const hatch = (serial += 1);
  const defs = `<defs><pattern id="explorer-fire-${hatch}" width="7" height="7" patternUnits="userSpaceOnUse"><rect width="7" height="7" style="fill:color-mix(in srgb, var(--ex-1) 18%, var(--ex-raised))"/><path d="M-1 1L1 -1M0 7L7 0M6 8L8 6" style="stroke:var(--ex-1);opacity:.6"/></pattern></defs>`;
  const paints = {
    one: "fill:color-mix(in srgb, var(--ex-0) 22%, var(--ex-raised));stroke:var(--ex-0)",
    three: `fill:url(#explorer-fire-${hatch});stroke:var(--ex-1)`,
    bundle: "fill:var(--ex-raised);stroke:var(--ex-ink);stroke-width:1.5",
    join: "fill:var(--ex-rule);stroke:none",
  };
  const left = middle - (span(outputs) + apart) / 2;
  const places = {
    input: [middle - span(inputs) / 2, span(inputs)],
    squeezed: [middle - span(squeezed) / 2, span(squeezed)],
    ones: [left, span(ones)],
    threes: [left + span(ones) + apart, span(threes)],
    output: [middle - span(outputs) / 2, span(outputs)],
  };
  /** All channels of the bundle above lead to all of the one below. */
  const fall = ([from, wide], y, [to, broad], down, paint, kind) => (broad ? `<path class="${kind}" d="M${from.toFixed(1)} ${y}h${wide.toFixed(1)}L${(to + broad).toFixed(1)} ${y + down}h${(-broad).toFixed(1)}z" style="${paints[paint]}"/>` : "");
  const note = (words, x, y, kind = "ex-note", anchor = "middle") => `<text class="${kind}" text-anchor="${anchor}" x="${x.toFixed(1)}" y="${y}">${escape(words)}</text>`;
  const bundle = ([x, wide], y, channels, words, kind) => {
    if (!channels) return "";
    const label = `${channels}${wide > 7 * words.length + 40 ? ` ${words}` : ""}`;
    const inside = wide > 8 * label.length + 22;
    return `<rect class="${kind}" x="${x.toFixed(1)}" y="${y}" width="${wide.toFixed(1)}" height="${FIRE.bar}" rx="2" style="${paints.bundle}"/>${inside ? note(label, x + wide / 2, y + 14.5, "ex-value") : note(`${channels} ${words}`, x + wide + 16, y + 14.5, "ex-value", "start")}`;
  };
  const counted = (i) => `${format.count(params[i])} parameters`;
  const halfway = (y) => y + FIRE.bar + drop / 2 + 4;
  const center = ([x, wide], share) => (middle + (x + wide / 2 - middle) * share);
  const joint = rows.expanded + FIRE.bar;
  let body =
    defs +
    fall(places.input, rows.input + FIRE.bar, places.squeezed, drop, "one", "ex-squeeze") +
    fall(places.squeezed, rows.squeezed + FIRE.bar, places.ones, drop, "one", "ex-expand1") +
    fall(places.squeezed, rows.squeezed + FIRE.bar, places.threes, drop, "three", "ex-expand3") +
    fall(places.ones, joint, [places.output[0], span(ones)], FIRE.join, "join", "ex-joint") +
    fall(places.threes, joint, [places.output[0] + span(ones), span(threes)], FIRE.join, "join", "ex-joint") +
    bundle(places.input, rows.input, inputs, "channels in", "ex-bundle") +
    bundle(places.squeezed, rows.squeezed, squeezed, "squeezed", "ex-bundle ex-squeezed") +
    bundle(places.ones, rows.expanded, ones, "by 1×1", "ex-bundle ex-ones") +
    bundle(places.threes, rows.expanded, threes, "by 3×3", "ex-bundle ex-threes") +
    bundle(places.output, rows.output, outputs, "channels out", "ex-bundle") +
    note(`squeeze 1×1: ${counted(0)}`, middle, halfway(rows.input));
  const texts = [[places.ones, ones, `1×1: ${format.count(params[1])}`], [places.threes, threes, `3×3: ${format.count(params[2])}`]];
  for (const [place, channels, words] of texts) if (channels) body += note(words, Math.max(46, Math.min(width - 46, center(place, 0.8))), halfway(rows.squeezed));

  const all = params.reduce((a, b) => a + b, 0);
  const longest = Math.max(all, plain);
  const bar = (value, y, paint, words) => `<rect x="2" y="${y}" width="${Math.max(1, ((width - 4) * value) / longest).toFixed(1)}" height="8" style="${paint}"/>${note(words, 2, y - 4, "ex-tick", "start")}`;
  body += bar(all, rows.foot, "fill:var(--ex-0)", `fire module: ${format.count(all)} parameters`) + bar(plain, rows.foot + 28, "fill:var(--ex-off)", `plain 3×3: ${format.count(plain)} parameters`);

  const edges = ratios.map((ratio) => span(ratio * outputs) / 2);
  const grip = (y, high, what) => `<rect x="0" y="${y}" width="${width}" height="${high}" style="fill:transparent" ${what}/>`;
  const knob = (x, y) => `<circle class="ex-knob" cx="${x.toFixed(1)}" cy="${y}" r="7"/>`;
  const border = (percent) => left + (1 - percent / 100) * span(outputs) + apart / 2;
  body += knob(places.squeezed[0] + span(squeezed), rows.squeezed + FIRE.bar / 2) + knob(ones && threes ? places.threes[0] - apart / 2 : ones ? left + span(ones) : left, rows.expanded + FIRE.bar / 2);
  body += grip(rows.squeezed - 14, FIRE.bar + 28, dragged("ratio", "x", edges.map((edge) => middle + edge), edges.map((edge) => middle - edge)));
  body += grip(rows.expanded - 12, FIRE.bar + 24, dragged("percent", "x", percents.map(border)));
  return svg(chart, width, rows.foot + 40, body);
};
