"""A device with a clock and electronics: the least bandwidth B(q) with which it keeps q, and the slope B'(q).

Per device, in its own units (time in windows, radiated energy in peaks times windows, bandwidth in cells, nats):

    L(q) <= t b ln(1 + snr e / (t b)),    t + w(q)/s <= 1,    slow <= s <= fast
    e <= t,    e + circuit t + h(q) s^2 <= energy

with the relative clock s, the upload's time t and energy e, and L, w, h affine in q; h is a constant times w. Given q
and t the best e is the smaller of the two limits, peak power below t_x and energy above it, and the best clock the
slowest that is in time. So B is the minimum over t of a convex function over t, ``beta(L, e(t)) / t``, and falls as
long as peak power is the limit. Where energy is, it is stationary at the *power balance*

    circuit + 2 (h/w) s^3 = (e/t) psi(y),      psi(y) = y e^y / (e^y - 1) - 1,      e^y = 1 + snr e / (t b)

which free of t, multiplied by it, reads ``snr A(s) = L e^y`` with ``A = energy - 3 h s^2 + 2 (h/w) s^3``: y is explicit
in s, and one falls while the other rises along the energy limit. Before the clock rises from its lower end the term of
the clock is missing, and y is known at once: ``L e^y = snr (energy - h slow^2)``.

B is convex (the proof is checked by ``kktalloc verify``), so that everything built on a convex least bandwidth holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import log

import numpy as np

from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_for, phi
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import PruningError
from kktalloc._problem.problem import Problem
from kktalloc._problem.regime import Regime
from kktalloc._problem.tolerances import FEASIBLE

POLYNOMIAL_ITERATIONS = 12  # from within a factor of 2 of the root
BALANCE_ITERATIONS = 100
BALANCED = 1e-13  # a last step of Newton's method of this size, relative, is rounding
ROOT_ITERATIONS = 100
ROUNDING = 1e-13  # of logarithms of bandwidths and slopes


@dataclass(frozen=True, eq=False)
class Clocked:
    """Devices in their own units. Every field has shape ``(N, K)``: batch dimensions are flattened to one."""

    weight: FloatArray  # alpha
    rate0: FloatArray  # nats of the overhead, over what the window and the cell's bandwidth hold at 1 nat/s/Hz
    rate1: FloatArray  # the same of the payload
    work0: FloatArray  # computing that is not pruned, in windows at relative clock 1
    work1: FloatArray  # what pruning saves of it
    heat0: FloatArray  # its energy at relative clock 1, in radiated peaks times windows
    heat1: FloatArray
    circuit: FloatArray  # power of the electronics while sending, in peaks that could be radiated for it
    energy: FloatArray  # budget, in the unit of heat; inf where it is no limit
    slow: FloatArray
    fast: FloatArray
    snr: FloatArray  # at peak power spread over the cell's bandwidth; 0 for a device that can send nothing
    q_min: FloatArray
    b_max: FloatArray  # the most bandwidth it can use, in cells; inf where that is no limit
    late: np.ndarray  # bool: what has to be computed does not fit the window
    error: PruningError

    def rows(self, keep: np.ndarray | slice) -> Clocked:
        """The problems selected by a mask, by indices, or by a slice, over ``(N,)``."""
        mask = np.zeros(self.weight.shape[0], dtype=bool)
        mask[keep] = True
        arrays = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name != "error"}
        return Clocked(**arrays, error=self.error.rows(mask, self.weight.shape))


@dataclass(frozen=True, eq=False)
class Point:
    """A device at a keep ratio with its least bandwidth; shape ``(N, K)``, units as in `Clocked`."""

    b: FloatArray  # inf where no bandwidth does
    slope: FloatArray  # B'(q), to the right where it jumps; inf where b is
    t: FloatArray
    p: FloatArray  # in peaks
    clock: FloatArray
    regime: np.ndarray  # what limits its power: PEAK, ENERGY, KINK, CLOCK, CLOCK_MIN or EARLY_FINISH


def clocked_form(problem: Problem, deadline_s: FloatArray | None = None) -> Clocked:
    """The devices of a problem in their own units; `deadline_s`, shape ``(..., 1)``, stands in for the cell's."""
    d, cell = problem.devices, problem.cell
    deadline = np.asarray(cell.deadline_s if deadline_s is None else deadline_s)
    window = deadline - np.asarray(d.fixed_latency_s)
    unit = np.where(window > 0.0, window, deadline)
    peak, eta, own = (np.asarray(v) for v in (d.tx_power_max_w, d.pa_efficiency, d.bandwidth_max_hz))
    watts = np.where(peak > 0.0, peak, 1.0)
    heard = np.where((own > 0.0) & (window > 0.0), np.asarray(d.channel_gain) * peak, 0.0)
    q_min = 1.0 - np.asarray(d.pruning_ratio_max)
    work0, work1 = np.asarray(d.fixed_compute_s), np.asarray(d.pruned_compute_s)
    busy = (work0 + work1 * q_min > 0.0) | (np.asarray(d.overhead_bits) > 0.0) | (q_min > 0.0)
    with np.errstate(over="ignore"):
        nats, joule = log(2.0) / (unit * np.asarray(cell.bandwidth_hz)), eta / (watts * unit)
        arrays = {
            "weight": d.weight,
            "rate0": np.asarray(d.overhead_bits) * nats,
            "rate1": np.asarray(d.payload_bits) * nats,
            "work0": work0 / unit,
            "work1": work1 / unit,
            "heat0": np.asarray(d.fixed_compute_j) * joule,
            "heat1": np.asarray(d.pruned_compute_j) * joule,
            "circuit": np.asarray(d.circuit_power_w) * (eta / watts),
            "energy": (np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j)) * joule,
            "slow": d.clock_min,
            "fast": d.clock_max,
            "snr": heard / (np.asarray(cell.noise_psd_w_per_hz) * np.asarray(cell.bandwidth_hz)),
            "q_min": q_min,
            "b_max": own / np.asarray(cell.bandwidth_hz),
            "late": np.where(window > 0.0, (work0 + work1 * q_min) / np.asarray(d.clock_max) > window,
                             busy | (window < 0.0)),
        }  # fmt: skip
    shape = int(np.prod(problem.batch_shape)), problem.shape[-1]
    flat = {name: np.broadcast_to(np.asarray(v), problem.shape).reshape(shape) for name, v in arrays.items()}
    return Clocked(**flat, error=problem.pruning_error.rows(np.ones(shape[:1], dtype=bool), shape))


