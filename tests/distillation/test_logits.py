import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from students import assert_resumes, convolutional, equal_states, mlp, some
from torch import nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation.logits import distil, distillation_loss, objective, softened, teacher_logits


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
    with pytest.raises(ValueError, match=r"must both be \(N, classes\), N at least 1, got \(4,\)"):
        distillation_loss(student[0], teacher[0])
    for temperature in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive and finite"):
            distillation_loss(student, teacher, temperature=temperature)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
            distillation_loss(student, teacher, labels, weight=weight)
    with pytest.raises(TypeError, match="temperature must be a number, got str"):
        distillation_loss(student, teacher, temperature="4")


def test_an_ensemble_averages_probabilities_and_not_logits():
    student, teacher, _ = logits()
    teachers = torch.stack([teacher, -2 * teacher, teacher.flip(1)], 1)
    mean = F.softmax(teachers / 2.5, 2).mean(1)
    torch.testing.assert_close(softened(teachers, 2.5).exp(), mean)
    q = F.log_softmax(student / 2.5, 1)
    expected = 2.5**2 * (mean * (mean.log() - q)).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teachers, temperature=2.5), expected)
    assert abs(expected - distillation_loss(student, teachers.mean(1), temperature=2.5)) > 0.01
    alone = distillation_loss(student, teacher[:, None])
    torch.testing.assert_close(alone, distillation_loss(student, teacher))


def test_an_ensemble_that_is_certain_of_different_classes_is_no_nan():
    teachers = torch.tensor([[[4000.0, 0.0, 0.0], [0.0, 4000.0, 0.0]]])
    found = softened(teachers, 1.0)
    torch.testing.assert_close(found[0, :2], torch.tensor([0.5, 0.5]).log())
    student = torch.zeros(1, 3, requires_grad=True)
    distillation_loss(student, teachers, temperature=1.0).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[1 / 3 - 1 / 2, 1 / 3 - 1 / 2, 1 / 3]]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_name(wrong):
    student, teacher, _ = logits()
    broken = teacher.clone()
    broken[2, 1] = wrong
    with pytest.raises(ValueError, match="teacher_logits must be finite, but 1 of 24 are NaN or infinite"):
        distillation_loss(student, broken)
    with pytest.raises(ValueError, match="student_logits must be finite"):
        distillation_loss(broken, teacher)


def test_labels_must_be_the_class_numbers_of_these_images():
    student, teacher, labels = logits()
    with pytest.raises(ValueError, match=r"labels must be \(6,\) whole numbers, got \(6, 4\) of torch.float32"):
        distillation_loss(student, teacher, teacher.softmax(1).float())
    for wrong in (labels - 5, labels + 4):
        with pytest.raises(ValueError, match="labels must be from 0 to 3, got"):
            distillation_loss(student, teacher, wrong)
    with pytest.raises(ValueError, match=r"N at least 1, got \(0, 4\) and \(0, 4\)"):
        distillation_loss(student[:0], teacher[:0])


