"""A device that pays for bandwidth and for energy: the cheapest way to keep q, and what keeping more would cost.

Units of `kktalloc._device.clocked`: nats L(q), seconds of computing w(q) and joules h(q) at relative clock 1, an upload
of t windows with radiated energy e in bandwidth b at efficiency y:

    minimise  price b + worth (e + circuit t + h s^2),      L = t b y,   e = t b (e^y - 1) / snr
    e <= t,   e + circuit t + h s^2 <= energy,   b <= b_max,   t + w/s <= 1,   slow <= s <= fast

What is radiated, ``(1/snr) (t b) (e^(L/(t b)) - 1)``, is a jointly convex function of t and b: with m = y e^y - e^y + 1
its Hessian's determinant has the sign of ``2 y^2 e^y - m > 0``. With L and t affine in q the same holds of b and q
where the clock stands still. So one stationary point is the optimum. At a time t the efficiency is explicit,

    e^y (y - 1) + 1 = price snr / (worth t)     between the efficiencies of b_max and of the most that may be radiated

and what is left falls and then rises in t. A joule is worth W >= `worth` where the budget binds, a second theta, and

    A = price snr e^-y / (t phi(y)),   W + (price of the peak) = A,   theta = price b/t + (A - W) - W circuit
    d(cost)/dq = price S / (t phi(y)) + W j s^2 + theta c / s
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kktalloc._device.clocked import Clocked, _cubic_root, rising_root
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, efficiency_for, phi
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import Problem

LEAST_TIME = 1e-300  # windows
ON_LIMIT = 1e-12
CORNER = 1e-9
NOTHING = 1e-200  # nats


@dataclass(frozen=True, eq=False)
class Paid:
    """Devices at a keep ratio and prices; shape ``(N, K)``, units as in `Clocked`."""

    b: FloatArray  # inf where no bandwidth serves
    t: FloatArray
    p: FloatArray  # in peaks
    clock: FloatArray
    energy: FloatArray  # of the clock and the upload, in the unit of heat
    slope: FloatArray  # of the cost in q
    second: FloatArray  # theta: fall of the cost per window of time


@dataclass(frozen=True, eq=False)
class _Upload:
    """The best upload of a given length."""

    y: FloatArray
    b: FloatArray
    e: FloatArray
    clock: FloatArray
    steep: FloatArray  # sign and relative size of the cost's slope in t; infinite where t is beyond what serves
    at_energy: np.ndarray  # the budget limits what is radiated
    at_peak: np.ndarray
    served: np.ndarray


@np.errstate(all="ignore")  # branches that a device does not take may divide by 0
def cheapest(form: Clocked, q: FloatArray, price: FloatArray, worth: FloatArray) -> Paid:
    """The cheapest way to keep q at a price per cell of bandwidth, shape ``(N,)``, and per unit of heat, ``(N, K)``."""
    lam = price[:, None]
    sent, w, h = form.rate0 + form.rate1 * q, form.work0 + form.work1 * q, form.heat0 + form.heat1 * q
    L = np.maximum(sent, NOTHING)  # where nothing is sent yet the first bit has a price
    works = form.work0 + form.work1 > 0.0
    fast = np.where(works, form.fast, form.slow)
    kappa = np.where(works, (form.heat0 + form.heat1) / (form.work0 + form.work1), 0.0)

    def upload(
        t: FloatArray, poor: bool | None = None, hurried: bool | None = None, within: float = ON_LIMIT
    ) -> _Upload:
        """At the corners of its limit the side is told: budget or peak, clock above its lower end or at it.

        `within` is by how much the own bandwidth may be too little.
        """
        s = np.where(w > 0.0, np.clip(w / (1.0 - t), form.slow, fast), form.slow)
        moving = s > form.slow * (1.0 + ON_LIMIT) if hurried is None else np.full(s.shape, hurried)
        clock = np.where(moving, 2.0 * kappa * s**3, 0.0)
        left = form.energy - form.circuit * t - h * s * s
        by_energy = left < t if poor is None else np.full(s.shape, poor)
        limit, rise = np.where(by_energy, left, t), np.where(by_energy, -form.circuit - clock, 1.0)
        hard = np.minimum(efficiency_for(L / (form.snr * limit)), EFFICIENCY_MAX)
        wide = np.where(form.b_max < np.inf, L / (t * form.b_max), 0.0)  # what the own bandwidth asks for at the least
        free = efficiency_at_power_price(lam * form.snr / (worth * t))
        y = np.minimum(np.maximum(free, wide), hard)
        full = free >= hard  # a corner with the own bandwidth is that limit's where the prices ask for less power
        per_joule = form.snr * np.exp(-y) / phi(y)  # fall of t b per unit radiated
        b = L / (t * y)
        e = np.where(full, limit, L * np.expm1(y) / (form.snr * y))
        # The slope of e in t, along its limit or at the own bandwidth. Where neither binds it does not count, and would
        # drown electronics of next to no power.
        along = np.select([full, wide > free], [rise, -b / per_joule], 0.0)
        gain, loss = lam * (b + per_joule * along) / t, worth * (along + form.circuit + clock)
        steep = (loss - gain) / (np.abs(gain) + np.abs(loss))
        sends = (left > 0.0) & (form.snr * limit > L)
        served = sends & (wide <= hard * (1.0 + within))
        # Towards what serves: more energy, or else less of the bandwidth that the most energy takes.
        longer = np.where(sends, b + per_joule * rise > 0.0, ~by_energy)
        aim = np.where(longer, -np.inf, np.inf)
        steep = np.where(served, np.nan_to_num(steep), aim)
        return _Upload(y, b, e, s, steep, by_energy & full, ~by_energy & full, served)

    longest = _longest(w, fast)
    slowest_end = 1.0 - w / form.slow

    def best_length() -> FloatArray:
        # No shorter one serves, however much bandwidth there is: that may be by any number of decades.
        low, high = np.clip(L / form.snr, LEAST_TIME, longest), longest
        # The slope jumps where peak and budget meet, and where the clock leaves its lower end.
        for corner_t, sides in (
            (_peak_meets_budget(form, w, h), ({"poor": False}, {"poor": True})),
            (slowest_end, ({"hurried": False}, {"hurried": True})),
        ):
            inside = (corner_t > low) & (corner_t < high)
            there = np.where(inside, corner_t, high)
            before, after = (upload(there, **side).steep for side in sides)
            low = np.where(inside & (before < 0.0), there, low)
            high = np.where(inside & (after > 0.0), there, high)
        start, end = np.log(low), np.log(high)
        found = rising_root(lambda log_t: upload(np.exp(log_t)).steep, start, end)
        return np.select([found <= start, found >= end], [low, high], np.clip(np.exp(found), low, high))

    # Without electronics and with a clock that stands still a longer upload takes less of everything.
    t = longest if (form.circuit == 0.0).all() and (fast == form.slow).all() else best_length()
    at = upload(t, within=2.0 * ON_LIMIT)  # the shortest that serves is found from below
    per_joule = form.snr * np.exp(-at.y) / phi(at.y)
    full = at.at_energy | at.at_peak
    own = np.where(full, lam, np.maximum(lam, worth * t / per_joule))  # at its own limit it would pay more for a Hz
    A = own * per_joule / t
    # Of next to no work the time left of the window tells the clock to few digits: within them it rests.
    told = np.where(w > 0.0, 4.0 * np.finfo(np.float64).eps * at.clock**2 / w, 0.0)
    moving = at.clock > form.slow * (1.0 + ON_LIMIT) + told
    clock = np.where(moving, 2.0 * kappa * at.clock**3, 0.0)
    # Where peak and budget bind at once both have a price.
    slack = form.energy - form.circuit * t - h * at.clock**2 - at.e
    corner = full & (np.abs(slack) <= CORNER * at.e) & (np.abs(at.e - t) <= CORNER * t)
    shared = (own * at.b / t + A) / (1.0 + form.circuit + clock)
    W = np.where(corner, np.clip(shared, worth, np.maximum(A, worth)), np.where(at.at_energy, A, worth))
    by_upload = np.maximum(own * at.b / t + np.where(full, np.maximum(A - W, 0.0), 0.0) - W * form.circuit, 0.0)
    early = ~moving & (t < slowest_end * (1.0 - ON_LIMIT))
    second = np.where(early, 0.0, np.maximum(by_upload, W * clock))
    slope = own * form.rate1 / (t * phi(at.y)) + W * form.heat1 * at.clock**2 + second * form.work1 / at.clock

    idle = sent <= 0.0
    slowest = np.where(w > 0.0, np.clip(w, form.slow, fast), form.slow)
    served = np.where(idle, slowest >= w, at.served & (w < fast)) & ~form.late
    s = np.where(idle, slowest, at.clock)
    served &= h * s * s <= form.energy
    alone = worth * np.where(slowest > form.slow, 2.0 * kappa * slowest**3, 0.0)
    return Paid(
        np.where(served, np.where(idle, 0.0, np.minimum(at.b, form.b_max)), np.inf), np.where(idle, 0.0, t),
        np.where(idle, 0.0, np.minimum(at.e / t, 1.0)), s,
        np.where(idle, 0.0, at.e + form.circuit * t) + h * s * s,
        np.where(served, slope, np.inf), np.where(idle, alone, second),
    )  # fmt: skip


@np.errstate(all="ignore")
def radiated(form: Clocked, q: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Power in peaks and energy, computing included, of keeping q in bandwidth b, in an upload of all the time left.

    For clocks that stand still and without electronics.
    """
    works = form.work0 + form.work1 > 0.0
    s = np.where(works, form.fast, form.slow)
    nats, t = form.rate0 + form.rate1 * q, _longest(form.work0 + form.work1 * q, s)
    e = np.where(nats > 0.0, t * b * np.expm1(nats / (t * b)) / form.snr, 0.0)
    return np.minimum(e / t, 1.0), e + (form.heat0 + form.heat1 * q) * s * s


