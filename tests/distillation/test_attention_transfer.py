import copy

import pytest
import torch
from students import assert_resumes, convolutional, equal_states, some
from torch.nn import functional as F

from compress_lib import training
from compress_lib.distillation import attention_transfer
from compress_lib.distillation.logits import distillation_loss


def maps(channels, seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, channels, 2, 4, dtype=torch.float64)


def test_a_map_by_hand():
    activation = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])  # two channels, one row of two places
    torch.testing.assert_close(attention_transfer.attention_map(activation), torch.tensor([[2.0, 1.0]]) / 5**0.5)
    assert attention_transfer.attention_map(torch.zeros(1, 3, 2, 2)).abs().sum() == 0
    with pytest.raises(ValueError, match=r"activation must have maps, \(N, C, H, W\), got \(3, 5\)"):
        attention_transfer.attention_map(torch.zeros(3, 5))


@pytest.mark.parametrize("form", attention_transfer.FORMS)
def test_scale_signs_and_order_of_the_channels_do_not_matter(form):
    student, teacher = maps(4), maps(6, seed=1)
    expected = attention_transfer.loss(student, teacher, form=form)
    assert expected > 0.1
    for other in (7 * student, -0.1 * student, student.flip(1), student.repeat(1, 2, 1, 1)):
        torch.testing.assert_close(attention_transfer.loss(other, teacher, form=form), expected)
    turned = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q  # a rotation of the channels is not seen either
    rotated = torch.einsum("oc,nchw->nohw", turned, student)
    torch.testing.assert_close(attention_transfer.loss(rotated, teacher, form=form), expected)
    assert attention_transfer.loss(3 * teacher, teacher, form=form) < 1e-9
    assert abs(attention_transfer.loss(student.flip(3), teacher, form=form) - expected) > 1e-3


def test_both_forms_by_hand():
    pairs = [(maps(4), maps(6, seed=1)), (maps(2, seed=2), maps(2, seed=3))]
    squares, norms = 0.0, 0.0
    for student, teacher in pairs:
        rows = []
        for activation in (student, teacher):
            q = sum(activation[:, c] ** 2 for c in range(activation.shape[1])).reshape(3, 8)
            rows.append(q / (q**2).sum(1, keepdim=True) ** 0.5)
        difference = rows[0] - rows[1]
        squares += 10 * (difference**2).sum() / 24
        norms += 10 / 2 * ((difference**2).sum(1) ** 0.5).sum() / 3
    students, teachers = zip(*pairs, strict=True)
    torch.testing.assert_close(attention_transfer.loss(students, teachers, beta=10), squares)
    torch.testing.assert_close(attention_transfer.loss(students, teachers, beta=10, form="norm"), norms)


@pytest.mark.parametrize("form", attention_transfer.FORMS)
def test_the_gradient_is_that_of_finite_differences_and_orthogonal_to_the_activation(form):
    student, teacher = maps(4).requires_grad_(), maps(6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: attention_transfer.loss(a, teacher.detach(), form=form), student)
    attention_transfer.loss(student, teacher, form=form).backward()
    assert teacher.grad is None
    # No change along the activation itself: the loss does not depend on its scale.
    assert (student.grad * student).sum((1, 2, 3)).abs().max() < 1e-9 * student.grad.norm()
    same = maps(2).requires_grad_()
    attention_transfer.loss(same, same.detach(), form=form).backward()
    assert same.grad.isfinite().all()


def test_the_objective_is_the_sum_of_its_parts_and_trains_and_resumes(fashion, tmp_path):
    images, labels = some(fashion)
    teacher, student = convolutional(seed=3).train(), convolutional().eval()
    before = copy.deepcopy(teacher)
    pairs = {"2": "2", "5": "4"}
    x = training.as_input(images[:50])
    loss = attention_transfer.objective(teacher, pairs, beta=30)
    quiet = copy.deepcopy(teacher).eval()
    distance = attention_transfer.loss((student[:3](x), student[:6](x)), (quiet[:3](x), quiet[:5](x)), beta=30)
    torch.testing.assert_close(
        attention_transfer.loss((student[:3](x), student[:6](x)), (quiet[:3](x), quiet[:5](x)), beta=60), 2 * distance
    )
    hard = F.cross_entropy(student(x), labels[:50])
    torch.testing.assert_close(loss(student, x, labels[:50]), hard + distance)
    both = attention_transfer.objective(teacher, pairs, beta=30, temperature=2.0, weight=0.7)
    soft = distillation_loss(student(x), quiet(x), labels[:50], temperature=2.0, weight=0.7)
    torch.testing.assert_close(both(student, x, labels[:50]), soft + distance)
    assert_resumes(
        lambda model, **options: training.fit(model, images, labels, objective=loss, **options), convolutional, tmp_path
    )
    assert equal_states(teacher, before) and all(module.training for module in teacher.modules())
    assert not any(module._forward_hooks for model in (teacher, student) for module in model.modules())


def test_bad_arguments(fashion):
    with pytest.raises(ValueError, match="agree in all but their channels, got .*; name layers at the same resolution"):
        attention_transfer.loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="must be as many, got 2 and 1"):
        attention_transfer.loss([maps(2), maps(2)], [maps(2)])
    with pytest.raises(ValueError, match=r"form must be one of \('mean squared', 'norm'\), got 'l1'"):
        attention_transfer.loss(maps(2), maps(2), form="l1")
    with pytest.raises(ValueError, match="beta must be finite and at least 0"):
        attention_transfer.loss(maps(2), maps(2), beta=-1)
    with pytest.raises(ValueError, match="at least one pair"):
        attention_transfer.objective(convolutional(), {})
    with pytest.raises(ValueError, match="has no layer 'stage1'"):
        attention_transfer.objective(convolutional(), {"2": "stage1"})
    with pytest.raises(ValueError, match="has no layer 'stage1'"):
        loss = attention_transfer.objective(convolutional(), {"stage1": "2"})
        training.fit(convolutional(), *fashion, epochs=1, seed=0, objective=loss, progress=False)
