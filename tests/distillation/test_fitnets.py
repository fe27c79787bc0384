import copy

import pytest
import torch
from students import assert_resumes, convolutional, equal_states, mlp, some
from torch import nn
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import fitnets
from compress_lib.distillation.logits import teacher_logits


def test_the_hint_loss_is_half_the_squared_distance_of_an_image():
    predicted = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    hint = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    found = fitnets.hint_loss(predicted, hint)
    assert found.item() == (5 / 2 + 9 / 2) / 2
    found.backward()
    torch.testing.assert_close(predicted.grad, ((predicted - hint) / 2).detach())
    assert hint.grad is None
    assert torch.autograd.gradcheck(lambda x: fitnets.hint_loss(x, hint.detach()), predicted)
    with pytest.raises(ValueError, match=r"must have the shape of hint, got \(2, 2\) and \(2, 3\)"):
        fitnets.hint_loss(predicted, torch.zeros(2, 3))


def test_a_regressor_fits_the_maps_and_absorbs_any_mixing_of_channels():
    found = fitnets.regressor(torch.zeros(2, 5, 9, 8), torch.zeros(2, 7, 4, 4))
    assert isinstance(found, fitnets.Regressor) and found[0].kernel_size == (6, 5)
    assert found(torch.zeros(2, 5, 9, 8)).shape == (2, 7, 4, 4) and isinstance(found[1], nn.ReLU)
    pointwise = fitnets.Regressor(6, 6, 1, nn.Identity())
    features, mixing = torch.randn(3, 6, 4, 4), torch.randn(6, 6)
    mixed = torch.einsum("oc,nchw->nohw", mixing, features)
    with torch.no_grad():
        pointwise[0].weight.copy_(torch.linalg.inv(mixing)[:, :, None, None])
        pointwise[0].bias.zero_()
        assert fitnets.hint_loss(pointwise(mixed), features) < 1e-6
    linear = fitnets.regressor(torch.zeros(2, 5), torch.zeros(2, 7, 4, 4), nn.Tanh())
    assert linear(torch.zeros(2, 5)).shape == (2, 7, 4, 4) and isinstance(linear[1], nn.Tanh)


@pytest.mark.parametrize(
    ("guided", "hint"), [((2, 5, 4, 4), (2, 7, 5, 4)), ((2, 5, 4, 4), (2, 7)), ((2, 5, 4), (2, 7, 4))]
)
def test_maps_that_do_not_fit_are_refused(guided, hint):
    with pytest.raises(ValueError, match="student_layer gives .* maps of the student must be at least as large"):
        fitnets.regressor(torch.zeros(guided), torch.zeros(hint))


