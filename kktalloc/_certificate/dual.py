"""Lagrange multipliers and the dual function at any allocation; knows the convex form, not the solver.

With ``u = q/t`` the problem is convex (theory: "It has an exact convex form"), so for any prices the Lagrangian's
minimum is a lower bound on the optimum. Fix a price lam of bandwidth and mu of total power and, per device, the SNR x
of the allocation at hand; take

    nu = lam / (log2(1+x) - x/((1+x) ln 2))          price of rate: makes (b, p) at x stationary, the minimum over
    mu + omega + pi = nu g / ((1+x) ln 2)            (b, p) of a homogeneous function, which is then exactly 0

with omega the price of the energy row and pi that of peak power, all >= 0. What is left is one scalar minimum over u,
and the bound is

    D = sum_k [ min_u alpha e(1 - q(u)) + (nu r1 - omega e1) u  + nu r0 - omega e0 - pi P ] - lam B - mu P_total

A device that can use no more than B_k has a price kappa of that bandwidth too. It pays lam + kappa in place of lam, and
its term falls by kappa B_k.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from kktalloc._device.efficiency import efficiency_at_power_price
from kktalloc._problem.allocation import LN2
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import PruningError, is_piecewise
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import RESOLVED


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Prices of each device's own constraints, shape ``(..., K)``, in objective per unit."""

    rate: FloatArray  # nu, per bit/s
    energy_row: FloatArray  # omega, per W of the energy-limited power
    peak_power: FloatArray  # pi, per W
    spread: FloatArray  # slope of the Lagrangian in u: nu r1 - omega e1
    value: FloatArray  # the device's term of the dual function
    demand: FloatArray  # its derivative in lam at a fixed mu/lam: b + (mu/lam) p that the device asks for, Hz
    keep_ratio: FloatArray  # the q that is best at these prices
    bandwidth_max: FloatArray  # kappa, per Hz of the device's own limit


@dataclass(frozen=True, eq=False)
class ConvexRows:
    """The convex rows of a problem in physical units (theory: "It has an exact convex form")."""

    r0: FloatArray
    r1: FloatArray
    e0: FloatArray
    e1: FloatArray
    gain_per_noise: FloatArray  # g, Hz/W
    peak: FloatArray
    window: FloatArray
    compute: FloatArray
    u_min: FloatArray
    u_cap: FloatArray
    alpha: FloatArray
    error: PruningError
    bandwidth: FloatArray
    total_power: FloatArray  # inf where it is no limit
    bandwidth_max: FloatArray  # inf where it is no limit

    def slope(self, u: FloatArray) -> FloatArray:
        """Fall of the objective in u, ``alpha e'(1 - q) dq/du`` with ``q = T u/(1 + a u)``."""
        with np.errstate(all="ignore"):  # a problem without a solution may sit beside others
            room = 1.0 + self.compute * u
            steepness = self.error.slope(np.clip(1.0 - self.window * u / room, 0.0, 1.0))
            return self.alpha * steepness * self.window / room**2

    def u(self, q: FloatArray) -> FloatArray:
        """``u = q / t``. Where the computation leaves next to no time that is all rounding, but within the cap."""
        with np.errstate(all="ignore"):
            return np.minimum(q / (self.window - self.compute * q), self.u_cap)

    def snr(self, b: FloatArray, p: FloatArray) -> FloatArray:
        """Received SNR; infinite for a device that holds no bandwidth: rate and power are then free for it."""
        with np.errstate(all="ignore"):
            return np.where(b > 0.0, self.gain_per_noise * p / np.where(b > 0.0, b, 1.0), np.inf)

    def carried(self, b: FloatArray, p: FloatArray) -> FloatArray:
        """Bits per second that bandwidth and power carry."""
        with np.errstate(all="ignore"):
            return np.where(b > 0.0, b * np.log1p(self.snr(b, p)) / LN2, 0.0)


