"""Layers on int8 codes, beside float32, bfloat16 and the peers that are installed: torch's own, torchao, ONNX Runtime.

Run ``python benchmarks/int8.py [--rounds N] [--out FILE]``. One thread; everyone takes turns, and a ratio is that of
float32's time to the candidate's in the same round: above 1 is faster than float32. Codes go in and come out, but for

- "compress_lib, float to float": numbers are quantized before and come out, as of one int8 layer in a float network;
- "torchao": it quantizes each row of the input by its own range, and gives bfloat16 or float32;
- "ONNX Runtime, MatMulInteger": int32 comes out.

The shapes under "headline" are large; the others show where int8 is slower than float32.
"""

import argparse
import copy
import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from compress_lib import cost, files, ledger
from compress_lib.quantization.integer import affine, int8
from compress_lib.quantization.integer.qparams import QParams, Quantize

THREADS = 1
SLOWEST = 1.0  # seconds per call above which a peer is not timed


def linear(batch: int, features_in: int, features_out: int) -> tuple[nn.Module, Tensor]:
    return nn.Linear(features_in, features_out), torch.randn(batch, features_in)


def convolution(batch: int, channels: int, size: int, groups: int = 1, kernel: int = 3) -> tuple[nn.Module, Tensor]:
    layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups)
    # The fastest layout of float32 and of bfloat16, and the one in which oneDNN's int8 convolutions put their output.
    return layer.to(memory_format=torch.channels_last), torch.randn(batch, channels, size, size).to(
        memory_format=torch.channels_last
    )


HEADLINE = {
    "linear 256×1024×1024": lambda: linear(256, 1024, 1024),
    "conv 8×64×56², 3×3, 64 → 64": lambda: convolution(8, 64, 56),
}
SWEEP = {
    f"linear {batch}×{features}×{features}": lambda b=batch, f=features: linear(b, f, f)
    for batch in (1, 8, 64)
    for features in (32, 128, 512, 1024)
} | {
    "conv 1×16×14², 3×3, 16 → 16": lambda: convolution(1, 16, 14),
    "conv 1×64×28², 3×3, 64 → 64": lambda: convolution(1, 64, 28),
    "conv 1×64×28², 1×1, 64 → 64": lambda: convolution(1, 64, 28, kernel=1),
    "conv 1×64×28², 3×3, depthwise": lambda: convolution(1, 64, 28, groups=64),
    "conv 8×64×56², 3×3, depthwise": lambda: convolution(8, 64, 56, groups=64),
}


class Case:
    """A dense layer, its input, their grids, and ours."""

    def __init__(self, layer: nn.Module, x: Tensor) -> None:
        self.layer, self.x = layer.requires_grad_(False).eval(), x
        self.is_linear = isinstance(layer, nn.Linear)
        self.y = layer(x)
        self.input_qparams, self.output_qparams = qparams_of(x), qparams_of(self.y)
        extreme = layer.weight.abs().flatten(1).amax(1)
        self.weight_scale, _ = affine.choose_qparams(-extreme, extreme, 8, symmetric=True, narrow=True)
        kind = int8.QuantizedLinear if self.is_linear else int8.QuantizedConv2d
        make = lambda output: kind.from_dense(layer, self.input_qparams, output, weight_scale=self.weight_scale)
        self.ours, self.to_float = make(self.output_qparams), make(None)
        self.codes = self.input_qparams.quantize(x)

    def dequantized(self, codes: Tensor) -> Tensor:
        return self.output_qparams.dequantize(codes)


def qparams_of(x: Tensor) -> QParams:
    scale, zero_point = affine.choose_qparams(x.min(), x.max(), 8, signed=False)
    return QParams(scale.item(), zero_point.item())


# Each gives a function to be timed and another that makes float numbers of its output, to be compared with float32's.


def float32(case: Case) -> tuple[Callable, Callable]:
    return lambda: case.layer(case.x), lambda y: y


