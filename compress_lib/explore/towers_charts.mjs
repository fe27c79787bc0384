// What the explorer of towers draws beyond charts.mjs: a module with its towers, and axes in powers of two. Chapter 16.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS and formats.

/** The power of two that a number on a logarithmic axis stands for. */
format.power_of_two = (value) => format.count(2 ** value);
format.percent_of_power = (value) => `${format.number(100 * 2 ** value)}${NBSP}%`;

/** {inputs, channels, towers, kernel}: the channels, the 1×1 convolution, the towers and the channels again, from top to bottom. */
CHARTS.towers = function towers(chart, width) {
  const { inputs, channels, towers: count, kernel } = chart;
  const narrowest = 13;
  const gap = 4;
  const fit = Math.floor((width - 2) / narrowest);
  const shown = count <= fit ? count : fit - 3; // the others, in the middle, are dots
  const places = count <= fit ? count : fit - 1;
  const box = (width - 2 - gap * (places - 1)) / places;
  const dots = count > fit ? Math.ceil(shown / 2) : Infinity; // where they begin, in boxes
  const left = (i) => 1 + (i < dots ? i : i + 2) * (box + gap);
  const middle = width / 2;
  const [first, one, deal, tower, last] = [1, 48, 78, 108, 182]; // the upper ends of the rows; the 1×1 is 30 high
  const text = (x, y, words, kind = "ex-label") => `<text class="${kind}" text-anchor="middle" x="${x}" y="${y}">${words}</text>`;
  const bar = (y, n) => {
    const wide = Math.max(150, (width - 2) * (n / Math.max(inputs, channels)));
    return `<rect x="${middle - wide / 2}" y="${y}" width="${wide}" height="24" rx="2" style="fill:var(--ex-raised);stroke:var(--ex-off)"/>${text(middle, y + 17, `${n} channels`)}`;
  };
  const each = channels / count;
  const finest = 2.5; // between two channels that can be told apart
  let [boxes, arrows, inner, teeth] = ["", "", "", ""];
  const arrow = (x, from, to) => `M${x.toFixed(1)} ${from}V${to}m-3 -5l3 5l3 -5`;
  for (let i = 0; i < shown; i += 1) {
    const [x, center] = [left(i), left(i) + box / 2];
    boxes += `<rect class="ex-tower" x="${x.toFixed(1)}" y="${tower}" width="${box.toFixed(1)}" height="44" rx="2"/>`;
    arrows += arrow(center, deal, tower - 1) + arrow(center, tower + 44, last - 1);
    for (let j = 0.5; j < each && box / each >= finest; j += 1) teeth += `M${(x + (j * box) / each).toFixed(1)} ${tower}v6m0 32v6`;
    if (box >= 48) inner += text(center, tower + 27, kernel);
    else if (box >= 18) inner += `<text class="ex-label" text-anchor="middle" transform="translate(${(center + 4.5).toFixed(1)} ${tower + 22}) rotate(-90)">${kernel}</text>`;
  }
  if (count > fit) inner += text(left(dots - 1) + 1.5 * box + gap + box / 2 + gap / 2, tower + 27, "⋯");
  const line = `<path d="${arrow(middle, 25, one - 1)}${arrows}" style="fill:none;stroke:var(--ex-soft);stroke-width:1"/>`;
  const body =
    bar(first, inputs) +
    `<rect x="1" y="${one}" width="${width - 2}" height="30" rx="2" style="fill:var(--ex-raised);stroke:var(--ex-0);stroke-width:2"/>${text(middle, one + 20, `1 × 1: all ${inputs} to all ${channels}`)}` +
    line +
    `<g style="fill:var(--ex-raised);stroke:var(--ex-1);stroke-width:1.5">${boxes}<path d="${teeth}" style="stroke-width:1"/></g>${inner}` +
    bar(last, channels) +
    text(middle, last + 44, `${count === 1 ? "1 tower" : `${count} towers`} of ${kernel}, each from ${each} ${each === 1 ? "channel" : "channels"} to ${each}`);
  return svg(chart, width, last + 52, body);
};
