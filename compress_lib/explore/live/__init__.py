"""A compressed network that runs in the page: a drawing pad, the bytes of its file, its answer. Chapter 07."""
