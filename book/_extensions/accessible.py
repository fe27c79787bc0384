"""What axe-core (WCAG 2.1 AA) finds in the theme's and docutils' pages, mended in the pages."""


def mend(app, pagename, templatename, context, doctree) -> None:
    # An entry of the bibliography has a role that ARIA has withdrawn, in a list that then has no items.
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')

    # The sidebar's button that unfolds a section is an icon without a name.
    toctree = context.get("generate_toctree_html")
    if toctree is not None:
        named = '<summary aria-label="Show the pages of this section">'
        context["generate_toctree_html"] = lambda *args, **kw: str(toctree(*args, **kw)).replace("<summary>", named)


def setup(app):
    app.connect("html-page-context", mend, priority=900)  # after the theme
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
