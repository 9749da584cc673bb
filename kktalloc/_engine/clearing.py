"""Prices at which the devices' answers fill the budgets: the coupled part of the KKT conditions.

One unknown per problem, the bandwidth price; two where the cell also caps total power. The second is handled as the
ratio of the two prices: at a fixed ratio a device weighs ``b + ratio power_share p``, and its bandwidth still falls as
the price of bandwidth rises, so that the bandwidth clears as it does without a cap. Along these clearing prices the
total power falls as the ratio rises (it is the slope of the concave dual function in the power price, and the ratio
rises with that price), so the ratio at which both budgets fill is again the root of a monotone function.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from kktalloc._device.at_bandwidth import best_at
from kktalloc._device.at_price import Corners, Response, at_break, corners, leaving, marginal, respond
from kktalloc._device.efficiency import phi
from kktalloc._device.form import Reduced
from kktalloc._device.roots import crossing
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import is_piecewise
from kktalloc._problem.regime import Regime
from kktalloc._problem.tolerances import FEASIBLE, FILLED, FILLED_EXACTLY

PRICE_ITERATIONS = 200
RATIO_ITERATIONS = 200
FREE = -800.0  # the logarithm of a price that is 0
SAME_PRICE = 1e-9  # logarithms of prices that differ by no more are one price
POWER_ALONE = 150.0  # the logarithm of the price ratio that stands for free bandwidth


@dataclass(frozen=True, eq=False)
class Cleared:
    """Prices of the whole bandwidth and of the whole total power, shape ``(N,)``, and the devices' answer to them."""

    price: FloatArray
    power_price: FloatArray
    response: Response


def clear(form: Reduced) -> Cleared:
    """Prices that clear both budgets; 0 where there is bandwidth, or power, to spare."""
    N = form.weight.shape[0]
    ratio = np.zeros(N)
    log_price, response = _clear_at(form, ratio)
    over = (form.power_share * response.p).sum(axis=1) > 1.0 + FILLED
    power_price = np.zeros(N)
    if over.any():
        rows = np.flatnonzero(over)
        # Where devices can use no more bandwidth, some may be left over while power is scarce.
        limited = rows[(form.b_max[rows] < np.inf).any(axis=1)]
        if limited.size:
            # A price of power so high beside that of bandwidth that each of them uses all that it can.
            dearest = np.full(limited.size, POWER_ALONE)
            alone, part = _fill_power(form.rows(limited), dearest, np.full(limited.size, FREE), dearest * np.inf)
            free = part.b.sum(axis=1) <= 1.0 + FILLED
            log_price[limited[free]], power_price[limited[free]] = -np.inf, np.exp(alone + dearest)[free]
            response = _merge(response, limited[free], _rows(part, free))
            rows = np.setdiff1d(rows, limited[free])
        if rows.size:
            log_price[rows], ratio[rows], part = _clear_both(form.rows(rows))
            response = _merge(response, rows, part)
            power_price[rows] = np.exp(log_price[rows]) * ratio[rows]
    return Cleared(np.exp(log_price), power_price, _polished(form, response))


