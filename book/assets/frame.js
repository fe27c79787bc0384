// What the theme's scripts leave undone around the text: its drawers, and paper.
(() => {
  "use strict";
  const root = document.documentElement;

  // A drawer holds links into the page it lies on: following one closes it, and the reader is where the link leads.
  for (const drawer of document.querySelectorAll("dialog")) {
    drawer.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (!link) return;
      event.preventDefault();
      const follow = () => {
        location.hash = link.hash;
        document.getElementById(decodeURIComponent(link.hash.slice(1)))?.scrollIntoView(); // a second time, too
      };
      drawer.addEventListener("close", () => setTimeout(follow), { once: true });
      drawer.close();
    });
  }

  // On paper all that is folded is open and the page is light; afterwards everything is as it was.
  let folded = [];
  let theme;
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const fold of folded) fold.open = true;
    theme = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    for (const fold of folded) fold.open = false;
    root.dataset.theme = theme;
  });
})();
