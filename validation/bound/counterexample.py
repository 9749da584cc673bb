"""Batches drawn without replacement over the steps of a round are not what A2 asks, and then the theorem is false.

One device, nothing pruned, two steps on two samples: F(x) = x^2/2, and the samples' gradients are x + e(x) and
x - e(x) with e(x) = 1.6551 - 295.1541 (x - 1.2219). Only F has to be smooth, not the samples. Drawing each sample once
correlates the noise of the second step with where the first one went.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kktalloc.bound import Constants, Schedule, bound

START, RATE = 1.2219, 0.005
WITH_REPLACEMENT = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Equally likely orders in which the two samples are drawn."""
EACH_ONCE = ((1, -1), (-1, 1))


def _noise(x: float) -> float:
    """Half the difference of the two samples' gradients."""
    return 1.6551 - 295.1541 * (x - START)


def measured_over_bound(orders: Sequence[tuple[int, int]]) -> float:
    """Left side over right side of the theorem, exact over the equally likely orders in which samples are drawn."""
    ends, squares = [], [_noise(START) ** 2]
    for first, second in orders:
        x = START - RATE * (START + first * _noise(START))
        squares.append(_noise(x) ** 2)
        ends.append(x - RATE * (x + second * _noise(x)))
    variance = max(squares[0], float(np.mean(squares[1:])))
    gained = START**2 / 2 - float(np.mean([x * x / 2 for x in ends]))  # may be a loss
    constants = Constants(1.0, 1.0, variance, 0.0, 0.0, 0.0, 1.0, max(gained, 0.0))
    terms = bound(constants, Schedule(1, 2, 0, RATE, 0.1), np.zeros(1), young="best")
    return float((terms.gradient_weight * START**2 - min(gained, 0.0)) / terms.total)
