from torch import nn

from compress_lib.network.replacing import replace_


def test_every_place_that_holds_the_layer_gets_the_new_one():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared), nn.Linear(2, 2))
    new = nn.Identity()
    assert replace_(model, shared, new) is model
    assert model[0] is new and model[1][1] is new and isinstance(model[2], nn.Linear)


def test_the_model_itself_is_replaced_by_what_is_returned():
    old, new = nn.Linear(2, 2), nn.Linear(2, 3)
    assert replace_(old, old, new) is new
