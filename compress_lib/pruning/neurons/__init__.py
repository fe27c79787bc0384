"""Removing hidden neurons of linear layers, without data or by training. Chapter 03."""
