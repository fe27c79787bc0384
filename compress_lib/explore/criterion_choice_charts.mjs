// Two rankings of the same filters, joined by lines: where two criteria agree, lines are level. Chapter 04.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const SLOPE = { top: 38, bottom: 8, margin: 52, widest: 640, finger: 24 };

/** The four fates of a filter: what its line looks like, and what it is called in the key. */
const SLOPE_KINDS = {
  kept: { style: "stroke:var(--ex-off);stroke-width:1;opacity:.75", words: "both keep" },
  both: { style: "stroke:var(--ex-soft);stroke-width:1;stroke-dasharray:1.5 3", words: "both remove" },
  left: { style: "stroke:var(--ex-0);stroke-width:1.75", words: "only left removes" },
  right: { style: "stroke:var(--ex-1);stroke-width:1.75;stroke-dasharray:7 3", words: "only right removes" },
};

/**
 * {left, right: {label, order: filters from the lowest score up}, removed, cuts, filter?}: both criteria remove the
 * `removed` lowest; `cuts` are these numbers for each value of the control `percent`, and `filter` is the one followed.
 */
CHARTS.slope = function slope(chart, width) {
  const { left, right, removed, cuts, filter } = chart;
  const n = left.order.length;
  const height = width < 480 ? 246 : 322;
  const pitch = (height - SLOPE.top - SLOPE.bottom) / n;
  const wide = Math.min(width, SLOPE.widest);
  const [from, to] = [(width - wide) / 2 + SLOPE.margin, (width + wide) / 2 - SLOPE.margin];
  const y = (rank) => Number((SLOPE.top + (n - 0.5 - rank) * pitch).toFixed(1)); // rank 0 has the lowest score: the bottom
  const cut = y(removed - 0.5);
  const ranks = ({ order }) => order.reduce((found, j, rank) => ((found[j] = rank), found), new Array(n));
  const [one, other] = [ranks(left), ranks(right)];
  const kindOf = (j) => (one[j] < removed ? (other[j] < removed ? "both" : "left") : other[j] < removed ? "right" : "kept");
  const fates = Object.fromEntries(Object.keys(SLOPE_KINDS).map((kind) => [kind, left.order.filter((j) => kindOf(j) === kind)]));
  const path = (j) => `M${from} ${y(one[j])}L${to} ${y(other[j])}`;
  const lines = Object.entries(fates).map(([kind, filters]) => `<path class="ex-slope-${kind}" d="${filters.map(path).join("")}" style="fill:none;${SLOPE_KINDS[kind].style}"/>`);

  const half = Math.max(1.2, Math.min(3.5, 0.4 * pitch)).toFixed(1);
  const stay = (x, rank) => `M${x - half} ${y(rank)}a${half} ${half} 0 1 0 ${2 * half} 0a${half} ${half} 0 1 0 ${-2 * half} 0`;
  const go = (x, rank) => `M${x - half} ${y(rank) - half}l${2 * half} ${2 * half}m0 ${-2 * half}l${-2 * half} ${2 * half}`;
  const ends = left.order.map((_, rank) => [from, to].map((x) => (rank < removed ? go : stay)(x, rank)).join("")).join("");

  const text = (words, x, at, anchor, kind) => `<text class="${kind}" text-anchor="${anchor}" x="${x}" y="${at}">${escape(words)}</text>`;
  const middle = (from + to) / 2;
  const head =
    text(left.label, from - SLOPE.margin, 14, "start", "ex-value") +
    text(right.label, to + SLOPE.margin, 14, "end", "ex-value") +
    text(`↑ higher scores; the lowest ${removed} of ${n} go`, middle, 30, "middle", "ex-tick");
  const strip = (x, order) => `<rect x="${x - SLOPE.margin + 6}" y="${SLOPE.top}" width="${2 * SLOPE.margin - 12}" height="${n * pitch}" style="fill:transparent" ${dragged("filter", "y", left.order.map((_, j) => y(order[j])))}/>`;
  const below = Math.max(0, SLOPE.top + n * pitch - cut);
  const handle = `<rect x="${from}" y="${cut - SLOPE.finger / 2}" width="${to - from}" height="${SLOPE.finger}" style="fill:transparent" ${dragged("percent", "y", cuts.map((count) => y(count - 0.5)))}/>`;

  let followed = "";
  if (filter !== undefined) {
    const [a, b] = [y(one[filter]), y(other[filter])];
    const rank = (x, at, value, anchor) => text(String(value + 1), x, at + 4, anchor, "ex-note");
    followed =
      `<path class="ex-followed" d="${path(filter)}" style="stroke:var(--ex-surface);stroke-width:7"/><path d="${path(filter)}" style="stroke:var(--ex-ink);stroke-width:3"/>` +
      [[from, a], [to, b]].map(([x, at]) => `<circle class="ex-here" cx="${x}" cy="${at}" r="5.5"/>`).join("") +
      rank(from - 12, a, one[filter], "end") +
      rank(to + 12, b, other[filter], "start") +
      text(`filter ${filter}`, from + 12, Math.min(a + (a > b ? 16 : -8), height - 4), "start", "ex-note");
  }
  const body =
    `<rect x="${from}" y="${cut}" width="${to - from}" height="${below}" style="fill:var(--ex-rule);opacity:.55"/>` +
    lines.join("") +
    `<path class="ex-slope-ends" d="${ends}" style="fill:var(--ex-surface);stroke:var(--ex-ink)"/>` +
    `<path d="M${from - 14} ${cut}H${to + 14}" style="stroke:var(--ex-ink);stroke-width:2"/><circle class="ex-knob" cx="${middle}" cy="${cut}" r="8"/>` +
    head +
    followed +
    handle +
    (filter === undefined ? "" : strip(from, one) + strip(to, other));
  const key = Object.entries(SLOPE_KINDS).map(([kind, { style, words }]) => `<li style="white-space:nowrap;gap:6px"><svg width="24" height="12" aria-hidden="true"><path d="M0 6H24" style="${style}"/></svg>${words}: ${fates[kind].length}</li>`);
  return `${svg(chart, width, height, body)}<ul class="ex-key ex-key-left" style="display:grid;grid-template-columns:repeat(auto-fill,minmax(156px,1fr));gap:0 4px;font-size:12px">${key.join("")}</ul>`;
};