@np.errstate(all="ignore")  # branches that a device does not take may divide by 0
def least_bandwidth(form: Clocked, q: FloatArray, clock: FloatArray | None = None) -> Point:
    """The least bandwidth that keeps q, and how; shape ``(N, K)``. `clock` is a first guess of it."""
    L, w, h = form.rate0 + form.rate1 * q, form.work0 + form.work1 * q, form.heat0 + form.heat1 * q
    slow, circuit, energy, snr = form.slow, form.circuit, form.energy, form.snr
    works = form.work0 + form.work1 > 0.0
    fast = np.where(works, form.fast, slow)
    # Power of computing at relative clock 1; at q = 0 too, where there may be nothing to compute.
    kappa = np.where(works, (form.heat0 + form.heat1) / (form.work0 + form.work1), 0.0)
    t_fast, t_slow = 1.0 - w / fast, 1.0 - w / slow

    def spare(t: FloatArray, s: FloatArray) -> FloatArray:
        """What the budget leaves to radiate."""
        return energy - circuit * t - h * s * s

    peak = spare(t_fast, fast) >= t_fast
    # Where peak power and energy meet: with the slowest clock, or at the positive root r = 1 - t of a cubic.
    t_kink = (energy - h * slow * slow) / (1.0 + circuit)
    slack = t_kink <= t_slow
    r = _cubic_root(1.0 + circuit, energy - 1.0 - circuit, h * w * w)
    r = np.clip(np.where(slack, 1.0 - t_kink, r), w / fast, 1.0)
    s_kink = np.where(slack, slow, np.clip(w / r, slow, fast))
    t_kink = np.where(slack, t_kink, 1.0 - r)
    for _ in range(2):  # a short upload has lost its digits in the difference: Newton steps in t find them again
        at_root = w / (1.0 - t_kink)
        spent = h * at_root * at_root
        better = t_kink + (energy - (1.0 + circuit) * t_kink - spent) / (1.0 + circuit + 2.0 * spent / (1.0 - t_kink))
        t_kink = np.where(~slack & (t_kink < 0.5) & (better > 0.0) & (better < 0.5), better, t_kink)

    # Early finish: energy is all that limits, and the clock is at its lower end.
    y_early = np.log(snr * (energy - h * slow * slow) / L)
    radiated = L * np.expm1(y_early) / (snr * y_early)
    t_early = radiated * _psi(y_early) / circuit

    start = np.where(slack, slow, s_kink)  # the slowest clock at which the whole window is used on the energy limit
    excess_slow, excess_fast = (_excess(form, L, w, h, kappa, s, 1.0 - w / s)[0] for s in (start, fast))
    regime = np.select(
        [
            peak,
            slack & (t_early <= t_kink),
            slack & (t_early < t_slow),
            ~slack & (excess_slow >= 0.0),
            excess_fast <= 0.0,
            excess_slow >= 0.0,
        ],
        [Regime.PEAK, Regime.KINK, Regime.EARLY_FINISH, Regime.KINK, Regime.ENERGY, Regime.CLOCK_MIN],
        Regime.CLOCK,
    )
    moving = (regime == Regime.CLOCK) & (snr > 0.0) & (L > 0.0)
    s = np.select([np.isin(regime, (Regime.PEAK, Regime.ENERGY)), regime == Regime.KINK], [fast, s_kink], slow)
    t = np.select([regime == Regime.KINK, regime == Regime.EARLY_FINISH], [t_kink, t_early], 1.0 - w / s)
    if moving.any():
        low = np.where(moving, start, fast)
        guess = (
            np.sqrt(low * fast)
            if clock is None
            else np.where((clock > low) & (clock < fast), clock, np.sqrt(low * fast))
        )
        balanced = _balanced(form, L, w, h, kappa, guess, low, fast, moving)
        s, t = (np.where(moving, new, old) for new, old in zip(balanced, (s, t), strict=True))
    early = regime == Regime.EARLY_FINISH
    e = np.select([early, np.isin(regime, (Regime.PEAK, Regime.KINK))], [radiated, t], spare(t, s))
    y = np.where(early, y_early, np.minimum(efficiency_for(L / (snr * e)), EFFICIENCY_MAX))

    # Nothing to send: the clock is as slow as the window allows.
    idle = L <= 0.0
    s = np.where(idle, np.maximum(slow, w), s)
    served = (
        np.where(idle, (s <= form.fast) & (h * s * s <= energy), (t > 0.0) & (e > 0.0) & (snr * e > L)) & ~form.late
    )
    b = np.where(idle, 0.0, L / (t * y))
    served &= np.isfinite(b)
    slope = np.where(idle, 0.0, _slope(form, regime, w, h, kappa, s, t, b, y))
    return Point(
        np.where(served, b, np.inf), np.where(served, slope, np.inf), np.where(idle, 0.0, t),
        np.where(idle, 0.0, np.minimum(e / t, 1.0)), s, regime,
    )  # fmt: skip


