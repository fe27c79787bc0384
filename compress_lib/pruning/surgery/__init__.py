"""Removing channels from a network: what is left is an ordinary, smaller, dense network. Chapter 03."""

from compress_lib.pruning.surgery.cutting import load, save
from compress_lib.pruning.surgery.removal import Group, SurgeryReport, groups, remove

__all__ = ["Group", "SurgeryReport", "groups", "load", "remove", "save"]
