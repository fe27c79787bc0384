import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from compress_lib.distillation.logits import distillation_loss


def logits(seed=0, images=6, classes=4, scale=3.0):
    torch.manual_seed(seed)
    student, teacher = torch.randn(2, images, classes, dtype=torch.float64) * scale
    return student.requires_grad_(), teacher, torch.randint(classes, (images,))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_without_labels_it_is_the_peer_of_torch(temperature):
    student, teacher, _ = logits()
    peer = nn.KLDivLoss(reduction="batchmean")
    expected = temperature**2 * peer(F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1))
    found = distillation_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(found, expected)
    assert torch.equal(distillation_loss(student, teacher, temperature=temperature, weight=0.3), found)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(2, 8),
    temperature=st.floats(0.3, 30),
    weight=st.floats(0, 1),
)
def test_by_hand(seed, classes, temperature, weight):
    student, teacher, labels = logits(seed, 3, classes)
    expected = 0.0
    for z, v, label in zip(student.detach().numpy(), teacher.numpy(), labels, strict=True):
        q, p = np.exp(z / temperature), np.exp(v / temperature)
        q, p = q / q.sum(), p / p.sum()
        expected += weight * temperature**2 * (p * np.log(p / q)).sum()
        expected += (1 - weight) * (math.log(np.exp(z).sum()) - z[label])
    found = distillation_loss(student, teacher, labels, temperature=temperature, weight=weight)
    assert found.item() == pytest.approx(expected / 3, rel=1e-6, abs=1e-9)


def test_gradient_is_t_times_the_difference_of_the_probabilities():
    student, teacher, _ = logits()
    distillation_loss(student, teacher, temperature=2.5).backward()
    q, p = F.softmax(student.detach() / 2.5, 1), F.softmax(teacher / 2.5, 1)
    torch.testing.assert_close(student.grad, 2.5 * (q - p) / 6)
    assert torch.autograd.gradcheck(lambda z: distillation_loss(z, teacher, torch.zeros(6).long()), student)


def test_at_high_temperature_it_matches_centered_logits():
    student, teacher, _ = logits()
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, temperature=1e4), student)
    centered = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(gradient, centered.detach() / (6 * 4), rtol=1e-2, atol=1e-4)


def test_ends_of_the_weight_and_the_default():
    student, teacher, labels = logits()
    hard = F.cross_entropy(student, labels)
    soft = distillation_loss(student, teacher)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, weight=0), hard)
    torch.testing.assert_close(distillation_loss(student, teacher, labels, weight=1), soft)
    torch.testing.assert_close(distillation_loss(student, teacher, labels), 0.9 * soft + 0.1 * hard)
    torch.testing.assert_close(soft, distillation_loss(student, teacher, temperature=4))


def test_zero_for_equal_logits_up_to_a_shift_and_positive_otherwise():
    student, teacher, _ = logits()
    assert abs(distillation_loss(teacher + 5, teacher).item()) < 1e-12
    assert distillation_loss(student, teacher).item() > 0.1


def test_the_teacher_gets_no_gradient_and_impossible_classes_are_no_nan():
    student, teacher, _ = logits()
    teacher.requires_grad_()
    distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    certain = torch.tensor([[2000.0, 0.0, -2000.0]])
    found = distillation_loss(torch.zeros(1, 3), certain, temperature=1.0)
    assert found.item() == pytest.approx(math.log(3))


def test_bad_arguments():
    student, teacher, labels = logits()
    with pytest.raises(ValueError, match=r"got \(6, 4\) and \(6, 3\)"):
        distillation_loss(student, teacher[:, :3])
    with pytest.raises(ValueError, match=r"must both be \(N, classes\), got \(4,\)"):
        distillation_loss(student[0], teacher[0])
    for temperature in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive and finite"):
            distillation_loss(student, teacher, temperature=temperature)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
            distillation_loss(student, teacher, labels, weight=weight)
    with pytest.raises(TypeError, match="temperature must be a number, got str"):
        distillation_loss(student, teacher, temperature="4")


def test_trains_through_fit_on_real_images(fashion):
    from compress_lib import training
    from compress_lib.models import zoo

    images, _ = fashion
    teacher = zoo.load("lenet-300-100")
    agreed = training.predict(teacher, images).argmax(1)

    def objective(model, images, labels):
        with torch.no_grad():
            target = teacher(images)
        return distillation_loss(model(images), target)

    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
    wrong = torch.zeros_like(agreed)  # the labels do not matter
    training.fit(student, images, wrong, epochs=15, seed=0, batch_size=50, lr=0.02, objective=objective, progress=False)
    assert training.accuracy(student, images, agreed) > 0.9
