"""Prices at which the devices' answers fill the budgets: the coupled part of the KKT conditions.

One unknown per problem, the bandwidth price; two where the cell also caps total power. The second is handled as the
ratio of the two prices: at a fixed ratio a device weighs ``b + ratio power_share p``, and its bandwidth still falls as
the price of bandwidth rises, so that the bandwidth clears as it does without a cap. Along these clearing prices the
total power falls as the ratio rises (it is the slope of the concave dual function in the power price, and the ratio
rises with that price), so the ratio at which both budgets fill is again the root of a monotone function.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from kktalloc._device.at_bandwidth import best_at
from kktalloc._device.at_price import Corners, Response, at_break, corners, leaving, marginal, respond
from kktalloc._device.efficiency import phi
from kktalloc._device.feasibility import ROUNDING
from kktalloc._device.reduced import Reduced
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import is_piecewise
from kktalloc._problem.regime import Regime

PRICE_ITERATIONS = 200
RATIO_ITERATIONS = 200
CLOSED = 1e-13  # a budget filled to this share counts as filled
EXACT = 4e-15  # to this share the search goes on, if doubles allow
FREE = -800.0  # the logarithm of a price that is 0


def clear(form: Reduced) -> tuple[FloatArray, FloatArray, Response]:
    """Log bandwidth price and price ratio, shape ``(N,)``, that clear both budgets, and the response to them.

    The log price is ``-inf`` (free bandwidth) where every device saturates with bandwidth to spare.
    """
    N = form.weight.shape[0]
    ratio = np.zeros(N)
    log_price, response = _clear_at(form, ratio)
    over = (form.power_share * response.p).sum(axis=1) > 1.0 + CLOSED
    if over.any():
        rows = np.flatnonzero(over)
        log_price[rows], ratio[rows], part = _clear_both(form.rows(rows))
        response = _merge(response, rows, part)
    return log_price, ratio, _settle(form, response)


def _settle(form: Reduced, response: Response) -> Response:
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
    free = response.held < 0
    moving = np.isin(response.regime, (Regime.ENERGY, Regime.PEAK)) & free
    return replace(
        response,
        s=np.select([moving, below & free], [at.s, s], response.s),
        p=np.where(moving, at.p, response.p),
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
        done = (np.abs(error) <= CLOSED) | (high - low <= 1e-14 * np.maximum(1.0, np.abs(position)))
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
    log_price = np.where(nearer, price_above, price_below)
    return log_price, np.exp(np.where(nearer, ratio_above, ratio_below)), _mix(np.ones(N), share, above, below)


def _share(over: FloatArray, under: FloatArray) -> FloatArray:
    """How much of the side over the budget a mixture of the two sides holds that just fills it.

    The arguments are the totals of the two sides, NaN where the search met none. Where the devices' answer jumps, those
    on both sides minimise the same Lagrangian, and so does what lies between: only devices move that are indifferent,
    or whose answer a double does not resolve.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mixture = np.clip((1.0 - under) / (over - under), 0.0, 1.0)
        none = np.isnan(over) | (np.abs(under - 1.0) <= CLOSED)
        whole = np.isnan(under) | (np.abs(over - 1.0) <= CLOSED)
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
    crowded = (ratio > 0.0) & (at.b_floor.sum(axis=1) > 1.0 + ROUNDING)
    log_price = np.where(spare, -np.inf, log_price)
    N = spare.size
    low, high = np.full(N, -np.inf), at.log_m_floor.max(axis=1, initial=FREE)
    log_price = np.where(crowded, np.inf, np.minimum(log_price, high))
    before = np.full(N, np.inf)
    # Per side of the root the last response and its total: too much, and not too much.
    answer = respond(form, at, log_price, y)
    cheap, dear = answer, replace(answer, **{f.name: getattr(answer, f.name).copy() for f in fields(Response)})
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
        for which, side, totals, bound in ((much, cheap, over, low), (~much, dear, under, high)):
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
        done = (np.abs(error) <= EXACT) | (closed & ~untried) | (hi <= FREE)
        log_price[todo] = np.where(done, price, proposed)
        if done.any():
            todo = todo[~done]
            some, some_at = some.rows(~done), some_at.rows(~done)
    share = _share(over, under)
    priced = ~(spare | crowded)
    log_price = np.where(priced, np.where(share >= 0.5, low, high), log_price)
    return log_price, _mix(ratio, share, cheap, dear)


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
    arrays = {name: blend(getattr(one, name), getattr(other, name)) for name in ("y", "s", "p", "b", "flow")}
    held = np.where((one.held == other.held) & (one.s == other.s), one.held, -1)
    return Response(regime=regime, held=held, **arrays)


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
        cheap, dear = leaving(form.error, answer.held, value)
        raise_to, lower_to = np.where(held, dear, raise_to), np.where(held, cheap, lower_to)
    # A hair beyond the corner, where its device has begun to move.
    return np.where(up, raise_to.min(axis=1) + 1e-3, lower_to.max(axis=1) - 1e-3)