def _longest(w: FloatArray, fast: FloatArray) -> FloatArray:
    """What the fastest clock leaves of the window for the upload; an ulp where that would be nothing."""
    return np.maximum(1.0 - w / fast, np.finfo(np.float64).epsneg)


def _peak_meets_budget(form: Clocked, w: FloatArray, h: FloatArray) -> FloatArray:
    """The time at which peak and energy allow as much: with the slowest clock, or else all of the window used."""
    t = (form.energy - h * form.slow**2) / (1.0 + form.circuit)
    r = _cubic_root(1.0 + form.circuit, form.energy - 1.0 - form.circuit, h * w * w)
    return np.where(t <= 1.0 - w / form.slow, t, 1.0 - r)


def joules_per_heat(problem: Problem, deadline_s: FloatArray | None = None) -> FloatArray:
    """Joules per unit of heat of `Clocked`, shape ``(N, K)``."""
    d = problem.devices
    deadline = np.asarray(problem.cell.deadline_s if deadline_s is None else deadline_s)
    peak = np.asarray(d.tx_power_max_w)
    joules = np.where(peak > 0.0, peak, 1.0) * windows_s(problem, deadline) / np.asarray(d.pa_efficiency)
    return np.broadcast_to(joules, problem.shape).reshape(problem.sizes)


def windows_s(problem: Problem, deadline_s: FloatArray) -> FloatArray:
    """Seconds of a window of `Clocked`, shape ``(..., K)``."""
    window = deadline_s - np.asarray(problem.devices.fixed_latency_s)
    return np.where(window > 0.0, window, deadline_s)
