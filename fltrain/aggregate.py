"""Server side: which uploads count, and what becomes of the global part by those that do."""

from __future__ import annotations

import math

import numpy as np
import torch

from fltrain.config import Averaging


class CoverageMean:
    """Each coordinate moves by a mean of the devices' changes.

    With ``covered`` and rate 1 it becomes the weighted mean over the devices that kept it. With ``fill`` the mean is
    over all devices of the round, and one that dropped the coordinate did not move it.

    Uploads are added one at a time, in device order, and only running sums are stored: memory does not grow
    with the number of devices, and the order of the sums, hence every bit of the result, is fixed. Sums are
    float64.

    Parameters
    ----------
    n : int
        Length of the global vector.
    averaging : str
        ``covered`` or ``fill``, as in `TrainConfig`.
    rate : float
        The global part moves by this many times the mean change.
    """

    def __init__(self, n: int, averaging: Averaging = "covered", rate: float = 1.0) -> None:
        self._averaging, self._rate = averaging, rate
        self._total = 0.0
        self._sum = torch.zeros(n, dtype=torch.float64)
        self.weight = torch.zeros(n, dtype=torch.float64)
        """alpha(j), the aggregation weight that kept coordinate j so far, (n,)."""

    def add(self, values: torch.Tensor, mask: torch.Tensor | None, weight: float) -> None:
        """Add one device's `values` (n,), kept where `mask` (n,) is True (None: everywhere)."""
        self._total += weight
        if mask is None:
            self._sum.add_(values, alpha=weight)
            self.weight.add_(weight)
        else:
            kept = mask.to(torch.float64)
            self._sum.addcmul_(kept, values.to(torch.float64), value=weight)
            self.weight.add_(kept, alpha=weight)

    def result(self, u: torch.Tensor) -> torch.Tensor:
        """The new global vector float32 (n,); a coordinate of `u` that nobody kept stays as it is."""
        if self._averaging == "covered" and self._rate == 1.0:
            mean = (self._sum / self.weight).to(torch.float32)
            return torch.where(self.weight > 0, mean, u)
        over = self.weight if self._averaging == "covered" else self._total
        moved = u + self._rate * (self._sum - self.weight * u) / over
        return torch.where(self.weight > 0, moved.to(torch.float32), u)

    def coverage(self) -> tuple[float, float]:
        """Gamma, the least weight among covered coordinates (0 if there is none), and the uncovered share."""
        least = float(self.weight.min())
        if least > 0.0:
            return least, 0.0
        covered = self.weight > 0
        if not covered.any():
            return 0.0, 1.0
        return float(self.weight[covered].min()), 1.0 - float(covered.double().mean())


def refusal(values: torch.Tensor | None, mask: torch.Tensor | None, loss: float, n: int) -> str | None:
    """Why an upload must be left out of the round, or None if it may be averaged in."""
    if values is None:
        return "sent nothing"
    if values.shape != (n,):
        return f"sent shape {tuple(values.shape)}, expected ({n},)"
    if mask is not None and (mask.shape != (n,) or mask.dtype != torch.bool):
        return f"sent a mask of {mask.dtype} {tuple(mask.shape)}, expected torch.bool ({n},)"
    if not np.isfinite(values.numpy()).all():  # torch takes many times as long
        return "sent values that are not finite"
    if not math.isfinite(loss):
        return f"reported the loss {loss}"
    return None