def _slope(
    form: Clocked, regime: np.ndarray, w: FloatArray, h: FloatArray, kappa: FloatArray, s: FloatArray, t: FloatArray,
    b: FloatArray, y: FloatArray,
) -> FloatArray:  # fmt: skip
    """``B' = [S + (snr / (1 + x)) omega C_q + tau c/s] / (t phi(y))`` with the prices of energy and time per device.

    omega is 1 where energy alone limits the power, 0 where the peak does, between at the kink; tau is what a longer
    upload would carry: nothing where the upload ends early, else what the clock makes of it.
    """
    f, per_joule = phi(y), form.snr * np.exp(-y)
    # A later end would carry b f + per_joule (peak), and cost circuit and clock where energy counts.
    whole = b * f + per_joule
    at_slow = (regime == Regime.EARLY_FINISH) | ((regime == Regime.KINK) & (t < 1.0 - w / s * (1.0 + 1e-15)))
    clock = np.where(at_slow, 0.0, 2.0 * kappa * s**3)
    omega = np.select(
        [regime == Regime.PEAK, regime == Regime.KINK],
        [0.0, whole / (per_joule * (1.0 + form.circuit + clock))],
        1.0,
    )
    energy = per_joule * omega
    free_time = (regime == Regime.EARLY_FINISH) | (regime == Regime.KINK) | (regime == Regime.CLOCK)
    tau = np.where(
        free_time,
        energy * clock,
        b * f + per_joule * (1.0 - omega) - energy * form.circuit,
    )
    return (form.rate1 + energy * form.heat1 * s * s + tau * form.work1 / s) / (t * f)


