"""Sub-spaces of a weight: its rows cut into pieces, and k-means of the pieces. Chapter 06.

Used by `product` and `pq_response`.

k-means++ is that of Arthur, Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007. All sub-spaces
are searched side by side, in double precision.
"""

import math
from numbers import Integral

import torch
from torch import Tensor

_DISTANCES = 1 << 20  # at a time, so that they stay in the cache


def split(weight: Tensor, d: int) -> Tensor:
    """The pieces of a weight by sub-space.

    Parameters
    ----------
    weight : Tensor
        (out, in, …), of a linear layer or a convolution.
    d : int
        The length of a piece, a divisor of the number of input features or channels.

    Returns
    -------
    Tensor
        (s, m, d): s = in/d, and m counts the outputs, and for each of them the kernel positions.

    Raises
    ------
    TypeError, ValueError
        If the weight has fewer than two axes, or d is no divisor.
    """
    if weight.dim() < 2:
        raise ValueError(f"weight must have at least two axes, got shape {tuple(weight.shape)}")
    if not isinstance(d, Integral) or isinstance(d, bool):
        raise TypeError(f"d must be an integer, got {type(d).__name__}")
    if d < 1 or weight.shape[1] % d:
        raise ValueError(f"d must be a divisor of the {weight.shape[1]} input features, got {d}")
    return weight.reshape(*weight.shape[:2], -1).movedim(1, -1).reshape(-1, weight.shape[1] // d, d).transpose(0, 1)


def join(pieces: Tensor, shape: torch.Size) -> Tensor:
    """The weight of this shape that `split` cut into these pieces (s, m, d)."""
    rows = pieces.transpose(0, 1).reshape(shape[0], math.prod(shape[2:]), shape[1])
    return rows.movedim(-1, 1).reshape(shape)


def cluster(pieces: Tensor, k: int, *, seed: int = 0, max_iterations: int = 100) -> tuple[Tensor, Tensor]:
    """k-means in every sub-space: k-means++ for the start, then Lloyd's algorithm.

    A codeword that is nearest to no piece moves to the piece with the largest error.

    Parameters
    ----------
    pieces : Tensor
        (s, m, d), floating-point, finite.
    k : int
        From 1 to 256, and at most m.
    seed : int
        Of the start.
    max_iterations : int
        At least 1; the search ends earlier when no code changes.

    Returns
    -------
    (Tensor, Tensor)
        Codewords (s, k, d) of the pieces' type, and for each piece the code of the nearest, (m, s) uint8.

    Raises
    ------
    TypeError, ValueError
        For other pieces, k or ``max_iterations``.
    """
    if not pieces.is_floating_point():
        raise TypeError(f"pieces must be a floating-point tensor, got {pieces.dtype}")
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"k must be an integer, got {type(k).__name__}")
    if pieces.dim() != 3 or not pieces.numel() or not pieces.isfinite().all():
        raise ValueError(f"pieces must be finite and of shape (s, m, d), got shape {tuple(pieces.shape)}")
    if not 1 <= k <= min(256, pieces.shape[1]):
        raise ValueError(f"k must be from 1 to {min(256, pieces.shape[1])} for {pieces.shape[1]} pieces, got {k}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in pieces.detach().double().cpu().split(max(1, _DISTANCES // (pieces.shape[1] * k))):
        found.append(lloyd(part, plus_plus(part, k, generator), max_iterations=max_iterations))
    codebooks, codes = (torch.cat(parts) for parts in zip(*found, strict=True))
    return codebooks.to(pieces.device, pieces.dtype), codes.T.contiguous().to(pieces.device, torch.uint8)


def plus_plus(pieces: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k pieces (s, k, d) of every sub-space: each drawn with a probability in proportion to its squared distance to the
    nearest of those already drawn; the first, and where all distances are zero, uniformly."""
    drawn = []
    error = torch.ones(pieces.shape[:2], dtype=pieces.dtype)
    for _ in range(k):
        chances = torch.where(error.sum(1, keepdim=True) > 0, error, 1)
        index = torch.multinomial(chances, 1, generator=generator)
        drawn.append(pieces.gather(1, index[..., None].expand(-1, -1, pieces.shape[2])))
        distance = (pieces - drawn[-1]).square().sum(2)
        error = distance if len(drawn) == 1 else torch.minimum(error, distance)
    return torch.cat(drawn, 1)


def lloyd(pieces: Tensor, codebooks: Tensor, *, max_iterations: int) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from given codewords (s, k, d): the final ones, and the codes (s, m) int64 of the nearest."""
    k, before, iteration = codebooks.shape[1], None, 0
    while True:
        distances = codebooks.square().sum(2)[:, None] - 2 * pieces @ codebooks.transpose(1, 2)  # less the ‖x‖²
        codes = distances.argmin(2)
        if iteration == max_iterations or (before is not None and torch.equal(codes, before)):
            return codebooks, codes
        (centers, count), before, iteration = means(pieces, codes, k), codes, iteration + 1
        unused = count == 0
        codebooks = torch.where(unused[..., None], codebooks, centers)
        if unused.any():
            _move_unused_(codebooks, pieces, codes, unused)


def means(pieces: Tensor, codes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The means (s, k, d) of the pieces (s, m, d) with each code (s, m), zero where there is none; their numbers."""
    s, _, d = pieces.shape
    rows = table_rows(codes.T, k).T.flatten()
    count = torch.bincount(rows, minlength=s * k)
    sums = pieces.new_zeros(s * k, d).index_add_(0, rows, pieces.reshape(-1, d))
    return (sums / count.clamp(min=1)[:, None]).view(s, k, d), count.view(s, k)


def _move_unused_(codebooks: Tensor, pieces: Tensor, codes: Tensor, unused: Tensor) -> None:
    """Put codewords without pieces where the error is largest; where there is none left, they stay."""
    near = codebooks.gather(1, codes[..., None].expand(-1, -1, pieces.shape[2]))
    error = (pieces - near).square().sum(2)
    for space, code in unused.nonzero().tolist():
        worst = int(error[space].argmax())
        if error[space, worst] > 0:
            codebooks[space, code] = pieces[space, worst]
            error[space, worst] = 0


def reconstruct(codebooks: Tensor, codes: Tensor) -> Tensor:
    """The pieces (s, m, d) that codes (m, s) stand for; differentiable in the codewords (s, k, d)."""
    s, k, d = codebooks.shape
    return codebooks.reshape(s * k, d).index_select(0, table_rows(codes, k).T.flatten()).view(s, len(codes), d)


def table_rows(codes: Tensor, k: int) -> Tensor:
    """Codes (m, s) as row numbers of the s tables on top of each other."""
    return codes.int() + k * torch.arange(codes.shape[1], dtype=torch.int32, device=codes.device)
