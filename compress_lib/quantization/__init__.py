"""Quantization: weights and activations in few bits, from integers on a grid to shared codebooks."""
