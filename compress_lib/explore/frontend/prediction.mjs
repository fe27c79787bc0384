// What the reader guesses before the controls unlock. Part of explorer.mjs, which says what can be asked.

/** What this browser keeps of a reader's guesses, if it keeps anything. */
const kept = {
  key: (name) => `compress-lib guess ${name}`,
  read(name) {
    try {
      return JSON.parse(localStorage.getItem(this.key(name)));
    } catch {
      return null; // storage is off, or holds something else
    }
  },
  write(name, value) {
    try {
      localStorage.setItem(this.key(name), JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** A number that is typed. */
function numberField({ unit, min, max }, id, commit) {
  const field = element("input", { id, type: "text", inputMode: "decimal", autocomplete: "off", className: "ex-typed" });
  const trouble = element("span", { id: `${id}-trouble`, className: "ex-trouble", role: "alert" });
  const form = element("form", { className: "ex-guess", noValidate: true }, field, ...(unit ? [element("span", {}, unit)] : []), element("button", { className: "ex-button ex-main" }, "Guess"), trouble);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = field.value.trim() === "" ? NaN : Number(field.value.trim().replace(",", "."));
    const fits = value >= min && value <= max;
    field.setAttribute("aria-invalid", String(!fits));
    field.setAttribute("aria-describedby", trouble.id);
    trouble.textContent = fits ? "" : `Type a number from ${min} to ${max}.`;
    if (fits) commit(value);
    else field.focus();
  });
  return form;
}

/** One press on an option is the guess. */
const choices = ({ options }, commit) => element("div", { className: "ex-guess" }, ...options.map((text, i) => button(text, () => commit(i))));

/** The options are pressed one after the other; a second press takes one back, with those after it. */
function ordering({ options }, commit) {
  let order = [];
  const ranks = options.map(() => element("span", { className: "ex-rank" }));
  const buttons = options.map((text, i) => {
    const node = button(ranks[i], () => {
      order = order.includes(i) ? order.slice(0, order.indexOf(i)) : [...order, i];
      show();
    });
    node.append(text);
    return node;
  });
  const done = button("Guess", () => commit(order));
  done.classList.add("ex-main");
  function show() {
    done.disabled = order.length < options.length;
    buttons.forEach((node, i) => {
      ranks[i].textContent = order.includes(i) ? `${order.indexOf(i) + 1}` : "";
      node.setAttribute("aria-pressed", String(order.includes(i)));
    });
  }
  show();
  return element("div", { className: "ex-guess" }, ...buttons, done);
}

/**
 * The question in place of the controls, unless there is none or it was answered before: then `mark` remains.
 * `unlock(show, text)` is called with the setting to go to and what to tell.
 */
function predicting({ asked, name, at, write, plain, isPercent, unlock }) {
  if (!asked) return null;
  const scale = isPercent(asked.result) ? 100 : 1;
  const question = { unit: isPercent(asked.result) ? "%" : "", min: 0, max: scale, ...asked };
  const show = () => (typeof asked.show === "function" ? asked.show(at) : (asked.show ?? {}));
  const truth = () => (typeof asked.answer === "function" ? asked.answer(at) : (asked.answer ?? at(show())[asked.result]));
  const before = kept.read(name);
  let guess = before?.question === asked.question ? before.guess : undefined;
  let open = guess === undefined;

  const value = (number) => (asked.result ? write(asked.result, number / scale) : `${plain(number)}${question.unit ? `\u00a0${question.unit}` : ""}`);
  const inWords = {
    number: value,
    choice: (i) => `“${asked.options[i]}”`,
    order: (order) => order.map((i) => asked.options[i]).join(", "),
  }[asked.kind];
  function reveal() {
    const right = truth();
    const shown = asked.result ? right * scale : right;
    return same(guess, right) ? `You said ${inWords(guess)}, which is right.` : `You said ${inWords(guess)}. The answer is ${inWords(shown)}.`;
  }
  function commit(answer) {
    guess = answer;
    open = false;
    const stored = kept.write(name, { question: asked.question, guess });
    unlock(show(), `${reveal()}${stored ? "" : " This browser keeps no guesses: you will be asked again."}`);
  }
  function skip() {
    if (!open) return;
    open = false;
    unlock(null, "");
  }

  const id = `explorer-question-${(serial += 1)}`;
  const words = element(asked.kind === "number" ? "label" : "p", { className: "ex-asked", id: `${id}-words` }, asked.question);
  if (asked.kind === "number") words.htmlFor = id;
  const fields = { number: () => numberField(question, id, commit), choice: () => choices(asked, commit), order: () => ordering(asked, commit) }[asked.kind]();
  const skipping = button("Skip", skip);
  skipping.classList.add("ex-skip");
  skipping.append(unseen(" the question"));
  const node = element("div", { className: "ex-question", role: "group" }, element("p", { className: "ex-first" }, "Guess first"), words, fields, skipping);
  node.setAttribute("aria-labelledby", words.id);

  /** Where the guess belongs on the first chart, in the setting that was asked for. */
  function mark(state) {
    if (!asked.mark || guess === undefined || !Object.entries(show()).every(([key, v]) => same(state[key], v))) return undefined;
    return { axis: asked.mark, value: guess / scale, label: "your guess" };
  }
  return { node, mark, skip, open: () => open };
}
