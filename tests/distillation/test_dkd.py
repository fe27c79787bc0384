import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from students import assert_resumes, convolutional, equal_states, mlp, some
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import dkd
from compress_lib.distillation.logits import distillation_loss, teacher_logits


def logits(seed=0, images=6, classes=4, scale=3.0):
    torch.manual_seed(seed)
    student, teacher = torch.randn(2, images, classes, dtype=torch.float64) * scale
    return student.requires_grad_(), teacher, torch.randint(classes, (images,))


def target_probability(teacher, labels, temperature):
    return F.softmax(teacher / temperature, 1).gather(1, labels[:, None])[:, 0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), classes=st.integers(2, 8), temperature=st.floats(0.3, 30))
def test_with_the_weight_1_minus_p_t_it_is_the_loss_of_the_logits(seed, classes, temperature):
    student, teacher, labels = logits(seed, classes=classes)
    beta = 1 - target_probability(teacher, labels, temperature)
    found = dkd.loss(student, teacher, labels, beta=beta, temperature=temperature)
    expected = distillation_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.5, 2.0), (0.0, 1.0), (2.0, 0.0)])
def test_by_hand(alpha, beta):
    student, teacher, labels = logits()
    expected = 0.0
    for z, v, t in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p, q = ([math.exp(x / 4) / sum(math.exp(y / 4) for y in row) for x in row] for row in (v, z))
        target = p[t] * math.log(p[t] / q[t]) + (1 - p[t]) * math.log((1 - p[t]) / (1 - q[t]))
        others = [(a / (1 - p[t]), b / (1 - q[t])) for i, (a, b) in enumerate(zip(p, q, strict=True)) if i != t]
        expected += 16 / 6 * (alpha * target + beta * sum(a * math.log(a / b) for a, b in others))
    assert dkd.loss(student, teacher, labels, alpha=alpha, beta=beta).item() == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_that_of_finite_differences():
    student, teacher, labels = logits()
    assert torch.autograd.gradcheck(lambda z: dkd.loss(z, teacher, labels, alpha=0.7, beta=3.0, temperature=2), student)


def test_each_part_is_blind_to_what_the_other_sees():
    student, teacher, labels = logits()
    is_target = F.one_hot(labels, 4).bool()
    target, others = {"alpha": 1.0, "beta": 0.0}, {"alpha": 0.0, "beta": 1.0}
    shifted = student + 5 * is_target
    second = [dkd.loss(each, teacher, labels, **others) for each in (shifted, student)]
    torch.testing.assert_close(*second)
    permuted = student.detach().clone()
    permuted[~is_target] = student.detach()[~is_target].view(6, 3).flip(1).flatten()
    first = [dkd.loss(each, teacher, labels, **target) for each in (permuted, student)]
    torch.testing.assert_close(*first)
    (gradient,) = torch.autograd.grad(first[1], student)
    pull = F.softmax(student / 4, 1) - F.softmax(teacher / 4, 1)
    torch.testing.assert_close(gradient[is_target], (4 / 6 * pull).detach()[is_target])


def test_a_certain_teacher_is_no_nan_and_gets_no_gradient():
    teacher = torch.tensor([[3000.0, 1.0, 0.0]], requires_grad=True)
    student = torch.zeros(1, 3, requires_grad=True)
    found = dkd.loss(student, teacher, torch.tensor([0]), temperature=1.0)
    found.backward()
    assert math.isfinite(found.item()) and student.grad.isfinite().all() and teacher.grad is None


def test_cached_logits_and_a_live_teacher_train_alike_and_resume(fashion, tmp_path):
    images, labels = some(fashion)
    teacher = mlp(seed=3)
    run = {"epochs": 1, "seed": 0, "batch_size": 100, "progress": False}
    live, stored = mlp(), mlp()
    training.fit(live, images, labels, **run, objective=dkd.objective(teacher, beta=2.0))
    targets = (labels, teacher_logits(teacher, images))
    training.fit(stored, images, targets, **run, objective=dkd.objective(beta=2.0))
    for p, q in zip(live.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    plain = mlp()
    training.fit(plain, images, labels, **run)
    assert not equal_states(live, plain)
    assert_resumes(
        lambda model, **options: training.fit(model, images, labels, objective=dkd.objective(teacher), **options),
        convolutional,
        tmp_path,
    )


def test_bad_arguments():
    student, teacher, labels = logits()
    with pytest.raises(ValueError, match=r"both be \(N, classes\), N at least 1, got \(6, 4\) and \(6, 2, 4\)"):
        dkd.loss(student, torch.stack([teacher, teacher], 1), labels)
    with pytest.raises(ValueError, match=r"labels must be \(6,\) whole numbers, got \(5,\)"):
        dkd.loss(student, teacher, labels[:5])
    with pytest.raises(ValueError, match=r"beta must be a number or \(6,\), got a tensor \(3,\)"):
        dkd.loss(student, teacher, labels, beta=torch.ones(3))
    with pytest.raises(ValueError, match="alpha must be finite and at least 0"):
        dkd.loss(student, teacher, labels, alpha=-1)
    with pytest.raises(ValueError, match="temperature must be positive"):
        dkd.loss(student, teacher, labels, temperature=0)
    with pytest.raises(ValueError, match="at least two classes, got 1"):
        dkd.loss(student[:, :1], teacher[:, :1], labels)
    with pytest.raises(ValueError, match="teacher_logits must be finite"):
        dkd.loss(student, teacher * math.nan, labels)
    with pytest.raises(ValueError, match="labels are needed"):
        dkd.objective(mlp())(mlp(), torch.zeros(2, 1, 28, 28), ())
