// From a drawing to an image of Fashion-MNIST. Chapter 07.
//
// A drawing is a raster of 224×224 levels, 0 (paper) to 255, eight to a pixel of the data set's 28×28. What becomes of
// it follows Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv 1708.07747, section 2, where photographs became images:
// edges within 5 % of the background are cut off; the longest side is made 28 pixels; what is left of the other side is
// added on both sides, so that the garment is in the center; and levels are negative, the paper 0. In the training set,
// the longest side is 28 pixels in 94 of 100 images, and an odd row goes to the top, an odd column to the left. The
// paper drops rows and columns and then sharpens; here the mean of each area is taken, which is as sharp as it gets.

export const SIDE = 28;
const SCALE = 8;
export const PAD = SIDE * SCALE;
export const INK = 171; // the median level of the training images' garments
const BACKGROUND = 0.05 * 255;

/** An image of the data set as a drawing. */
export function enlarged(levels) {
  const raster = new Uint8Array(PAD * PAD);
  for (let y = 0; y < PAD; y += 1) {
    for (let x = 0; x < PAD; x += 1) raster[y * PAD + x] = levels[Math.floor(y / SCALE) * SIDE + Math.floor(x / SCALE)];
  }
  return raster;
}

/** Draw a line with round ends from one point to another, in place; with level 0 it erases. */
export function line(raster, [fromX, fromY], [toX, toY], radius, level) {
  const [dx, dy] = [toX - fromX, toY - fromY];
  const squared = dx * dx + dy * dy;
  const bound = (low, high) => [Math.max(0, Math.floor(low - radius)), Math.min(PAD - 1, Math.ceil(high + radius))];
  const [left, right] = bound(Math.min(fromX, toX), Math.max(fromX, toX));
  const [top, bottom] = bound(Math.min(fromY, toY), Math.max(fromY, toY));
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) {
      const along = squared ? Math.min(1, Math.max(0, ((x - fromX) * dx + (y - fromY) * dy) / squared)) : 0;
      if (Math.hypot(x - fromX - along * dx, y - fromY - along * dy) <= radius) raster[y * PAD + x] = level;
    }
  }
}

/** Which places of the paper can be reached from its edge without crossing a line: 1, else 0. */
export function outside(raster) {
  const reached = new Uint8Array(PAD * PAD);
  const open = new Uint16Array(PAD * PAD); // places whose neighbors have not been looked at
  let count = 0;
  const visit = (at) => {
    if (raster[at] || reached[at]) return;
    reached[at] = 1;
    open[count] = at;
    count += 1;
  };
  for (let i = 0; i < PAD; i += 1) {
    visit(i);
    visit((PAD - 1) * PAD + i);
    visit(i * PAD);
    visit(i * PAD + PAD - 1);
  }
  while (count) {
    count -= 1;
    const at = open[count];
    if (at % PAD > 0) visit(at - 1);
    if (at % PAD < PAD - 1) visit(at + 1);
    if (at >= PAD) visit(at - PAD);
    if (at < PAD * (PAD - 1)) visit(at + PAD);
  }
  return reached;
}

/** A copy in which what the last stroke closed in is filled: cloth is seldom an outline. `before` is `outside` before it. */
export function filled(raster, before) {
  const now = outside(raster);
  const copy = raster.slice();
  for (let at = 0; at < copy.length; at += 1) if (!raster[at] && before[at] && !now[at]) copy[at] = INK;
  return copy;
}

/** The 28×28 levels of a drawing as the data set would have them; null if there is nothing on the paper. */
export function photographed(raster) {
  let [left, right, top, bottom] = [PAD, -1, PAD, -1];
  for (let y = 0; y < PAD; y += 1) {
    for (let x = 0; x < PAD; x += 1) {
      if (raster[y * PAD + x] <= BACKGROUND) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  if (right < 0) return null;
  const [width, height] = [right + 1 - left, bottom + 1 - top];
  const step = Math.max(width, height) / SIDE;
  const [columns, rows] = [Math.max(1, Math.round(width / step)), Math.max(1, Math.round(height / step))];
  const image = new Uint8Array(SIDE * SIDE);
  const [x0, y0] = [Math.ceil((SIDE - columns) / 2), Math.ceil((SIDE - rows) / 2)];
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) {
      const area = [left + (c * width) / columns, left + ((c + 1) * width) / columns, top + (r * height) / rows, top + ((r + 1) * height) / rows];
      image[(y0 + r) * SIDE + x0 + c] = Math.round(mean(raster, ...area));
    }
  }
  return image;
}

/** The mean level of a rectangle whose sides may lie between places. */
function mean(raster, left, right, top, bottom) {
  let sum = 0;
  for (let y = Math.floor(top); y < bottom; y += 1) {
    const high = Math.min(y + 1, bottom) - Math.max(y, top);
    for (let x = Math.floor(left); x < right; x += 1) sum += raster[y * PAD + x] * high * (Math.min(x + 1, right) - Math.max(x, left));
  }
  return sum / ((right - left) * (bottom - top));
}
