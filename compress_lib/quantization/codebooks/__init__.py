"""Weights that share a few values: k-means, product quantization, powers of two. Chapter 06."""