def bfloat16(case: Case) -> tuple[Callable, Callable]:
    layer, x = copy.deepcopy(case.layer).bfloat16(), case.x.bfloat16()
    return lambda: layer(x), lambda y: y.float()


def ours(case: Case) -> tuple[Callable, Callable]:
    return lambda: case.ours(case.codes), case.dequantized


def ours_float_to_float(case: Case) -> tuple[Callable, Callable]:
    enter = Quantize(case.input_qparams)
    return lambda: case.to_float(enter(case.x)), lambda y: y


def torch_engine(engine: str) -> Callable:
    def candidate(case: Case) -> tuple[Callable, Callable]:
        warnings.simplefilter("ignore")  # torch.ao is to move to torchao, it says
        from torch.ao.nn import quantized

        if engine not in torch.backends.quantized.supported_engines:
            raise ImportError(f"torch was built without the engine {engine}")
        torch.backends.quantized.engine = engine  # which the weights are packed for
        layer, out = case.layer, case.output_qparams
        if case.is_linear:
            peer = quantized.Linear(layer.in_features, layer.out_features)
        else:
            sizes = layer.in_channels, layer.out_channels, layer.kernel_size[0]
            peer = quantized.Conv2d(*sizes, padding=layer.padding[0], groups=layer.groups)
        zeros = torch.zeros(len(case.weight_scale), dtype=torch.int64)
        weight = layer.weight.contiguous()
        peer.set_weight_bias(
            torch.quantize_per_channel(weight, case.weight_scale.double(), zeros, 0, torch.qint8), layer.bias
        )
        peer.scale, peer.zero_point = out.scale, out.zero_point
        x = torch.quantize_per_tensor(case.x, case.input_qparams.scale, case.input_qparams.zero_point, torch.quint8)
        return lambda: peer(x), torch.dequantize

    return candidate


def torchao(case: Case) -> tuple[Callable, Callable]:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    if not case.is_linear:
        raise ImportError("it has no int8 convolution")
    model = nn.Sequential(nn.Linear(case.layer.in_features, case.layer.out_features))
    model.load_state_dict({f"0.{name}": tensor for name, tensor in case.layer.state_dict().items()})
    quantize_(model.requires_grad_(False), Int8DynamicActivationInt8WeightConfig())
    return lambda: model(case.x), lambda y: y.float()


