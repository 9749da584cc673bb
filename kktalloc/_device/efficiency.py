"""Scalar functions of the spectral efficiency ``y = ln(1 + SNR)`` in nat/s/Hz.

With y as the unknown every quantity of the problem is explicit after one ``expm1``, from the wideband limit
(y near 0) to SNRs that overflow a double.
"""

from __future__ import annotations

import numpy as np

from kktalloc._problem.arrays import FloatArray

# Beyond this, 1/SNR underflows: the device holds no bandwidth worth the name.
EFFICIENCY_MAX = 690.0

_SERIES_BELOW = 0.1
# phi(y) = y - 1 + exp(-y) = y^2/2 * sum_n 2 (-y)^n / (n+2)!
_PHI_SERIES = (1 / 1814400, -1 / 181440, 1 / 20160, -1 / 2520, 1 / 360, -1 / 60, 1 / 12, -1 / 3, 1.0)


def phi(y: FloatArray) -> FloatArray:
    """``ln(1+x) - x/(1+x)`` at ``x = expm1(y)``: the marginal rate of bandwidth, d(b ln(1+gp/b))/db.

    Non-negative and increasing; accurate to a few ulp everywhere (the closed form loses half its digits at y = 1e-8).
    """
    small = np.minimum(y, _SERIES_BELOW)
    series = np.polyval(_PHI_SERIES, small) * (0.5 * small * small)
    return np.where(y < _SERIES_BELOW, series, y + np.expm1(-y))


def efficiency_for(theta: FloatArray) -> FloatArray:
    """The y >= 0 with ``y / expm1(y) = theta``: the efficiency at which a power just carries a rate.

    A power p carries r nat/s at least bandwidth ``b = g p / expm1(y)`` with ``theta = r / (g p)``; this is the
    Lambert-W branch ``1 + x = -W_{-1}(-theta exp(-theta)) / theta`` in a form that neither cancels near theta = 1
    nor overflows near 0. theta >= 1 is beyond the wideband limit and gives 0; theta = 0 gives infinity.
    """
    with np.errstate(divide="ignore"):
        target = np.abs(np.log(np.minimum(theta, 1.0)))  # ln(expm1(y)/y) = target: slope 1/2 at 0, 1 at infinity
    start = target + np.log1p(target)
    # Below 1e-8 the start is exact to rounding, and infinity is its own answer.
    solve = (start > 1e-8) & (start < np.inf)
    y = np.where(solve, start, 1.0)
    for _ in range(4):
        value = y + np.log(-np.expm1(-y) / y)  # ln(expm1(y)/y), without overflow
        slope = -1.0 / np.expm1(-y) - 1.0 / y
        y = np.where(solve, np.maximum(y - (value - target) / slope, 1e-9), 1.0)
    return np.where(solve, y, start)


def efficiency_at_power_price(z: FloatArray) -> FloatArray:
    """The y >= 0 with ``e^y phi(y) = e^y (y - 1) + 1 = z``: where bandwidth and power are traded off.

    In closed form ``y = 1 + W_0((z - 1)/e)``; solved in logarithms, since near z = 0 that cancels and z may be huge.
    Infinite or undefined z (power costs nothing) gives infinity.
    """
    z = np.where(np.isnan(z), np.inf, z)
    with np.errstate(divide="ignore"):
        log_z = np.log(z)
    solve = np.isfinite(log_z)
    target = np.where(solve, log_z, 0.0)
    small, large = np.sqrt(2.0 * np.exp(np.minimum(target, 0.0))), np.maximum(target, 1.0)
    y = np.where(target < 0.0, small, large - 0.8 * np.log(large) + 0.3)
    for _ in range(6):
        f = phi(y)
        # d ln(e^y phi)/d ln y = y + y (1 - e^-y)/phi = y^2 / phi
        y = y * np.exp((target - y - np.log(f)) * f / (y * y))
    return np.where(solve, y, np.where(z > 0.0, np.inf, 0.0))
