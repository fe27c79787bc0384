"""Codewords fitted to what a layer computes, not to its weights. Chapter 06.

Wu, Leng, Wang, Hu, Cheng, "Quantized convolutional neural networks for mobile devices", CVPR 2016, arXiv 1512.06473.
Plain product quantization (`product`) makes ``‖W − Ŵ‖²`` small. What counts is the response to real inputs:

    min  Σ ‖y − Ŵx − b‖² + ρ ‖W − Ŵ‖².

Targets y come from the original network, inputs x from the one that is quantized up to this layer, so each layer also
corrects the error that has gathered before it. The paper has no ρ. It lets plain product quantization decide where
the images say nothing, as at pixels that are always black.

With the sums ``G = Σ xxᵀ + ρI`` and ``C = Σ x(y − b)ᵀ + ρWᵀ`` no image is needed any more. The sub-spaces take turns,
each against what the others leave, ``R = C − GŴᵀ``. Given the codes, the codewords D are a least-squares problem; for a
linear layer, with R_S and G_SS of the sub-space S and L_c the rows with code c,

    D_c ← D_c + G_SS⁻¹ mean_{o in L_c} R_So.

Given the codewords, every row takes the code that makes its own error smallest. Neither step raises the objective. A
convolution is linear on patches: its kernel positions take turns with the codes, and as they share codewords, those of
a sub-space are one least-squares problem. (The paper goes through the codewords one by one.)
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib.network import masks, patches, watching
from compress_lib.network.patches import Moments
from compress_lib.quantization.codebooks import product, subspaces
from compress_lib.report import Report


@dataclass
class ResponseLayer(product.ProductLayer):
    """One layer. The errors are ``Σ ‖y − ŷ‖² / Σ ‖y‖²`` on the sampled positions: of plain product quantization, and of
    the codewords and codes that started from it."""

    samples: int
    error_plain: float
    error: float


def quantize(
    model: nn.Module,
    sizes: tuple[int, int] | Mapping[str, tuple[int, int]],
    images: Tensor,
    *,
    sweeps: int = 5,
    ridge: float = 1e-2,
    samples: int = 10,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[nn.Module, Report]:
    """Product-quantize layers in the order in which the network runs, each to the responses of the original one.

    Parameters
    ----------
    model, sizes, seed
        As for `product.quantize`, where the codewords start.
    images : Tensor
        (N, C, H, W), uint8 or float; no labels are needed.
    sweeps : int
        How often every sub-space takes its turn, at least 1.
    ridge : float
        ρ in units of the mean square of the layer's inputs, times the number of positions; at least 0.
    samples, batch_size
        As for `patches.moments`.

    Returns
    -------
    (nn.Module, Report)
        A copy in evaluation mode, of the kind and the bytes that `product.quantize` returns, and one `ResponseLayer`
        per quantized layer; ``skipped`` says why the others were not.

    Raises
    ------
    TypeError, ValueError
        For what `product.quantize` refuses, no images, ``sweeps`` below 1 or a negative ``ridge``.
    """
    if sweeps < 1:
        raise ValueError(f"sweeps must be at least 1, got {sweeps}")
    if not ridge >= 0:
        raise ValueError(f"ridge must be at least 0, got {ridge}")
    reference = masks.deploy(model).eval()
    plain, report = product.quantize(reference, sizes, seed=seed)
    quantized = copy.deepcopy(reference)
    order = watching.in_order(quantized, [row.layer for row in report.rows], images)
    skipped = report.skipped | {row.layer: "it does not run" for row in report.rows if row.layer not in order}
    rows = []
    for name in order:
        layer = quantized.get_submodule(name)
        if reason := patches.refusal(layer):
            skipped[name] = reason
            continue
        sums = patches.moments(
            quantized, name, images, reference=reference, samples=samples, seed=seed, batch_size=batch_size
        )
        codebooks, codes, errors = fit(sums, layer, *_start(plain.get_submodule(name)), sweeps=sweeps, ridge=ridge)
        described = product.row(name, layer, codebooks, codes)
        rows.append(ResponseLayer(**vars(described), samples=sums.samples, error_plain=errors[0], error=errors[-1]))
        quantized = product.install_(quantized, layer, codebooks, codes)
    return quantized, Report(rows, skipped, title="Product quantization, fitted to responses")


def fit(
    sums: Moments, layer: Any, codebooks: Tensor, codes: Tensor, *, sweeps: int, ridge: float
) -> tuple[Tensor, Tensor, list[float]]:
    """Block coordinate descent for one layer.

    Parameters
    ----------
    sums : the moments of its inputs and of the targets.
    layer : the dense layer, one that `patches.refusal` does not refuse.
    codebooks, codes : (s, k, d) and (m, s), where to start.
    sweeps, ridge : as for `quantize`.

    Returns
    -------
    (Tensor, Tensor, list of float)
        New codebooks and codes of the same shapes and types; the relative error at the start and after each sweep.
    """
    shape, (s, k, d) = layer.weight.shape, codebooks.shape
    positions = shape[2:].numel()
    theta = patches.theta(layer)
    rho = ridge * sums.gram.diagonal()[:-1].mean()
    gram = sums.gram[:-1, :-1] + rho * torch.eye(len(theta) - 1, dtype=theta.dtype)
    cross = sums.cross[:-1] - sums.gram[:-1, -1:] * theta[-1] + rho * theta[:-1]
    # a patch has its numbers in the order channel, kernel position; of sub-space and position, d of them
    blocks = torch.arange(s * d * positions).view(s, d, positions).transpose(1, 2)  # (s, positions, d)
    words, chosen = codebooks.detach().cpu().double(), codes.cpu().long().view(shape[0], positions, s)

    def weights() -> Tensor:
        pieces = subspaces.reconstruct(words, chosen.flatten(0, 1))
        return subspaces.join(pieces, shape).flatten(1).T.contiguous()  # (features, out)

    def error() -> float:
        return sums.error(torch.cat([weights(), theta[-1:]]))

    errors = [error()]
    current = weights()
    for _ in range(sweeps):
        for space, block in enumerate(blocks):
            features = block.flatten()
            residual = (cross[features] - gram[features] @ current).view(positions, d, -1)
            inner = gram[features][:, features].view(positions, d, positions, d)
            words[space] += codeword_steps(inner, residual, chosen[..., space], k)
            current[features] = words[space][chosen[..., space]].permute(1, 2, 0).flatten(0, 1)
            for position, part in enumerate(block):
                own = gram[part][:, part]
                alone = cross[part] - gram[part] @ current + own @ current[part]
                chosen[:, position, space] = best_codes(own, alone, words[space], chosen[:, position, space])
                current[part] = words[space][chosen[:, position, space]].T
        errors.append(error())
    return words.to(codebooks), chosen.flatten(0, 1).to(codes), errors


def codeword_steps(gram: Tensor, residual: Tensor, codes: Tensor, k: int) -> Tensor:
    """What to add to the codewords of a sub-space to minimize the objective, given the codes.

    Parameters
    ----------
    gram : Tensor
        (P, d, P, d) for P kernel positions, float64: G of the sub-space's inputs.
    residual : Tensor
        (P, d, out), R.
    codes : Tensor
        (out, P) int64.
    k : int
        The number of codewords.

    Returns
    -------
    Tensor
        (k, d); of the solutions the shortest, so zero for codewords that no code names.
    """
    positions, d = gram.shape[:2]
    chosen = nn.functional.one_hot(codes, k).to(gram)  # (out, P, k)
    right = torch.einsum("opc,pio->ci", chosen, residual)
    if positions == 1:  # the codewords do not meet: k small problems with the same matrix
        return right @ _inverse(gram[0, :, 0]) / chosen.sum((0, 1)).clamp(min=1)[:, None]
    together = torch.einsum("opc,oqe->pqce", chosen, chosen)
    left = torch.einsum("pqce,piqj->ciej", together, gram).reshape(k * d, k * d)
    return (_inverse(left) @ right.flatten()).view(k, d)


def best_codes(gram: Tensor, alone: Tensor, words: Tensor, codes: Tensor) -> Tensor:
    """For every output the code that makes the objective smallest, given the codewords; the present one in a tie.

    Parameters
    ----------
    gram : Tensor
        (d, d), G of one kernel position of a sub-space.
    alone : Tensor
        (d, out), R if this piece of every output's weights were zero.
    words : Tensor
        (k, d).
    codes : Tensor
        (out,) int64, the present codes.

    Returns
    -------
    Tensor
        (out,) int64
    """
    energy = (words @ gram * words).sum(1)
    costs = energy[:, None] - 2 * words @ alone  # (k, out), up to a constant per output
    lowest, best = costs.min(0)
    present = costs.gather(0, codes[None])[0]
    rounding = 1e-12 * (energy.max() + present.abs())
    return torch.where(lowest < present - rounding, best, codes)


def _inverse(matrix: Tensor) -> Tensor:
    return torch.linalg.pinv(matrix, hermitian=True, rtol=1e-10)


def _start(layer: Any) -> tuple[Tensor, Tensor]:
    """The codebooks and codes of a product-quantized layer."""
    if isinstance(layer, product.ProductQuantizedLinear):
        return layer.codebooks.detach(), layer.codes
    weight = layer.parametrizations.weight
    return weight.original.detach(), weight[0].codes
