"""Where falling functions of one unknown cross zero, many at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kktalloc._problem.arrays import FloatArray

ITERATIONS = 100
REACH = 80.0
CLOSED = 1e-13


def crossing(falling: Callable[[FloatArray], FloatArray], start: FloatArray) -> FloatArray:
    """The unknowns within 80 of `start` at which functions that fall with them have come down to 0, shape ``(N,)``.

    A secant within a bracket, followed by a bisection where it did not halve the value. The answer is never on the
    high side: there the function is at most 1e-13, unless it stays above that throughout.
    """
    low, high = start - REACH, start + REACH
    at, best = start, high
    before = value_before = np.full(start.shape, np.nan)
    for _ in range(ITERATIONS):
        value = falling(at)
        above = value > CLOSED
        low, high, best = np.where(above, at, low), np.where(above, high, at), np.where(above, best, at)
        done = (np.abs(value) <= CLOSED) | (high - low <= 1e-14 * np.maximum(1.0, np.abs(high)))
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = at - value * (at - before) / (value - value_before)
        usable = (secant > low) & (secant < high) & (np.abs(value) <= 0.5 * np.abs(value_before))
        before, value_before = at, value
        at = np.where(done, at, np.where(usable, secant, 0.5 * (low + high)))
    return best
