import pytest
import torch
from torch import nn

from compress_lib.network import watching


def test_each_call_is_told_and_the_hooks_are_gone_after_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model.append(model[0])  # runs twice
    x, seen = torch.randn(2, 3), []
    with watching.watching(model, ["0", "1"], lambda name, inputs, output: seen.append((name, inputs[0], output))):
        y = model(x)
    assert [name for name, _, _ in seen] == ["0", "1", "0"]
    assert torch.equal(seen[0][1], x) and torch.equal(seen[-1][2], y)
    with pytest.raises(RuntimeError, match="stop"), watching.watching(model, ["0"], stop):
        model(x)
    assert not any(module._forward_hooks for module in model.modules())


def stop(*_):
    raise RuntimeError("stop")


def test_an_unknown_layer_is_named_with_those_most_like_it_and_leaves_no_hook():
    model = nn.ModuleDict({"stage1": nn.Linear(3, 3), "stage2": nn.Linear(3, 3), "fc": nn.Linear(3, 3)})
    like = r"ModuleDict has no layer 'stage_2'; the names most like it are \['stage2', 'stage1'"
    with pytest.raises(ValueError, match=like), watching.watching(model, ["fc", "stage_2"], stop):
        pass
    model["fc"](torch.zeros(1, 3))
    assert watching.find(model, "stage2") is model["stage2"] and watching.find(model, "") is model


def test_batches_normalize_levels_and_take_floats_as_they_are():
    levels = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    first, second = watching.batches(nn.Linear(1, 1), levels, 2)
    assert len(first) == 2 and len(second) == 1 and first.dtype == torch.float32 and first.max() < 3
    (same,) = watching.batches(nn.Linear(1, 1), levels.float(), 5)
    assert torch.equal(same, levels.float())
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(watching.batches(nn.Linear(1, 1), levels, 0))
