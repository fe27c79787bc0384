"""What the accuracy of a classifier does not tell: calibration, agreement with another one, its worst classes.

Expected calibration error: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
binning", AAAI 2015; with 15 bins as in Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks",
ICML 2017, arXiv 1706.04599. Chapter 12.
"""

from typing import Any

import torch
from torch import Tensor

from compress_lib import data

BINS = 15
WORST = 2  # classes that a row names


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """``Σ_b (n_b / N) · |accuracy_b − confidence_b|`` over bins of equal width of the largest probability.

    Parameters
    ----------
    logits : Tensor
        (N, classes).
    labels : Tensor
        (N,) int64.
    bins : int
        At least 1. Bin b holds the confidences in (b / bins, (b + 1) / bins].

    Returns
    -------
    float
        In [0, 1]; 0 if in each bin the share of right answers is the mean confidence.

    Raises
    ------
    ValueError
        For logits and labels that do not fit, none of them, or fewer than one bin.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            f"logits must be (N, classes) and labels (N,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    confidence, answers = logits.double().softmax(1).max(1)
    bin = (confidence * bins).ceil().long().clamp(1, bins) - 1
    surplus = (answers == labels).double() - confidence
    # n_b |mean of the surplus| is |its sum|.
    sums = torch.zeros(bins, dtype=torch.double).index_add_(0, bin, surplus)
    return (sums.abs().sum() / len(labels)).item()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of images whose largest logit is at the label."""
    return (logits.argmax(1) == labels).double().mean().item()


def agreement(logits: Tensor, reference: Tensor) -> float:
    """The share of images that two networks, by their logits (N, classes), put into the same class."""
    return (logits.argmax(1) == reference.argmax(1)).double().mean().item()


def worst_classes(logits: Tensor, labels: Tensor, count: int = WORST) -> dict[str, float]:
    """The accuracy on the classes of Fashion-MNIST that are recognized least, the worst first."""
    right = (logits.argmax(1) == labels).double()
    accuracy = {name: right[labels == number].mean().item() for number, name in enumerate(data.CLASSES)}
    return dict(sorted(accuracy.items(), key=lambda item: item[1])[:count])


def of_logits(logits: Tensor, labels: Tensor, reference: Tensor) -> dict[str, Any]:
    """For the details of a row: calibration, agreement with the network of the logits ``reference``, worst classes."""
    return {
        "calibration_error": expected_calibration_error(logits, labels),
        "agreement": agreement(logits, reference),
        "worst_classes": worst_classes(logits, labels),
    }
