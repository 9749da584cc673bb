"""Prices at which the devices' answers fill the budgets: the coupled part of the KKT conditions.

One unknown per problem, the bandwidth price; two where the cell also caps total power. The second is handled as the
ratio of the two prices: at a fixed ratio the devices pay for ``use = b + ratio power_share p`` out of one budget
``1 + ratio``, which is a problem of the first kind. Raising the ratio shifts use from power to bandwidth, so the
ratio at which both budgets fill is again the root of a monotone function.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from kktalloc._at_bandwidth import best_at
from kktalloc._problem import FloatArray
from kktalloc._reduced import Reduced
from kktalloc._regime import Regime
from kktalloc._response import Corners, Response, corners, marginal, respond

PRICE_ITERATIONS = 200
RATIO_ITERATIONS = 100
CLOSED = 1e-13  # a budget filled to this share counts as filled


def clear(form: Reduced) -> tuple[FloatArray, FloatArray, Response]:
    """Log bandwidth price and price ratio, shape ``(N,)``, that clear both budgets, and the response to them.

    The log price is ``-inf`` (free bandwidth) where every device saturates with bandwidth to spare.
    """
    N = form.weight.shape[0]
    ratio = np.zeros(N)
    log_price, response = _clear_at(form, ratio)
    response = _settle(form, log_price, response)
    over = (form.power_share * response.p).sum(axis=1) > 1.0 + CLOSED
    if over.any():
        rows = np.flatnonzero(over)
        log_price[rows], ratio[rows], part = _clear_both(form.rows(rows))
        response = _merge(response, rows, part)
    return log_price, ratio, response


def _settle(form: Reduced, log_price: FloatArray, response: Response) -> Response:
    """Hand out what no price resolves, bandwidth first: where s is large, an ulp of y is worth many of b.

    At a bandwidth, s and power have a root of their own that is well conditioned (`best_at`).
    """
    total, flow = response.b.sum(axis=1), response.flow.sum(axis=1)
    rows = np.flatnonzero(np.isfinite(log_price) & (np.abs(total - 1.0) > CLOSED) & (flow > 0.0))
    if not rows.size:
        return response
    some, moving = form.rows(rows), response.flow[rows] / flow[rows, None]
    b = np.maximum(response.b[rows] + (1.0 - total[rows])[:, None] * moving, 0.0)
    at = best_at(some, b)
    touched = moving > 0.0
    part = {f.name: getattr(response, f.name)[rows] for f in fields(Response)}
    part |= {"s": np.where(touched, at.s, part["s"]), "p": np.where(touched, at.p, part["p"]), "b": b, "use": b}
    return _merge(response, rows, Response(**part))


def _clear_both(form: Reduced) -> tuple[FloatArray, FloatArray, Response]:
    """Prices where total power is scarce: a bracketed secant on the log ratio against the excess power."""
    N = form.weight.shape[0]
    low, high = np.full(N, -80.0), np.full(N, 80.0)
    position = np.zeros(N)  # the whole power worth as much as the whole bandwidth
    before = excess_before = np.full(N, np.nan)
    # Per side of the root the last response, its log price, log ratio and excess: too much power, and not too much.
    sides: list[tuple[Response, FloatArray, FloatArray, FloatArray]] = []
    for _ in range(RATIO_ITERATIONS):
        log_price, at = _clear_at(form, np.exp(position))
        excess = (form.power_share * at.p).sum(axis=1) - 1.0
        heavy = excess > 0.0
        here = (at, log_price, position, excess)
        if not sides:
            nowhere = np.full(N, np.nan)
            sides = [(at, nowhere, nowhere, np.full(N, np.inf)), (at, nowhere, nowhere, np.full(N, -np.inf))]
        sides = [_take(heavy, here, sides[0]), _take(~heavy, here, sides[1])]
        low, high = np.where(heavy, position, low), np.where(heavy, high, position)
        done = (np.abs(excess) <= CLOSED) | (high - low <= 1e-14 * np.maximum(1.0, np.abs(high)))
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = position - excess * (position - before) / (excess - excess_before)
        usable = (secant > low) & (secant < high) & (np.abs(excess) <= 0.5 * np.abs(excess_before))
        before, excess_before = position, excess
        position = np.where(done, position, np.where(usable, secant, 0.5 * (low + high)))
    (above, price_above, ratio_above, most), (below, price_below, ratio_below, least) = sides
    # Where devices are indifferent the power jumps across the ratio: mix the two sides so that it just suffices.
    with np.errstate(invalid="ignore"):
        share = np.select([most <= CLOSED, -least <= CLOSED, np.isinf(most)], [1.0, 0.0, 0.0], -least / (most - least))
        share = np.where(np.isinf(least), 1.0, share)
    nearer = np.abs(most) < np.abs(least)
    log_price = np.where(nearer, price_above, price_below)
    return log_price, np.exp(np.where(nearer, ratio_above, ratio_below)), _mix(np.ones(N), share, above, below)


def _take(
    which: np.ndarray,
    new: tuple[Response, FloatArray, FloatArray, FloatArray],
    old: tuple[Response, FloatArray, FloatArray, FloatArray],
) -> tuple[Response, FloatArray, FloatArray, FloatArray]:
    """Rows of `new` where `which` holds, else of `old`."""
    pick = which[:, None]
    arrays = {f.name: np.where(pick, getattr(new[0], f.name), getattr(old[0], f.name)) for f in fields(Response)}
    return Response(**arrays), *(np.where(which, n, o) for n, o in zip(new[1:], old[1:], strict=True))  # type: ignore[return-value]


def _clear_at(form: Reduced, ratio: FloatArray) -> tuple[FloatArray, Response]:
    """Log bandwidth price at which ``sum use = 1 + ratio``, shape ``(N,)``, and the response to it.

    Newton on the log of the total against the log price, safeguarded by a bracket; a price at which no device moves
    jumps to the nearest price at which one does.
    """
    at = corners(form, ratio)
    budget = 1.0 + ratio
    dear = at.ratio * form.power_share
    spare = (at.b_sat + dear * at.p_sat).sum(axis=1) <= budget
    y, log_price = _first_guess(form, at)
    log_price = np.where(spare, -np.inf, log_price)
    N = spare.size
    low, high = np.full(N, -np.inf), at.log_m_floor.max(axis=1, initial=-np.inf)
    log_price = np.minimum(log_price, high)
    before = np.full(N, np.inf)
    todo = np.flatnonzero(~spare)
    some, some_at = form.rows(todo), at.rows(todo)
    for _ in range(PRICE_ITERATIONS):
        if not todo.size:
            break
        answer = respond(some, some_at, log_price[todo], y[todo])
        y[todo] = answer.y
        total = answer.use.sum(axis=1)
        with np.errstate(divide="ignore"):
            error = np.log(total / budget[todo])
        price = log_price[todo]
        low[todo] = np.where(error > 0.0, price, low[todo])
        high[todo] = np.where(error < 0.0, price, high[todo])
        lo, hi = low[todo], high[todo]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = answer.flow.sum(axis=1) / total
            proposed = price + np.clip(error / slope, -50.0, 50.0)
            middle = np.where(np.isfinite(lo), 0.5 * (lo + hi), hi - 50.0)
        stuck = ~(slope > 0.0)
        if stuck.any():
            proposed = np.where(stuck, _next_corner(some_at, answer.regime, error > 0.0), proposed)
        # Newton may bounce between the sides of a jump: what did not halve the error is followed by a bisection.
        slow = np.isfinite(lo) & ~stuck & (np.abs(error) > 0.5 * before[todo])
        before[todo] = np.abs(error)
        proposed = np.where((proposed > lo) & (proposed < hi) & ~slow, proposed, middle)
        done = (np.abs(error) <= 2e-15) | (np.abs(proposed - price) <= 1e-15 * np.abs(price)) | ~(hi > lo)
        log_price[todo] = np.where(done, price, proposed)
        if done.any():
            todo = todo[~done]
            some, some_at = some.rows(~done), some_at.rows(~done)
    answer = respond(form, at, log_price, y)
    return log_price, _fill(form, at, budget, low, high, log_price, y, answer)


def _fill(
    form: Reduced,
    at: Corners,
    budget: FloatArray,
    low: FloatArray,
    high: FloatArray,
    log_price: FloatArray,
    y: FloatArray,
    answer: Response,
) -> Response:
    """Where the total jumps across the price, mix the responses on both sides so that the budget is just used.

    Only devices that are indifferent between the two move (linear error, no compute time, a stretch at y*): both
    responses minimise the same Lagrangian, and so does what lies between.
    """
    total = answer.use.sum(axis=1)
    torn = np.isfinite(log_price) & np.isfinite(low) & (np.abs(total / budget - 1.0) > CLOSED)
    if not torn.any():
        return answer
    rows = np.flatnonzero(torn)
    some, some_at = form.rows(rows), at.rows(rows)
    dear_side = respond(some, some_at, high[rows], y[rows])
    cheap_side = respond(some, some_at, low[rows], y[rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        least, most = dear_side.use.sum(axis=1), cheap_side.use.sum(axis=1)
        share = np.clip((budget[rows] - least) / (most - least), 0.0, 1.0)
    share = np.where(np.isfinite(share), share, 0.0)
    return _merge(answer, rows, _mix(at.ratio[rows, 0], share, cheap_side, dear_side))


def _mix(ratio: FloatArray, share: FloatArray, one: Response, other: Response) -> Response:
    """`share` of one response and the rest of the other; the constraints are convex, so the mixture is feasible."""
    w = share[:, None]

    def blend(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.where(a == b, a, w * a + (1.0 - w) * b)

    mixed = (one.s != other.s) & (w > 0.0) & (w < 1.0)
    # Where power is free the two sides differ by rounding, along a branch; else the power between is a choice.
    same, free = one.regime == other.regime, ratio[:, None] == 0.0
    along = [np.isin(r.regime, (Regime.ENERGY, Regime.PEAK)) & free for r in (one, other)]
    between = np.select([same, *along], [one.regime, one.regime, other.regime], Regime.TOTAL_POWER)
    regime = np.where(mixed, between, np.where(w >= 0.5, one.regime, other.regime))
    arrays = {name: blend(getattr(one, name), getattr(other, name)) for name in ("y", "s", "p", "b", "use", "flow")}
    return Response(regime=regime, **arrays)


def _merge(whole: Response, rows: np.ndarray, part: Response) -> Response:
    """`whole` with its `rows` replaced by `part`."""
    changed = {}
    for f in fields(Response):
        values = getattr(whole, f.name).copy()
        values[rows] = getattr(part, f.name)
        changed[f.name] = values
    return replace(whole, **changed)


def _first_guess(form: Reduced, at: Corners) -> tuple[FloatArray, FloatArray]:
    """Efficiencies at equal shares of the bandwidth, and the price that their marginal values centre on."""
    share = np.log1p(form.snr * form.weight.shape[1])
    y = np.clip(share, np.maximum(at.y_sat, 1e-300), at.y_star)
    value = marginal(form, at.ratio, at.energy_first, y).log_value
    usable = np.isfinite(value)
    return y, np.where(usable, value, 0.0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)


def _next_corner(at: Corners, regime: np.ndarray, up: np.ndarray) -> FloatArray:
    """The nearest price, above (`up`) or below, beyond which some device leaves the corner that it sits in."""
    at_star = regime == Regime.TOTAL_POWER
    raise_to = np.select(
        [regime == Regime.SATURATED, regime == Regime.KINK, at_star], [at.log_m_sat, at.log_m_before, at.log_m_floor],
        np.inf,
    ).min(axis=1)  # fmt: skip
    lower_to = np.select(
        [regime == Regime.FLOOR, regime == Regime.KINK, at_star], [at.log_m_floor, at.log_m_after, at.log_m_star],
        -np.inf,
    ).max(axis=1)  # fmt: skip
    # A hair beyond the corner, where its device has begun to move.
    return np.where(up, raise_to + 1e-3, lower_to - 1e-3)
