// The front end of compress_lib.explore.Explorer: a chart and the controls that move it on one screen, a sentence, and
// behind them further charts, numbers and tables. An ES module in anywidget's front-end format, so JupyterLab, Colab,
// VS Code and the book's pages all run it. parts.json says of which files it, the charts and the style are joined.
//
// The chapter's own module is pure: it draws nothing and keeps nothing but what it computed before. It exports
//
//   labels    {result: [what it is, how it is written]}, the second a key of `format` in charts.mjs
//   compute(data, state, format) -> {
//     sentence  the result in one sentence of at most 150 characters. It stands under the first chart, in a box whose
//               height is fixed. What cannot be (4 groups of 10 channels) is said here too
//     spoken?   one clause of at most 80 characters, read out when the reader has rested for 400 ms; else the sentence
//     details?  all further sentences, as one text; folded with the numbers
//     results   {result: number or null}, folded, and sent to Python; null where there is no answer
//     charts?   [as described in charts.mjs]. The first is what the hand moves: it and all controls are on one screen,
//               so on a phone (354 px wide) it is at most 320 px high. No chart changes its height, or comes or goes,
//               while a slider moves. A `wide` one takes the whole width; the others stand two by two where there is room
//     tables?   [{caption, columns: [text], rows: [[text or number, ...]]}], or a function that returns them: it is
//               called when the reader unfolds them, so what is costly belongs there
//   }
//   predict?  what the reader guesses before the controls unlock; or a function (data, format) that returns it.
//             The same can be given in Python, which comes first. The question must not be answered by what is drawn
//             at the start. The reader can skip it; the guess stays on the reader's machine
//     question  one sentence, at most 120 characters
//     kind      "number", "choice" or "order"
//     show?     {control: value}: the setting that holds the answer, or a function (at) => that. The explorer goes
//               there when the guess is made
//     unit?     "number": text after the field; a result written as percent has "%" by itself
//     min, max  "number": what can be typed, in the unit
//     options   "choice", "order": [text, ...], two to five
//     result    "number": the name of the result that is the answer at `show`
//     answer    else: a number, the index of an option, or all indices in the right order; or a function
//               (at) => that, where at({control: value}) gives the results with these controls changed
//     mark?     "number": "x" or "y", the axis of the first chart on which the guess is drawn, and the truth beside it
//   play?     {control, interval?, step?}: a button moves this slider by `step` places (1) every `interval` ms (700),
//             from the start if it stands at the end. With reduced motion a press is one step
//
// To be moved by hand, a chart says which control it stands for (see charts.mjs): `drag` for a line or a dot that
// follows the pointer, `pick` for what can be clicked. The native controls remain the way for keys.

const REST = 400; // milliseconds without a move before the result is read out
const NARROW = 480; // pixels inside: below, everything is in one column
const ASIDE = 880; // from here on the controls stand beside the charts
const GAP = 24; // between charts side by side
// As long as a sentence may be: it holds the height for all of them.
const LONGEST = "At 128 centroids, 266,200 of the 412,000 weights of all layers are off by 12.4 % of the RMS weight, and the codes take 123.4 kB in place of 1.65 MB: 13×.";

const loaded = new Map();

/** Import the text of an ES module, once. */
function load(source) {
  if (!loaded.has(source)) loaded.set(source, import(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))));
  return loaded.get(source);
}

/** element("p", {className: "x"}, child, "text", ...) */
function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const button = (words, act) => {
  const node = element("button", { type: "button", className: "ex-button" }, words);
  node.addEventListener("click", act);
  return node;
};

const ICONS = {
  reset: "M3.5 8a4.75 4.75 0 1 0 1.6-3.55M5.6 1.4v3.3h3.3",
  link: "M6.6 9.4a2.6 2.6 0 0 0 3.7 0l2.4-2.4a2.6 2.6 0 0 0-3.7-3.7l-.8.8M9.4 6.6a2.6 2.6 0 0 0-3.7 0L3.3 9a2.6 2.6 0 0 0 3.7 3.7l.8-.8",
};

/** A button with an icon, whose words are left out where there is no room for them. */
function tool(icon, words, more, act) {
  const node = button("", act);
  node.innerHTML = `<svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true"><path d="${ICONS[icon]}"/></svg>`;
  node.append(element("span", { className: "ex-words" }, words), unseen(more));
  return node;
}

/** Words for those who listen. */
const unseen = (words) => element("span", { className: "ex-unseen" }, words);

let serial = 0;

function table({ caption, columns, rows }) {
  const head = element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) => element("tr", {}, element("th", { scope: "row" }, String(first)), ...rest.map((text) => element("td", {}, String(text)))));
  return element("div", { className: "ex-table", role: "group", ariaLabel: caption }, element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body)));
}

