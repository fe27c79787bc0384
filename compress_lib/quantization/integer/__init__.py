"""Quantization to integers: observers, post-training quantization, training, and int8 layers. Chapter 05."""
