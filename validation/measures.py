"""What every study measures of a run in the same way: smoothed accuracy, time to a target, averages over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

MARGIN = 0.005
"""Half a percentage point: accuracies this close to the reference's count as reached."""
CONFIDENCE = 0.95
"""Of intervals."""
WINDOW = 10
"""Rounds that one accuracy is averaged over, for every scheme alike; one round alone is noisy."""


def smooth(accuracy: ArrayLike, window: int = WINDOW) -> FloatArray:
    """Averaged over the last `window` rounds (fewer at the start), shape (R,)."""
    values = np.asarray(accuracy, dtype=float)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - window)
    return np.asarray((sums[end] - sums[begin]) / (end - begin))


def rounds_to(accuracy: ArrayLike, target: float, window: int = WINDOW) -> int | None:
    """Rounds until the smoothed accuracy first reaches `target`; None if it never does."""
    reached = np.flatnonzero(smooth(accuracy, window) >= target)
    return int(reached[0]) + 1 if len(reached) else None


def time_to(accuracy: ArrayLike, time_s: ArrayLike, target: float, window: int = WINDOW) -> float | None:
    """Simulated seconds until the smoothed accuracy first reaches `target`; None if it never does.

    `time_s` (R,): at the end of each round.
    """
    rounds = rounds_to(accuracy, target, window)
    return None if rounds is None else float(np.asarray(time_s)[rounds - 1])


Curve = tuple[ArrayLike, ArrayLike]
"""Accuracy after each round and time at its end, both (R,)."""


def time_averages(mine: Curve, other: Curve) -> tuple[float, float] | None:
    """Accuracy of both, averaged over time from when both have one until the first is finished; None if never."""
    begin = max(float(np.asarray(time_s)[0]) for _, time_s in (mine, other))
    end = min(float(np.asarray(time_s)[-1]) for _, time_s in (mine, other))
    return None if begin >= end else (time_average(mine, begin, end), time_average(other, begin, end))


def time_average(curve: Curve, begin_s: float, end_s: float) -> float:
    """Accuracy averaged over this span of time; the first round must be finished by `begin_s`."""
    edges = np.asarray(curve[1], dtype=float)
    if edges[0] > begin_s:
        raise ValueError(f"begin_s = {begin_s:g}: there is no accuracy before the first round's end at {edges[0]:g}")
    lasts = np.diff(np.clip(np.append(edges, np.inf), begin_s, end_s))
    return float(np.asarray(curve[0], dtype=float) @ lasts / (end_s - begin_s))


def mean_interval(values: Sequence[float | None]) -> tuple[float, float] | None:
    """95 % confidence interval of the mean over seeds, by Student's t; None unless two seeds or more all have a value.

    Of equal values it is that value.
    """
    found = np.array([np.nan if value is None else value for value in values], dtype=float)
    if len(found) < 2 or not np.isfinite(found).all():
        return None
    if np.ptp(found) == 0.0:
        return float(found[0]), float(found[0])
    low, high = stats.t.interval(CONFIDENCE, len(found) - 1, found.mean(), stats.sem(found))
    return float(low), float(high)