/** The sentence in a box that has room for the longest, and apart from it what is read out, after a rest. */
function saying() {
  const said = element("span");
  const node = element("p", { className: "ex-sentence" }, said);
  node.dataset.longest = LONGEST;
  const live = element("p", { className: "ex-live ex-unseen", role: "status" });
  let timer;
  const say = ({ sentence, spoken }) => {
    const first = !said.textContent;
    if (said.textContent !== sentence) said.textContent = sentence;
    clearTimeout(timer);
    if (!first) timer = setTimeout(() => (live.textContent = spoken ?? sentence), REST);
  };
  return { node, live, say };
}

/** All numbers, in a fold: further sentences, results by name, and tables, which are made when somebody looks. */
function numbers(title, labels, format) {
  const details = element("p", { className: "ex-details" });
  const shown = new Map(Object.keys(labels).map((name) => [name, element("data")]));
  const list = element("dl", { className: "ex-numbers" }, ...Object.entries(labels).map(([name, [label]]) => element("div", {}, element("dt", {}, label), element("dd", {}, shown.get(name)))));
  const tables = element("div", { className: "ex-tables" });
  const node = element("details", { className: "ex-fold" }, element("summary", {}, "All numbers", unseen(`: ${title}`)), details, list, tables);
  let answer;
  /** Tables that are cut off can be scrolled by keys. */
  function reach() {
    for (const holder of tables.children) {
      if (holder.scrollWidth > holder.clientWidth) holder.tabIndex = 0;
      else holder.removeAttribute("tabindex");
    }
  }
  function tabulate() {
    const found = typeof answer.tables === "function" ? answer.tables() : (answer.tables ?? []);
    tables.replaceChildren(...found.map(table));
    reach();
  }
  node.addEventListener("toggle", () => node.open && tabulate());
  for (const [name, field] of shown) field.dataset.result = name;
  const show = (now) => {
    answer = now;
    details.textContent = answer.details ?? "";
    for (const [name, field] of shown) {
      const value = answer.results[name];
      field.value = value ?? "";
      field.textContent = value === null ? "–" : format[labels[name][1]](value);
    }
    if (node.open) tabulate();
  };
  return { node, show, reach };
}

/** A message that stays until it is closed, when `after` is called, or another takes its place: nothing moves by itself. */
function notice(after) {
  const words = element("span", { role: "status" });
  const node = element("div", { className: "ex-notice", hidden: true }, words);
  const close = button("Close", () => {
    node.hidden = true;
    after();
  });
  close.append(unseen(" this message"));
  node.append(close);
  const tell = (text) => {
    node.hidden = false; // first, or what is written is not read out
    words.textContent = text;
  };
  return { node, tell };
}

/** The charts: the first alone, the others in a grid. Each has a holder that stays and never becomes lower. */
function gallery(draw) {
  const stage = element("div", { className: "ex-stage" });
  const more = element("div", { className: "ex-more" });
  let colors;
  let before;
  /** A color of explorer.css as "rgb(...)", for the canvases. */
  function resolve(name) {
    stage.style.color = `var(--ex-${name})`;
    const { color } = getComputedStyle(stage);
    stage.style.color = "";
    return color;
  }
  const recolor = () => (colors = undefined);
  function show(charts) {
    const whole = stage.clientWidth; // that of `more`, too; read before anything is written
    if (!whole) return; // not on the page yet
    colors ??= { plus: resolve("plus"), minus: resolve("minus") };
    const columns = whole >= 560 && charts.length > 2 ? 2 : 1;
    const width = (whole - GAP * (columns - 1)) / columns;
    more.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    for (const [place, wanted] of [[stage, charts.slice(0, 1)], [more, charts.slice(1)]]) {
      while (place.children.length > wanted.length) place.lastChild.remove();
      while (place.children.length < wanted.length) place.append(element("div", { className: "ex-holder" }));
      wanted.forEach((chart, i) => {
        const holder = place.children[i];
        if (before !== whole) holder.style.minHeight = "";
        holder.classList.toggle("ex-wide", Boolean(chart.wide));
        holder.replaceChildren(draw(chart, place === stage || chart.wide ? whole : width, colors));
      });
    }
    before = whole;
    const holders = [...stage.children, ...more.children];
    const heights = holders.map((holder) => Math.ceil(holder.firstChild.getBoundingClientRect().height)); // whole pixels add up
    holders.forEach((holder, i) => {
      if (heights[i] > Number.parseFloat(holder.style.minHeight || 0)) holder.style.minHeight = `${heights[i]}px`;
    });
  }
  return { stage, more, show, recolor };
}

/** Which of the wanted settings, given as text, the controls allow, and what to say of the others. */
function allowed(specs, wanted) {
  const [changes, troubles] = [{}, []];
  for (const [name, text] of Object.entries(wanted)) {
    const spec = specs.find((one) => one.name === name);
    const value = spec?.values.find((one) => String(one) === text);
    if (value !== undefined) changes[name] = value;
    else troubles.push(spec ? `${spec.label}: “${text}” is not possible` : `there is no control “${name}”`);
  }
  return { changes, trouble: troubles.length ? `Part of the link to this position was left out: ${troubles.join("; ")}.` : "" };
}

