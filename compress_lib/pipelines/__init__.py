"""Methods one after the other: whole recipes, from a trained network to a small file."""
