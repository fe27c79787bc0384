import torch

from compress_lib.quantization.integer import onednn


def test_missing_operators_are_noticed(monkeypatch):
    monkeypatch.setattr(torch.ops, "onednn", object())
    assert onednn.support.__wrapped__() == "missing"


def test_what_a_processor_can_multiply(monkeypatch):
    """Pairs of products in int16: 2 · 127 · 255 is too much for it, 2 · 63 · 255 and 2 · 127 · 127 are not."""
    cpu, found = torch.device("cpu"), {}
    for support in ("exact", "saturating", "missing"):
        monkeypatch.setattr(onednn, "support", lambda support=support: support)
        monkeypatch.setattr(onednn, "warn_once", lambda message: None)
        found[support] = [onednn.multiplies(*bits, cpu) for bits in ((8, 8), (7, 8), (8, 7))]
    assert found == {"exact": [True] * 3, "saturating": [False, True, True], "missing": [False] * 3}
    monkeypatch.setattr(onednn, "support", lambda: "exact")
    assert not onednn.multiplies(8, 8, torch.device("meta"))
