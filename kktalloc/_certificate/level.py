"""The least of energy, bandwidth and time at prices, of devices that keep what an allocation keeps: for `least_cost`.

Each device has a polygon of prices at which the tangent of `kktalloc._certificate.tangent` is flat. Its corners are
bounds; all devices together take the mixture of theirs that pays best for the seconds of the round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kktalloc._certificate.tangent import AT_LIMIT, Bound, Physical, chosen, least_tangent, physical
from kktalloc._device.efficiency import phi
from kktalloc._problem.allocation import Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.fields import CLOCK_EXPONENT
from kktalloc._problem.problem import Problem

# Relative. How near counts as at its least clock, and at a balance of power: the certificate's tolerance.
_AT_CLOCK = _AT_REST = 1e-9
# Far above what rounding moves, far below the tolerance: by how much less than all a longer upload is taken to be
# worth, and by how much a slope must be beyond the longest round.
_RESTED = _BEYOND = 1e-12
_ROUNDED = 1e-15  # a few last bits: candidates are moved to the safe side of a limit by so much


@np.errstate(all="ignore")
def level_bound(problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray, per_s: FloatArray) -> Bound:
    """The least ``per_j E + per_hz b + second (its time)`` of each device that keeps what `found` keeps.

    Its time is that up to the last bit, by the deadline. `per_hz` has shape ``(...)``, `per_j` ``(..., K)``. The
    prices of a second are the best for all together, where a second of the round costs `per_s`.

    Any prices >= 0 give a bound: for an allocation that keeps to the limits each price multiplies something <= 0, so
    the Lagrangian is not above its cost, and its tangent is not above the Lagrangian, which is convex. How a candidate
    below was come by only decides how tight its bound is.
    """
    longest_s = np.asarray(problem.cell.deadline_s)[..., 0]
    level = _level(problem, found, per_hz, per_j)
    candidates: list[Bound] = []
    best: Bound | None = None
    most = np.full(problem.batch_shape, -np.inf)
    seconds = per_s[..., None] + np.zeros(problem.shape)
    # Next to the wideband limit an ulp of the round moves what an upload would pay for a second by up to 1e-8 of it, so
    # that the payments do not add up to a second's price. Each device then tries to pay what the others leave.
    for _ in range(2):
        candidates += [level.bound(*prices) for prices in level.prices(seconds)]
        bound = _balanced(candidates, per_s, longest_s)
        left = per_s - bound.second.sum(axis=-1)
        total = bound.value.sum(axis=-1) + np.minimum(left, 0.0) * longest_s
        best = bound if best is None else chosen((total > most)[..., None], bound, best)
        most = np.maximum(most, total)
        seconds = np.maximum(bound.second + left[..., None], 0.0)
    assert best is not None
    return best


@dataclass(frozen=True, eq=False)
class _Level:
    """Devices at an allocation, and prices of bandwidth and energy there; shape ``(..., K)``."""

    x: Physical
    lam: FloatArray  # of a Hz
    w: FloatArray  # of a joule
    P: FloatArray  # peak power, W
    eta: FloatArray  # efficiency of the amplifier
    p_c: FloatArray  # power of the electronics, W
    fixed_s: FloatArray
    fixed_j: FloatArray
    least_s: FloatArray  # of computing, at the fastest clock
    most_s: FloatArray  # at the slowest, or up to the end of the round
    busy: FloatArray  # seconds of computing
    joules: FloatArray  # of upload and computing
    m: FloatArray  # y e^y - e^y + 1
    sends: np.ndarray
    moving: np.ndarray  # whose clock may be slower
    clock: FloatArray  # W of waiting a second less
    full: np.ndarray  # at its own bandwidth

    def prices(self, seconds: FloatArray) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """Prices of a joule and of what is radiated, and what who sends nothing pays for a second.

        `seconds` is what some of them would pay for one.
        """
        x, w, P, eta, clock = self.x, self.w, self.P, self.eta, self.clock
        A = self.lam * x.g / (x.t * self.m)
        per_watt = x.b * self.m / x.g
        # An upload that takes a second longer saves `a (per_watt + P) - W lasting` at a price W of a joule and a of
        # what is radiated. What may make the Lagrangian flat at the allocation is a polygon of W and a: bounded by
        # what they are where the budget, peak power or the own bandwidth limit doesn't bind, where waiting is worth
        # nothing, or what the clock makes of it, or all of `seconds`. Its corners pay the least and the most for a
        # second. What is worth nothing has to be no more than that by rounding either, for there may be any number of
        # seconds to spare.
        lasting, shorter = self.p_c + P / eta, per_watt + P
        by_clock, by_budget = seconds / clock, seconds / (per_watt / eta - self.p_c)
        uploads = (
            (w, np.where(self.full, np.maximum(A, w / eta), w / eta)),
            (eta * A, A),
            (w, A),
            (A * shorter / (lasting + clock), A),
            (A * shorter / lasting * (1.0 + _ROUNDED), A),
            ((A * shorter - seconds) / lasting, A),
            (w, w * (lasting + clock) / shorter),
            (w, w * lasting / shorter * (1.0 - _ROUNDED)),
            (w, (w * lasting + seconds) / shorter),
            (by_clock, (by_clock * lasting + seconds) / shorter),
            (by_budget, by_budget / eta),
        )
        # Who sends nothing pays what its clock can save, or nothing where that may not be slower. One that can't be
        # faster pays all: then the round is as long as it takes whatever is decided.
        idles = (
            (w, np.where(self.moving, w * clock, 0.0)),
            (w, w * clock),
            (w, seconds),
            (by_clock, seconds),
        )
        for i, (W, a) in enumerate(uploads):
            at_rest, idle = idles[i % len(idles)]
            W = np.maximum(np.nan_to_num(np.where(self.sends, W, at_rest)), w)
            yield W, np.where(self.sends, np.maximum(np.nan_to_num(a), W / eta), 0.0), idle

    def bound(self, W: FloatArray, a: FloatArray, idle: FloatArray) -> Bound:
        """The tangent at such prices, at its least."""
        x, lam, w, P, sends, clock = self.x, self.lam, self.w, self.P, self.sends, self.clock
        pi = np.where(sends, a - W / self.eta, 0.0)
        kappa = np.where(self.full & sends, np.maximum(a * x.t * self.m / x.g - lam, 0.0), 0.0)
        by_upload = np.where(sends, a * x.b * self.m / x.g - W * self.p_c + pi * P, 0.0)
        theta = np.maximum(np.where(sends, by_upload, idle), 0.0)
        in_b = np.where(sends, lam + kappa - a * x.t * self.m / x.g, 0.0)
        in_t = np.where(sends, theta - by_upload, 0.0)
        in_tau = np.where(x.work > 0.0, theta - W * clock, 0.0)
        flat = (
            least_tangent(in_b, x.b, 0.0 * x.b, x.most_hz)
            + least_tangent(in_t, x.t, 0.0 * x.t, np.maximum(x.window, 0.0))
            + least_tangent(in_tau, self.busy, self.least_s, self.most_s)
        )
        omega = W - w
        paid = np.where(omega > 0.0, np.where(np.isfinite(x.budget), omega * x.budget, np.inf), 0.0)
        own = np.where(kappa > 0.0, kappa * x.own, 0.0)
        value = (
            w * self.fixed_j + W * self.joules + pi * (x.e - P * x.t) * sends + (lam + kappa) * x.b
            + theta * (np.where(sends, x.t, 0.0) + self.busy + self.fixed_s) + flat - paid - own
        )  # fmt: skip
        worth = (
            W * (self.joules + self.fixed_j) + np.abs(paid) + pi * P * x.t + (lam + kappa) * x.b
            + theta * (x.t + self.busy + self.fixed_s)
        )  # fmt: skip
        sound = np.isfinite(value) & np.isfinite(worth)
        return Bound(np.where(sound, value, -np.inf), *(np.where(sound, v, 0.0) for v in (theta, omega, worth)))


def _level(problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray) -> _Level:
    d, x = problem.devices, _rested(problem, physical(problem, found))
    P, eta, p_c = (np.asarray(v) for v in (d.tx_power_max_w, d.pa_efficiency, d.circuit_power_w))
    low, high = np.asarray(d.clock_min), np.asarray(d.clock_max)
    sends, computes, least_s = x.nats > 0.0, x.work > 0.0, x.work / high
    return _Level(
        x, np.asarray(per_hz)[..., None] + np.zeros(problem.shape), np.asarray(per_j), P, eta, p_c,
        fixed_s=np.asarray(d.fixed_latency_s), fixed_j=np.asarray(d.fixed_energy_j), least_s=least_s,
        most_s=np.minimum(x.work / low, np.maximum(np.maximum(x.window, 0.0), least_s)),
        busy=np.where(computes, x.work / x.s, 0.0),
        joules=np.where(sends, x.e / eta + p_c * x.t, 0.0) + x.heat * x.s ** (CLOCK_EXPONENT - 1),
        m=np.exp(x.y) * phi(x.y), sends=sends, moving=(x.s > low * (1.0 + _AT_CLOCK)) & computes,
        clock=np.where(computes, 2.0 * x.heat / x.work * x.s**CLOCK_EXPONENT, 0.0),
        full=(x.b >= x.own * (1.0 - AT_LIMIT)) & (x.own > 0.0),
    )  # fmt: skip


def _rested(problem: Problem, x: Physical) -> Physical:
    """The same with uploads that electronics end early a hair longer, so that yet longer ones are worth nothing.

    By rounding they would be worth a little, and there may be any number of seconds to spare.
    """
    worth = np.asarray(problem.devices.circuit_power_w) * np.asarray(problem.devices.pa_efficiency) * x.g / x.b
    m = np.exp(x.y) * phi(x.y)
    early = (x.nats > 0.0) & (np.abs(m - worth) <= _AT_REST * worth)
    y = np.where(early, x.y + (worth * (1.0 - _RESTED) - m) / (x.y * np.exp(x.y)), x.y)
    t = np.where(early, x.nats / (x.b * y), x.t)
    return replace(x, y=y, t=t, e=np.where(early, t * x.b * np.expm1(y) / x.g, x.e))


@np.errstate(all="ignore")
def _balanced(bounds: list[Bound], per_s: FloatArray, longest_s: FloatArray) -> Bound:
    """The best mixture of several bounds per device; beyond `per_s` all together pay `longest_s` for a second's price.

    The dual function is concave, so a mixture of bounds is a bound. Of each device those count that are on the upper
    envelope of value over what it pays for a second. All devices together go along theirs, the steepest piece first,
    until the seconds of the round are paid for.
    """
    value, second = (np.array([getattr(bound, name) for bound in bounds]) for name in ("value", "second"))
    last = np.where(np.isfinite(value), second, np.inf)
    at = np.lexsort((-value, last), axis=0)[:1]
    corners, steps = [at], []
    slopes: list[FloatArray] = []
    while True:
        here_v, here_s = (np.take_along_axis(x, at, axis=0) for x in (value, second))
        rise = np.where(second > here_s, (value - here_v) / (second - here_s), -np.inf)
        rise = np.where(np.isnan(rise), -np.inf, rise)
        slope = rise.max(axis=0, keepdims=True)
        further = slope > 0.0
        if not further.any():
            break
        to = np.where(further, np.where(rise >= slope, second, -np.inf).argmax(axis=0)[None], at)
        # Where corners differ by rounding alone a later piece may seem steeper: it must not be taken before an earlier.
        steepest = slopes[-1] if slopes else np.inf
        slopes.append(np.minimum(np.where(further, slope, -np.inf)[0], steepest))
        steps.append((np.take_along_axis(second, to, axis=0) - here_s)[0])
        corners.append(to)
        at = to
    taken = _taken(slopes, steps, per_s - np.take_along_axis(second, corners[0], axis=0)[0].sum(axis=-1), longest_s)
    shares = -np.diff([np.ones(value.shape[1:]), *taken, np.zeros(value.shape[1:])], axis=0)
    mixed = []
    for name in vars(bounds[0]):
        each = np.array([getattr(bound, name) for bound in bounds])
        each = np.concatenate([np.take_along_axis(each, corner, axis=0) for corner in corners])
        mixed.append(np.where(shares > 0.0, shares * each, 0.0).sum(axis=0))
    return Bound(*mixed)


def _taken(slopes: list[FloatArray], steps: list[FloatArray], left: FloatArray, longest_s: FloatArray) -> FloatArray:
    """How much of each piece is taken, in [0, 1], shape ``(pieces, ..., K)``, for `left` to be used up."""
    if not slopes:
        return np.empty(0)
    # Pieces of a cell side by side, those of a device in their order.
    slope, step = (np.moveaxis(np.array(x), 0, -2) for x in (slopes, steps))
    flat_slope, flat_step = (x.reshape(*left.shape, -1) for x in (slope, step))
    order = np.argsort(-flat_slope, axis=-1, kind="stable")
    sorted_slope, sorted_step = (np.take_along_axis(x, order, axis=-1) for x in (flat_slope, flat_step))
    before = np.cumsum(sorted_step, axis=-1) - sorted_step
    share = np.where(sorted_step > 0.0, np.clip((left[..., None] - before) / sorted_step, 0.0, 1.0), 0.0)
    # One that seems worth as many seconds as there can be, but for rounding, has no say beyond the price of a second.
    beyond = sorted_slope > longest_s[..., None] * (1.0 + _BEYOND)
    share = np.where(beyond & (sorted_step > 0.0), 1.0, share)
    taken = np.empty_like(share)
    np.put_along_axis(taken, order, share, axis=-1)
    return np.moveaxis(taken.reshape(slope.shape), -2, 0)
