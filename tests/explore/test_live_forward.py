"""The forward pass in JavaScript, beside PyTorch: the same logits, the same predictions.

With ALL_IMAGES=1, as in the weekly run, on all 10,000 test images.
"""

import os

import numpy as np
import pytest
import torch
from live_page import encoded

from compress_lib import container, data, ledger, training

ALL = bool(os.environ.get("ALL_IMAGES"))
FORWARD = """async ([file, images]) => {
    const [{ decode }, { network }] = await Promise.all([import("/cnet.mjs"), import("/forward.mjs")]);
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const forward = network(decode(bytes(file)));
    const levels = bytes(images);
    const count = levels.length / 784;
    return Array.from({ length: count }, (_, i) => [...forward(levels.subarray(784 * i, 784 * (i + 1)))]);
}"""
REFUSED = """async ([file, change]) => {
    const [{ decode }, { network, UnknownNetwork }] = await Promise.all([import("/cnet.mjs"), import("/forward.mjs")]);
    const decoded = decode(Uint8Array.from(atob(file), (c) => c.charCodeAt(0)));
    new Function("metadata", "tensors", change)(decoded.metadata, decoded.tensors);
    try {
        network(decoded);
    } catch (error) {
        if (error instanceof UnknownNetwork) return error.message;
        throw error;
    }
}"""


@pytest.mark.parametrize(("name", "count"), [("lenet-300-100", 1000), ("lenet-5", 200), ("squeezenet-small", 50)])
def test_logits_and_predictions_are_pytorchs(modules, name, count):
    path = ledger.directory() / "compressed" / f"{name}.cnet"
    images = data.fashion_mnist("test")[0][: 10_000 if ALL else count]
    logits = modules.evaluate(FORWARD, [encoded(path.read_bytes()), encoded(images.numpy().tobytes())])
    expected = training.predict(container.load(path), images).numpy()
    difference = np.abs(np.array(logits) - expected).max()
    print(f"{name}: {len(images):,} images, largest difference of a logit {difference:.1e}")
    assert difference < 1e-4
    assert (np.argmax(logits, 1) == expected.argmax(1)).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("metadata.architecture = 'vgg-small'", 'its architecture is "vgg-small"; this page runs lenet-300-100'),
        ("delete metadata.architecture", "its architecture is not named"),
        ("metadata.options = { num_classes: 3 }", 'the options {"num_classes":3}, which this page does not know'),
        ("metadata.form = { kind: 'int8' }", 'it is in the form "int8"'),
        ("tensors.delete('fc2.bias')", "it has no tensor fc2.bias"),
        ("tensors.set('fc4.bias', tensors.get('fc3.bias'))", "it has a tensor fc4.bias, which lenet-300-100 does not"),
        ("tensors.get('fc3.bias').type = 'float16'", "its fc3.bias is float16 of 10, not float32 of 10"),
        ("tensors.get('fc3.weight').shape = [100, 10]", "its fc3.weight is float32 of 100×10, not float32 of 10×100"),
    ],
)
def test_a_network_that_is_not_known_is_refused_by_its_reason(modules, change, reason):
    file = ledger.directory() / "compressed" / "lenet-300-100.cnet"
    assert reason in modules.evaluate(REFUSED, [encoded(file.read_bytes()), change])


def test_probabilities(modules):
    logits = torch.tensor([1e3, 998.0, -50.0])
    found = modules.evaluate("async (logits) => (await import('/forward.mjs')).softmax(logits)", logits.tolist())
    assert found == pytest.approx(logits.double().softmax(0).tolist())
