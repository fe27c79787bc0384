import pytest
import torch
from torch import nn

from compress_lib.quantization.integer import agreement, ptq

IMAGES = torch.randn(60, 2, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def deployed():
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(2, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 20),
        nn.ReLU(),
        nn.Linear(20, 4),
    )
    return ptq.quantize(nn.Sequential(*layers).eval(), IMAGES)[0]


@pytest.mark.parametrize("rounding", ["once", "twice"])
def test_it_counts_what_differs(deployed, rounding):
    """The network written out, layer by layer."""
    first, second, last = (deployed.get_submodule(name) for name in "046")
    codes = [deployed.grids.input_1(IMAGES)]
    made = [first.integer(codes[0], rounding=rounding)]
    codes.append(nn.functional.max_pool2d(made[0].float(), 2).byte().flatten(1))
    made.append(second.integer(codes[1], rounding=rounding))
    predicted = last.integer(made[1], rounding=rounding).argmax(1)
    found = agreement.measure(deployed, IMAGES, rounding=rounding, batch_size=25)
    assert found.images == 60
    assert found.agreeing == int((predicted == deployed(IMAGES).argmax(1)).sum())
    assert found.share == found.agreeing / 60
    for row, layer, read, written in zip(found.layers, (first, second), codes, made, strict=True):
        different = (layer(read).int() - written.int()).abs()
        assert (row.codes, row.differing) == (different.numel(), int((different > 0).sum()))
        assert row.largest == different.max()
    assert [row.layer for row in found.layers] == ["0", "4"]
    assert sum(row.differing for row in found.layers) > 0 or rounding == "once"


@pytest.mark.parametrize("off", [2, -2])
def test_what_disagrees_is_seen(deployed, monkeypatch, off):
    """A layer whose codes are two off, but for the ends of the grid, and another largest output for each image."""
    first, last = deployed.get_submodule("0"), deployed.get_submodule("6")
    forward, integer = first.forward, last.integer
    monkeypatch.setattr(first, "integer", lambda codes, rounding: (forward(codes).int() + off).clamp(0, 255).byte())
    monkeypatch.setattr(last, "integer", lambda codes, rounding: -integer(codes))
    found = agreement.measure(deployed, IMAGES[:5])
    assert found.layers[0].largest == 2 and found.layers[0].differing > 0.3 * found.layers[0].codes
    assert found.agreeing == 0


def test_bad_input(deployed):
    with pytest.raises(ValueError, match="images is empty"):
        agreement.measure(deployed, IMAGES[:0])
    with pytest.raises(ValueError, match="rounding must be one of"):
        agreement.measure(deployed, IMAGES[:2], rounding="up")
