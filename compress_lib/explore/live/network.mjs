// The live network: a pad to draw on, the answer of a compressed network, its file byte by byte. Chapter 07.
//
// A widget in anywidget's front-end format, so JupyterLab, Colab and the book's pages run it. Everything it needs is in
// model.get("data"), made by compress_lib.explore.live: the file, some test images, and what was measured in Python.
// With model.get("brief"), as on the landing page, there are no sliders and no other files.

import { CnetError, decode } from "./cnet.mjs";
import { network, softmax, UnknownNetwork } from "./forward.mjs";
import { enlarged, filled, INK, line, outside, PAD, photographed, SIDE } from "./garment.mjs";
import { shared, simplified } from "./simplify.mjs";

const PEN = 5; // radius in places of the pad, so that the legs of a trouser stay apart
const ERASER = 11;
const STEPS_BACK = 30;
const LARGEST_FILE = 8e6; // bytes; a page is no place for more
const DEMONSTRATION = 1600; // milliseconds for the T-shirt that draws itself
const TSHIRT = [[80, 30], [98, 38], [126, 38], [144, 30], [200, 62], [186, 98], [160, 88], [160, 200], [64, 200], [64, 88], [38, 98], [24, 62], [80, 30]];

// What the bytes of a file are for: the kinds of cnet.mjs in words, and their colors in explorer.css.
const KINDS = {
  header: ["header", "ink"],
  record: ["shapes", "off"],
  gaps: ["gaps: where a weight is", "0"],
  values: ["values: which one it is", "2"],
  codebook: ["codebooks", "1"],
  tables: ["Huffman tables", "3"],
};