def convex_rows(problem: Problem) -> ConvexRows:
    """Rows of the convex form, with a cap on u that every feasible point respects."""
    d, cell = problem.devices, problem.cell
    a, bits, extra = (np.asarray(v) for v in (d.pruned_compute_s, d.payload_bits, d.overhead_bits))
    B, peak = np.asarray(cell.bandwidth_hz), np.asarray(d.tx_power_max_w)
    total = np.full_like(B, np.inf) if cell.total_power_w is None else np.asarray(cell.total_power_w)
    window = np.asarray(cell.deadline_s) - np.asarray(d.fixed_latency_s)
    # Without any time a device can send nothing, as if it had no gain; its rows take another window to be numbers.
    on_time = window > 0.0
    window = np.where(on_time, window, np.asarray(cell.deadline_s))
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    with np.errstate(all="ignore"):
        own = np.asarray(d.bandwidth_max_hz)
        # Without bandwidth a device is as one without gain.
        g = np.where(on_time & (own > 0.0), np.asarray(d.channel_gain) / np.asarray(cell.noise_psd_w_per_hz), 0.0)
        energy = np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j)
        eta = np.asarray(d.pa_efficiency)
        r0, r1 = extra / window, bits + a * extra / window
        most_power = np.where(energy > 0.0, np.minimum(peak, total), 0.0)
        most_rate = B * np.log1p(g * most_power / B) / LN2
        u_min = q_min / (window - a * q_min)
        u_max = np.where(window > a, 1.0 / (window - a), np.inf)
        # No feasible u is beyond what the whole bandwidth at the most power would carry. A device's own limit is left
        # out: what it is worth has to show in its price.
        u_cap = np.where(on_time, np.maximum(np.minimum(u_max, (most_rate - r0) / r1), u_min), u_min)
        e0, e1 = eta * energy / window, eta * (a * energy / window - np.asarray(d.pruned_compute_j))
    return ConvexRows(
        r0, r1, e0, e1, g, peak, window, a, u_min, u_cap, np.asarray(d.weight), problem.pruning_error, B, total,
        np.where(own > 0.0, own, np.inf),
    )  # fmt: skip


def dual_terms(
    c: ConvexRows, b: FloatArray, p: FloatArray, u: FloatArray, lam: FloatArray, mu: FloatArray
) -> Multipliers:
    """Best multipliers of each device at an allocation and prices lam and mu, and its term of the dual function."""
    x = c.snr(b, p)
    plain = _terms(c, x, lam, mu, np.zeros_like(c.bandwidth))
    full = b >= c.bandwidth_max * (1.0 - 1e-9)
    if not full.any():
        return plain
    # At kappa the slope in u is that of the objective: on the peak branch, and on the energy branch. The best counts.
    with np.errstate(all="ignore"):
        marginal = _marginal_rate(x)
        rate, watt, slope = 1.0 / marginal, c.gain_per_noise / ((1.0 + x) * LN2 * marginal), c.slope(u)
        e1 = np.where(np.isfinite(c.e0), c.e1, 0.0)
        # Below the power limit a watt is worth its price, by which kappa is known too.
        candidates = slope / (rate * c.r1), (slope - mu * e1) / (rate * c.r1 - watt * e1), mu / watt
    for price in candidates:
        kappa = np.where(full, np.nan_to_num(np.maximum(price - lam, 0.0), posinf=0.0), 0.0)
        other = _terms(c, x, lam, mu, kappa)
        # Of equal values that one whose spread is the slope: of a curve that is straight here only it tells the price.
        closer = np.abs(other.spread - slope) < np.abs(plain.spread - slope)
        better = (other.value > plain.value) | (full & (other.value == plain.value) & closer)
        plain = Multipliers(
            *(np.where(better, getattr(other, f.name), getattr(plain, f.name)) for f in fields(Multipliers))
        )
    return plain


def _marginal_rate(x: FloatArray) -> FloatArray:
    """``log2(1 + x) - x / ((1 + x) ln 2)``; for small x by a series of positive terms in z = x/(2 + x)."""
    z = x / (2.0 + x)
    series = 2.0 * z * z * (1.0 / (1.0 + z) + z * np.polyval([1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3], z * z))
    return np.where(x < 0.05, series, np.log1p(x) - x / (1.0 + x)) / LN2


