"""ONNX files against PyTorch: ONNX Runtime reads them and must predict the same."""

import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.models import get_model

from compress_lib import export
from compress_lib.models import zoo
from compress_lib.pruning.weights.csr import CSRLinear


def outputs(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([export.OUTPUT], {export.INPUT: x.numpy()})[0])


def check(model, path, shape, seed=0):
    """Export with one sample; compare with three others."""
    generator = torch.Generator().manual_seed(seed)
    export.to_onnx(model, path, torch.randn(1, *shape, generator=generator))
    onnx.checker.check_model(path, full_check=True)
    x = torch.randn(3, *shape, generator=generator)
    with torch.no_grad():
        expected = model.eval()(x)
    torch.testing.assert_close(outputs(path, x), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    assert outputs(path, x[:1]).shape == expected[:1].shape


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ARCHITECTURES)
def test_networks_of_the_zoo(name, tmp_path):
    torch.manual_seed(0)
    check(zoo.load(name) if name in zoo.NAMES else zoo.build(name), tmp_path / "model.onnx", (1, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small"])
def test_networks_of_torchvision(name, tmp_path):
    torch.manual_seed(0)
    check(get_model(name), tmp_path / "model.onnx", (3, 64, 64))


def test_attention(tmp_path):
    torch.manual_seed(0)
    check(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), tmp_path / "model.onnx", (5, 8))


def test_the_model_is_left_as_it_is_and_exported_for_inference(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5)).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export.to_onnx(model, tmp_path / "model.onnx", torch.randn(4, 1, 5, 5))
    assert model.training and all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    operations = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "Dropout" not in operations and "RandomUniformLike" not in operations


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@torch.library.custom_op("compress_lib_tests::thrice", mutates_args=())
def thrice(x: torch.Tensor) -> torch.Tensor:
    return 3 * x


thrice.register_fake(torch.empty_like)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Function(lambda x: x if x.sum() > 0 else -x), "data-dependent"),
        (Function(lambda x: thrice(x)), "compress_lib_tests.thrice"),
        (Function(lambda x: x + torch.zeros(2, 8)), "no other number of samples"),
        (CSRLinear.from_dense(nn.Linear(8, 4)), "."),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(model, reason, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    name = type(model).__name__
    with pytest.raises(ValueError, match=f"model={name} cannot be exported to ONNX: .*{reason}") as caught:
        export.to_onnx(model, path, torch.ones(1, 8))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("model", "x", "error", "message"),
    [
        (torch.relu, torch.ones(1, 8), TypeError, "model must be a torch.nn.Module"),
        (nn.ReLU(), [1.0], TypeError, "example_input must be a tensor, not list"),
        (nn.ReLU(), torch.ones(0, 8), ValueError, r"example_input .* not shape \(0, 8\)"),
        (nn.ReLU(), torch.tensor(1.0), ValueError, r"example_input .* not shape \(\)"),
        (Function(lambda x: (x, x)), torch.ones(1, 8), TypeError, "one tensor, not a tuple"),
    ],
)
def test_bad_arguments(model, x, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export.to_onnx(model, tmp_path / "model.onnx", x)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    find_spec = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else find_spec(name, *rest)
    )
    with pytest.raises(ModuleNotFoundError, match=r"onnxscript is needed .* pip install 'compress-lib\[onnx\]'"):
        export.to_onnx(nn.ReLU(), tmp_path / "model.onnx", torch.ones(1, 8))
