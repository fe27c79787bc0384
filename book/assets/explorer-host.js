// Runs the explorers of a static page: no kernel, no server, nothing from elsewhere.
//
// MyST-NB writes the notebook's widget state into the page. For each place that names a model of that state, this script
// makes the few functions of a model that anywidget's front-end format asks for (https://anywidget.dev/en/afm/), imports
// the widget's own module and lets it draw in place of the static figure. If anything fails, the figure stays.
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

  async function start(place, traits) {
    const { default: widget } = await load(traits._esm);
    const model = makeModel({ ...traits });
    const el = document.createElement("div");
    style(traits._css);
    await widget.initialize?.({ model });
    const figure = [...place.childNodes];
    place.append(el); // attached before it is drawn, so that it knows its width
    try {
      await widget.render({ model, el });
    } catch (error) {
      el.remove();
      throw error;
    }
    for (const node of figure) node.hidden = true; // paper still shows it
    place.dataset.live = "true";
  }

  const saved = document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]');
  const state = Object.assign({}, ...[...saved].map((script) => JSON.parse(script.textContent).state));
  for (const place of document.querySelectorAll(".explorer-place[data-model-id]")) {
    const entry = state[place.dataset.modelId];
    if (entry) start(place, entry.state).catch((error) => console.error("explorer:", error));
  }
})();
