"""Judge answers that pay for energy: lower bounds on what any allocation costs, from convexity and weak duality alone.

What a device radiates to send L nats in t seconds and bandwidth b, ``e = t b (e^y - 1)/g`` with ``y = L/(t b)``, is a
jointly convex function of t and b, and of q and b where the clock stands still, so that t and L are affine in q: the
determinants of its Hessian have the sign of ``2 y^2 e^y - m``, and ``m = y e^y - e^y + 1``, the integral of ``s e^s``
from 0 to y, is at most ``y^2 e^y``. Its derivatives:

    de/db = -t m/g,   de/dt = -b m/g,   de/dL = e^y/g

So is the Lagrangian of a device, with a price W >= its own of a joule, pi of peak power, lam and kappa of bandwidth and
theta of its time. It is nowhere below its tangent at the allocation, and a tangent is least at an end of each range:
a bound for any prices, which is tight where the tangent is flat. Nothing here knows how an allocation was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kktalloc._certificate.certificate import Certificate
from kktalloc._certificate.usage import _feasible
from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, phi
from kktalloc._problem.allocation import LN2, Allotment
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.problem import CLOCK_EXPONENT, Problem
from kktalloc._problem.tolerances import CERTIFIED, KEEP_RATIO
from kktalloc._problem.variant import variant

# Relative. How near counts as at its own bandwidth, at its least clock, at a balance of power: the certificate's
# tolerance, for nearer than that no answer is told apart.
_AT_LIMIT = _AT_CLOCK = _AT_REST = 1e-9
# Far above what rounding moves, far below the tolerance: by how much less than all a longer upload is taken to be
# worth, and by how much a slope must be beyond the longest round.
_RESTED = _BEYOND = 1e-12
_ROUNDED = 1e-15  # a few last bits: candidates are moved to the safe side of a limit by so much
_NO_TIME = 1e-15  # of the longest round


@np.errstate(all="ignore")
def judge_cost(
    problem: Problem, found: Allotment, longest_s: FloatArray, per_j: FloatArray, per_s: FloatArray,
    per_hz: FloatArray, cost: FloatArray, claims: dict[str, FloatArray],
) -> Certificate:  # fmt: skip
    """Whether an allocation by the deadline of `problem` takes the least ``sum per_j E + per_s T``, ``T <= longest_s``.

    The gap is relative to the cost and what the budgets are worth. Shapes: `per_j` ``(..., K)``, the rest ``(...)``.
    `claims` are what the answer says besides, by its field names; they have to be what follows from the allocation.
    """
    B, T = (np.asarray(v)[..., 0] for v in (problem.cell.bandwidth_hz, problem.cell.deadline_s))
    bound, rest, lower, most_s = cost_bound(
        variant(problem, deadline_s=longest_s), found, per_hz, per_j, per_s, T, cost
    )
    scale = np.abs(cost) + per_hz * B + np.maximum(-rest, 0.0) * most_s + bound.worth.sum(axis=-1)
    # Where nothing takes any time a round that is next to nothing will do.
    scale = scale + per_s * longest_s * _NO_TIME
    implied = (per_j * np.asarray(found.energy_j)).sum(axis=-1) + per_s * T
    residuals = _feasible(problem, found)
    residuals["primal_deadline"] = np.maximum((T - longest_s) / longest_s, 0.0)
    follows = {
        "total_energy_j": np.asarray(found.energy_j).sum(axis=-1), "lower_bound": lower,
        "energy_price_per_j": bound.joule, "deadline_price_per_s": deadline_price(T, longest_s, rest),
    }  # fmt: skip
    _hold(residuals, claims, follows)
    return _verdict(residuals, cost, implied, lower, scale, per_hz)


def deadline_price(round_s: FloatArray, longest_s: FloatArray, rest: FloatArray) -> FloatArray:
    """Fall of the cost per second of a later deadline, 0 where the round ends before it; `rest` of `cost_bound`."""
    return np.where(round_s < longest_s, 0.0, np.maximum(-rest, 0.0))


@np.errstate(all="ignore")
def cost_bound(
    problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray, per_s: FloatArray, round_s: FloatArray,
    cost: FloatArray,
) -> tuple[Bound, FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """What no round by the deadline costs less than: bounds of the devices, what a second costs beyond theirs, the sum.

    Last the seconds that a round may take: one so long that its seconds alone cost more than the allocation at hand,
    of `round_s` seconds and that `cost`, is not better, whatever the deadline.
    """
    B, longest = (np.asarray(v)[..., 0] for v in (problem.cell.bandwidth_hz, problem.cell.deadline_s))
    most_s = np.fmin(longest, np.fmax(cost / per_s, round_s))
    bound = level_bound(variant(problem, deadline_s=most_s), found, per_hz, per_j, per_s)
    rest = per_s - bound.second.sum(axis=-1)
    return bound, rest, bound.value.sum(axis=-1) - per_hz * B + np.minimum(rest, 0.0) * most_s, most_s


@np.errstate(all="ignore")
def judge_priced(
    problem: Problem, found: Allotment, per_j: FloatArray, per_hz: FloatArray, cost: FloatArray, objective: FloatArray,
    shared_j: FloatArray, shared_per_j: FloatArray, claims: dict[str, FloatArray],
) -> Certificate:  # fmt: skip
    """Whether an allocation has the least ``sum alpha e(rho) + per_j E``, within a budget of all devices.

    `shared_per_j` is its price, shape ``(...)``; `claims` as for `judge_cost`.
    """
    B = np.asarray(problem.cell.bandwidth_hz)[..., 0]
    mu = np.asarray(shared_per_j)
    bound = kept_bound(problem, found, per_hz, per_j + mu[..., None])
    paid = np.where(mu > 0.0, mu * shared_j, 0.0)
    lower = bound.value.sum(axis=-1) - per_hz * B - paid
    error = problem.pruning_error
    one = np.ones(problem.shape)
    reach = (np.asarray(problem.devices.weight) * (error.value(one) - error.value(0.0 * one))).sum(axis=-1)
    scale = reach + np.abs(cost) + per_hz * B + np.abs(paid) + bound.worth.sum(axis=-1)
    energy = np.asarray(found.energy_j)
    kept = (np.asarray(problem.devices.weight) * error.value(np.asarray(found.pruning_ratio))).sum(axis=-1)
    residuals = _feasible(problem, found)
    off = np.abs(np.asarray(objective) - kept) / np.maximum(kept, 1e-300)
    residuals["consistency"] = np.maximum(residuals["consistency"], np.where(kept == objective, 0.0, off))
    total = energy.sum(axis=-1)
    residuals["primal_shared_energy"] = np.where(total <= shared_j, 0.0, total / shared_j - 1.0)
    _hold(residuals, claims, {"total_energy_j": total, "lower_bound": lower})
    residuals["dual"] = np.maximum(-mu, 0.0)
    return _verdict(residuals, cost, kept + (np.asarray(per_j) * energy).sum(axis=-1), lower, scale, per_hz)


def _hold(residuals: dict[str, FloatArray], claims: dict[str, FloatArray], follows: dict[str, FloatArray]) -> None:
    """Add to the inconsistency by how much what is claimed differs from what follows, relative to that."""
    for name, claimed in claims.items():
        said, due = np.asarray(claimed), follows[name]
        off = np.abs(said - due) / np.maximum(np.abs(due), 1e-300)
        off = np.where((said == due) | (np.isnan(said) & np.isnan(due)), 0.0, np.where(np.isnan(off), np.inf, off))
        worst = off if off.ndim == residuals["consistency"].ndim else np.max(off, axis=-1, initial=0.0)
        residuals["consistency"] = np.maximum(residuals["consistency"], worst)


def _verdict(
    residuals: dict[str, FloatArray], cost: FloatArray, implied: FloatArray, lower: FloatArray, scale: FloatArray,
    per_hz: FloatArray,
) -> Certificate:  # fmt: skip
    off = np.abs(cost - implied) / np.maximum(np.abs(implied), 1e-300)
    off = np.where(cost == implied, 0.0, np.where(np.isnan(off), np.inf, off))
    residuals["consistency"] = np.maximum(residuals["consistency"], off)
    gap = np.where(scale > 0.0, (cost - lower) / scale, 0.0)
    gap = np.where(np.isnan(cost - lower), np.inf, gap)
    # What no allocation costs less than cannot lie above the cost of this one: such prices prove nothing.
    no_bound = np.maximum(-gap, 0.0)
    residuals["dual"] = np.maximum(residuals.get("dual", np.zeros_like(off)), np.maximum(-per_hz, no_bound))
    return Certificate(residuals, gap, np.asarray(per_hz), np.zeros_like(gap), np.zeros_like(gap), CERTIFIED)


@dataclass(frozen=True, eq=False)
class Bound:
    """What prices make of each device, shape ``(..., K)``."""

    value: FloatArray  # its least cost at the prices, less what its own limits are worth
    second: FloatArray  # theta: what it pays for a second of the round
    joule: FloatArray  # what it would pay for a joule of its budget
    worth: FloatArray  # of all its limits together: what rounding them moves


@dataclass(frozen=True, eq=False)
class _Device:
    """An allocation in physical units, shape ``(..., K)``."""

    q: FloatArray
    nats: FloatArray
    t: FloatArray
    b: FloatArray
    e: FloatArray
    s: FloatArray  # clock
    work: FloatArray  # seconds at clock 1
    heat: FloatArray  # joules at clock 1
    g: FloatArray
    y: FloatArray
    most_hz: FloatArray
    window: FloatArray
    budget: FloatArray  # less what is spent whatever is decided
    own: FloatArray  # the device's own bandwidth limit


def _at(problem: Problem, found: Allotment) -> _Device:
    d, cell = problem.devices, problem.cell
    q, b, p = 1.0 - np.asarray(found.pruning_ratio), np.asarray(found.bandwidth_hz), np.asarray(found.tx_power_w)
    nats = (np.asarray(d.payload_bits) * q + np.asarray(d.overhead_bits)) * LN2
    g = np.asarray(d.channel_gain) / np.asarray(cell.noise_psd_w_per_hz)
    y = np.where(b > 0.0, np.log1p(g * p / b), 1.0)
    t = np.where((nats > 0.0) & (b > 0.0), nats / (b * y), 0.0)
    own = np.asarray(d.bandwidth_max_hz)
    return _Device(
        q, nats, t, b, p * t, np.asarray(found.clock),
        np.asarray(d.pruned_compute_s) * q + np.asarray(d.fixed_compute_s),
        np.asarray(d.pruned_compute_j) * q + np.asarray(d.fixed_compute_j),
        g, y, np.minimum(np.asarray(cell.bandwidth_hz), own),
        np.asarray(cell.deadline_s) - np.asarray(d.fixed_latency_s),
        np.asarray(d.energy_budget_j) - np.asarray(d.fixed_energy_j), own,
    )  # fmt: skip


def _rested(problem: Problem, x: _Device) -> _Device:
    """The same with uploads that electronics end early a hair longer, so that yet longer ones are worth nothing.

    By rounding they would be worth a little, and there may be any number of seconds to spare.
    """
    worth = np.asarray(problem.devices.circuit_power_w) * np.asarray(problem.devices.pa_efficiency) * x.g / x.b
    m = np.exp(x.y) * phi(x.y)
    early = (x.nats > 0.0) & (np.abs(m - worth) <= _AT_REST * worth)
    y = np.where(early, x.y + (worth * (1.0 - _RESTED) - m) / (x.y * np.exp(x.y)), x.y)
    t = np.where(early, x.nats / (x.b * y), x.t)
    return replace(x, y=y, t=t, e=np.where(early, t * x.b * np.expm1(y) / x.g, x.e))


def _least_tangent(slope: FloatArray, at: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """The least of ``slope (x - at)`` over ``[low, high]``."""
    return np.minimum(slope * (low - at), slope * (high - at))


def _better(best: Bound | None, new: Bound) -> Bound:
    return new if best is None else _chosen(new.value > best.value, new, best)


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
    candidates: list[Bound] = []
    best: Bound | None = None
    most = np.full(problem.batch_shape, -np.inf)
    seconds = per_s[..., None] + np.zeros(problem.shape)
    # Next to the wideband limit an ulp of the round moves what an upload would pay for a second by up to 1e-8 of it, so
    # that the payments do not add up to a second's price. Each device then tries to pay what the others leave.
    for _ in range(2):
        candidates += _candidates(problem, found, per_hz, per_j, seconds)
        bound = _balanced(candidates, per_s, longest_s)
        left = per_s - bound.second.sum(axis=-1)
        total = bound.value.sum(axis=-1) + np.minimum(left, 0.0) * longest_s
        best = bound if best is None else _chosen((total > most)[..., None], bound, best)
        most = np.maximum(most, total)
        seconds = np.maximum(bound.second + left[..., None], 0.0)
    assert best is not None
    return best


def _candidates(
    problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray, seconds: FloatArray
) -> list[Bound]:
    """Bounds of `level_bound`; `seconds` is what some of them would pay for a second, shape ``(..., K)``."""
    d, x = problem.devices, _rested(problem, _at(problem, found))
    lam, w = np.asarray(per_hz)[..., None] + np.zeros(problem.shape), np.asarray(per_j)
    P, eta, p_c = (np.asarray(v) for v in (d.tx_power_max_w, d.pa_efficiency, d.circuit_power_w))
    low, high = np.asarray(d.clock_min), np.asarray(d.clock_max)
    fixed_s, fixed_j = np.asarray(d.fixed_latency_s), np.asarray(d.fixed_energy_j)
    m, sends = np.exp(x.y) * phi(x.y), x.nats > 0.0
    busy = np.where(x.work > 0.0, x.work / x.s, 0.0)  # seconds of computing
    joules = np.where(sends, x.e / eta + p_c * x.t, 0.0) + x.heat * x.s ** (CLOCK_EXPONENT - 1)
    moving = (x.s > low * (1.0 + _AT_CLOCK)) & (x.work > 0.0)
    clock = np.where(x.work > 0.0, 2.0 * x.heat / x.work * x.s**CLOCK_EXPONENT, 0.0)  # W of waiting a second less
    A = lam * x.g / (x.t * m)
    full = (x.b >= x.own * (1.0 - _AT_LIMIT)) & (x.own > 0.0)
    limited = np.isfinite(x.budget)
    per_watt = x.b * m / x.g
    # An upload that takes a second longer saves `a (per_watt + P) - W lasting` at a price W of a joule and a of what is
    # radiated. What may make the Lagrangian flat at the allocation is a polygon of W and a: bounded by what they are
    # where the budget, peak power or the own bandwidth limit doesn't bind, where waiting is worth nothing, or what the
    # clock makes of it, or all of `seconds`. Its corners pay the least and the most for a second. What is worth nothing
    # has to be no more than that by rounding either, for there may be any number of seconds to spare.
    lasting, shorter = p_c + P / eta, per_watt + P
    by_clock, by_budget = seconds / clock, seconds / (per_watt / eta - p_c)
    uploads = (
        (w, np.where(full, np.maximum(A, w / eta), w / eta)),
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
    # Who sends nothing pays what its clock can save, or nothing where that may not be slower. One that can't be faster
    # pays all: then the round is as long as it takes whatever is decided.
    idles = (
        (w, np.where(moving, w * clock, 0.0)),
        (w, w * clock),
        (w, seconds),
        (by_clock, seconds),
    )
    bounds = []
    for i, (W, a) in enumerate(uploads):
        at_rest, idle = idles[i % len(idles)]
        W = np.maximum(np.nan_to_num(np.where(sends, W, at_rest)), w)
        a = np.where(sends, np.maximum(np.nan_to_num(a), W / eta), 0.0)
        pi = np.where(sends, a - W / eta, 0.0)
        kappa = np.where(full & sends, np.maximum(a * x.t * m / x.g - lam, 0.0), 0.0)
        by_upload = np.where(sends, a * x.b * m / x.g - W * p_c + pi * P, 0.0)
        theta = np.maximum(np.where(sends, by_upload, idle), 0.0)
        in_b = np.where(sends, lam + kappa - a * x.t * m / x.g, 0.0)
        in_t = np.where(sends, theta - by_upload, 0.0)
        in_tau = np.where(x.work > 0.0, theta - W * clock, 0.0)
        longest = np.maximum(x.window, 0.0)
        flat = (
            _least_tangent(in_b, x.b, 0.0 * x.b, x.most_hz)
            + _least_tangent(in_t, x.t, 0.0 * x.t, longest)
            + _least_tangent(in_tau, busy, x.work / high, np.minimum(x.work / low, np.maximum(longest, x.work / high)))
        )
        omega = W - w
        paid = np.where(omega > 0.0, np.where(limited, omega * x.budget, np.inf), 0.0)
        own = np.where(kappa > 0.0, kappa * x.own, 0.0)
        value = (
            w * fixed_j + W * joules + pi * (x.e - P * x.t) * sends + (lam + kappa) * x.b
            + theta * (np.where(sends, x.t, 0.0) + busy + fixed_s) + flat - paid - own
        )  # fmt: skip
        worth = (
            W * (joules + fixed_j) + np.abs(paid) + pi * P * x.t + (lam + kappa) * x.b + theta * (x.t + busy + fixed_s)
        )
        sound = np.isfinite(value) & np.isfinite(worth)
        bounds.append(Bound(np.where(sound, value, -np.inf), *(np.where(sound, v, 0.0) for v in (theta, omega, worth))))
    return bounds


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


def _chosen(take: np.ndarray, new: Bound, old: Bound) -> Bound:
    return Bound(*(np.where(take, n, o) for n, o in zip(vars(new).values(), vars(old).values(), strict=True)))


@np.errstate(all="ignore")
def kept_bound(problem: Problem, found: Allotment, per_hz: FloatArray, per_j: FloatArray) -> Bound:
    """The least ``alpha e(rho) + per_j E + per_hz b`` of each device by the deadline, whatever it keeps.

    For devices without electronics whose clock stands still; shapes as of `level_bound`, and a bound at any prices as
    there.
    """
    d, x = problem.devices, _at(problem, found)
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
    full = (x.b >= x.own * (1.0 - _AT_LIMIT)) & (x.own > 0.0)
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
                    + _least_tangent(in_b, x.b, 0.0 * x.b, x.most_hz) - paid - own
                )  # fmt: skip
                worth = np.abs(paid) + W * (e / eta + heat) + pi * P * t + (lam + kappa) * x.b
                value = np.where(np.isnan(value), -np.inf, value)
                best = _better(best, Bound(value, A * x.b * m / x.g + pi * P, omega, worth))
    assert best is not None
    stays = alpha * error.value(rho) + w * (fixed_j + heat)  # who can radiate nothing
    none = np.zeros(problem.shape)
    return Bound(*(np.where(mute, o, v) for o, v in zip((stays, none, none, none), vars(best).values(), strict=True)))
