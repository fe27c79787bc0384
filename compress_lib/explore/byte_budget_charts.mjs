// The treemap of a file: every area in proportion to its bytes. Chapter 07.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const TREEMAP = { line: 16, letter: 6.7, pad: 6 }; // of a tile's words, in pixels

// What the bytes of a kind look like: a color, and the lines or dots that tell it from the others in gray.
const BYTE_KINDS = {
  indices: { color: "0", marks: "" },
  gaps: { color: "1", marks: '<path d="M-1 1L1 -1M0 7L7 0M6 8L8 6"/>' },
  codebook: { color: "2", marks: '<circle cx="3.5" cy="3.5" r=".9"/>' },
  tables: { color: "3", marks: '<path d="M0 3.5H7"/>' },
  headers: { color: "off", marks: '<path d="M3.5 0V7"/>' },
  biases: { color: "soft", marks: '<path d="M0 0L7 7M7 0L0 7"/>' },
};

/** `values` side by side (or below each other) in a box, in proportion: their boxes {x, y, width, height}. */
function treemapRow(values, { x, y, width, height }, across) {
  const whole = values.reduce((a, b) => a + b, 0);
  const length = across ? width : height;
  let from = 0;
  return values.map((value) => {
    const part = whole ? (value / whole) * length : 0;
    const box = across ? { x: x + from, y, width: part, height } : { x, y: y + from, width, height: part };
    from += part;
    return box;
  });
}

/** The first value over the rest, the first of the rest beside what remains, and so on: boxes that never change places. */
function treemapSpiral(values, box, across = false) {
  if (values.length < 2) return [box];
  const [first, ...rest] = values;
  const [one, other] = treemapRow([first, rest.reduce((a, b) => a + b, 0)], box, across);
  return [one, ...treemapSpiral(rest, other, !across)];
}

/** The tiles of a treemap {rows: [[{kind, parts: [{name, nbytes}]}]]} in a box: [{kind, name, nbytes, x, y, width, height}]. */
function treemapTiles({ rows }, box) {
  const nbytes = ({ parts }) => parts.reduce((sum, part) => sum + part.nbytes, 0);
  const heights = treemapRow(rows.map((groups) => groups.reduce((sum, group) => sum + nbytes(group), 0)), box, false);
  return rows.flatMap((groups, row) =>
    treemapRow(groups.map(nbytes), heights[row], true).flatMap((within, i) => {
      const { kind, parts } = groups[i];
      const boxes = treemapSpiral(parts.map((part) => part.nbytes), within);
      return parts.map((part, j) => ({ kind, ...part, first: j === 0, ...boxes[j] }));
    }),
  );
}

/** As many of the words as a tile has room for: two lines, or one, or none. */
function treemapWords({ kind, name, nbytes, first, x, y, width, height }) {
  const bytes = format.bytes(nbytes);
  const heading = first ? kind : name;
  const below = first ? `${name} ${bytes}` : bytes;
  const fits = (...lines) => height >= lines.length * TREEMAP.line + 6 && lines.every((line) => width >= line.length * TREEMAP.letter + TREEMAP.pad);
  const lines = [[heading, below], [`${heading} ${bytes}`], [heading]].find((each) => fits(...each)) ?? [];
  const top = y + (lines.length > 1 ? TREEMAP.line : Math.min(TREEMAP.line, (height + 9) / 2));
  return lines.map((line, i) => `<text${i ? "" : ' class="ex-value"'} x="${(x + TREEMAP.pad).toFixed(1)}" y="${(top + i * TREEMAP.line).toFixed(1)}">${escape(line)}</text>`).join("");
}

/**
 * {rows: [[{kind, parts: [{name, nbytes, pick}]}]], total, smallest}: rows of kinds of bytes (those of BYTE_KINDS),
 * each divided by layer; a click on a part sets the control `layer` to its `pick`. A dashed frame has the area that
 * the `smallest` file would have.
 */
CHARTS.treemap = function treemap(chart, width) {
  const height = width < 480 ? 226 : 300;
  const tiles = treemapTiles(chart, { x: 1, y: 1, width: width - 2, height: height - 2 });
  const id = `explorer-bytes-${(serial += 1)}`;
  const kinds = Object.keys(BYTE_KINDS);
  const edge = (kind) => `stroke:var(--ex-${BYTE_KINDS[kind].color});stroke-width:1.5`;
  const pattern = (kind) => {
    const { color, marks } = BYTE_KINDS[kind];
    return `<pattern id="${id}-${kind}" width="7" height="7" patternUnits="userSpaceOnUse"><rect width="7" height="7" style="fill:color-mix(in srgb, var(--ex-${color}) 16%, var(--ex-raised))"/><g style="fill:none;stroke:var(--ex-${color});stroke-width:1;opacity:.55">${marks}</g></pattern>`;
  };
  const body = tiles.map((tile) => {
    const { kind, name, nbytes, pick } = tile;
    if (!nbytes) return "";
    const [x, y, w, h] = [tile.x, tile.y, tile.width, tile.height].map((v) => v.toFixed(2));
    const told = `${kind} of ${name}: ${format.count(nbytes)} bytes, ${format.percent(nbytes / chart.total)}`;
    return `<g class="ex-byte-tile" ${picked("layer", pick)}><title>${escape(told)}</title><rect x="${x}" y="${y}" width="${w}" height="${h}" fill="url(#${id}-${kind})" style="${edge(kind)}"/></g>`;
  });
  const share = Math.sqrt(chart.smallest / chart.total);
  const [w, h] = [share * (width - 4), share * (height - 4)].map((v) => v.toFixed(1));
  const outline = 'style="fill:none;stroke:var(--ex-ink);stroke-width:2;stroke-dasharray:6 4"';
  const ghost = `<rect class="ex-smallest" x="2" y="${(height - 2 - h).toFixed(1)}" width="${w}" height="${h}" pointer-events="none" ${outline}/>`;
  const words = `<g pointer-events="none" style="paint-order:stroke;stroke:var(--ex-raised);stroke-width:3px;stroke-linejoin:round">${tiles.map(treemapWords).join("")}</g>`;
  const of = (kind) => tiles.reduce((sum, tile) => sum + (tile.kind === kind ? tile.nbytes : 0), 0);
  const item = (inside, words, style = "") => `<li style="gap:5px;white-space:nowrap;${style}"><svg width="14" height="14" aria-hidden="true">${inside}</svg>${words}</li>`;
  const key = kinds.map((kind) => item(`<rect x="1" y="1" width="12" height="12" fill="url(#${id}-${kind})" style="${edge(kind)}"/>`, `${kind} ${format.bytes(of(kind))}`));
  key.push(item(`<rect x="1" y="1" width="12" height="12" ${outline}/>`, `smallest of all widths: ${format.bytes(chart.smallest)}`, "grid-column:span 2"));
  const columns = "display:grid;grid-template-columns:repeat(auto-fill,minmax(118px,1fr));gap:0 4px;font-size:12px";
  return `${svg(chart, width, height, `<defs>${kinds.map(pattern).join("")}</defs>${body.join("")}${ghost}${words}`)}<ul class="ex-key ex-key-left" style="${columns}">${key.join("")}</ul>`;
};
