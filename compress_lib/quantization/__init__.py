"""Quantization: weights and activations on grids of integers, and weights that share a few values. Chapters 05, 06."""
