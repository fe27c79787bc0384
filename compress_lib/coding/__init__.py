"""Coding: from arrays of small integers to bytes, and back. Chapter 07."""
