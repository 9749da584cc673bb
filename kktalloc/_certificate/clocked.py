"""Judge devices with a clock and electronics: knows the original variables and weak duality, not the solver.

The least bandwidth B(q) of a device that keeps q is bounded from below at that q, by prices of its own. Whatever the
efficiency y, a tangent of the homogeneous rate holds, ``t b ln(1 + g e/(t b)) <= t b phi(y) + G e``, ``G = g e^-y``.
With the share omega of the price of radiated energy that the budget carries, the peak the rest, the nats that an upload
of t seconds carries in bandwidth b are at most

    G omega eta (E - w_j s^2) + tau t,    tau = b phi(y) + G ((1 - omega) P - omega eta p_c),    t <= T - w_s / s

with seconds w_s and joules w_j of computing at clock 1. That is greatest at ``s^3 = tau w_s / (2 G omega eta w_j)``
between the ends of the clock, so that every b at which it falls short of the payload is below B(q): explicit, for any
y and omega. The slope of B at q is the one that belongs to the same prices, ``[S + G omega eta j s^2 + tau c/s] / (t
phi(y))``; B is convex (`kktalloc verify` checks the proof), so that a device's term of the dual function is at least
its value at q less what its slope is worth up to the end of the range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kktalloc._device.efficiency import phi
from kktalloc._problem.allocation import LN2
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem
from kktalloc._problem.tolerances import KEEP_RATIO

ROUNDED = 1e-14  # relative, of what a device may radiate
# Of y and of omega: where tau, or what the budget leaves to carry, is all rounding they would leave no bound.
SHIFTS = ((1.0, 1.0), (1.0 + 1e-12, 1.0), (1.0 + 1e-10, 1.0), (1.0, 1.0 - 2e-15), (1.0, 1.0 - 1e-11))


@dataclass(frozen=True, eq=False)
class Terms:
    """What prices make of each device, shape ``(..., K)``."""

    value: FloatArray  # its term of the dual function
    least: FloatArray  # a lower bound on the bandwidth that its keep ratio takes, Hz
    off: FloatArray  # what moving along q would gain at most
    price: FloatArray  # of a Hz, its own limit's price included
    energy: FloatArray  # fall of the objective per J
    peak_power: FloatArray  # per W
    time: FloatArray  # per s
    circuit_power: FloatArray  # rise of the objective per W
    clock_max: FloatArray  # fall per unit of the clock's upper end
    clock_min: FloatArray  # rise per unit of its lower end
    own: FloatArray  # what a device would pay for a Hz, whatever the price


@np.errstate(all="ignore")
def terms(
    problem: Problem, rho: FloatArray, b: FloatArray, p: FloatArray, clock: FloatArray, per_hz: FloatArray
) -> Terms:
    """Each device's term at an allocation and a price of shape ``(...)``."""
    d, cell = problem.devices, problem.cell
    q, lam = 1.0 - rho, np.maximum(np.asarray(per_hz), 0.0)[..., None]
    T = np.asarray(cell.deadline_s) - np.asarray(d.fixed_latency_s)
    E = np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j)
    P, eta, p_c = (np.asarray(v) for v in (d.tx_power_max_w, d.pa_efficiency, d.circuit_power_w))
    low, high, most = (np.asarray(v) for v in (d.clock_min, d.clock_max, d.bandwidth_max_hz))
    S = np.asarray(d.payload_bits) * LN2
    L = S * q + np.asarray(d.overhead_bits) * LN2
    c, j = np.asarray(d.pruned_compute_s), np.asarray(d.pruned_compute_j)
    w_s, w_j = c * q + np.asarray(d.fixed_compute_s), j * q + np.asarray(d.fixed_compute_j)
    g = np.asarray(d.channel_gain) / np.asarray(cell.noise_psd_w_per_hz)
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    alpha, error = np.asarray(d.weight), problem.pruning_error

    sends = b > 0.0
    rate = b * np.log1p(g * p / b)
    t = np.where(sends, L / rate, 0.0)
    # Who can radiate nothing stays where it is.
    mute = (g * P <= 0.0) | (most <= 0.0) | (E - w_j * np.maximum(low, w_s / T) ** 2 <= 0.0) | (T <= 0.0)
    steep = alpha * error.slope(np.clip(rho + KEEP_RATIO, 0.0, 1.0))
    flat = np.where(rho > 0.0, alpha * error.slope(np.clip(rho - KEEP_RATIO, 0.0, 1.0)), 0.0)
    y = np.where(sends, np.log1p(g * p / b), 1.0)
    # Half an ulp of rho moves the slope of B by about this much of it, d ln phi / d ln(load of the radiated energy)
    # and of the upload's time: next to the wideband limit, or where little energy or time is left to radiate, by far
    # more than an ulp.
    sent = p * t
    load_q = S / L + (c / clock * (p + eta * p_c) + eta * j * clock**2) / sent
    growth = np.where(y < 1e-2, 0.5 + y / 12.0, -1.0 / np.expm1(-y) - 1.0 / y)
    blur = KEEP_RATIO * (load_q * -np.expm1(-y) / (phi(y) * growth) + c / clock / t)
    budget = np.isfinite(E)
    works = np.asarray(d.fixed_compute_s) + c > 0.0
    kappa = np.where(works, (np.asarray(d.fixed_compute_j) + j) / (np.asarray(d.fixed_compute_s) + c), 0.0)
    slowest = np.minimum(np.maximum(low, np.where(w_s > 0.0, w_s / T, 0.0)), high)  # no upload takes less than no time
    # How much more all the bandwidth of the world would carry. A faster clock leaves more time to radiate and less
    # energy: at any clock the larger of both bounds it.
    sent, more = L / g * (1.0 - ROUNDED), S / g

    def in_time(s: FloatArray) -> FloatArray:
        taken = np.where(w_s > 0.0, w_s / s, 0.0)
        return (P * (T * (1.0 + ROUNDED) - taken) - sent) / (P * c / s + more)

    def on_budget(s: FloatArray) -> FloatArray:
        each = 1.0 / eta + p_c / P
        left = (E * (1.0 + ROUNDED) - w_j * s**2) / each - sent
        return np.where(budget, left / (j * s**2 / each + more), np.inf)

    room = np.minimum(in_time(high), on_budget(slowest))
    room = np.clip(np.minimum(room, np.maximum(in_time(clock), on_budget(clock))), 0.0, 1.0 - q)

    def prices(y: FloatArray, omega: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        f, G = phi(y), g * np.exp(-y)
        return f, G * omega * eta, np.maximum(b * f + G * ((1.0 - omega) * P - omega * eta * p_c), 0.0)

    def best_clock(per_j: FloatArray, tau: FloatArray) -> FloatArray:
        s = np.where(per_j * kappa > 0.0, np.cbrt(tau / (2.0 * per_j * kappa)), high)
        return np.where(works, np.clip(s, slowest, high), low)

    def least(y: FloatArray, omega: FloatArray) -> FloatArray:
        f, per_j, tau = prices(y, omega)

        def beyond(tau: FloatArray) -> FloatArray:
            s = best_clock(per_j, tau)
            heat = np.where(per_j > 0.0, per_j * (np.where(budget, E, 0.0) - w_j * s * s), 0.0)
            return heat + tau * (T - np.where(w_s > 0.0, w_s / s, 0.0)) - L

        # Convex in tau, and so below a chord between two of them, the lower of which falls short. That is 0, or
        # where half of the upload's time is left: with less tau the clock is slower.
        here, s = beyond(tau), best_clock(per_j, tau)
        best = np.where(here <= 0.0, b, -np.inf)
        for less in (0.0 * tau, tau * np.clip((w_s / (0.5 * (T + w_s / s)) / s) ** 3, 0.5, 1.0)):
            short = beyond(less)
            bound = b - here * (tau - less) / ((here - short) * f)
            best = np.where(short < 0.0, np.fmax(best, np.minimum(bound, b)), best)
        return np.where((tau > 0.0) & (budget | (omega == 0.0)), best, -np.inf)

    def slope(omega: FloatArray) -> FloatArray:
        f, per_j, tau = prices(y, omega)
        # The clock at which the first bit of work would be done, where there is none.
        s = np.where(w_s > 0.0, clock, best_clock(per_j, tau))
        return (S + per_j * j * s**2 + tau * c / s) / (t * f)

    f, G = phi(y), g * np.exp(-y)
    whole = b * f + G * P

    def at_own_limit(omega: FloatArray) -> np.ndarray:
        """Whether all of its own bandwidth is used, but for what an ulp of rho may leave of it."""
        return np.isfinite(most) & (most > 0.0) & (most - b <= 1e-9 * most + KEEP_RATIO * slope(omega))

    none = np.zeros(problem.shape)
    # Who sends nothing would at most keep what it takes to send at the efficiency at which its first bit just pays,
    # phi(y) <= lam S / (alpha e' t), where t leaves time and energy to compute and for the electronics: little.
    left = E - w_j * slowest**2
    longest = np.fmin(T - w_s / np.fmin(high, np.sqrt(E / w_j)), left / p_c)
    z = lam * S / (steep * longest)
    first = np.minimum(z + 1.0 - np.exp(-z), 690.0)
    share = np.where(first > 0.0, first / np.expm1(first), 1.0)  # of what any bandwidth would carry
    kept = np.minimum(g * np.minimum(P * longest, np.where(budget, eta * left, np.inf)) * share / S, 1.0)
    idle = np.where(mute | (steep == 0.0) | (longest <= 0.0), 0.0, steep * np.nan_to_num(kept, nan=1.0))
    best = Terms(np.where(mute | ~sends, alpha * error.value(rho) - idle, -np.inf), none, np.where(sends, 0.0, idle),
                 lam + none, *(none for _ in range(7)))  # fmt: skip
    # What is best at the price, where moving along q counts too, need not be the best bound at this q.
    most_least = np.where(sends & ~mute, -np.inf, 0.0)
    per_c = c / clock
    worth = np.where(at_own_limit(none), np.maximum(flat, lam * slope(none)), steep)
    candidates = (
        none,
        none + 1.0,
        whole / (G * (P + eta * (p_c + 2.0 * kappa * clock**3))),
        whole / (G * (P + eta * p_c)),
        # The one at which the device would stay at this price, where peak, energy and clock all bind.
        (worth * t * f / lam - S - whole * per_c) / (G * (eta * j * clock**2 - (P + eta * p_c) * per_c)),
    )
    for omega in candidates:
        omega = np.clip(np.nan_to_num(omega), 0.0, 1.0)
        own, at_limit = steep / slope(omega), at_own_limit(omega)
        price = np.where(at_limit, np.maximum(lam, flat / slope(omega)), lam)
        gain = price * slope(omega)
        down, up = gain * (1.0 - blur) - steep, flat - gain * (1.0 + blur)
        off = np.maximum(np.maximum(down * (q - q_min), up * room), 0.0)
        for shift, less in SHIFTS:
            bound = least(y * shift, omega * less)
            most_least = np.fmax(most_least, np.where(sends & ~mute, bound, 0.0))
            paid = np.where(price > 0.0, price * bound, 0.0)
            value = alpha * error.value(rho) + paid - off - np.where(price > lam, (price - lam) * most, 0.0)
            better = (value > best.value) & ~mute & sends
            f, per_j, tau = prices(y, omega)
            unit = price / (t * f)
            bend = unit * (tau * w_s / clock**2 - 2.0 * per_j * w_j * clock)
            new = Terms(
                value, bound, off, price, unit * per_j, unit * (G * (1.0 - omega)) * t, unit * tau,
                unit * per_j * t, np.where(clock >= high * (1.0 - 1e-9), np.maximum(bend, 0.0), 0.0),
                np.where(clock <= low * (1.0 + 1e-9), np.maximum(-bend, 0.0), 0.0), own,
            )  # fmt: skip
            best = Terms(
                *(np.where(better, n, o) for n, o in zip(vars(new).values(), vars(best).values(), strict=True))
            )
    return replace(best, least=most_least)
