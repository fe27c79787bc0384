// Who copies a passage with formulas gets them as TeX between dollar signs, as in the book's sources.
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (selection.isCollapsed) return;
  const range = selection.getRangeAt(0).cloneRange();
  const around = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement).closest(".math");
  const [first, last] = [around(range.startContainer), around(range.endContainer)]; // half a formula is copied whole
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const copied = range.cloneContents();
  const formulas = copied.querySelectorAll(".math[data-tex]");
  if (!formulas.length) return;
  const rich = document.createElement("div");
  rich.append(copied.cloneNode(true));
  for (const formula of formulas) {
    const dollars = formula.localName === "div" ? "$$" : "$";
    formula.replaceWith(dollars + formula.dataset.tex + dollars);
  }
  for (const block of copied.querySelectorAll("p, li, h1, h2, h3, h4, tr, summary, blockquote")) block.append("\n");
  event.clipboardData.setData("text/plain", copied.textContent.trim());
  event.clipboardData.setData("text/html", rich.innerHTML);
  event.preventDefault();
});