def onnx_session(node: str, inputs: dict, constants: dict, output, opset: int = 21, **attributes):
    """A session of one operator."""
    import onnxruntime
    from onnx import helper, numpy_helper

    kinds = {"uint8": 2, "int32": 6}
    graph = helper.make_graph(
        [helper.make_node(node, list(inputs), ["y"], **attributes)],
        node,
        [helper.make_tensor_value_info("x", kinds["uint8"], inputs["x"])],
        [helper.make_tensor_value_info("y", kinds[output[0]], output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = THREADS
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bound(session, x, output_shape, dtype) -> tuple[Callable, "object"]:
    """A call without copies to and from the session, and where it leaves its output."""
    import numpy as np

    y = np.empty(output_shape, dtype)
    io = session.io_binding()
    io.bind_cpu_input("x", x)
    io.bind_output("y", "cpu", 0, dtype, y.shape, y.ctypes.data)
    # The binding holds addresses: as arguments, the arrays live as long as the function.
    return lambda _x=x, _y=y: session.run_with_iobinding(io), y


def onnx_qlinear(case: Case) -> tuple[Callable, Callable]:
    """QLinearMatMul without a bias, which it has no place for, or QLinearConv with one."""
    import numpy as np

    own, x_grid, y_grid = case.ours, case.input_qparams, case.output_qparams
    weight, scale = own.weight.numpy(), case.weight_scale.numpy()
    constants = {
        "x_scale": np.float32(x_grid.scale),
        "x_zero": np.uint8(x_grid.zero_point),
        "w": weight.T.copy() if case.is_linear else weight,
        "w_scale": scale,
        "w_zero": np.zeros(len(scale), np.int8),
        "y_scale": np.float32(y_grid.scale),
        "y_zero": np.uint8(y_grid.zero_point),
    }
    constants = {name: np.asarray(value) for name, value in constants.items()}
    attributes = {}
    if not case.is_linear:
        constants["bias"] = own.bias.numpy()
        attributes = {"pads": [own.padding[0]] * 4, "group": own.groups}
    inputs = {"x": tuple(case.codes.shape)} | dict.fromkeys(constants)
    shape = tuple(case.y.shape)
    kind = "QLinearMatMul" if case.is_linear else "QLinearConv"
    session = onnx_session(kind, inputs, constants, ("uint8", shape), **attributes)
    run, y = bound(session, case.codes.contiguous().numpy(), shape, np.uint8)

    def numbers(_) -> Tensor:
        found = case.dequantized(torch.from_numpy(y))
        return found + case.layer.bias if case.is_linear else found

    return run, numbers


def onnx_matmul_integer(case: Case) -> tuple[Callable, Callable]:
    import numpy as np

    if not case.is_linear:
        raise ImportError("a convolution is no matrix product")
    constants = {
        "w": case.ours.weight.numpy().T.copy(),
        "x_zero": np.asarray(np.uint8(case.input_qparams.zero_point)),
    }
    inputs = {"x": tuple(case.codes.shape)} | dict.fromkeys(constants)
    shape = tuple(case.y.shape)
    session = onnx_session("MatMulInteger", inputs, constants, ("int32", shape))
    run, y = bound(session, case.codes.numpy(), shape, np.int32)
    scale = case.input_qparams.scale * case.weight_scale
    return run, lambda _: torch.from_numpy(y) * scale + case.layer.bias


CANDIDATES = {
    "float32": float32,
    "bfloat16": bfloat16,
    "compress_lib": ours,
    "compress_lib, float to float": ours_float_to_float,
    "torch, x86": torch_engine("x86"),
    "torch, onednn": torch_engine("onednn"),
    "torchao": torchao,
    "ONNX Runtime, QLinear": onnx_qlinear,
    "ONNX Runtime, MatMulInteger": onnx_matmul_integer,
}


def measure(name: str, make: Callable, headline: bool, rounds: int) -> dict:
    """Time all candidates on one shape."""
    torch.manual_seed(0)
    case = Case(*make())
    functions, errors, skipped = {}, {}, {}
    for label, candidate in CANDIDATES.items():
        try:
            function, numbers = candidate(case)
        except ImportError as error:
            skipped[label] = str(error)
            continue
        start = time.perf_counter()
        result = function()  # packs what is packed lazily
        seconds = time.perf_counter() - start
        errors[label] = ((numbers(result) - case.y).abs().max() / case.y.abs().max()).item()
        if errors[label] > 0.1:
            raise AssertionError(f"{label} computes something else than float32: {errors[label]:.3f}")
        if seconds > SLOWEST:
            skipped[label] = f"one call took {seconds:.1f} s"
            continue
        functions[label] = function
    times = cost.latency(functions, rounds=rounds, threads=THREADS, baseline="float32")
    print(f"\n{name}\n{times}")
    for label, reason in skipped.items():
        print(f"{label}: skipped, {reason}")
    rows = [
        {
            "candidate": row.name,
            "seconds_min": row.seconds_min,
            "seconds_median": row.seconds_median,
            "faster": row.ratio,
            "faster_low": row.ratio_low,
            "faster_high": row.ratio_high,
            "largest_error": errors[row.name],
        }
        for row in times
    ]
    return {"shape": name, "headline": headline, "rows": rows, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        tables = [
            measure(name, make, shapes is HEADLINE, arguments.rounds)
            for shapes in (HEADLINE, SWEEP)
            for name, make in shapes.items()
        ]
    if arguments.out:
        command = " ".join(["python", "benchmarks/int8.py", *sys.argv[1:]])
        content = {
            "shapes": tables,
            "threads": THREADS,
            "rounds": arguments.rounds,
            "peers": {name: version(name) for name in ("onnxruntime", "torchao") if find_spec(name)},
            **ledger.provenance(command),
        }
        files.write(arguments.out, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main()
