"""Networks that compute in bfloat16: the losses are computed in float32, and every method trains."""

import math

import pytest
import torch
from students import convolutional

from compress_lib import training
from compress_lib.distillation import attention_transfer, byot, dkd, fitnets, logits, one

IMAGE = torch.zeros(1, 1, 28, 28)
RUN = {"epochs": 1, "seed": 0, "precision": "bf16", "progress": False}


def losses():
    labels = torch.tensor([0, 2, 1])
    gates = torch.full((3, 2), 0.5)
    return {
        "logits": lambda a, b: logits.distillation_loss(a, b, labels),
        "ensemble": lambda a, b: logits.distillation_loss(a, torch.stack([a, b], 1)),
        "dkd": lambda a, b: dkd.loss(a, b, labels),
        "hint": fitnets.hint_loss,
        "attention": lambda a, b: attention_transfer.loss(a.view(3, 2, 2, 2), b.view(3, 2, 2, 2)),
        "byot": lambda a, b: byot.loss([a, b], [a, b], labels),
        "one": lambda a, b: one.loss(torch.stack([a, b], 1), gates.to(a.dtype), labels),
    }


@pytest.mark.parametrize("name", losses())
def test_losses_of_bfloat16_are_those_of_the_same_numbers_in_float32(name):
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 8).bfloat16()
    loss = losses()[name]
    found = loss(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(a.float(), b.float()), rtol=1e-6, atol=1e-6)


def runs(images, labels):
    teacher = convolutional(seed=3)
    exits = byot.attach(convolutional(), ["2"], IMAGE)
    branches, ramp, fading = one.convert(convolutional(), "2", IMAGE), one.objective(), fitnets.objective(teacher)
    transfer = attention_transfer.objective(teacher, {"2": "2"})

    def fit(model, objective, **options):
        return training.fit(model, images, labels, objective=objective, **options, **RUN)

    return {
        "logits": lambda: logits.distil(convolutional(), teacher, images, labels, **RUN),
        "dkd": lambda: fit(convolutional(), dkd.objective(teacher)),
        "stage 1": lambda: fitnets.pretrain(convolutional(), teacher, "2", "5", images, **RUN),
        "stage 2": lambda: fit(convolutional(), fading, before_step=fading.at),
        "attention": lambda: fit(convolutional(), transfer),
        "byot": lambda: fit(exits, byot.objective()),
        "one": lambda: fit(branches, ramp, before_step=ramp.at),
    }


@pytest.mark.parametrize("name", ["logits", "dkd", "stage 1", "stage 2", "attention", "byot", "one"])
def test_every_method_trains(fashion, name):
    images, labels = fashion
    (entry,) = runs(images[:256], labels[:256])[name]()
    assert math.isfinite(entry["loss"])
