import pytest
from torch import nn

from compress_lib.network.modes import evaluating


def test_each_module_of_each_model_has_its_own_mode_again_after_an_error_too():
    first = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())
    first[0].eval()  # as whoever trains with fixed normalizations has it
    second = nn.Dropout().eval()
    modules = [first, *first, second]
    with evaluating(first, second):
        assert not any(module.training for module in modules)
    assert [module.training for module in modules] == [True, False, True, False]
    with pytest.raises(RuntimeError, match="stop"), evaluating(first, second):
        raise RuntimeError("stop")
    assert [module.training for module in modules] == [True, False, True, False]
