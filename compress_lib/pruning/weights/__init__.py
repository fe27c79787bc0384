"""Pruning single weights: by magnitude, round by round, and what the zeros then cost in bytes. Chapter 02."""
