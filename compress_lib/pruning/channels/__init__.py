"""Choosing filters and channels to remove, by their weights or by what the next layer reads. Chapters 03 and 04."""
