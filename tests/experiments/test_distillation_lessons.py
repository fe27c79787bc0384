import pytest
import torch
from torch import nn

from compress_lib.distillation.logits import distillation_loss
from compress_lib.experiments import distillation_lessons as lessons
from compress_lib.experiments import harness
from compress_lib.models import zoo


def numbered(count=200):
    """Images whose only pixel is their number."""
    return torch.arange(count).view(-1, 1, 1, 1), torch.arange(count) % 10


def test_few_labels_are_repeated_and_the_first_of_more():
    train = numbered()
    few, labels = lessons.draw(train, labels=30, rest="unused", noise=0, seed=3)
    assert len(few) == 200 and torch.equal(labels, train[1][few])
    assert torch.equal(few[:30], few[30:60]) and len(set(few.tolist())) == 30
    more, _ = lessons.draw(train, labels=70, rest="unused", noise=0, seed=3)
    assert torch.equal(more[:30], few[:30])
    assert torch.equal(harness.draw(train, 30, seed=3)[0].flatten(), few[:30])  # as other chapters draw
    assert not torch.equal(lessons.draw(train, labels=30, rest="unused", noise=0, seed=4)[0], few)


def test_the_other_images_have_no_labels():
    train = numbered()
    index, labels = lessons.draw(train, labels=30, rest="teacher", noise=0, seed=3)
    assert sorted(index.tolist()) == list(range(200))
    assert torch.equal(labels[:30], train[1][index[:30]]) and set(labels[30:].tolist()) == {lessons.UNLABELED}
    assert torch.equal(index[:30], lessons.draw(train, labels=30, rest="unused", noise=0, seed=3)[0][:30])


def test_so_many_labels_are_wrong_and_each_other_class_is_as_likely():
    train = numbered(20_000)
    index, labels = lessons.draw(train, labels=20_000, rest="unused", noise=0.4, seed=3)
    shift = (labels - train[1][index]) % 10
    assert (shift != 0).sum() == 8_000 and torch.equal(train[1], torch.arange(20_000) % 10)
    counts = shift.bincount(minlength=10)[1:]
    assert (counts - 8_000 / 9).abs().max() < 5 * (8_000 / 9) ** 0.5
    again = lessons.draw(train, labels=20_000, rest="teacher", noise=0.4, seed=3)[1]
    assert torch.equal(again, labels)


@pytest.mark.parametrize(("labels", "noise", "message"), [(0, 0, "labels"), (201, 0, "1 to 200"), (5, 1.0, "noise")])
def test_draw_refuses_bad_arguments(labels, noise, message):
    with pytest.raises(ValueError, match=message):
        lessons.draw(numbered(), labels=labels, rest="unused", noise=noise, seed=0)


def test_exchanged_classes():
    logits = torch.tensor([[1.0, 9.0, 2.0, 3.0], [9.0, 1.0, 2.0, 3.0]])
    assert lessons.permuted(logits, "nothing") is logits
    assert lessons.permuted(logits, "all").tolist() == [[3, 1, 9, 2], [3, 9, 1, 2]]
    assert lessons.permuted(logits, "others").tolist() == [[3, 9, 1, 2], [9, 3, 1, 2]]
    teacher = lessons.Permuted(nn.Identity(), "others")
    assert torch.equal(teacher(logits), lessons.permuted(logits, "others"))
    with pytest.raises(ValueError, match="permute must be one of"):
        lessons.permuted(logits, "some")


def gradient(logits_of_teacher, labels, **settings):
    """Of the loss in the logits of a student without an opinion, for each image."""
    student = torch.zeros(len(labels), 10, requires_grad=True)
    distillation_loss(student, logits_of_teacher, labels, **settings).backward()
    return student.grad * len(labels)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.9), (4.0, 0.5), (20.0, 1.0)])
def test_controls_pull_as_hard_as_the_teacher(temperature, weight):
    logits, labels = torch.randn(500, 10) * 5, torch.randint(10, (500,))
    logits[torch.arange(500), labels] += 8
    settings = {"temperature": temperature, "weight": weight}
    real = gradient(logits, labels, **settings)
    virtual = lessons.virtual_logits(labels, logits, temperature)
    pulls = [each.gather(1, labels[:, None]).mean() for each in (real, gradient(virtual, labels, **settings))]
    torch.testing.assert_close(*pulls, rtol=1e-4, atol=1e-6)
    softened = [(each / temperature).softmax(1).gather(1, labels[:, None]).mean() for each in (logits, virtual)]
    torch.testing.assert_close(*softened, rtol=1e-4, atol=1e-6)
    assert len(virtual.unique(dim=0)) == 10  # it knows nothing of the image
    hard = gradient(logits, labels, temperature=1.0, weight=0.0)
    scale = lessons.loss_scale(labels, logits, temperature, weight)
    assert scale == pytest.approx((real.norm(dim=1).mean() / hard.norm(dim=1).mean()).item(), rel=1e-4)


def test_without_a_teacher_the_scale_is_one():
    logits, labels = torch.randn(50, 10), torch.randint(10, (50,))
    assert lessons.loss_scale(labels, logits, 4.0, 0.0) == pytest.approx(1)


def test_logits_are_computed_once_for_the_same_weights(tmp_path, fashion):
    images, teacher = fashion[0][:20], zoo.load("lenet-300-100")
    assert lessons.digest(teacher) == zoo.card("lenet-300-100")["sha256"]
    found = lessons.cached_logits(teacher, images, tmp_path, "some")
    (path,) = tmp_path.iterdir()
    assert zoo.card("lenet-300-100")["sha256"][:16] in path.name
    torch.save(found + 1, path)
    assert torch.equal(lessons.cached_logits(teacher, images, tmp_path, "some"), found + 1)
    nn.init.zeros_(teacher.fc3.weight)
    assert not torch.equal(lessons.cached_logits(teacher, images, tmp_path, "some"), found + 1)
    assert len(list(tmp_path.iterdir())) == 2
