"""The measuring instruments: what a network costs in parameters, multiply-adds, memory, bytes on disk and time.

Chapter 1 derives each quantity; every later chapter measures with the functions below.

>>> from torch import nn
>>> cost = count(nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)), (784,))
>>> cost.params, cost.macs
(238510, 238200)
"""

from compress_lib.cost.comparing import Comparison, ModelCost, compare
from compress_lib.cost.costs import Cost, LayerCost
from compress_lib.cost.counting import count
from compress_lib.cost.disk import nbytes_on_disk
from compress_lib.cost.machine import hardware, versions
from compress_lib.cost.roofline_model import Roofline, arithmetic_intensity, roofline
from compress_lib.cost.timing import Latency, LatencyRow, latency

__all__ = [
    "Comparison",
    "Cost",
    "Latency",
    "LatencyRow",
    "LayerCost",
    "ModelCost",
    "Roofline",
    "arithmetic_intensity",
    "compare",
    "count",
    "hardware",
    "latency",
    "nbytes_on_disk",
    "roofline",
    "versions",
]