async function render({ model, el, address }) {
  const [{ draw, format }, { compute, labels, predict, play }] = await Promise.all([load(model.get("_charts")), load(model.get("_compute"))]);
  const data = unpack(model.get("data"));
  const specs = model.get("controls");
  const title = model.get("title");
  const start = Object.fromEntries(specs.map(({ name, value }) => [name, value]));
  function move(changes) {
    model.set("state", { ...model.get("state"), ...changes });
    model.save_changes();
  }

  const words = saying();
  const focus = () => controls.node.querySelector("input, select").focus({ preventScroll: true });
  const told = notice(focus);
  const fold = numbers(title, labels, format);
  const charts = gallery(draw);
  const controls = controlling(specs, play, move);
  const question = predicting({
    asked: model.get("predict")?.question ? model.get("predict") : typeof predict === "function" ? predict(data, format) : predict,
    name: model.get("module"),
    at: (changes) => compute(data, { ...start, ...changes }, format).results,
    write: (name, value) => format[labels[name][1]](value),
    plain: (value) => format.number(value),
    isPercent: (name) => labels[name]?.[1] === "percent",
    unlock(show, text) {
      const focused = dock.contains(document.activeElement);
      question.node.replaceWith(controls.node);
      root.classList.remove("ex-locked");
      if (focused) focus();
      if (text) told.tell(text);
      if (show) move(show);
    },
  });

  const titleId = `explorer-title-${(serial += 1)}`;
  const reset = tool("reset", "Reset", " to the start", () => {
    controls.pause();
    move(start);
  });
  const tools = element("div", { className: "ex-tools" }, reset);
  if (address) {
    const copy = async () => {
      const link = address.link(model.get("state"));
      history.replaceState(null, "", link);
      try {
        await navigator.clipboard.writeText(link);
        told.tell("The link to this position is copied.");
      } catch {
        told.tell("This browser does not let the page copy. The link to this position now stands in the address bar.");
      }
    };
    tools.append(tool("link", "Copy link", " to this position", copy));
  }
  const locked = question?.open();
  const dock = element("div", { className: "ex-dock" }, told.node, locked ? question.node : controls.node);
  const root = element(
    "section",
    { className: `explorer${locked ? " ex-locked" : ""}` },
    element("div", { className: "ex-head" }, element("p", { className: "ex-title", id: titleId }, title), tools),
    element("div", { className: "ex-body" }, charts.stage, words.node, dock, charts.more, fold.node),
    words.live,
  );
  root.setAttribute("aria-labelledby", titleId);
  hands(root, specs, move, controls.pause);

  let answer;
  /** What the frame knows and the chart does not: the reader's guess, and the values that a slider has. */
  function completed(chart, i) {
    const values = specs.find(({ name }) => name === chart.drag?.control)?.values;
    return { ...chart, drag: values && { at: values, ...chart.drag }, guess: i ? undefined : question?.mark(model.get("state")) };
  }
  const drawn = () => charts.show((answer.charts ?? []).map(completed));
  function update() {
    const state = model.get("state");
    answer = compute(data, state, format);
    drawn(); // first, while the layout is as it was: it reads widths
    controls.show(state);
    words.say(answer);
    fold.show(answer);
    model.set("results", answer.results);
    model.save_changes();
  }
  function follow() {
    const wanted = address.asked();
    if (!wanted) return;
    question?.skip();
    const { changes, trouble } = allowed(specs, wanted);
    move(changes);
    if (trouble) told.tell(trouble);
    const go = () => {
      root.scrollIntoView();
      focus(); // the next key moves what the link has set
    };
    requestAnimationFrame(go);
    if (document.readyState !== "complete") addEventListener("load", go, { once: true });
  }

  el.replaceChildren(root);
  let width;
  function fit() {
    if (!root.clientWidth || root.clientWidth === width) return;
    width = root.clientWidth;
    root.classList.toggle("ex-narrow", width < NARROW);
    root.classList.toggle("ex-aside", width >= ASIDE);
    if (answer) drawn();
    fold.reach();
  }
  fit();
  update();
  model.on("change:state", update);
  const resized = new ResizeObserver(fit);
  resized.observe(root);
  const recolored = new MutationObserver(() => {
    charts.recolor();
    drawn();
  });
  recolored.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  recolored.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  if (address) {
    addEventListener("hashchange", follow);
    follow();
  }
  return () => {
    controls.pause();
    model.off("change:state", update);
    resized.disconnect();
    recolored.disconnect();
    removeEventListener("hashchange", follow);
  };
}

export default { render };
