"""Coding: from arrays of small integers to bytes, and back."""
