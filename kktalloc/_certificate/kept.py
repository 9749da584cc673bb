"""The least of error and energy at prices, whatever a device keeps: a bound for `solve_priced`.

For devices without electronics whose clock stands still: there what `kktalloc._certificate.tangent` says of t and b
holds of q and b.
"""

from __future__ import annotations

import numpy as np

from kktalloc._certificate.tangent import AT_LIMIT, Bound, better, least_tangent, physical
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, phi
from kktalloc._problem.allocation import LN2, Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.fields import CLOCK_EXPONENT
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import KEEP_RATIO


@np.errstate(all="ignore")
def kept_bound(problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray) -> Bound:
    """The least ``alpha e(rho) + per_j E + per_hz b`` of each device by the deadline, whatever it keeps.

    For devices without electronics whose clock stands still; shapes as of `level_bound`, and a bound at any prices as
    there.
    """
    d, x = problem.devices, physical(problem, found)
    lam, w = np.asarray(per_hz)[..., None] + np.zeros(problem.shape), np.asarray(per_j)
    P, eta, s = np.asarray(d.tx_power_max_w), np.asarray(d.pa_efficiency), np.asarray(d.clock_max)
    S = np.asarray(d.payload_bits) * LN2
    a, j = np.asarray(d.pruned_compute_s) / s, np.asarray(d.pruned_compute_j) * s ** (CLOCK_EXPONENT - 1)
    fixed_j = np.asarray(d.fixed_energy_j)
    t_max = x.window - np.asarray(d.fixed_compute_s) / s
    q_min, rho = 1.0 - np.asarray(d.pruning_ratio_max), np.asarray(found.pruning_ratio)
    alpha, error = np.asarray(d.weight), problem.pruning_error
    steep = alpha * error.slope(np.clip(rho + KEEP_RATIO, 0.0, 1.0))
    flat = np.where(rho > 0.0, alpha * error.slope(np.clip(rho - KEEP_RATIO, 0.0, 1.0)), 0.0)
    t = t_max - a * x.q  # all the time that is left: a longer upload takes less of everything
    heat = x.heat * s ** (CLOCK_EXPONENT - 1)
    limited, sends = np.isfinite(x.budget), x.nats > 0.0
    full = (x.b >= x.own * (1.0 - AT_LIMIT)) & (x.own > 0.0)
    mute = (x.g * P <= 0.0) | (x.own <= 0.0) | (x.budget - heat <= 0.0) | (t_max <= 0.0)

    y_sent = x.nats / (x.b * t)
    # Who sends nothing would at the efficiency at which its first bit just pays: at the peak's price, or at its own.
    needed = lam * S / (steep * t)
    paying = np.minimum(needed + 1.0 - np.exp(-needed - 1.0), EFFICIENCY_MAX)
    cheap = np.minimum(efficiency_at_power_price(lam * x.g * eta / (w * t)), EFFICIENCY_MAX)
    best: Bound | None = None
    for first in (cheap, paying):
        y = np.where(sends, y_sent, first)
        m, grow = np.exp(y) * phi(y), np.exp(y) / x.g
        A0 = lam * x.g / (t * m)
        in_q = S * grow + a * x.b * m / x.g  # of the radiated energy
        for edge in (steep, flat):
            rest = edge - w * j
            # What is kept tells the prices where the own bandwidth binds too; and better than the price of bandwidth
            # where so little is kept that a rounded pruning ratio leaves few digits of it.
            at_own = (
                np.maximum((rest + w * P * a / eta) / (in_q + P * a), w / eta),
                np.maximum(edge / (in_q + eta * j), w / eta),
            )
            candidates = (
                (w, np.where(full, w / eta, A0)),
                (eta * A0, A0),
                (w, A0),
                ((edge - A0 * in_q - A0 * P * a) / (j - P * a / eta), A0),
                (w, w / eta),
                (w, at_own[0]),
                (eta * at_own[1], at_own[1]),
            )
            for W, A in candidates:
                A = np.maximum(np.nan_to_num(A), w / eta)
                W = np.clip(np.nan_to_num(W), w, np.maximum(eta * A, w))
                pi, omega = A - W / eta, W - w
                kappa = np.where(full, np.maximum(A * t * m / x.g - lam, 0.0), 0.0)
                in_b = lam + kappa - A * t * m / x.g
                slope = A * in_q + W * j + pi * P * a
                e = np.where(sends, t * x.b * np.expm1(y) / x.g, 0.0)
                # The objective's slope lies between `flat` and `steep`; the best of them counts.
                up = np.minimum(slope - flat, 0.0) * (1.0 - x.q)
                down = -np.maximum(slope - steep, 0.0) * (x.q - q_min)
                paid = np.where(omega > 0.0, np.where(limited, omega * x.budget, np.inf), 0.0)
                own = np.where(kappa > 0.0, kappa * x.own, 0.0)
                value = (
                    alpha * error.value(rho) + w * fixed_j + W * (e / eta + heat) + pi * (e - P * t)
                    + (lam + kappa) * x.b + np.minimum(up, down)
                    + least_tangent(in_b, x.b, 0.0 * x.b, x.most_hz) - paid - own
                )  # fmt: skip
                worth = np.abs(paid) + W * (e / eta + heat) + pi * P * t + (lam + kappa) * x.b
                value = np.where(np.isnan(value), -np.inf, value)
                best = better(best, Bound(value, A * x.b * m / x.g + pi * P, omega, worth))
    assert best is not None
    stays = alpha * error.value(rho) + w * (fixed_j + heat)  # who can radiate nothing
    none = np.zeros(problem.shape)
    return Bound(*(np.where(mute, o, v) for o, v in zip((stays, none, none, none), vars(best).values(), strict=True)))
