"""How much to prune in which round of iterative pruning. Chapter 02.

Iterative pruning is a loop: prune a little, train, prune a little more. A schedule lists the sparsity of each round.
"""

from compress_lib import checks


def sparsity_schedule(final_sparsity: float, rounds: int, kind: str = "geometric") -> list[float]:
    """The sparsity to reach in each round.

    - ``"geometric"``: each round removes the same fraction of what is left, ``s_t = 1 − (1 − s)^(t/n)``.
    - ``"cubic"``: fast at first and slow at the end, ``s_t = s − s·(1 − t/n)³``. Zhu and Gupta, "To prune, or not to
      prune", 2017, arXiv 1710.01878, equation 1, from sparsity 0.

    Parameters
    ----------
    final_sparsity : float
        s in [0, 1), reached exactly in the last round.
    rounds : int
        n ≥ 1.
    kind : {"geometric", "cubic"}

    Returns
    -------
    list of float
        ``rounds`` sparsities, non-decreasing.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> [round(s, 3) for s in sparsity_schedule(0.875, 3)]
    [0.5, 0.75, 0.875]
    """
    checks.fraction("final_sparsity", final_sparsity)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    steps = [t / rounds for t in range(1, rounds)]
    if kind == "geometric":
        earlier = [1 - (1 - final_sparsity) ** step for step in steps]
    elif kind == "cubic":
        earlier = [final_sparsity * (1 - (1 - step) ** 3) for step in steps]
    else:
        raise ValueError(f"kind must be 'geometric' or 'cubic', got {kind!r}")
    return [*earlier, float(final_sparsity)]
