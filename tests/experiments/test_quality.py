import math

import pytest
import torch

from compress_lib import data
from compress_lib.experiments import quality


def sure(*probabilities):
    """Logits of two classes, of which the first has these probabilities."""
    first = torch.tensor(probabilities, dtype=torch.double)
    return torch.stack([first.log(), (1 - first).log()], 1)


def test_calibration_by_hand():
    # Of ten bins four hold answers: one in (0.5, 0.6], three in (0.7, 0.8], one in (0.8, 0.9], one in (0.9, 1].
    logits = sure(0.6, 0.75, 0.75, 0.8, 0.1, 0.95)
    labels = torch.tensor([1, 0, 0, 1, 1, 0])
    gaps = [1 * abs(0 - 0.6), 3 * abs(2 / 3 - (0.75 + 0.75 + 0.8) / 3), 1 * abs(1 - 0.9), 1 * abs(1 - 0.95)]
    assert quality.expected_calibration_error(logits, labels, bins=10) == pytest.approx(sum(gaps) / 6)
    # In a single bin what is too sure makes up for what is not sure enough.
    together = abs(4 / 6 - (0.6 + 0.75 + 0.75 + 0.8 + 0.9 + 0.95) / 6)
    assert quality.expected_calibration_error(logits, labels, bins=1) == pytest.approx(together)


def test_calibration_in_fifteen_bins_is_that_of_the_definition():
    logits, labels = torch.randn(2000, 10) * 3, torch.randint(10, (2000,))
    confidence, answers = logits.double().softmax(1).max(1)
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            right = (answers[inside] == labels[inside]).double().mean()
            total += inside.double().mean() * abs(right - confidence[inside].mean())
    assert quality.expected_calibration_error(logits, labels) == pytest.approx(float(total))


def test_who_is_as_often_right_as_sure_is_calibrated():
    logits = sure(*[0.75] * 8)
    assert quality.expected_calibration_error(logits, torch.tensor([0, 0, 1, 0, 0, 1, 0, 0])) < 1e-12
    assert quality.expected_calibration_error(torch.tensor([[math.inf, 0.0]]).nan_to_num(), torch.tensor([0])) == 0


@pytest.mark.parametrize(
    ("shapes", "bins", "message"),
    [
        (((4, 3), (5,)), 15, "labels"),
        (((4,), (4,)), 15, "logits"),
        (((0, 3), (0,)), 15, "N"),
        (((4, 3), (4,)), 0, "bins"),
    ],
)
def test_calibration_refuses_bad_arguments(shapes, bins, message):
    with pytest.raises(ValueError, match=message):
        quality.expected_calibration_error(torch.zeros(shapes[0]), torch.zeros(shapes[1]).long(), bins=bins)


def test_agreement_and_worst_classes():
    labels = torch.arange(10).repeat(4)
    logits = torch.eye(10).repeat(4, 1)
    logits[6] = logits[16] = logits[26] = torch.eye(10)[0]  # three of four shirts
    logits[2] = torch.eye(10)[4]
    found = quality.of_logits(logits, labels, torch.eye(10).repeat(4, 1))
    assert found["agreement"] == quality.accuracy(logits, labels) == 36 / 40
    assert list(found["worst_classes"].items()) == [(data.CLASSES[6], 0.25), (data.CLASSES[2], 0.75)]
