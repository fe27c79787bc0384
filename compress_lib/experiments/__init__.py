"""The long runs whose rows lie in ``results/``: one module a chapter, and the harness that they share."""
