import inspect

import pytest
import torch

from compress_lib import training
from compress_lib.experiments import harness


def test_what_recipes_say_is_what_trainings_do():
    """Rows record these settings for trainings that do not name them."""
    defaults = {name: argument.default for name, argument in inspect.signature(training.fit).parameters.items()}
    assert harness.TRAINING == {"split": "train"} | {
        key: defaults[key] for key in ("batch_size", "augment", "precision")
    }


def test_settings_in_words_and_on_the_command_line():
    settings = {"squeeze_ratio": 0.5, "bypass": True, "keep": {"fc1": 0.08, "fc2": 0.5}}
    assert harness.words(settings) == "squeeze ratio 0.5, bypass true, keep fc1=0.08 fc2=0.5"
    assert harness.flags(settings) == "--squeeze-ratio 0.5 --bypass true --keep fc1=0.08 fc2=0.5"


def test_draw_takes_images_with_their_labels_as_the_seed_says():
    images = torch.arange(50).view(50, 1, 1, 1)
    chosen, labels = harness.draw((images, torch.arange(50) * 10), 20, seed=3)
    assert torch.equal(chosen.flatten() * 10, labels) and len(set(labels.tolist())) == 20
    assert torch.equal(labels, harness.draw((images, torch.arange(50) * 10), 20, seed=3)[1])
    assert not torch.equal(labels, harness.draw((images, torch.arange(50) * 10), 20, seed=4)[1])
    longer = harness.draw((images, torch.arange(50) * 10), 50, seed=3)[1]
    assert torch.equal(longer[:20], labels)  # the first of a longer draw
    for count in (0, 51):
        with pytest.raises(ValueError, match=f"--images must be from 1 to 50, got {count}"):
            harness.draw((images, images), count, seed=0)