def test_stage_1_moves_the_student_as_far_as_its_guided_layer_and_no_further(fashion):
    student, teacher = convolutional().train(), convolutional(seed=3).train()
    first, taught = copy.deepcopy(student), copy.deepcopy(teacher)
    flags = [False, *[True] * 9]
    student[0].weight.requires_grad_(False)
    history = fitnets.pretrain(student, teacher, "2", "5", fashion[0], epochs=3, seed=0, progress=False)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert not equal_states(student[:3], first[:3]) and equal_states(student[3:], first[3:])
    assert equal_states(teacher, taught) and all(module.training for module in teacher.modules())
    assert not any(module._forward_hooks for module in student.modules())

    def stop(epoch, network):
        idle = [name for name, parameter in network.student.named_parameters() if not parameter.requires_grad]
        assert idle == ["0.weight", "3.weight", "3.bias", "4.weight", "4.bias", "8.weight", "8.bias"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitnets.pretrain(student, teacher, "2", "5", fashion[0], epochs=1, seed=0, after_epoch=stop, progress=False)
    assert [parameter.requires_grad for parameter in student.parameters()] == flags
    student.requires_grad_(False)
    with pytest.raises(ValueError, match="student has no parameter to train up to student_layer"):
        fitnets.pretrain(student, teacher, "2", "5", fashion[0], epochs=1, seed=0)


def test_the_first_step_of_stage_1_is_that_of_the_equation(fashion):
    images = fashion[0][:20]
    student, teacher = convolutional().eval(), convolutional(seed=3).eval()
    by_hand = copy.deepcopy(student)
    torch.manual_seed(7)
    head = nn.Conv2d(4, 8, 5)
    x = training.as_input(images)
    distance = head(by_hand[:3].train()(x)).relu() - teacher[:6](x)
    (0.5 * distance.square().sum((1, 2, 3)).mean() / 16).backward()
    run = {"epochs": 1, "seed": 7, "batch_size": 20, "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0}
    fitnets.pretrain(student, teacher, "2", "5", images, **run, progress=False)
    expected = by_hand[0].weight - 0.01 * by_hand[0].weight.grad
    torch.testing.assert_close(student[0].weight, expected, rtol=1e-4, atol=1e-6)


def test_a_student_without_maps_and_stage_1_resume(fashion, tmp_path):
    images, teacher = fashion[0][:300], convolutional(seed=3)

    def train(student, **options):
        return fitnets.pretrain(student, teacher, "2", "5", images, batch_size=50, **options)

    assert_resumes(train, mlp, tmp_path)
    student = mlp()
    history = train(student, epochs=3, seed=5, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    assert equal_states(student[3:], mlp()[3:]) and not equal_states(student, mlp())


def test_stage_2_fades_from_the_teacher_to_the_labels(fashion):
    images, labels = fashion[0][:50], fashion[1][:50]
    teacher, student = convolutional(seed=3).eval(), mlp()
    loss = fitnets.objective(teacher, temperature=2.0, start=5.0, end=1.0)
    x = training.as_input(images)
    q, p = F.log_softmax(student(x) / 2, 1), F.softmax(teacher(x) / 2, 1)
    hard, soft = F.cross_entropy(student(x), labels), (p * (p.log() - q)).sum(1).mean()
    for done, strength in ((0.0, 5.0), (0.25, 4.0), (1.0, 1.0)):
        loss.at(done)
        torch.testing.assert_close(loss(student, x, labels), hard + strength * soft)
        torch.testing.assert_close(loss(student, x, ()), strength * soft)


@pytest.mark.parametrize("stored", [True, False])
def test_stage_2_resumes_bit_for_bit(fashion, tmp_path, stored):
    images, labels = some(fashion)
    teacher = convolutional(seed=3)

    def train(student, **options):
        loss = fitnets.objective(None if stored else teacher)
        targets = (labels, teacher_logits(teacher, images)) if stored else labels
        return training.fit(student, images, targets, objective=loss, before_step=loss.at, **options)

    assert_resumes(train, convolutional, tmp_path)


def test_a_forgotten_schedule_and_bad_arguments_are_named(fashion):
    teacher = convolutional(seed=3)
    with pytest.raises(ValueError, match=r"FitNetsObjective needs training.fit\(…, before_step=objective.at\)"):
        training.fit(mlp(), *fashion, epochs=1, seed=0, objective=fitnets.objective(teacher), progress=False)
    with pytest.raises(ValueError, match="temperature must be positive"):
        fitnets.objective(teacher, temperature=0)
    with pytest.raises(ValueError, match="start must be finite and at least 0"):
        fitnets.objective(teacher, start=-1)
    student = convolutional().train()
    for mine, theirs, message in (
        ("conv", "5", "Sequential has no layer 'conv'"),
        ("2", "relu", "Sequential has no layer 'relu'"),
        ("5", "2", r"student_layer gives \(2, 8, 4, 4\) and teacher_layer \(2, 4, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fitnets.pretrain(student, teacher, mine, theirs, fashion[0], epochs=1, seed=0)
    assert all(module.training for module in student.modules()) and equal_states(student, convolutional())
