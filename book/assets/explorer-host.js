// Runs the explorers of a static page: no kernel, no server, nothing from elsewhere.
//
// MyST-NB writes the notebook's widget state into the page. For each place that names a model of that state, this script
// makes the few functions of a model that anywidget's front-end format asks for (https://anywidget.dev/en/afm/), imports
// the widget's own module and lets it draw in place of the static figure: when the reader comes near, or follows a link to
// a position. If anything fails, the figure stays.
// A classic script, because browsers refuse module scripts from file://, where the built book is also read.
(() => {
  "use strict";
  const modules = new Map();
  const styles = new Set();

  function load(source) {
    if (!modules.has(source)) modules.set(source, import(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))));
    return modules.get(source);
  }

  function style(source) {
    if (!source || styles.has(source)) return;
    styles.add(source);
    document.head.append(Object.assign(document.createElement("style"), { textContent: source }));
  }

  /** The traits of one widget, with change events; there is no kernel to save them to. */
  function makeModel(traits) {
    const listeners = new Map();
    const of = (event) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
    return {
      get: (name) => traits[name],
      set(name, value) {
        traits[name] = value;
        for (const event of [`change:${name}`, "change"]) for (const callback of [...of(event)]) callback();
      },
      on: (event, callback) => of(event).add(callback),
      off: (event, callback) => (callback ? of(event).delete(callback) : of(event).clear()),
      save_changes() {},
      send() {},
    };
  }

  /** What the page's address says to one explorer: #explorer=weight_threshold&k=2.05&layer=fc1. */
  function makeAddress(name) {
    return {
      /** The setting that it asks for, {control: text}, or null. */
      asked() {
        const { explorer, ...setting } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
        return explorer === name ? setting : null;
      },
      link: (state) => `${location.href.split("#")[0]}#${new URLSearchParams({ explorer: name, ...state })}`,
    };
  }

  async function start(place, traits, name) {
    const { default: widget } = await load(traits._esm);
    const model = makeModel({ ...traits });
    const el = document.createElement("div");
    el.className = "explorer-live";
    style(traits._css);
    await widget.initialize?.({ model });
    place.append(el); // attached before it is drawn, so that it knows its width
    try {
      await widget.render({ model, el, address: makeAddress(name) });
    } catch (error) {
      el.remove();
      throw error;
    }
    place.dataset.live = "true"; // the figure is hidden, and printed
  }

  /** Once: when a place is less than a screen away, or the page's address asks for it. */
  function whenNear(place, address, act) {
    const observer = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && go(), { rootMargin: "100% 0px" });
    const asked = () => address.asked() && go();
    function go() {
      observer.disconnect();
      removeEventListener("hashchange", asked);
      act();
    }
    observer.observe(place);
    addEventListener("hashchange", asked);
    asked();
  }

  const saved = document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]');
  const state = Object.assign({}, ...[...saved].map((script) => JSON.parse(script.textContent).state));
  const names = new Map(); // a second explorer of a kind is called towers-2 in addresses
  for (const place of document.querySelectorAll(".explorer-place[data-model-id]")) {
    const entry = state[place.dataset.modelId];
    if (!entry) continue;
    const { module } = entry.state;
    names.set(module, (names.get(module) ?? 0) + 1);
    const name = names.get(module) === 1 ? module : `${module}-${names.get(module)}`;
    whenNear(place, makeAddress(name), () => start(place, entry.state, name).catch((error) => console.error("explorer:", error)));
  }
})();
