"""Pruning: removing weights, neurons, filters and layers that a network can do without. Chapters 02 to 04."""
