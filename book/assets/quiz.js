// A quiz that keeps score. The answer that is opened first counts; the others may be opened too. Without this script they
// are what they are in the page: folds that open.
(() => {
  "use strict";
  const quiz = document.getElementById("quiz");
  const progress = window.bookProgress;
  if (!quiz) return;

  const questions = [...quiz.querySelectorAll(":scope > section")].map((section) => {
    const answers = [...section.querySelectorAll(":scope > details")].map((fold) => ({
      fold,
      summary: fold.querySelector(":scope > summary"),
      right: fold.querySelector("strong").textContent.startsWith("Right"),
    }));
    return { name: progress.label(section), answers };
  });

  const make = (kind, properties) => Object.assign(document.createElement(kind), properties);
  const score = make("p", { className: "quiz-score" });
  const said = make("p", { className: "visually-hidden", role: "status" }); // the same, for who does not see the score
  const again = make("button", { type: "button", className: "quiet-button", textContent: "Try again" });
  quiz.append(said, score, again);

  function choose(question, index) {
    const { right } = question.answers[index];
    progress.change(({ answers }) => (answers[question.name] ??= { choice: index, right }));
    mark(question, index);
    tell();
    said.textContent = `${right ? "Right" : "No"}. ${score.textContent}`;
  }

  /** Say at an answer whether it is right, and whether it was the first. */
  function mark(question, index) {
    const { fold, summary, right } = question.answers[index];
    const first = progress.record().answers[question.name]?.choice === index;
    fold.classList.add(right ? "right" : "wrong");
    summary.querySelector(".verdict")?.remove();
    summary.append(make("span", { className: "verdict", textContent: `${right ? "Right" : "No"}${first ? ", your first answer" : ""}` }));
  }

  function tell() {
    const given = Object.values(progress.record().answers);
    const right = given.filter((answer) => answer?.right).length;
    score.textContent =
      given.length < questions.length
        ? `${given.length} of ${questions.length} questions answered, ${right} right at the first try.`
        : `${right} of ${questions.length} right at the first try.`;
    score.hidden = again.hidden = !given.length;
  }

  for (const question of questions)
    question.answers.forEach(({ fold, summary }, index) => {
      fold.classList.add("answer");
      // Not at "toggle": printing and the browser's own search open folds too.
      summary.addEventListener("click", () => choose(question, index));
      if (progress.record().answers[question.name]?.choice === index) mark(question, index);
    });

  again.addEventListener("click", () => {
    progress.change((record) => (record.answers = {}));
    for (const { fold, summary } of questions.flatMap(({ answers }) => answers)) {
      fold.open = false;
      fold.classList.remove("right", "wrong");
      summary.querySelector(".verdict")?.remove();
    }
    tell();
    said.textContent = "The quiz begins again.";
    questions[0].answers[0].summary.focus();
  });
  tell();
})();