const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const { format: count } = new Intl.NumberFormat("en-US");
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}\u00a0%`;
const times = (ratio) => `${ratio >= 10 ? Math.round(ratio) : ratio.toFixed(1)}×`;
const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const place = (list) => list.indexOf(Math.max(...list));
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** make("p", {className: "x"}, child, "text", ...) */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const button = (text, action, properties = {}) => {
  const node = make("button", { type: "button", ...properties }, text);
  node.addEventListener("click", action);
  return node;
};

/** Fill a canvas, place by place: `color(i)` gives a color as `opaque` does. Of one that has its size, from `left` to `right`. */
function paint(canvas, width, height, color, left = 0, right = width) {
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, { width, height });
    [left, right] = [0, width];
  }
  if (left === right) return;
  const picture = new ImageData(right - left, height);
  const dots = new Uint32Array(picture.data.buffer);
  for (let y = 0, at = 0; y < height; y += 1) for (let x = left; x < right; x += 1, at += 1) dots[at] = color(y * width + x);
  canvas.getContext("2d").putImageData(picture, left, 0);
}

const WHITE = 0xffffff;
/** A color, blue · 65536 + green · 256 + red, with an opacity from 0 to 255. */
const opaque = (color, opacity) => color + opacity * 2 ** 24;

const known = new Map(); // colors of the present theme: to ask for one takes longer than to draw with all
/** A color of explorer.css, for canvases. */
function colorOf(root, name) {
  if (!known.has(name)) {
    const probe = make("span", { hidden: true });
    probe.style.color = `var(--ex-${name})`;
    root.append(probe);
    const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    known.set(name, red + green * 256 + blue * 65536);
  }
  return known.get(name);
}

// ------------------------------------------------------------------------------------------------------------ the pad

/** Where one is after so many of the lines between some points. */
function along(points, lines) {
  const [from, to] = [points[Math.floor(lines)], points[Math.ceil(lines)]];
  return from.map((start, axis) => start + (lines % 1) * (to[axis] - start));
}

/** A canvas to draw on. `changed(raster)` is called while the reader draws, `began()` before a stroke. */
function makePad({ changed, began }) {
  let raster = new Uint8Array(PAD * PAD);
  let before = outside(raster); // the last stroke
  let last = null; // where the pen is, while it is down
  let erasing = false;
  let waiting = false;
  const history = [];
  const canvas = make("canvas", { className: "live-pad", width: PAD, height: PAD, role: "img" });
  canvas.setAttribute("aria-label", "Drawing pad, for a finger, a pen or a mouse. With a keyboard, pick a test image below.");

  const shown = () => (last && !erasing ? filled(raster, before) : raster);
  function tell() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      changed(shown());
    });
  }
  function begin() {
    history.push(raster.slice());
    if (history.length > STEPS_BACK) history.shift();
    before = outside(raster);
  }
  function stroke(from, to) {
    line(raster, from, to, erasing ? ERASER : PEN, erasing ? 0 : INK);
    last = to;
    tell();
  }
  function end() {
    if (!last) return;
    raster = shown();
    last = null;
    tell();
  }
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * PAD - 0.5, ((event.clientY - box.top) / box.height) * PAD - 0.5];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    began(erasing);
    begin();
    stroke(at(event), at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId) || !last) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) stroke(last, at(each));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);

  return {
    canvas,
    get raster() {
      return shown();
    },
    erase(on) {
      erasing = on;
    },
    /** Put a drawing there in place of what was. */
    set(drawing) {
      begin();
      raster = drawing;
      last = null;
      tell();
    },
    undo() {
      if (history.length) raster = history.pop();
      last = null;
      tell();
    },
    /** Draw along some points, over some time, unless the reader begins to draw. */
    demonstrate(points, duration) {
      begin();
      const token = history.at(-1);
      const started = performance.now();
      let done = 0;
      const step = (now) => {
        if (history.at(-1) !== token) return; // the reader has begun
        const until = Math.min(1, (now - started) / duration) * (points.length - 1);
        for (; done < until; done += 1 / 8) {
          stroke(along(points, done), along(points, done + 1 / 8));
        }
        if (done < points.length - 1) requestAnimationFrame(step);
        else end();
      };
      if (duration) requestAnimationFrame(step);
      else step(Infinity);
    },
  };
}

// -------------------------------------------------------------------------------------------------------- the ten bars

function makeBars(classes) {
  const rows = classes.map((name) => {
    const bar = make("span", { className: "live-bar" });
    const dense = make("span", { className: "live-dense" });
    const value = make("span", { className: "live-value" });
    const node = make("li", {}, make("span", { className: "live-class" }, name), make("span", { className: "live-track" }, bar, dense), value);
    return { bar, dense, value, node };
  });
  return {
    node: make("ol", { className: "live-bars" }, ...rows.map((row) => row.node)),
    /** Probabilities of the classes; of the dense network too, or null. */
    show(probabilities, dense) {
      const winner = probabilities && place(probabilities);
      rows.forEach((row, i) => {
        const share = probabilities ? probabilities[i] : 0;
        row.node.classList.toggle("live-winner", i === winner);
        row.bar.style.transform = `scaleX(${share})`;
        row.value.textContent = probabilities ? percent(share) : "–";
        row.dense.hidden = !dense;
        if (dense) row.dense.style.left = percent(dense[i], 2).replace("\u00a0", "");
      });
    },
  };
}

// ------------------------------------------------------------------------------------------------------------ the file

/** The bytes of a file, a dot each, from top to bottom and then on to the right, in the colors of what they are for. */
function makeStrip() {
  const canvas = make("canvas", { className: "live-bytes", role: "img" });
  const says = make("p", { className: "live-byte" });
  const legend = make("div", { className: "live-legend", role: "group", ariaLabel: "What the bytes are for" });
  let file = new Uint8Array(0);
  let parts = [];
  let kindOf = [];
  let lit = null; // the kind that is lit up
  let read = 0; // bytes that have been read
  let rows = 1;
  let journey = 0; // the number of the animation that runs

  /** All of it, or of what is drawn the bytes between two places. */
  function draw(from = 0, to = file.length) {
    const scale = Math.min(devicePixelRatio || 1, 3);
    const width = Math.floor(canvas.clientWidth * scale);
    if (!width || !file.length) return;
    const height = Math.floor(canvas.clientHeight * scale);
    const dot = Math.max(1, Math.floor(Math.sqrt((width * height) / file.length)));
    rows = Math.max(1, Math.floor(height / dot));
    const columns = Math.ceil(file.length / rows);
    const colors = Object.fromEntries(["ink", "off", "0", "1", "2", "3"].map((name) => [name, colorOf(canvas.parentElement, name)]));
    const color = (i) => {
      const at = Math.floor((i % (columns * dot)) / dot) * rows + Math.floor(i / (columns * dot) / dot);
      if (at >= file.length) return 0;
      const kind = kindOf[at];
      const strength = 70 + Math.round((file[at] * 185) / 255);
      if (at >= read) return opaque(colors.off, 30 + (strength >> 3));
      return opaque(colors[KINDS[kind][1]], lit && lit !== kind ? strength >> 3 : strength);
    };
    paint(canvas, columns * dot, rows * dot, color, Math.floor(from / rows) * dot, Math.ceil(to / rows) * dot);
  }
  const partAt = (at) => parts.find((part) => at < part.to);
  const short = (kind) => KINDS[kind][0].split(":")[0];
  const words = ({ kind, tensor }) => (tensor ? `${short(kind)} of ${tensor}` : "the file's header");
  function point(event) {
    const box = canvas.getBoundingClientRect();
    const columns = Math.ceil(file.length / rows);
    const step = (share, steps) => Math.min(steps - 1, Math.max(0, Math.floor(share * steps)));
    const [column, row] = [step((event.clientX - box.left) / box.width, columns), step((event.clientY - box.top) / box.height, rows)];
    const at = Math.min(file.length - 1, column * rows + row);
    says.textContent = `Byte ${count(at)} is ${file[at].toString(16).toUpperCase().padStart(2, "0")}: ${words(partAt(at))}.`;
  }
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);

  function light(kind) {
    lit = lit === kind ? null : kind;
    for (const each of legend.children) each.setAttribute("aria-pressed", String(each.dataset.kind === lit));
    draw();
  }
  return {
    canvas,
    nodes: [canvas, says, legend],
    draw,
    /** Show a file that was decoded, as if its bytes came one after the other. */
    show(bytes, decoded) {
      [file, parts, lit] = [bytes, decoded.parts, null];
      kindOf = parts.flatMap(({ kind, from, to }) => Array(to - from).fill(kind));
      const sizes = Object.keys(KINDS).map((kind) => [kind, sum(parts.map((part) => (part.kind === kind ? part.to - part.from : 0)))]);
      const all = sizes.map(([kind, size]) => `${short(kind)} ${count(size)}`).join(", ");
      canvas.setAttribute("aria-label", `The ${count(file.length)} bytes of the file: ${all}.`);
      legend.replaceChildren(
        ...sizes.map(([kind, size]) => {
          const chip = button(`${KINDS[kind][0]} `, () => light(kind), { className: "live-kind" });
          chip.append(make("b", {}, count(size)));
          chip.style.setProperty("--live-color", `var(--ex-${KINDS[kind][1]})`);
          chip.dataset.kind = kind;
          chip.setAttribute("aria-pressed", "false");
          return chip;
        }),
      );
      this.play();
    },
    play() {
      const mine = (journey += 1);
      const started = performance.now();
      const idle = `${count(file.length)} bytes, a dot each, from top to bottom and on to the right. Touch one.`;
      read = 0;
      draw();
      const step = (now) => {
        if (mine !== journey) return;
        const before = read;
        read = still() ? file.length : Math.max(0, Math.min(file.length, Math.ceil(((now - started) / DEMONSTRATION) * file.length)));
        draw(before, read);
        says.textContent = read < file.length ? `Byte ${count(read)}: ${words(partAt(read))}` : idle;
        if (read < file.length) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    },
  };
}

// --------------------------------------------------------------------------------------------------------- the whole

/** A slider over the places of a list. */
function slider(id, text, last, changed) {
  const input = make("input", { type: "range", min: 0, max: last, step: 1, value: 0, id });
  const output = make("output", {});
  output.setAttribute("for", id);
  input.addEventListener("input", changed);
  return {
    input,
    set(words) {
      output.textContent = words;
      input.setAttribute("aria-valuetext", words);
      input.style.setProperty("--ex-filled", `${(100 * input.value) / input.max}%`);
    },
    node: make("div", { className: "ex-control" }, make("label", { htmlFor: id }, text), output, input),
  };
}

let serial = 0;

async function render({ model, el }) {
  const data = model.get("data");
  const brief = Boolean(model.get("brief"));
  const own = bytesOf(data.file);
  const pixels = bytesOf(data.images);
  const images = data.labels.map((label, i) => ({ label, levels: pixels.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE), dense: softmax(data.dense.logits[i]) }));
  const id = `live-${(serial += 1)}`;

  let decoded; // the book's file
  let foreign = null; // {name, forward}, a file of the reader's that is running
  let forward; // of the book's file, as the sliders have it
  let picked = null; // the test image on the pad, as long as nobody drew on it
  let given = true; // what is on the pad is not the reader's: the pen begins a new drawing, the eraser changes it

  // What there is to see.
  const verdict = make("p", { className: "live-verdict" });
  const seen = make("canvas", { className: "live-seen", role: "img", ariaLabel: "What the network reads: 28 by 28 levels of gray" });
  const bars = makeBars(data.classes);
  const beside = make("p", { className: "live-beside" });
  const hint = make("p", { className: "live-hint" });
  const spoken = make("p", { className: "live-spoken" });
  spoken.setAttribute("aria-live", "polite");
  const pad = makePad({
    began(erasing) {
      if (given && !erasing) pad.set(new Uint8Array(PAD * PAD));
      given = false;
      picked = null;
    },
    changed: answer,
  });
  const tools = ["Draw", "Erase"].map((name, i) => {
    const tool = button(name, () => choose(i), { className: "live-tool" });
    tool.setAttribute("aria-pressed", String(!i));
    return tool;
  });
  function choose(i) {
    pad.erase(i === 1);
    tools.forEach((tool, k) => tool.setAttribute("aria-pressed", String(k === i)));
  }
  function takeBack() {
    picked = null;
    pad.undo();
  }
  function empty() {
    picked = null;
    given = false;
    choose(0);
    pad.set(new Uint8Array(PAD * PAD));
  }
  const undo = button("Undo", takeBack, { className: "live-tool" });
  const clear = button("Clear", empty, { className: "live-tool" });

  const picks = images.map((image, i) => {
    const canvas = make("canvas", { width: SIDE, height: SIDE });
    paint(canvas, SIDE, SIDE, (at) => opaque(WHITE, image.levels[at]));
    return button(canvas, () => pick(i), { className: "live-pick" });
  });
  function pick(i) {
    choose(0);
    pad.set(enlarged(images[i].levels));
    given = true;
    picked = i;
  }

  const strip = makeStrip();
  const dropped = slider(`${id}-dropped`, "Drop the values nearest to zero", data.sliders.dropped.length - 1, simplify);
  const values = slider(`${id}-values`, "Let the others share fewer values", data.sliders.values.length - 1, simplify);
  const outcome = make("p", { className: "live-outcome" });
  const status = make("p", { className: "live-status", role: "status" });
  const opener = make("input", { type: "file", className: "live-opener", id: `${id}-file`, accept: ".cnet" });
  opener.addEventListener("change", () => opener.files.length && open(opener.files[0]));
  const back = button("Back to the book's file", restore, { className: "live-tool", hidden: true });

  /** Compute and show the answer to what is on the pad. */
  function answer(raster) {
    const ink = colorOf(root, "ink");
    paint(pad.canvas, PAD, PAD, (at) => opaque(ink, raster[at]));
    const image = picked === null ? photographed(raster) : images[picked].levels;
    paint(seen, SIDE, SIDE, (at) => opaque(WHITE, image ? image[at] : 0));
    hint.hidden = Boolean(image);
    picks.forEach((node, i) => node.setAttribute("aria-pressed", String(i === picked)));
    if (!image) {
      bars.show(null, null);
      verdict.replaceChildren(make("strong", {}, "An empty pad"), " is not put to the network.");
      beside.textContent = "Draw something, or pick a test image.";
      return;
    }
    const probabilities = softmax((foreign?.forward ?? forward)(image));
    const found = place(probabilities);
    const dense = picked === null ? null : images[picked].dense;
    bars.show(probabilities, dense);
    verdict.replaceChildren(make("strong", {}, data.classes[found]), ` ${percent(probabilities[found])}`);
    if (dense) {
      const truth = images[picked].label;
      verdict.append(found === truth ? ", which is right" : `; it is: ${data.classes[truth]}`);
      beside.replaceChildren(make("span", { className: "live-dense-key" }), ` The dense network: ${data.classes[place(dense)]} ${percent(Math.max(...dense))}.`);
    } else {
      beside.textContent = `The dense network, ${count(data.dense.nbytes)} bytes, is too large to send: it answers test images only.`;
    }
    if (!given || picked !== null) say(`${data.classes[found]}, ${percent(probabilities[found])}`); // not what draws itself
  }
  let speaking;
  /** Read out what the reader has come to rest on. */
  function say(words) {
    clearTimeout(speaking);
    speaking = setTimeout(() => (spoken.textContent = words), 600);
  }

  /** Mark which of the test images are answered right; return how many. */
  function judge(run) {
    return sum(
      images.map(({ label, levels }, i) => {
        const found = place(Array.from(run(levels)));
        const right = found === label;
        picks[i].classList.toggle("live-wrong", !right);
        picks[i].setAttribute("aria-label", `Test image ${i + 1}, ${data.classes[label]}: ${right ? "right" : `taken for ${data.classes[found]}`}`);
        return Number(right);
      }),
    );
  }

  /** The book's network with the values that the sliders leave. */
  function simplify() {
    const [d, v] = [Number(dropped.input.value), Number(values.input.value)];
    const tensors = d || v ? simplified(decoded.tensors, data.sliders.dropped[d], data.sliders.values[v]) : decoded.tensors;
    forward = network({ ...decoded, tensors });
    const layers = [...tensors].filter(([name]) => name.endsWith(".weight")).map(([, tensor]) => shared(tensor.values));
    const kept = sum(layers.flat().map((each) => each.count));
    const left = Math.max(...layers.map((layer) => layer.length));
    const [nbytes, accuracy] = [data.sliders.nbytes[d][v], data.sliders.accuracy[d][v]];
    dropped.set(`${data.sliders.dropped[d]} of 16`);
    values.set(`${left} a layer`);
    const right = judge(forward);
    outcome.replaceChildren(
      `${count(kept)} weights in a file of `,
      make("strong", {}, `${count(nbytes)} bytes`),
      `, ${times(data.dense.nbytes / nbytes)} smaller than dense. It gets ${right} of these ${images.length} images right, and `,
      make("strong", {}, percent(accuracy, 2)),
      ` of all 10,000; the dense network ${percent(data.dense.accuracy, 2)}.`,
    );
    answer(pad.raster);
    if (d || v) say(`${count(nbytes)} bytes, ${percent(accuracy, 1)} right`);
  }

  // A file of the reader's.
  async function open(chosen) {
    try {
      if (chosen.size > LARGEST_FILE) throw new CnetError(`it has ${count(chosen.size)} bytes, and this page reads ${count(LARGEST_FILE)} at most`);
      const bytes = new Uint8Array(await chosen.arrayBuffer());
      const theirs = decode(bytes);
      const size = sum([...theirs.tensors.values()].map(({ shape }) => shape.reduce((a, b) => a * b, 1)));
      const what = `${chosen.name}: ${count(bytes.length)} bytes hold ${count(size)} values in ${count(theirs.tensors.size)} tensors`;
      strip.show(bytes, theirs);
      back.hidden = false;
      try {
        foreign = { forward: network(theirs) };
        for (const { input } of [dropped, values]) input.disabled = true;
        const right = judge(foreign.forward);
        status.textContent = `${what}. It is a ${theirs.metadata.architecture}, and now it answers above: ${right} of ${images.length} images right. The sliders rest.`;
      } catch (error) {
        if (!(error instanceof UnknownNetwork)) throw error;
        status.textContent = `${what}. It is read, but not run: ${error.message}. The book's file goes on answering.`;
      }
      answer(pad.raster);
    } catch (error) {
      const reason = error instanceof CnetError ? error.message : error instanceof RangeError ? "it is too large for this page" : null;
      if (reason === null) throw error;
      status.textContent = `${chosen.name} is refused: ${reason}.`;
    } finally {
      opener.value = ""; // so that the same file can be chosen again
    }
  }
  function restore() {
    foreign = null;
    back.hidden = true;
    status.textContent = "";
    for (const { input } of [dropped, values]) input.disabled = false;
    strip.show(own, decoded);
    simplify();
  }
  function download() {
    const link = make("a", { href: URL.createObjectURL(new Blob([own])), download: "lenet-300-100.cnet" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const label = (text) => make("p", { className: "live-label" }, text);
  const group = (className, ...nodes) => make("div", { className }, ...nodes);
  const drawing = group("live-draw", group("live-frame", pad.canvas, hint), group("live-tools", ...tools, undo, clear));
  const reply = group("live-answer", group("live-head", seen, verdict), bars.node);
  const smaller = [group("live-sliders", dropped.node, values.node), outcome];
  const again = button("Read it again", () => strip.play(), { className: "live-tool" });
  const save = button("Save it", download, { className: "live-tool" });
  const other = make("label", { className: "live-tool", htmlFor: opener.id }, "Open your own, or drop it here");
  const files = [group("live-files", again, save, other, opener, back), status];
  const root = make(
    "section",
    { className: "explorer live" },
    make("p", { className: "ex-title", id: `${id}-title` }, `A network in ${count(own.length)} bytes, running here`),
    group("live-stage", drawing, reply, beside),
    label("Or pick a test image; a cross marks those it gets wrong"),
    make("div", { className: "live-picks", role: "group", ariaLabel: "Test images" }, ...picks),
    ...(brief ? [] : smaller),
    label("The file, all of it"),
    ...strip.nodes,
    ...(brief ? [] : files),
    spoken,
  );
  root.setAttribute("aria-labelledby", `${id}-title`);
  hint.append("Draw a T-shirt, trousers, a bag…", make("br"), "Shoes: toes to the left.");
  if (!brief) {
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
    });
  }

  el.replaceChildren(root);
  decoded = decode(own);
  strip.show(own, decoded);
  simplify();
  pad.demonstrate(TSHIRT, still() ? 0 : DEMONSTRATION);

  const redraw = () => {
    known.clear();
    answer(pad.raster);
    strip.draw();
  };
  const resized = new ResizeObserver(() => strip.draw());
  resized.observe(strip.canvas);
  const recolored = new MutationObserver(redraw);
  recolored.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  recolored.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  return () => {
    resized.disconnect();
    recolored.disconnect();
  };
}

export default { render };
