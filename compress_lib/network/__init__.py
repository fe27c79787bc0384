"""What every method needs to know of a network: its layers, its graph, what flows through it; no method is here."""
