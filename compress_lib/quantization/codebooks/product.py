"""Product quantization: short pieces of weight rows share the codewords of a small table. Chapter 06.

Gong, Liu, Yang, Bourdev, "Compressing deep convolutional networks using vector quantization", 2014, arXiv 1412.6115;
look-up tables and convolutions after Wu, Leng, Wang, Hu, Cheng, "Quantized convolutional neural networks for mobile
devices", CVPR 2016, arXiv 1512.06473.

The n input features of a layer are cut into ``s = n/d`` sub-spaces of d. In each of them k-means replaces the m pieces
of the m weight rows by k codewords of d numbers. In place of 32mn bits there are the codewords and one code a piece:

    ratio = 32mn / (32kn + m·s·⌈log₂ k⌉),

never more than m/k: the codewords must serve many rows. A convolution is cut along its input channels, d of them at
each kernel position, and all its kernel positions share the codewords of a sub-space: m is rows times positions.

A product with such a weight needs no weight. For each sub-space the k products of the input's piece with the codewords
go into a table, and an output is the sum of s entries: n·k multiplications for all outputs together, in place of n·m.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from compress_lib.coding import bits
from compress_lib.network import masks, targets
from compress_lib.network.replacing import replace_
from compress_lib.quantization.codebooks.subspaces import cluster, join, means, reconstruct, split, table_rows
from compress_lib.report import LayerRow, Report

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Codes(nn.Module):
    """Codes (m, s): a byte each in memory, ⌈log₂ k⌉ bits each in the state dict."""

    codes: Tensor

    def __init__(self, codes: Tensor, k: int) -> None:
        super().__init__()
        self.k = k
        self.register_buffer("codes", codes)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        packed = bits.pack(self.codes.cpu().numpy(), _width(self.k))
        destination[prefix + "codes"] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        if (packed := state_dict.get(prefix + "codes")) is not None:
            codes = bits.unpack(packed.cpu().numpy().tobytes(), _width(self.k), self.codes.numel())
            state_dict[prefix + "codes"] = torch.from_numpy(codes.astype("u1")).view(self.codes.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _width(k: int) -> int:
    return max(1, (k - 1).bit_length())


class ProductQuantizedLinear(_Codes):
    """``y = x Wᵀ + b`` with W in codewords and codes, multiplied by look-up tables. Codewords and bias can be trained.

    Parameters
    ----------
    codebooks : Tensor
        (s, k, d), floating-point, k up to 256.
    codes : Tensor
        (out_features, s) uint8, below k.
    bias : Tensor, optional
        (out_features,).

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a code is not below k.
    """

    def __init__(self, codebooks: Tensor, codes: Tensor, bias: Tensor | None = None) -> None:
        if codebooks.dim() != 3 or codes.dim() != 2 or codes.shape[1] != len(codebooks) or codes.dtype != torch.uint8:
            shapes = f"{tuple(codebooks.shape)} and {tuple(codes.shape)} {codes.dtype}"
            raise ValueError(f"codebooks and codes must be of shapes (s, k, d) and (out, s) uint8, got {shapes}")
        if codes.numel() and int(codes.max()) >= codebooks.shape[1]:
            raise ValueError(f"codes must be below the {codebooks.shape[1]} codewords, got {int(codes.max())}")
        if bias is not None and bias.shape != codes.shape[:1]:
            raise ValueError(f"bias must have shape ({len(codes)},), got {tuple(bias.shape)}")
        s, k, d = codebooks.shape
        super().__init__(codes, k)
        self.in_features, self.out_features = s * d, len(codes)
        self.codebooks = nn.Parameter(codebooks)
        self.bias = None if bias is None else nn.Parameter(bias)

    @classmethod
    def from_dense(cls, linear: nn.Linear, d: int, k: int, *, seed: int = 0) -> "ProductQuantizedLinear":
        """The form of a dense layer; `subspaces.split` and `subspaces.cluster` say what is refused."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be a torch.nn.Linear, got {type(linear).__name__}")
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return cls(*cluster(split(linear.weight.detach(), d), k, seed=seed), bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) to (…, out_features)."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"x must have {self.in_features} features on its last axis, got shape {tuple(x.shape)}")
        s, k, d = self.codebooks.shape
        inputs = x.reshape(-1, s, d).permute(1, 2, 0)  # (s, d, N)
        tables = (self.codebooks @ inputs).flatten(0, 1)  # (s·k, N)
        y = F.embedding_bag(
            table_rows(self.codes, k), tables, mode="sum"
        ).T  # adds the s rows that each output's codes name
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    @property
    def nbytes(self) -> int:
        """The bytes of the tensors in the state dict."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    def extra_repr(self) -> str:
        s, k, d = self.codebooks.shape
        return f"in_features={self.in_features}, out_features={self.out_features}, subspaces={s}, codewords={k}, d={d}"


class ProductWeight(_Codes):
    """A parametrization of a convolution's ``weight`` of some shape: the parameter is the codebooks (s, k, d)."""

    def __init__(self, codes: Tensor, k: int, shape: torch.Size) -> None:
        super().__init__(codes, k)
        self.shape = shape

    def forward(self, codebooks: Tensor) -> Tensor:
        return join(reconstruct(codebooks, self.codes), self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The codebooks nearest to a weight, given the codes: means, and zeros for unused codewords."""
        return means(split(weight, self.shape[1] // self.codes.shape[1]), self.codes.T, self.k)[0]


@dataclass
class ProductLayer(LayerRow):
    """One layer. The bytes are those of its state dict, bias included; ``rmse`` is the weights' change."""

    d: int
    k: int
    dense_nbytes: int
    nbytes: int
    rmse: float


def quantize(
    model: nn.Module, sizes: tuple[int, int] | Mapping[str, tuple[int, int]], *, seed: int = 0
) -> tuple[nn.Module, Report]:
    """Product-quantize linear layers, which become `ProductQuantizedLinear`, and convolutions (`ProductWeight`).

    Parameters
    ----------
    model : nn.Module
        Left as it is; masks are baked in.
    sizes : (int, int) or mapping of str to (int, int)
        d and k: of the layers that a mapping names, or of all to which they can be applied.
    seed : int
        Of `subspaces.cluster`.

    Returns
    -------
    (nn.Module, Report)
        A copy, and one `ProductLayer` per quantized layer; ``skipped`` says why the others were not.

    Raises
    ------
    TypeError, ValueError
        For layers that a mapping names and that do not exist, or to which their sizes cannot be applied.
    """
    quantized = masks.deploy(model)
    layers = targets.prunable(quantized)
    named = isinstance(sizes, Mapping)
    wanted = sizes if isinstance(sizes, Mapping) else dict.fromkeys(layers, sizes)
    if unknown := sorted(wanted.keys() - layers.keys()):
        raise ValueError(f"sizes names {unknown}, which are not among the layers of the model: {list(layers)}")
    skipped = {name: reason.replace("pruned", "quantized") for name, reason in targets.skipped(model).items()}
    rows = []
    for name, layer in layers.items():
        if name not in wanted:
            skipped[f"{name}.weight"] = "no sizes given"
            continue
        try:
            found = fit(layer, *wanted[name], seed=seed)
        except (TypeError, ValueError) as error:
            if named:
                raise type(error)(f"layer {name!r}: {error}") from None
            skipped[f"{name}.weight"] = str(error)
            continue
        rows.append(row(name, layer, *found))
        quantized = install_(quantized, layer, *found)
    return quantized, Report(rows, skipped, title="Product quantization")


def fit(layer: Any, d: int, k: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codewords and codes of a layer's weight, by `subspaces.cluster`; a ValueError refuses other kinds of layers."""
    if type(layer) not in (nn.Linear, *CONVOLUTIONS):
        raise ValueError(f"{type(layer).__name__} is no plain linear layer or convolution")
    return cluster(split(layer.weight.detach(), d), k, seed=seed)


def row(name: str, layer: Any, codebooks: Tensor, codes: Tensor) -> ProductLayer:
    """What a report says of a dense layer and its codewords and codes."""
    weight, (_, k, d) = layer.weight.detach(), codebooks.shape
    error = join(reconstruct(codebooks, codes), weight.shape) - weight
    dense = sum(parameter.nbytes for parameter in layer.parameters())
    nbytes = dense - weight.nbytes + codebooks.nbytes + bits.nbytes(codes.numel(), _width(k))
    rmse = error.double().square().mean().sqrt().item()
    return ProductLayer(name, type(layer).__name__, weight.numel(), weight.numel(), d, k, dense, nbytes, rmse)


def install_(model: nn.Module, layer: Any, codebooks: Tensor, codes: Tensor) -> nn.Module:
    """Put codewords and codes in the place of a dense layer's weight, wherever the model holds the layer."""
    if type(layer) is not nn.Linear:
        parametrize.register_parametrization(
            layer, "weight", ProductWeight(codes, codebooks.shape[1], layer.weight.shape)
        )
        with torch.no_grad():
            layer.parametrizations.weight.original.copy_(codebooks)
        return model
    new = ProductQuantizedLinear(codebooks, codes, None if layer.bias is None else layer.bias.detach().clone())
    new.train(layer.training)
    return replace_(model, layer, new)
