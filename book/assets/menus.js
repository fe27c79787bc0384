// The theme's menus (its buttons with data-bs-toggle="dropdown"), without Bootstrap.
(() => {
  "use strict";
  const BUTTON = '[data-bs-toggle="dropdown"]';
  const menuOf = (button) => button.parentElement.querySelector(".dropdown-menu");

  function show(button, open) {
    menuOf(button).classList.toggle("show", open);
    button.setAttribute("aria-expanded", open);
  }

  const buttons = [...document.querySelectorAll(BUTTON)];
  document.addEventListener("click", (event) => {
    for (const button of buttons) {
      const here = button.contains(event.target);
      if (here || !menuOf(button).contains(event.target)) show(button, here && !menuOf(button).classList.contains("show"));
    }
  });
  document.addEventListener("keydown", (event) => {
    const button = buttons.find((each) => menuOf(each).classList.contains("show"));
    if (!button) return;
    if (event.key === "Escape") {
      show(button, false);
      button.focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const items = [...menuOf(button).querySelectorAll(".dropdown-item")];
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = items[(items.indexOf(document.activeElement) + step + items.length) % items.length];
      next?.focus();
      event.preventDefault();
    }
  });
})();
