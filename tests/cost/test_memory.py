"""Peak activation memory: networks small enough to follow by hand. All sizes are in float32 values."""

import pytest
import torch
from torch import nn

from compress_lib.cost import count


def peak_values(model, input_shape) -> float:
    return count(model, input_shape).peak_activation_nbytes / 4


def test_a_chain_holds_the_input_and_two_neighbors():
    # 10 -> 30 -> 20 -> 5. While the second layer runs, the input (held by the caller), 30 and 20 are alive.
    assert peak_values(nn.Sequential(nn.Linear(10, 30), nn.Linear(30, 20), nn.Linear(20, 5)), (10,)) == 10 + 30 + 20


def test_what_is_no_longer_needed_is_freed():
    wide_then_narrow = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 5), *[nn.Linear(5, 5) for _ in range(50)])
    assert peak_values(wide_then_narrow, (10,)) == 10 + 100 + 5


def test_in_place_activations_and_views_need_no_memory():
    assert peak_values(nn.Sequential(nn.Linear(10, 30), nn.ReLU()), (10,)) == 10 + 30 + 30
    assert peak_values(nn.Sequential(nn.Linear(10, 30), nn.ReLU(inplace=True)), (10,)) == 10 + 30
    assert peak_values(nn.Sequential(nn.Linear(10, 30), nn.Unflatten(1, (5, 6)), nn.Flatten()), (10,)) == 10 + 30


def test_a_skip_connection_keeps_its_tensor_alive():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)

        def forward(self, x):
            return self.second(self.first(x)) + x

    size = 4 * 8 * 8
    stem = nn.Conv2d(1, 4, 1)
    # The stem's output is the skip: alive beside the output of both convolutions, and beside the sum and its other
    # term.
    assert peak_values(nn.Sequential(stem, Residual()), (1, 8, 8)) == 8 * 8 + 3 * size
    assert peak_values(nn.Sequential(stem, Residual().first, Residual().second), (1, 8, 8)) == 8 * 8 + 2 * size


def test_concatenation_holds_the_parts_and_the_whole():
    class Concat(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList([nn.Linear(10, 20), nn.Linear(10, 30)])

        def forward(self, x):
            return torch.cat([branch(x) for branch in self.branches], dim=1)

    assert peak_values(Concat(), (10,)) == 10 + 20 + 30 + 50


def test_max_pooling_holds_its_64_bit_indices():
    # In values of 4 bytes: input 8 x 8, output 4 x 4, and as many indices of 8 bytes, which PyTorch makes and drops.
    assert peak_values(nn.MaxPool2d(2), (1, 8, 8)) == 64 + 16 + 2 * 16
    assert peak_values(nn.AvgPool2d(2), (1, 8, 8)) == 64 + 16


def test_parameters_buffers_and_constants_are_no_activations():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(10))
            self.constant = torch.ones(1, 10)

        def forward(self, x):
            return x * self.scale[None] + self.constant.mT.mT

    # Input, product and sum.
    assert peak_values(Shift(), (10,)) == 30


@pytest.mark.parametrize("size", [8, 16])
def test_the_peak_grows_with_the_image(size):
    assert peak_values(nn.Conv2d(3, 6, 3, padding=1), (3, size, size)) == 9 * size * size
