"""What pruning would lose: the error curve that a device reports with its upload.

A device whose change of the global part in a round is Delta loses, if it is pruned by the ratio rho, the rho n smallest
squares of Delta. Their share of all squares, e(rho), is convex with e(0) = 0 and e(1) = 1 however Delta came about, for
it is a sum of sorted numbers. A few points of it and the squared norm are all that an allocator needs to know of what a
device learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

ERROR_RATIOS: NDArray[np.float64] = np.array(
    [0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0]
)
"""Pruning ratios at which a device reports the share of its squared change that pruning would lose, (n,)."""
ERROR_RATIOS.setflags(write=False)
FROZEN_POWER = 0.5
"""What a frozen round loses is about what a sparse upload would lose to this power, both as shares of the squared
change: 0.53 to 0.59 on perceptrons with one probe step and five pruned ones (``python -m validation.kinds.frozen``)."""
REPORT_BITS = 32 * (len(ERROR_RATIOS) - 1)
"""The squared norm and the shares between the ends, one float32 each."""
_LOW_BITS = 17  # of a float32, not counted by: sizes in one bin differ by 1.6 % at most


@dataclass(frozen=True)
class ChangeReport:
    """How large a device's change of the global part was, and how much of it each pruning ratio would lose.

    Parameters
    ----------
    change_sq : float
        ||Delta||^2, the squared norm of the change.
    error : float64 (len(ERROR_RATIOS),)
        Share of it in the smallest squares that make up each share `ERROR_RATIOS` of the coordinates.
    """

    change_sq: float
    error: NDArray[np.float64]


def report_change(change: torch.Tensor) -> ChangeReport:
    """The report of a change (n,), which must be finite.

    The exact tail sums of a sort, in a fifth of its time: sizes are counted by their leading bits, which are in order
    as the sizes are, and only those few are sorted that share a count with the end of a tail.
    """
    sizes = np.abs(change.numpy())
    squares = np.square(sizes, dtype=np.float64)  # float64, where nothing overflows
    bins = (sizes.view(np.int32) >> _LOW_BITS).astype(np.intp)  # as what counts and gathers takes them
    count, within = np.bincount(bins), np.bincount(bins, weights=squares)
    begin, below = (np.concatenate([np.zeros(1, sums.dtype), np.cumsum(sums)]) for sums in (count, within))
    total = float(below[-1])
    if total == 0.0:
        return ChangeReport(0.0, ERROR_RATIOS.copy())
    at = ERROR_RATIOS[1:-1] * len(sizes)
    whole = np.minimum(at.astype(np.int64), len(sizes) - 1)  # so many sizes, and a part of the next
    ends_in = np.searchsorted(begin, whole, side="right") - 1
    mixed = np.zeros(len(count), dtype=np.bool_)
    mixed[ends_in] = True
    few = np.sort(squares[mixed.take(bins)])
    first = (np.cumsum(np.where(mixed, count, 0)) - count)[ends_in]  # among the few, of each end's bin
    here = first + whole - begin[ends_in]
    sums = np.concatenate([[0.0], np.cumsum(few)])
    lost = below[ends_in] + sums[here] - sums[first] + (at - whole) * few[here]
    return ChangeReport(total, np.concatenate([[0.0], lost / total, [1.0]]))


def report_frozen(probed: ChangeReport, kept: torch.Tensor, mask: torch.Tensor, steps_ratio: float) -> ChangeReport:
    """What a pruned device reports in a frozen round: the probe's curve, and the size of the change of all weights.

    The probe is shorter than the training, and of the training only the change `kept` (n,) of the weights in `mask`
    (n,) is known. All weights would have changed by about its square over the share that the mask keeps, so that
    devices that prune and those that do not report the same thing: 0.65 to 2.3 times what the same device reports
    unpruned, at ratios up to 0.97, where the probe's square by steps was 0.6 to 80 times that
    (``pytest tests/test_fltrain_local.py``). Of nothing kept it is all that is known: `steps_ratio` is that of training
    over probe.
    """
    dropped = 1.0 - float(mask.double().mean())
    share = 1.0 - float(np.interp(dropped, ERROR_RATIOS, probed.error)) ** FROZEN_POWER
    if share <= 0.0:
        return replace(probed, change_sq=probed.change_sq * steps_ratio**2)
    return replace(probed, change_sq=float(kept.double().square().sum()) / share)


@dataclass(frozen=True)
class Changes:
    """The latest report of each device, NaN where none has come yet.

    Parameters
    ----------
    change_sq : float64 (K,)
    error : float64 (K, len(ERROR_RATIOS))
        As in `ChangeReport`.
    """

    change_sq: NDArray[np.float64]
    error: NDArray[np.float64]

    @classmethod
    def of(cls, known: Mapping[int, ChangeReport], devices: int) -> Changes:
        """From the reports of some of `devices` devices."""
        change_sq = np.full(devices, np.nan)
        error = np.full((devices, len(ERROR_RATIOS)), np.nan)
        for k, report in known.items():
            change_sq[k], error[k] = report.change_sq, report.error
        return cls(change_sq, error)

    def mean_error(self, weight: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Share of all reported squared change that each ratio loses, (len(ERROR_RATIOS),); None if nothing is known.

        `weight` (K,): of each device.
        """
        known = np.isfinite(self.change_sq)
        share = weight[known] * self.change_sq[known]
        return share @ self.error[known] / share.sum() if share.sum() > 0.0 else None