def _psi(y: FloatArray) -> FloatArray:
    """``y e^y / (e^y - 1) - 1``, by its series near 0."""
    small = np.abs(y) < 1e-2
    z = np.where(small, y, 0.0)
    return np.where(small, z * (0.5 + z * (1.0 / 12.0 - z * z / 720.0)), y / -np.expm1(-y) - 1.0)


def _growth(y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``ln((e^y - 1)/y)`` and its slope, for any real y."""
    small = np.abs(y) < 1e-2
    z = np.where(small, 1.0, y)
    series = y * (0.5 + y * (1.0 / 24.0 - y * y / 2880.0))
    slope = 0.5 + y * (1.0 / 12.0 - y * y / 720.0)
    value = np.maximum(z, 0.0) + np.log(-np.expm1(-np.abs(z)) / np.abs(z))
    return np.where(small, series, value), np.where(small, slope, -1.0 / np.expm1(-z) - 1.0 / z)


def _excess(
    form: Clocked, L: FloatArray, w: FloatArray, h: FloatArray, kappa: FloatArray, s: FloatArray, t: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log of the energy that the balance asks for at clock s over what the budget leaves, rising in s; its slope."""
    A = form.energy - h * s * s + 2.0 * kappa * s**3 * t
    left = form.energy - form.circuit * t - h * s * s
    value, growth = _growth(np.log(form.snr * A / L))
    excess = np.where(left > 0.0, value - np.log(form.snr * left / L), np.inf)
    slope = growth * 6.0 * kappa * s * s * t / A + (form.circuit * w / (s * s) + 2.0 * h * s) / left
    return excess, slope


def _balanced(
    form: Clocked, L: FloatArray, w: FloatArray, h: FloatArray, kappa: FloatArray, s: FloatArray, low: FloatArray,
    high: FloatArray, moving: np.ndarray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """The clock in ``[low, high]`` that balances power, and the upload's time: Newton from the guess s, bracketed."""
    moving = moving.copy()
    for _ in range(BALANCE_ITERATIONS):
        excess, slope = _excess(form, L, w, h, kappa, s, 1.0 - w / s)
        low, high = np.where(excess < 0.0, s, low), np.where(excess < 0.0, high, s)
        step, edge = s - excess / slope, 0.01 * (high - low)
        close = np.abs(step - s) <= BALANCED * s
        # A root at the very end of the bracket must not turn every step into a bisection.
        near = (step > low - edge) & (step < high + edge)
        inside = (step > low) & (step < high)
        step = np.select([close, inside, near], [s, step, np.clip(step, low + edge, high - edge)], 0.5 * (low + high))
        s = np.where(moving, step, s)
        moving &= ~close
        if not moving.any():
            break
    t = 1.0 - w / s
    # A short upload has lost its digits in the difference: a step in t itself finds them again.
    for _ in range(2):
        excess, slope = _excess(form, L, w, h, kappa, s, t)
        better = t - excess * w / (slope * s * s)
        short = (t < 0.5) & (better > 0.0) & (better < 0.5)
        t = np.where(short, better, t)
        s = np.where(short, np.clip(w / (1.0 - t), form.slow, form.fast), s)
    return s, t


def _cubic_root(cube: FloatArray, square: FloatArray, constant: FloatArray) -> FloatArray:
    """The positive root of ``cube r^3 + square r^2 = constant``, cube > 0 and constant >= 0: Newton from above."""
    third = np.cbrt(constant / cube)
    r = np.where(square < 0.0, third - square / cube, np.minimum(third, np.sqrt(constant / square)))
    for _ in range(POLYNOMIAL_ITERATIONS):
        slope = (3.0 * cube * r + 2.0 * square) * r
        r = np.where(slope > 0.0, r - ((cube * r + square) * r * r - constant) / slope, r)
    return r


def floor_points(form: Clocked) -> Point:
    """Each device at its floor; no bandwidth does where that is more than it can use itself."""
    at = least_bandwidth(form, form.q_min)
    return replace(at, b=np.where(at.b > form.b_max * (1.0 + FEASIBLE), np.inf, np.minimum(at.b, form.b_max)))


def floor_bandwidths(form: Clocked) -> FloatArray:
    """Least bandwidth of each device at its floor, in cells, shape ``(N, K)``; ``inf`` where none does."""
    return floor_points(form).b


def most_kept(form: Clocked, b: FloatArray) -> FloatArray:
    """The most that each device keeps with bandwidths b (in cells) that suffice for its floor; shape ``(N, K)``."""

    clock: FloatArray | None = None

    def beyond(q: FloatArray) -> FloatArray:
        nonlocal clock
        at = least_bandwidth(form, q, clock)
        clock = at.clock
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(at.b / b)

    return rising_root(beyond, form.q_min, np.ones_like(form.q_min))


def rising_root(rising: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Where rising functions, one per device, leave 0, from below; `low` or `high` where they do not. Values within
    `ROUNDING` are 0, or else neighbouring doubles end the search.

    Chandrupatla's method (Advances in Engineering Software 28, 1997) on arrays of any shape; values may be infinite.
    """
    a, f_a, b, f_b = low, rising(low), high, rising(high)
    at_low, at_high = f_a >= 0.0, f_b <= 0.0
    c, f_c, t = b, f_b, np.full(low.shape, 0.5)
    for _ in range(ROOT_ITERATIONS):
        x = a + t * (b - a)
        f_x = rising(x)
        same = (f_x > 0.0) == (f_a > 0.0)
        c, f_c = np.where(same, a, b), np.where(same, f_a, f_b)
        b, f_b = np.where(same, b, a), np.where(same, f_b, f_a)
        a, f_a = x, f_x
        with np.errstate(all="ignore"):
            width = np.abs(b - a)
            done = at_low | at_high | (width <= np.spacing(np.abs(a))) | (np.abs(f_a) <= ROUNDING)
            if done.all():
                break
            xi, ratio = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
            smooth = (ratio * ratio < xi) & ((1.0 - ratio) ** 2 < 1.0 - xi)
            t = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b)
            t = np.where(smooth & np.isfinite(t), t, 0.5)
            least = np.minimum(np.spacing(np.abs(a)) / width, 0.5)
            t = np.where(done, 0.0, np.clip(t, least, 1.0 - least))
    below = np.where((f_a <= ROUNDING) | ((f_b > 0.0) & (a < b)), a, b)
    return np.select([at_low, at_high], [low, high], below)
