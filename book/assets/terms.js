// A term shows its definition while the pointer or the focus is on it. A first tap shows it, a second one follows the link.
(() => {
  "use strict";
  const OPEN = 200; // milliseconds: a pointer that only passes opens nothing,
  const CLOSE = 250; // and has time to reach what it has opened
  const GAP = 6; // pixels between a term and its definition,
  const EDGE = 16; // and at least these beside it

  let shown; // the link whose definition is open
  let waiting;
  const later = (act, delay) => {
    clearTimeout(waiting);
    waiting = setTimeout(act, delay);
  };
  const definitionOf = (link) => document.getElementById(`about-${link.hash.slice(1)}`);

  function show(link) {
    clearTimeout(waiting);
    if (link === shown) return;
    hide();
    const definition = definitionOf(link);
    definition.showPopover();
    place(definition, [...link.getClientRects()]);
    shown = link;
  }

  function hide() {
    clearTimeout(waiting);
    if (shown) definitionOf(shown).hidePopover();
    shown = undefined;
  }

  /** Below the last line of a term, or above the first where there is no room; it moves with the text. */
  function place(definition, lines) {
    const { offsetWidth: width, offsetHeight: height } = definition;
    const page = document.documentElement;
    const [first, last] = [lines[0], lines.at(-1)];
    const below = last.bottom + GAP + height <= page.clientHeight || first.top < GAP + height;
    const top = below ? last.bottom + GAP : first.top - GAP - height;
    const left = Math.max(EDGE, Math.min((below ? last : first).left, page.clientWidth - width - EDGE));
    definition.style.left = `${left + scrollX}px`;
    definition.style.top = `${top + scrollY}px`;
  }

  for (const link of document.querySelectorAll("a.term")) {
    const definition = definitionOf(link);
    const leave = () => document.activeElement !== link && later(hide, CLOSE);
    link.setAttribute("aria-describedby", definition.id);
    let follow = true; // whether a click is to lead to the glossary

    link.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && later(() => show(link), OPEN));
    link.addEventListener("pointerleave", leave);
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", hide);
    link.addEventListener("pointerdown", (event) => (follow = event.pointerType === "mouse" || link === shown));
    link.addEventListener("click", (event) => {
      if (!follow) event.preventDefault();
      follow = true;
      show(link);
    });
    definition.addEventListener("pointerenter", () => clearTimeout(waiting));
    definition.addEventListener("pointerleave", leave);
  }

  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("pointerdown", ({ target }) => {
    if (shown && !shown.contains(target) && !definitionOf(shown).contains(target)) hide();
  });
})();
