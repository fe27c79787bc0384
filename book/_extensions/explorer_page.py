"""Explorers on a static page: the figure first, the live widget over it where scripts run.

A notebook stores three things for an explorer: its state (in the metadata, which MyST-NB writes into the page), the
reference to that state, and a PNG. This transform wraps the PNG and the reference together, before MyST-NB would
choose one of them; ``assets/explorer-host.js`` then replaces the figure by the running explorer.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from myst_nb.core.render import sanitize_script_content
from myst_nb.sphinx_ import NbMetadataCollector, SelectMimeType
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
STATE = "ipywidgets_state"  # MyST-NB's name for it
VIEW = "application/vnd.jupyter.widget-view+json"


class StaticExplorers(SphinxPostTransform):
    """Turn each output that is a widget into its figure, marked with the id of the state to bring to life."""

    default_priority = SelectMimeType.default_priority - 1

    def run(self, **kwargs) -> None:
        state = self._state()
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            forms = {form["mime_type"]: form for form in bundle.children}
            if VIEW not in forms:
                continue
            view = json.loads(re.sub(r"<.*?>", "", forms[VIEW].astext(), flags=re.DOTALL))
            figure = next(iter(forms["image/png"].findall(nodes.image)), None) if "image/png" in forms else None
            model = state.get(view["model_id"], {})
            if figure is None or "alt" not in model:
                LOGGER.warning(
                    "this output is a widget, but no explorer with a figure and a saved state", location=bundle
                )
                continue
            figure["alt"] = model["alt"]
            figure["classes"].append("explorer-figure")
            figure["loading"] = "lazy"  # most readers never see it: the explorer takes its place
            opening = nodes.raw("", f'<div class="explorer-place" data-model-id="{view["model_id"]}">', format="html")
            bundle.replace_self([opening, figure, nodes.raw("", "</div>", format="html")])

    def _state(self) -> dict[str, dict]:
        """Model id → its traits."""
        stored = page_state(self.env, self.env.docname)
        return {model_id: entry["state"] for model_id, entry in stored["state"].items()} if stored else {}


def page_state(env, docname: str) -> dict | None:
    """The widget state that MyST-NB puts into the page, if it has any."""
    files = NbMetadataCollector.get_js_files(env, docname)
    return json.loads(files[STATE][1]["body"]) if STATE in files else None


def renew_code(app, doctree) -> None:
    """Give stored explorers the present JavaScript and style: a chapter stores its data, the library has the code."""
    docname = app.env.docname
    stored = page_state(app.env, docname)
    if stored is None:
        return
    explore = Path(app.srcdir) / "compress_lib" / "explore"
    parts = explore / "frontend" / "parts.json"  # the list that compress_lib.explore.frontend.explorer reads
    app.env.note_dependency(str(parts))
    for entry in stored["state"].values():
        traits = entry["state"]
        if "_compute" not in traits:
            continue
        for trait, patterns in json.loads(parts.read_text(encoding="utf-8")).items():
            paths = [path for name in patterns for path in sorted(explore.glob(name.format(module=traits["module"])))]
            for path in paths:
                app.env.note_dependency(str(path))
            traits[trait] = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    attributes = NbMetadataCollector.get_js_files(app.env, docname)[STATE][1]
    attributes["body"] = sanitize_script_content(json.dumps(stored))


def add_host(app, pagename, templatename, context, doctree) -> None:
    """The script, on the pages that have something for it to do."""
    if app.builder.format == "html" and STATE in NbMetadataCollector.get_js_files(app.env, pagename):
        app.add_js_file("explorer-host.js", loading_method="defer")


def setup(app):
    app.connect("doctree-read", renew_code)
    app.add_post_transform(StaticExplorers)
    app.connect("html-page-context", add_host)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
