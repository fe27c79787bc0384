"""The networks of the book: each readable top to bottom, and a zoo of trained checkpoints."""
