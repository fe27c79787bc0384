"""The live network on the landing page: one script, made of the library's parts and its measured rows.

A page that has the place ``<div id="live-network">`` gets ``live-network.js``. It is a classic script, because browsers
refuse modules from file://, and fetches nothing: style and network are in it. Until it runs, and where scripts are off,
what the place holds stays. Where a chapter stores the live network as a widget, it gets the present code, as the
explorers do (``explorer_page``).
"""

import importlib.util
import json
from pathlib import Path

from explorer_page import STATE, page_state
from myst_nb.core.render import sanitize_script_content
from myst_nb.sphinx_ import NbMetadataCollector

PLACE = 'id="live-network"'
START = """
  const slot = document.getElementById("live-network");
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  const el = Object.assign(document.createElement("div"), { className: "explorer-live" });
  const begin = async () => {
    const before = [...slot.childNodes];
    slot.append(el);
    await widget.render({ model: { get: (name) => ({ data, brief: true })[name] }, el });
    for (const node of before) node.remove();
  };
  (window.requestIdleCallback ?? setTimeout)(() => begin().catch((error) => (el.remove(), console.error(error))));
"""


def _joining(app):
    """The library's module of this name, by its path: the site's environment need not have the library installed."""
    path = Path(app.srcdir) / "compress_lib" / "explore" / "live" / "joining.py"
    spec = importlib.util.spec_from_file_location("joining", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(app) -> None:
    if app.builder.format != "html":
        return
    joining = _joining(app)
    style = json.dumps(joining.joined("_css"))
    data = json.dumps(joining.data(Path(app.srcdir) / "results"), separators=(",", ":"))
    code = joining.joined("_esm").replace("export default", "const widget =").replace("\nexport ", "\n")
    static = Path(app.outdir) / "_static"
    static.mkdir(parents=True, exist_ok=True)
    script = f'(() => {{\n"use strict";\nconst data = {data};\nconst style = {style};\n{code}{START}}})();\n'
    (static / "live-network.js").write_text(script, encoding="utf-8")


def renew_code(app, doctree) -> None:
    """Give stored widgets the present JavaScript and style."""
    stored = page_state(app.env, app.env.docname)
    found = [entry["state"] for entry in stored["state"].values()] if stored else []
    found = [traits for traits in found if traits.get("_anywidget_id", "").endswith(".LiveNetwork")]
    if not found:
        return
    joining = _joining(app)
    for traits in found:
        for trait in ("_esm", "_css"):
            traits[trait] = joining.joined(trait)
            for path in (joining.PARTS, *joining.paths(trait)):
                app.env.note_dependency(str(path))
    NbMetadataCollector.get_js_files(app.env, app.env.docname)[STATE][1]["body"] = sanitize_script_content(
        json.dumps(stored)
    )


def add_to_page(app, pagename, templatename, context, doctree) -> None:
    if app.builder.format == "html" and PLACE in context.get("body", ""):
        app.add_js_file("live-network.js", loading_method="defer")
        app.add_css_file("live-network.css")


def setup(app):
    app.connect("builder-inited", write)
    app.connect("doctree-read", renew_code)
    app.connect("html-page-context", add_to_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
