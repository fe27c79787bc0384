// What the theme's scripts leave undone around the text: its drawers, what scrolls, and paper.
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

  // What is wider than its place takes the focus, so that keys can scroll it: known as soon as it has a size, or another.
  const scrolls = (element) => element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight;
  const sized = new ResizeObserver((changes) => {
    const found = changes.map(({ target }) => [target, scrolls(target)]); // all read first, then all written
    for (const [element, does] of found) element.tabIndex = does ? 0 : -1;
  });
  const boxes = "pre, .cell_output > .output, .pst-scrollable-table-container";
  for (const element of root.querySelectorAll(boxes)) sized.observe(element); // layout.html keeps these from document's

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
