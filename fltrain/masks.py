"""Which weights a device keeps: scores of importance, and the mask they give."""

from __future__ import annotations

import torch


def keep_mask(scores: torch.Tensor, pruning_ratio: float) -> torch.Tensor:
    """The mask that keeps exactly ``round((1 - pruning_ratio) n)`` coordinates of highest score.

    Parameters
    ----------
    scores : tensor (n,)
        Importance, higher is kept. Equal scores at the threshold are kept lowest index first, so the mask
        does not depend on how a machine happens to partition.
    pruning_ratio : float
        rho in [0, 1].

    Returns
    -------
    bool tensor (n,)
        True where kept.
    """
    n = scores.numel()
    keep = round((1.0 - pruning_ratio) * n)
    if keep == n:
        return torch.ones(n, dtype=torch.bool)
    if keep == 0:
        return torch.zeros(n, dtype=torch.bool)
    threshold = torch.kthvalue(scores, n - keep + 1).values  # a partition, O(n), not a sort
    mask = scores > threshold
    ties = torch.nonzero(scores == threshold).squeeze(1)
    mask[ties[: keep - int(mask.sum())]] = True
    return mask