def _fill_power(form: Reduced, log_ratio: FloatArray, low: FloatArray, high: FloatArray) -> tuple[FloatArray, Response]:
    """Log price of bandwidth in ``[low, high]`` at which the total power fills at a given price ratio; the response.

    For where the bandwidth does not tell the price: devices that can use no more of it answer with their power alone.
    """
    ratio = np.exp(log_ratio)
    at = corners(form, ratio)

    def answer(log_price: FloatArray, part: np.ndarray) -> Response:
        some = at.rows(part)
        return respond(form.rows(part), some, log_price, np.maximum(some.y_sat, 1e-300))

    def excess(log_price: FloatArray, part: np.ndarray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.log((form.power_share[part] * answer(log_price, part).p).sum(axis=1))

    high = np.where(np.isfinite(high), high, np.where(np.isfinite(at.log_m_floor), at.log_m_floor, FREE).max(axis=1))
    root = crossing(excess, high, np.minimum(low, high), high, width=0.0)
    every, met = np.arange(high.size), ~np.isnan(root.above)
    under, over = answer(root.at, every), answer(np.where(met, root.above, root.at), every)
    most, least = ((form.power_share * r.p).sum(axis=1) for r in (over, under))
    return root.at, _mix(ratio, _share(np.where(met, most, np.nan), least), over, under)


def _polished(form: Reduced, response: Response) -> Response:
    """The same bandwidths, with s and power as they follow from these.

    Near the wideband limit, and where an overhead or an energy budget leaves little, s and power come out of cancelling
    terms at a given efficiency, and a mixture of two answers lies just inside the limits. At a given bandwidth both
    have a root of their own that is well conditioned (`best_at`).
    """
    at = best_at(form, response.b)
    below = response.regime == Regime.TOTAL_POWER  # its power is a choice, the rate takes what it gives
    with np.errstate(all="ignore"):
        carried = response.b * np.log1p(form.snr * response.p / response.b)
        s = np.clip(np.nan_to_num((carried - form.rate0) / form.rate1), form.s_min, form.s_max)
    at_own = (response.regime == Regime.SATURATED) & (form.s_max < form.s_full)
    b = np.minimum(response.b, form.b_max)
    free = response.held < 0
    moving = np.isin(response.regime, (Regime.ENERGY, Regime.PEAK)) & free
    full = at_own | (below & (b >= form.b_max * (1.0 - FEASIBLE)))
    return replace(
        response,
        regime=np.where(full, Regime.BANDWIDTH_MAX, response.regime),
        s=np.select([moving, below & free], [at.s, s], response.s),
        p=np.where(moving | at_own, at.p, response.p),
        b=b,
    )


def _clear_both(form: Reduced) -> tuple[FloatArray, FloatArray, Response]:
    """Prices where total power is scarce: a bracketed secant on the log ratio against the log of the total power."""
    N = form.weight.shape[0]
    low, high = np.full(N, -np.inf), np.full(N, np.inf)
    position = _ratio_guess(form)
    before = error_before = np.full(N, np.nan)
    guess: tuple[FloatArray, FloatArray] | None = None
    # Per side of the root the last response, its log price, log ratio and total power: too much, and not too much.
    sides: list[tuple[Response, FloatArray, FloatArray, FloatArray]] = []
    for iteration in range(RATIO_ITERATIONS):
        log_price, at = _clear_at(form, np.exp(position), guess)
        guess = at.y, log_price
        watts = (form.power_share * at.p).sum(axis=1)
        fits = log_price < np.inf
        heavy, light = (watts > 1.0) & fits, (watts <= 1.0) & fits
        here = (at, log_price, position, watts)
        if not sides:
            none = np.full(N, np.nan)
            sides = [(at, none, none, none), (at, none, none, none)]
        sides = [_take(heavy, here, sides[0]), _take(light, here, sides[1])]
        low, high = np.where(heavy, position, low), np.where(heavy, high, position)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.where(fits, np.log(watts), -np.inf)
            secant = position - error * (position - before) / (error - error_before)
            middle = np.select([np.isinf(low), np.isinf(high)], [position - 2.0**iteration, position + 2.0**iteration],
                               0.5 * (low + high))  # fmt: skip
        # Where everybody saturates within both budgets, no price is needed.
        done = (np.abs(error) <= FILLED) | (high - low <= 1e-14 * np.maximum(1.0, np.abs(position)))
        done |= light & (log_price == -np.inf)
        if done.all():
            break
        usable = (secant > low) & (secant < high) & (np.abs(error) <= 0.5 * np.abs(error_before))
        before, error_before = position, error
        position = np.where(done, position, np.where(usable, secant, middle))
    (above, price_above, ratio_above, most), (below, price_below, ratio_below, least) = sides
    most = np.where(price_below == -np.inf, np.nan, most)  # everybody saturates within both budgets
    share = _share(most, least)
    nearer = share >= 0.5
    log_price, log_ratio = np.where(nearer, price_above, price_below), np.where(nearer, ratio_above, ratio_below)
    response = _mix(np.ones(N), share, above, below)
    with np.errstate(invalid="ignore"):
        apart = (share > 0.0) & (share < 1.0) & (np.abs(price_above - price_below) > SAME_PRICE)
    apart &= (form.b_max < np.inf).any(axis=1)
    if apart.any():
        rows = np.flatnonzero(apart)
        ends = np.sort([price_above[rows], price_below[rows]], axis=0)
        log_price[rows], part = _fill_power(form.rows(rows), log_ratio[rows], *ends)
        response = _merge(response, rows, part)
    return log_price, np.exp(log_ratio), response


def _share(over: FloatArray, under: FloatArray) -> FloatArray:
    """How much of the side over the budget a mixture of the two sides holds that just fills it.

    The arguments are the totals of the two sides, NaN where the search met none. Where the devices' answer jumps, those
    on both sides minimise the same Lagrangian, and so does what lies between: only devices move that are indifferent,
    or whose answer a double does not resolve.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mixture = np.clip((1.0 - under) / (over - under), 0.0, 1.0)
        none = np.isnan(over) | (np.abs(under - 1.0) <= FILLED)
        whole = np.isnan(under) | (np.abs(over - 1.0) <= FILLED)
    return np.select([none, whole], [0.0, 1.0], mixture)


def _ratio_guess(form: Reduced) -> FloatArray:
    """The log ratio at which the devices, on average, would trade power for bandwidth at equal shares of both."""
    some = form.power_share > 0.0
    share = np.where(some, form.power_share, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log1p(form.snr * np.minimum(form.weight.shape[1], 1.0 / share))
        log_ratio = np.log(form.snr / share) - y - np.log(phi(y))
    return np.where(some, log_ratio, 0.0).sum(axis=1) / some.sum(axis=1)


def _take(
    which: np.ndarray,
    new: tuple[Response, FloatArray, FloatArray, FloatArray],
    old: tuple[Response, FloatArray, FloatArray, FloatArray],
) -> tuple[Response, FloatArray, FloatArray, FloatArray]:
    """Rows of `new` where `which` holds, else of `old`."""
    pick = which[:, None]
    arrays = {f.name: np.where(pick, getattr(new[0], f.name), getattr(old[0], f.name)) for f in fields(Response)}
    return Response(**arrays), *(np.where(which, n, o) for n, o in zip(new[1:], old[1:], strict=True))  # type: ignore[return-value]


def _clear_at(
    form: Reduced, ratio: FloatArray, guess: tuple[FloatArray, FloatArray] | None = None
) -> tuple[FloatArray, Response]:
    """Log bandwidth price at which ``sum b = 1``, shape ``(N,)``, and the response to it; `guess` of y and of it.

    Newton on the log of the total against the log price, safeguarded by a bracket; a price at which no device moves
    jumps to the nearest price at which one does. It ends when the total is right or the bracket is two neighbouring
    doubles. It is infinite where a high ratio makes even the floors ask for too much: they are then the response.
    """
    at = corners(form, ratio)
    spare = at.b_sat.sum(axis=1) <= 1.0
    y, log_price = _first_guess(form, at)
    if guess is not None:
        known = np.isfinite(guess[1])
        y, log_price = np.where(known[:, None], guess[0], y), np.where(known, guess[1], log_price)
    crowded = (ratio > 0.0) & (at.b_floor.sum(axis=1) > 1.0 + FEASIBLE)
    log_price = np.where(spare, -np.inf, log_price)
    N = spare.size
    low, high = np.full(N, -np.inf), at.log_m_floor.max(axis=1, initial=FREE)
    log_price = np.where(crowded, np.inf, np.minimum(log_price, high))
    before = np.full(N, np.inf)
    # Per side of the root the last response and its total: too much, and not too much.
    answer = respond(form, at, log_price, y)
    more, less = answer, replace(answer, **{f.name: getattr(answer, f.name).copy() for f in fields(Response)})
    over, under = np.full(N, np.nan), np.where(spare | crowded, 1.0, np.nan)
    todo = np.flatnonzero(~(spare | crowded))
    some, some_at = form.rows(todo), at.rows(todo)
    for iteration in range(PRICE_ITERATIONS):
        if not todo.size:
            break
        answer = respond(some, some_at, log_price[todo], y[todo])
        y[todo] = answer.y
        total, price = answer.b.sum(axis=1), log_price[todo]
        much = total > 1.0
        for which, side, totals, bound in ((much, more, over, low), (~much, less, under, high)):
            rows = todo[which]
            totals[rows], bound[rows] = total[which], price[which]
            for f in fields(Response):
                getattr(side, f.name)[rows] = getattr(answer, f.name)[which]
        lo, hi = low[todo], high[todo]
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.log(total)
            slope = answer.flow.sum(axis=1) / total
            step = np.clip(error / slope, -50.0, 50.0)
            middle = np.where(np.isfinite(lo), 0.5 * (lo + hi), price - 2.0**iteration)
        # Where rounding hides the step, the neighbouring price closes the bracket.
        proposed = np.where(much, np.maximum(price + step, np.nextafter(price, np.inf)),
                            np.minimum(price + step, np.nextafter(price, -np.inf)))  # fmt: skip
        stuck = ~(slope > 0.0)
        if stuck.any():
            proposed = np.where(stuck, _next_corner(some, some_at, answer, much), proposed)
        # Newton may bounce between the sides of a jump: what did not halve the error is followed by a bisection.
        slow = ~stuck & (np.abs(error) > 0.5 * before[todo])
        before[todo] = np.abs(error)
        proposed = np.maximum(np.where((proposed > lo) & (proposed < hi) & ~slow, proposed, middle), FREE)
        closed = hi <= np.nextafter(lo, np.inf)
        untried = closed & np.isnan(under[todo]) & (price < hi)  # the price that leaves everybody at the floor
        proposed = np.where(untried, hi, proposed)
        done = (np.abs(error) <= FILLED_EXACTLY) | np.isnan(total) | (closed & ~untried) | (hi <= FREE)
        log_price[todo] = np.where(done, price, proposed)
        if done.any():
            todo = todo[~done]
            some, some_at = some.rows(~done), some_at.rows(~done)
    share = _share(over, under)
    priced = ~(spare | crowded)
    log_price = np.where(priced, np.where(share >= 0.5, low, high), log_price)
    return log_price, _mix(ratio, share, more, less)


def _mix(ratio: FloatArray, share: FloatArray, one: Response, other: Response) -> Response:
    """`share` of one response and the rest of the other; the constraints are convex, so the mixture is feasible."""
    w = share[:, None]

    def blend(a: FloatArray, b: FloatArray) -> FloatArray:
        # Bandwidth without a limit: where it is free, or where rounding leads beyond the end of a branch.
        with np.errstate(invalid="ignore"):
            return np.select([(a == b) | (w >= 1.0), w <= 0.0], [a, b], w * a + (1.0 - w) * b)

    mixed = (one.s != other.s) & (w > 0.0) & (w < 1.0)
    # Where power is free the two sides differ by rounding, along a branch; else the power between is a choice.
    same, free = one.regime == other.regime, ratio[:, None] == 0.0
    along = [np.isin(r.regime, (Regime.ENERGY, Regime.PEAK)) & free for r in (one, other)]
    between = np.select([same, *along], [one.regime, one.regime, other.regime], Regime.TOTAL_POWER)
    regime = np.where(mixed, between, np.where(w >= 0.5, one.regime, other.regime))
    arrays = {name: blend(getattr(one, name), getattr(other, name)) for name in ("y", "s", "p", "b", "flow")}
    # A side taken whole leaves its devices at the breaks that they were held at; a mixture only where both sides are.
    both = np.where((one.held == other.held) & (one.s == other.s), one.held, -1)
    held = np.select([w <= 0.0, w >= 1.0], [other.held, one.held], both)
    return Response(regime=regime, held=held, **arrays)


def _rows(response: Response, keep: np.ndarray) -> Response:
    return Response(**{f.name: getattr(response, f.name)[keep] for f in fields(Response)})


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


def _next_corner(form: Reduced, at: Corners, answer: Response, up: np.ndarray) -> FloatArray:
    """The nearest price, above (`up`) or below, beyond which some device leaves the corner that it sits in."""
    regime = answer.regime
    at_star = regime == Regime.TOTAL_POWER
    raise_to = np.select(
        [regime == Regime.SATURATED, regime == Regime.KINK, at_star], [at.log_m_sat, at.log_m_before, at.log_m_floor],
        np.inf,
    )  # fmt: skip
    lower_to = np.select(
        [regime == Regime.FLOOR, regime == Regime.KINK, at_star], [at.log_m_floor, at.log_m_after, at.log_m_star],
        -np.inf,
    )  # fmt: skip
    held = answer.held >= 0
    if held.any():
        assert is_piecewise(form.error)
        value = np.where(at_star, at_break(at.log_m_break_star, answer.held), at_break(at.log_m_break, answer.held))
        below, above = leaving(form.error, answer.held, value)
        raise_to, lower_to = np.where(held, above, raise_to), np.where(held, below, lower_to)
    # A hair beyond the corner, where its device has begun to move.
    return np.where(up, raise_to.min(axis=1) + 1e-3, lower_to.max(axis=1) - 1e-3)