def test_teacher_logits_are_those_of_evaluation_mode_and_leave_every_mode_as_it_was(fashion):
    images, _ = fashion
    teacher, other = convolutional(seed=3).train(), mlp(seed=4)
    teacher[1].eval()  # modes may be mixed
    before = copy.deepcopy(teacher)
    modes = [module.training for module in teacher.modules()]
    found = teacher_logits(teacher, images[:70], batch_size=30)
    assert [module.training for module in teacher.modules()] == modes and equal_states(teacher, before)
    assert torch.equal(found, training.predict(copy.deepcopy(teacher).eval(), images[:70], batch_size=30))
    assert not found.requires_grad and not found.is_inference()
    several = teacher_logits([teacher, other], images[:70], batch_size=30)
    assert several.shape == (70, 2, 10) and torch.equal(several[:, 0], found)
    with pytest.raises(RuntimeError):
        teacher_logits(teacher, torch.zeros(3, 2, 28, 28))
    assert [module.training for module in teacher.modules()] == modes
    with pytest.raises(ValueError, match=r"one shape, got \[\(5, 7\), \(5, 10\)\]"):
        teacher_logits([teacher, mlp(classes=7)], images[:5])
    with pytest.raises(TypeError, match="teacher must be a torch.nn.Module or a sequence of them, got str"):
        teacher_logits("resnet", images)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_stored_logits_give_the_run_that_a_teacher_on_each_batch_gives(fashion, labeled, several):
    images, labels = fashion
    teacher = [convolutional(seed=3), mlp(seed=4)] if several else convolutional(seed=3).eval()
    run = {"epochs": 1, "seed": 0, "batch_size": 250, "progress": False}
    stored, live = mlp(), mlp()
    given = labels if labeled else None
    distil(stored, teacher, images, given, **run, temperature=2.0, weight=0.7)
    loss = objective(teacher, temperature=2.0, weight=0.7)
    training.fit(live, images, labels if labeled else (), **run, objective=loss)
    for p, q in zip(stored.parameters(), live.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    plain = mlp()
    training.fit(plain, images, labels, **run)
    assert not torch.allclose(stored[1].weight, plain[1].weight, rtol=1e-4, atol=1e-6)


def test_without_weight_on_the_teacher_it_is_plain_training_bit_for_bit(fashion):
    run = {"epochs": 1, "seed": 0, "batch_size": 250, "augment": True, "progress": False}
    student, plain = convolutional(), convolutional()
    distil(student, mlp(seed=4), *fashion, weight=0.0, **run)
    training.fit(plain, *fashion, **run)
    assert equal_states(student, plain)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("labeled", [True, False])
def test_runs_resume_bit_for_bit(fashion, tmp_path, augment, labeled):
    images, labels = some(fashion)
    teacher = convolutional(seed=3)

    def train(student, **options):
        return distil(student, teacher, images, labels if labeled else None, augment=augment, **options)

    assert_resumes(train, convolutional, tmp_path)


@pytest.mark.parametrize("augment", [True, False])
def test_the_teacher_is_as_before_also_after_an_exception(fashion, augment):
    images, labels = fashion
    teacher = convolutional(seed=3).train()
    teacher[0].requires_grad_(False)
    before = copy.deepcopy(teacher)

    def stop(epoch, model):
        raise KeyboardInterrupt

    run = {"epochs": 1, "seed": 0, "augment": augment, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        distil(mlp(), teacher, images, labels, **run, after_epoch=stop)
    with pytest.raises(ValueError, match=r"got \(128, 7\) and \(128, 10\)"):
        distil(mlp(classes=7), teacher, images, labels, **run)
    assert all(module.training for module in teacher.modules()) and equal_states(teacher, before)
    assert [p.requires_grad for p in teacher.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in teacher.parameters())


def test_an_objective_without_a_teacher_says_what_it_needs(fashion):
    with pytest.raises(ValueError, match="labels must hold the teacher's logits"):
        training.fit(mlp(), *fashion, epochs=1, seed=0, objective=objective(), progress=False)
    for targets in (torch.zeros(1000, 10), (fashion[1], torch.zeros(1000, 10))):  # a teacher and its stored logits
        with pytest.raises(ValueError, match="the objective runs its teacher itself"):
            training.fit(mlp(), fashion[0], targets, epochs=1, seed=0, objective=objective(mlp()), progress=False)
    with pytest.raises(ValueError, match="weight must be in"):
        objective(weight=2)


def test_it_trains_on_unlabeled_real_images(fashion):
    from compress_lib.models import zoo

    images, _ = fashion
    teacher = zoo.load("lenet-300-100")
    agreed = training.predict(teacher, images).argmax(1)
    student = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
    distil(student, teacher, images, epochs=15, seed=0, batch_size=50, lr=0.02, progress=False)
    assert training.accuracy(student, images, agreed) > 0.9
