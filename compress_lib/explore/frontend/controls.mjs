// The controls under an explorer's charts: native ones, and a button that plays one of them. Part of explorer.mjs.

/** A value as it is written beside its slider. */
const written = (value, unit) => `${String(value).replace("-", "\u2212")}${unit ? `\u00a0${unit}` : ""}`;

/** One native control: `set(value)` shows a value, `change` is called with the value the reader picks. */
function control(spec, change) {
  const id = `explorer-control-${(serial += 1)}`;
  const label = element("label", { htmlFor: id }, spec.label);
  if (spec.kind === "choice") {
    const select = element("select", { id, name: spec.name }, ...spec.values.map((v) => element("option", {}, String(v))));
    select.addEventListener("change", () => change(spec.values[select.selectedIndex]));
    const set = (value) => (select.selectedIndex = spec.values.indexOf(value));
    return { set, node: element("div", { className: "ex-control" }, label, select) };
  }
  const output = element("output");
  output.setAttribute("for", id);
  output.style.minWidth = `${Math.max(...spec.values.map((value) => written(value, spec.unit).length))}ch`; // no label wraps anew
  const input = element("input", { id, name: spec.name, type: "range", min: 0, max: spec.values.length - 1, step: 1 });
  const set = (value) => {
    const words = written(value, spec.unit);
    if (output.textContent === words) return;
    input.value = spec.values.indexOf(value);
    input.setAttribute("aria-valuetext", words);
    input.style.setProperty("--ex-filled", `${(100 * input.value) / input.max}%`);
    output.textContent = words;
  };
  input.addEventListener("input", () => change(spec.values[Number(input.value)]));
  return { set, node: element("div", { className: "ex-control" }, label, output, input) };
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** A button that moves through a slider's values; with reduced motion, one step a press. */
function playing({ interval = 700, step = 1 }, spec, current, move) {
  let timer;
  const name = unseen("");
  const node = button(name, () => (timer ? pause() : begin()));
  node.classList.add("ex-play");
  const last = spec.values.length - 1;
  function show() {
    const does = timer ? "Pause" : still.matches ? "Step" : "Play";
    name.textContent = `${does}: ${spec.label}`;
    node.title = does;
    node.classList.toggle("ex-playing", Boolean(timer));
  }
  function pause() {
    clearInterval(timer);
    timer = undefined;
    show();
  }
  function advance() {
    const at = Math.min(last, spec.values.indexOf(current()) + step);
    move(spec.values[at]);
    if (at === last) pause();
  }
  function begin() {
    if (spec.values.indexOf(current()) === last) move(spec.values[0]);
    else advance();
    if (still.matches) return;
    timer = setInterval(() => (node.isConnected && !document.hidden ? advance() : pause()), interval);
    show();
  }
  show();
  return { node, pause };
}

/** All controls: `show(state)` sets them; what the reader does to one of them pauses what plays. */
function controlling(specs, play, move) {
  let state = {};
  let player;
  const pause = () => player?.pause();
  const all = specs.map((spec) => {
    const made = control(spec, (value) => {
      pause();
      move({ [spec.name]: value });
    });
    if (spec.name === play?.control) {
      player = playing(play, spec, () => state[spec.name], (value) => move({ [spec.name]: value }));
      made.node.append(player.node);
      made.node.classList.add("ex-plays");
    }
    return { name: spec.name, ...made };
  });
  const show = (now) => {
    state = now;
    for (const { name, set } of all) set(state[name]);
  };
  return { node: element("div", { className: "ex-controls" }, ...all.map(({ node }) => node)), show, pause };
}
