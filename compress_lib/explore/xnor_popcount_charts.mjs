// Two rows of bits, their XNOR, and a counter of its ones. Chapter 08.
// This text continues that of charts.mjs: it uses its functions and adds to its CHARTS.

const BITS = { left: 40, counter: 54 };

/**
 * {x, w: bits, done, agree, pairs, dot, whole}: the first `done` bits of x and w are compared. Dragging over the bits
 * sets the control `bits`. What is compared last is framed, and its bit lights up where the page's style says so.
 */
CHARTS.bits = function bits(chart, width) {
  const { x, w, done, agree, pairs, dot, whole } = chart;
  const [columns, line, apart] = width < 480 ? [16, 17, 6] : [32, 24, 12];
  const rows = Math.ceil(x.length / columns);
  const cell = Math.min(24, (width - BITS.left) / columns);
  const tall = 3 * line + apart;
  const top = (i) => 2 + Math.floor(i / columns) * tall;
  const left = (i) => BITS.left + (i % columns) * cell;
  const one = (bit, i, row, color, kind = "") => {
    const [a, b] = [left(i), top(i) + row * line];
    const fill = bit ? `var(--ex-${color})` : "var(--ex-raised)";
    return (
      `<g class="ex-bit${kind}"><rect x="${(a + 1).toFixed(1)}" y="${b + 1}" width="${(cell - 2).toFixed(1)}" height="${line - 2}" rx="2" style="fill:${fill};stroke:var(--ex-${bit ? color : "off"})"/>` +
      `<text text-anchor="middle" x="${(a + cell / 2).toFixed(1)}" y="${b + line / 2 + 4.5}" style="fill:var(--ex-${bit ? "raised" : "soft"})">${bit}</text></g>`
    );
  };
  const equal = x.map((bit, i) => Number(bit === w[i]));
  const cells = [x.map((bit, i) => one(bit, i, 0, "0")), w.map((bit, i) => one(bit, i, 1, "1"))].flat();
  cells.push(...equal.slice(0, done).map((bit, i) => one(bit, i, 2, "2", i === done - 1 ? " ex-bit-new" : "")));
  const names = Array.from({ length: rows }, (_, row) => ["input", "filter", "equal"].map((name, i) => `<text class="ex-tick" x="0" y="${top(row * columns) + (i + 0.5) * line + 4.5}">${name}</text>`).join(""));
  const ring = done ? `<rect x="${left(done - 1).toFixed(1)}" y="${top(done - 1)}" width="${cell.toFixed(1)}" height="${3 * line}" rx="3" style="fill:none;stroke:var(--ex-ink);stroke-width:2.5"/>` : "";
  const height = 2 + rows * tall + BITS.counter;
  const base = height - BITS.counter;
  const places = Array.from({ length: x.length + 1 }, (_, i) => (i ? [left(i - 1) + cell / 2, top(i - 1) + 1.5 * line] : [BITS.left - cell / 2, top(0) + 1.5 * line]));
  const grip = `<rect x="0" y="0" width="${width}" height="${base}" style="fill:transparent" ${dragged("bits", "xy", places)}/>`;
  const counter =
    `<text class="ex-count" x="0" y="${base + 30}">${agree}</text><text class="ex-tick" x="0" y="${base + 50}">ones of ${pairs}</text>` +
    `<text class="ex-product${whole ? " ex-product-whole" : ""}" text-anchor="end" x="${width}" y="${base + 30}">2 · ${agree} − ${pairs} = ${dot}</text>` +
    `<text class="ex-tick" text-anchor="end" x="${width}" y="${base + 50}">${whole ? "the product of all signs" : "the product so far"}</text>`;
  return svg(chart, width, height, names.join("") + cells.join("") + ring + counter + grip);
};
