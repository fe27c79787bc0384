// The page of results. The index is Pagefind's, written by _extensions/search.py; only the parts that a query needs are read.
// A classic script, because browsers refuse module scripts from file://.
(() => {
  const page = document.querySelector(".book-search");
  const field = page.querySelector("input[name=q]");
  const inLibrary = page.querySelector("input[name=api]");
  const said = page.querySelector(".book-search-said");
  const list = page.querySelector(".book-search-results");
  const labels = JSON.parse(page.querySelector(".book-search-labels").textContent);
  const root = new URL(page.dataset.root || "./", location.href);
  const AT_ONCE = 8;
  const TERMS = 2; // of the glossary, after the best page

  /** The book spells as Americans do; a reader may not. */
  const STEMS = /\b(quanti|bina?ri|normali|factori|optimi|regulari|generali|initiali|penali|vectori|reali|organi|summari|visuali|parameteri|minimi|maximi|utili)s(e|ed|es|er|ing|ation|ations)\b/gi;
  const american = (text) =>
    text
      .replace(STEMS, "$1z$2")
      .replace(/\b(col|neighb|behavi|fav)our/gi, "$1or")
      .replace(/\bcentre/gi, "center")
      .replace(/\bmodelling/gi, "modeling");

  function element(tag, properties = {}, ...children) {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  }

  /** A result: its page, the sentence around the words, and up to three of its sections. */
  function entry({ url, meta, excerpt, sub_results }) {
    const here = (target) => new URL(target.replace(/^\//, ""), root).href;
    const sections = sub_results.filter((part) => part.url !== url && part.title !== meta.title).slice(0, 3);
    const first = sections[0];
    return element(
      "li",
      {},
      element("a", { href: here(url), className: "book-search-title" }, meta.title),
      element("p", { innerHTML: first ? first.excerpt : excerpt }), // Pagefind escapes the text and marks the words
      ...(sections.length ? [element("ul", {}, ...sections.map((part) => element("li", {}, element("a", { href: here(part.url) }, part.title))))] : []),
    );
  }

  /** Where no page has a word, Pagefind takes its first letters: a result counts if it marks a word that begins as one of ours. */
  function counts({ excerpt }, words) {
    const stems = words.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    const marked = [...excerpt.matchAll(/<mark>(.*?)<\/mark>/g)].map(([, word]) => word.toLowerCase());
    return stems.some((stem) => marked.some((word) => word.includes(stem.slice(0, Math.max(3, stem.length - 4)))));
  }

  let pagefind;
  let asked = 0;

  async function search() {
    const turn = (asked += 1);
    const words = american(field.value.trim());
    const query = new URLSearchParams({ q: field.value.trim(), ...(inLibrary.checked ? { api: "on" } : {}) });
    history.replaceState(null, "", `?${query}`);
    if (!words) {
      list.replaceChildren();
      said.textContent = "";
      return;
    }
    pagefind ??= await import(new URL("pagefind.js", new URL(page.dataset.index, location.href)).href);
    const ask = async (kinds, most) => {
      const { results } = await pagefind.search(words, { filters: { kind: { any: kinds } } });
      const best = await Promise.all(results.slice(0, most).map((result) => result.data()));
      const shown = best.filter((result) => counts(result, words));
      return { shown, count: results.length - (best.length - shown.length) };
    };
    const [pages, terms] = await Promise.all([ask(inLibrary.checked ? ["book", "library"] : ["book"], AT_ONCE), ask(["term"], TERMS)]);
    if (turn !== asked) return; // another search has begun
    const [first, ...rest] = pages.shown.map(entry);
    list.replaceChildren(...(first ? [first] : []), ...terms.shown.map(entry), ...rest);
    const label = words.toLowerCase().replace(/\s+/g, " ");
    if (labels[label]) list.prepend(element("li", {}, element("a", { href: new URL(labels[label], root).href, className: "book-search-title" }, label.replace(/^./, (c) => c.toUpperCase()))));
    const { count } = pages;
    said.textContent = count
      ? `${count === 1 ? "One page" : `${count} pages`} with “${words}”${count > AT_ONCE ? `; here are the best ${AT_ONCE}` : ""}.`
      : `${terms.count ? "Only the glossary" : "No page"} has “${words}”.${inLibrary.checked ? "" : " The library reference may."}`;
  }

  /** From a folder, without a server, browsers let no script read the index. */
  function run() {
    search().catch((error) => {
      said.textContent = location.protocol === "file:" ? "Searching needs a server: “make book” starts one." : `The search failed: ${error.message}`;
      if (location.protocol !== "file:") throw error;
    });
  }

  const given = new URLSearchParams(location.search);
  field.value = given.get("q") ?? "";
  inLibrary.checked = given.has("api");
  let waiting;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(run, 200);
  });
  inLibrary.addEventListener("change", run);
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  field.focus();
  run();
})();
