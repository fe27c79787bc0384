import pytest
import torch

from compress_lib.models.block_cnn import ORDERS, block_cnn


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_blocks(order):
    network = block_cnn(3, 2, order=order, width=4, kernel_size=1).eval()
    assert network(torch.randn(5, 2, 28, 28)).shape == (5, 3)
    letters = {"Conv2d": "C", "MaxPool2d": "P", "BatchNorm2d": "B", "ReLU": "A", "BatchNorm1d": "B", "Linear": "L"}
    found = "".join(letters.get(type(module).__name__, "") for module in network)
    assert found == {"bacp": "CPBACPBACPBALBAL", "cbap": "CBAPCBAPCBAPLBAL"}[order]


def test_both_orders_have_the_same_weights():
    shapes = [{name: p.shape for name, p in block_cnn(order=order).named_parameters()} for order in ORDERS]
    assert shapes[0] == shapes[1]
    expected = 64 * 9 + 64 * 64 * 9 + 64 * 128 * 9 + 1152 * 256 + 256 * 10 + 10 + 2 * (64 + 64 + 128 + 256)
    assert sum(shape.numel() for shape in shapes[0].values()) == expected


def test_bad_input():
    with pytest.raises(ValueError, match=r"order must be one of \('bacp', 'cbap'\), got 'abcp'"):
        block_cnn(order="abcp")
    for options in ({"width": 0}, {"kernel_size": 2}, {"kernel_size": -1}):
        with pytest.raises(ValueError, match="width must be positive and kernel_size odd"):
            block_cnn(**options)
