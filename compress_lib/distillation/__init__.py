"""Distillation: training a small network on what a large one knows. Chapter 12."""
