// What a reader has done, in this browser alone: sections read, answers of quizzes, exercises tried. It is shown beside
// each chapter in the list of chapters, and on "How to read this book", where it can be cleared.
(() => {
  "use strict";
  const KEY = "compress-lib progress";
  const GUESSES = "compress-lib guess "; // as the explorers' keys begin
  const SECONDS = 15; // in view, until a section counts as read
  const NOT_FOR_READING = ["exercises", "quiz", "further-reading"]; // one does them, or looks them up

  const chapterOf = (path) => path.match(/\/notebooks\/(\d\d)-/)?.[1];
  const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
  const make = (kind, properties, ...content) => {
    const element = Object.assign(document.createElement(kind), properties);
    element.append(...content);
    return element;
  };

  // What there is to do in this chapter

  const parts = (selector) => [...document.querySelectorAll(selector)];
  /** "exercise-2-1" of the section that an exercise is, "question-2-1" of a question. */
  const label = (section) => section.id.match(/^(exercise|question)(-\d+){2}/)?.[0] ?? section.id;
  const here = chapterOf(location.pathname);
  const sections = parts("article h1 ~ section").filter(({ id }) => !NOT_FOR_READING.includes(id));
  const exercises = parts("#exercises > section");
  const questions = parts("#quiz > section");

  // The store: chapter → record

  const EMPTY = { read: [], sections: 0, answers: {}, questions: 0, tried: [], exercises: 0 };
  const isRecord = (record) =>
    Object.entries(EMPTY).every(([key, { constructor }]) => record?.[key]?.constructor === constructor);

  let unkept; // the records, where the browser does not take them

  /** What is damaged counts as nothing. */
  function all() {
    if (unkept) return unkept;
    try {
      const stored = Object.entries(JSON.parse(localStorage.getItem(KEY)) ?? {});
      return Object.fromEntries(stored.filter(([, record]) => isRecord(record)));
    } catch {
      return {};
    }
  }

  const record = () => all()[here] ?? structuredClone(EMPTY);

  /** Change the record of this chapter by a function. */
  function change(act) {
    const mine = record();
    act(mine);
    mine.sections = sections.length;
    mine.exercises = exercises.length;
    mine.questions = questions.length;
    const records = { ...all(), [here]: mine };
    try {
      localStorage.setItem(KEY, JSON.stringify(records));
    } catch {
      unkept = records; // it is full
    }
    show();
  }

  /** A chapter may have changed since: what is no longer in it is forgotten. */
  function tidy(mine) {
    const ids = { read: sections.map(({ id }) => id), tried: exercises.map(label), answers: questions.map(label) };
    for (const key of ["read", "tried"]) mine[key] = mine[key].filter((id) => ids[key].includes(id));
    for (const id of Object.keys(mine.answers)) if (!ids.answers.includes(id)) delete mine.answers[id];
  }

  const keys = () => Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i));
  const guesses = () => keys().filter((key) => key.startsWith(GUESSES));

  function clear() {
    for (const key of [KEY, ...guesses()]) localStorage.removeItem(key);
    show();
  }

  // Marks and words

  /** Of reading, quiz and exercises: the share that is done, and how it is said if it has begun. */
  function sums({ read, sections, answers, questions, tried, exercises }) {
    const given = Object.values(answers);
    const right = given.filter((answer) => answer?.right).length;
    return [
      [read.length / sections, read.length && (read.length < sections ? `${read.length} of ${sections} sections read` : "read")],
      [right / questions, given.length && (given.length < questions ? `${given.length} of ${questions} questions answered` : `quiz ${right} of ${questions}`)],
      [tried.length / exercises, tried.length && `${count(tried.length, "exercise")} tried`],
    ];
  }

  const inWords = (record) => sums(record).flatMap(([, words]) => words || []).join(", ");

  function marks(record) {
    const rings = sums(record).map(([share]) => {
      const ring = make("span", { className: "progress-ring" });
      ring.style.setProperty("--done", share || 0);
      return ring;
    });
    const words = make("span", { className: "visually-hidden" }, `(${inWords(record)})`);
    return make("span", { className: "progress-marks", title: inWords(record) }, ...rings, words);
  }

  function help() {
    const href = `${document.documentElement.dataset.content_root ?? "./"}book/how-to-read.html#remembered`;
    return make("p", { className: "progress-help" }, make("a", { href }, "What the rings mean"));
  }

  function show() {
    const records = all();
    for (const old of parts(".progress-marks, .progress-help")) old.remove();
    for (const link of parts(".bd-docs-nav a")) {
      const theirs = records[chapterOf(link.pathname)];
      if (theirs && inWords(theirs)) link.append(marks(theirs));
    }
    if (parts(".progress-marks").length) document.querySelector(".bd-docs-nav")?.append(help());
    if (panel) remember(records);
  }

  /** The panel on "How to read this book". */
  const panel = document.getElementById("remembered");
  const said = make("p", { role: "status", tabIndex: -1 });
  const list = make("ul");
  const button = make("button", { type: "button", className: "quiet-button" }, "Clear");
  panel?.append(said, list, button);
  button.addEventListener("click", () => {
    if (!confirm("Clear all that this browser remembers of your reading? It cannot be brought back.")) return;
    clear();
    said.focus(); // the button is gone
  });

  function remember(records) {
    const lines = Object.entries(records)
      .filter(([, theirs]) => inWords(theirs))
      .sort()
      .map(([chapter, theirs]) => `Chapter ${Number(chapter)}: ${inWords(theirs)}`);
    const guessed = guesses().length;
    if (guessed) lines.push(`Explorers: ${guessed === 1 ? "1 guess" : `${guessed} guesses`}`);
    list.replaceChildren(...lines.map((line) => make("li", {}, line)));
    list.hidden = button.hidden = !lines.length;
    if (document.documentElement.dataset.storage === "off")
      said.textContent = "Your browser stores nothing for this book, so it forgets all this when you leave a page.";
    else said.textContent = lines.length ? "This browser remembers:" : "This browser remembers nothing of your reading.";
  }

  // Reading and trying

  /** Count the seconds for which each section is in view. */
  function watch() {
    const seconds = new Map();
    const inView = new Set();
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target);
    });
    for (const section of sections) observer.observe(section);
    setInterval(() => {
      if (document.visibilityState !== "visible") return;
      for (const section of inView) {
        seconds.set(section, (seconds.get(section) ?? 0) + 1);
        if (seconds.get(section) < SECONDS) continue;
        observer.unobserve(section);
        inView.delete(section);
        change(({ read }) => read.includes(section.id) || read.push(section.id));
      }
    }, 1000);
  }

  /** A button at an exercise; whoever opens its solution has tried it too. */
  function offer(exercise) {
    const name = label(exercise);
    const button = make("button", { type: "button", className: "quiet-button tried" });
    const mark = (tried) => {
      change((mine) => (mine.tried = [...mine.tried.filter((other) => other !== name), ...(tried ? [name] : [])]));
      tell();
    };
    const tell = () => {
      const tried = record().tried.includes(name);
      button.setAttribute("aria-pressed", tried);
      button.textContent = tried ? "Tried" : "Mark as tried";
    };
    button.addEventListener("click", () => mark(button.getAttribute("aria-pressed") === "false"));
    for (const summary of exercise.querySelectorAll("details > summary"))
      if (summary.textContent.trim() === "Solution") summary.addEventListener("click", () => mark(true));
    exercise.append(button);
    tell();
  }

  window.bookProgress = { label, record, change }; // for quiz.js
  if (here) {
    if (here in all()) change(tidy);
    exercises.forEach(offer);
    watch();
  }
  show();
  addEventListener("storage", show); // another tab
})();