def _terms(c: ConvexRows, x: FloatArray, lam: FloatArray, mu: FloatArray, kappa: FloatArray) -> Multipliers:
    """The same at SNR x, with a price kappa of each device's own bandwidth."""
    lam = lam + kappa
    with np.errstate(all="ignore"):
        # A device that holds no bandwidth has no SNR of its own: take the one at which its first bit would just pay,
        # phi(y) = y - 1 + e^-y = lam r1 / slope.
        needed = LN2 * lam * c.r1 / c.slope(c.u_min)
        first = needed + 1.0 - np.exp(-needed - 1.0)
        silent = np.isinf(x)
        # Beyond y* a unit of power would cost more than it is worth: no prices support that.
        y_most = efficiency_at_power_price(np.where(mu > 0.0, lam * c.gain_per_noise / mu, np.inf))
        x = np.minimum(np.where(silent, np.expm1(np.minimum(first, 700.0)), x), np.expm1(np.minimum(y_most, 709.0)))
        marginal = _marginal_rate(x)
        # Such an x overflows, its logarithm does not.
        marginal = np.where(silent & (first > 700.0) & np.isinf(y_most), needed / LN2, marginal)
        # At no SNR at all, or for a device of no weight, every price is free to be zero.
        usable = (marginal > 0.0) & np.isfinite(marginal) & (lam > 0.0)
        # Where bandwidth is free a bit costs power alone, at no SNR.
        at_no_snr = np.where((lam == 0.0) & (mu > 0.0) & (c.gain_per_noise > 0.0), mu * LN2 / c.gain_per_noise, 0.0)
        nu = np.where(usable, lam / marginal, at_no_snr)
        worth = np.where(usable, nu * c.gain_per_noise / ((1.0 + x) * LN2), mu)
        sound = worth >= mu * (1.0 - 1e-12)
        # At y* power is worth its price; what rounding leaves of the difference would be laid on a limit far away.
        power_price = np.where(np.abs(worth - mu) <= RESOLVED * mu, 0.0, np.maximum(worth - mu, 0.0))
        limited = np.isfinite(c.e0)
        e0, e1 = np.where(limited, c.e0, 0.0), np.where(limited, c.e1, 0.0)
        # The dual is concave in omega with slope P - e0 - e1 u at the best u: the sign at both ends tells whether it
        # is best at one of them or between, where u rests on the kink (e0 + e1 u = P). Values are too close to tell.
        u_none, u_all = _best_u(c, nu * c.r1), _best_u(c, nu * c.r1 - power_price * e1)
        some = limited & (e0 + e1 * u_none < c.peak * (1.0 - RESOLVED))  # a tie is the peak's
        between = some & (e0 + e1 * u_all > c.peak)
        u_kink = (c.peak - e0) / e1
        omega = np.where(some, power_price, 0.0)
        balance = np.clip(np.nan_to_num((nu * c.r1 - c.slope(u_kink)) / e1), 0.0, power_price)
        omega = np.where(between, balance, omega)
        pi, spread = power_price - omega, nu * c.r1 - omega * e1
        # On the kink the minimum may be too flat to find it again; a balance that was clipped is not on it.
        rests = between & (balance > 0.0) & (balance < power_price)
        u = np.where(rests, u_kink, np.where(between, _best_u(c, spread), np.where(some, u_all, u_none)))
        q = c.window * u / (1.0 + c.compute * u)
        cost = c.alpha * c.error.value(np.clip(1.0 - q, 0.0, 1.0))
        paid = np.where(kappa > 0.0, kappa * c.bandwidth_max, 0.0)
        value = cost + spread * u + nu * c.r0 - omega * e0 - pi * c.peak - paid
        # Envelope theorem: nu and the power price are proportional to lam, the rest is at its best already.
        power = np.where(pi > 0.0, c.peak, e0 + e1 * u)
        demand = np.where(lam > 0.0, (nu * (c.r0 + c.r1 * u) - power_price * power) / lam, 0.0)
        demand = (
            np.minimum(demand, c.bandwidth_max + (mu / lam) * power) if np.isfinite(c.bandwidth_max).any() else demand
        )
        value = np.where(sound, value, -np.inf)
        return Multipliers(nu, omega, pi, spread, value, demand, q, kappa + np.zeros_like(q))


def _best_u(c: ConvexRows, spread: FloatArray) -> FloatArray:
    """The u in [u_min, u_cap] that minimises the convex ``alpha e(1 - q(u)) + spread u``."""
    if is_piecewise(c.error):
        # Stationary where alpha e' T/(1 + a u)^2 = spread: of the pieces from the last to the first the one whose
        # point lies on it, between two their break.
        slopes, q = c.error.slopes, 1.0 - c.error.breaks
        u = np.zeros_like(spread)
        for j in range(slopes.shape[-1]):
            root = np.sqrt(c.alpha * slopes[..., j] * c.window / np.maximum(spread, 0.0))
            free = np.where(c.compute > 0.0, (root - 1.0) / c.compute, np.where(root > 1.0, np.inf, 0.0))
            if j:
                room = c.window - c.compute * q[..., j - 1]
                free = np.minimum(free, np.where(room > 0.0, q[..., j - 1] / room, np.inf))
            u = np.maximum(u, free)
    else:
        # The slope falls in u: bisection over q, where the interval is short.
        low = c.window * c.u_min / (1.0 + c.compute * c.u_min) + np.zeros_like(spread)
        high = c.window * c.u_cap / (1.0 + c.compute * c.u_cap) + np.zeros_like(spread)
        for _ in range(60):
            q = 0.5 * (low + high)
            more = c.slope(q / (c.window - c.compute * q)) > spread
            low, high = np.where(more, q, low), np.where(more, high, q)
        u = high / (c.window - c.compute * high)
    u = np.where(spread > 0.0, np.clip(u, c.u_min, c.u_cap), c.u_cap)
    return np.where((c.alpha > 0.0) | (spread < 0.0), u, c.u_min)
