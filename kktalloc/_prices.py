"""Shadow prices: what one more unit of each budget would be worth.

Sign, once and for all: a price is >= 0 and is the *fall* of the objective per unit of its budget,
``price = -d(objective)/d(budget)``. Where a device sits at a kink or the bandwidth exactly suffices the objective
has two one-sided derivatives and the price lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._dual import LN2, convex_rows, dual_terms
from kktalloc._problem import FloatArray, Problem


@dataclass(frozen=True, eq=False)
class Prices:
    """Shadow prices, in objective per unit of the budget.

    Parameters
    ----------
    bandwidth_per_hz, deadline_per_s, total_power_per_w
        Of the cell's budgets, shape ``(...)``.
    energy_per_j, peak_power_per_w
        Of each device's own, shape ``(..., K)``.
    """

    bandwidth_per_hz: FloatArray
    deadline_per_s: FloatArray
    total_power_per_w: FloatArray
    energy_per_j: FloatArray
    peak_power_per_w: FloatArray


def prices(
    problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, bandwidth_per_hz: FloatArray, per_w: FloatArray
) -> Prices:
    """All shadow prices of an optimal allocation from those of bandwidth and total power, by the envelope theorem."""
    c = convex_rows(problem)
    q, lam, mu = 1.0 - rho, np.asarray(bandwidth_per_hz)[..., None], np.asarray(per_w)[..., None]
    with np.errstate(all="ignore"):
        t = c.window - c.compute * q
        snr = np.where(b > 0.0, c.gain_per_noise * p / np.where(b > 0.0, b, 1.0), np.inf)
        m = dual_terms(c, snr, lam, mu)
        rate = np.where(b > 0.0, b * np.log1p(snr) / LN2, 0.0)
        later = ((m.rate * rate - m.energy_row * p) / t).sum(axis=-1)
        # E enters the energy row p <= eta (E (1 + a u) / T - eps u).
        energy = m.energy_row * np.asarray(problem.devices.pa_efficiency) * (1.0 + c.compute * q / t) / c.window
    return Prices(lam[..., 0], later, mu[..., 0], energy, m.peak_power)
