"""What a device does when bandwidth, and power, have a price. Equations: theory section "KKT solution".

A device's best s grows with its bandwidth b, concavely, along at most two branches of the power limit
``p = F0 + F1 s`` (energy-limited, and peak-limited with F0 = 1, F1 = 0). The marginal value ``m = d(objective)/db``
falls along each branch and drops where they meet, so in terms of y, which falls as b grows:

    floor (y_floor)  --first branch-->  kink (y_kink)  --second branch-->  saturated (y_sat)
    price:  m_floor        >=        m_before >= m_after        >=         m_sat

Between m_before and m_after a whole interval of prices holds the device at the kink.

Where the cell's total power has a price too, ``ratio`` times that of bandwidth, no device goes beyond the efficiency
y* at which trading one for the other stops paying, ``e^y* (y* - 1) + 1 = gamma / (ratio power_share)`` (the theory's
``X ln X - X + 1``). From its floor up to s*, where y* meets the power limit, a device then stays at y* below that
limit; and on the energy branch a larger s brings a larger power, which has to be paid for: ``spread`` below.

Where the pruning error is a table, m drops at each of its breaks too, and holds a device there between the two prices;
on a piece between breaks a device answers as it does to the linear error, its weight times the slope of the piece.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_at_power_price, efficiency_for, phi
from kktalloc._device.form import Reduced
from kktalloc._device.link import bandwidth_at, least_efficiency, load, power_at
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.curves import Linear, PiecewiseLinear, is_piecewise, slope_of
from kktalloc._problem.regime import Regime
from kktalloc._problem.stats import enter

EFFICIENCY_ITERATIONS = 200
OWN_LIMIT_ITERATIONS = 100
NEWTON_LAST = 1e-8  # an error of the logarithm that one more step of Newton's method takes below rounding


@dataclass(frozen=True, eq=False)
class Corners:
    """The corners of each device's response, arrays of shape ``(N, K)``; of ``(N, K, breaks)`` at a table's breaks."""

    ratio: FloatArray  # price of total power over that of bandwidth, shape (N, 1)
    energy_first: np.ndarray  # bool: the branch next to the floor is the energy-limited one
    kinked: np.ndarray  # bool: both branches occur between floor and saturation
    open: np.ndarray  # bool: there is a stretch at y*, below the power limit
    s_kink: FloatArray
    s_star: FloatArray  # where that stretch ends; s_min where there is none
    y_floor: FloatArray
    y_star: FloatArray  # y* where the stretch is, else y_floor
    power_cost: FloatArray  # what a peak of power costs, in cells of bandwidth
    y_kink: FloatArray  # equals y_sat where there is no kink
    y_sat: FloatArray  # 0 where no bandwidth suffices
    p_floor: FloatArray
    p_sat: FloatArray
    b_floor: FloatArray
    b_kink: FloatArray
    b_sat: FloatArray
    log_m_floor: FloatArray
    log_m_star: FloatArray  # -inf where nothing comes after the stretch, m_floor where there is none
    log_m_before: FloatArray
    log_m_after: FloatArray
    log_m_sat: FloatArray
    s_break: FloatArray  # inf where no s prunes so little
    y_break: FloatArray  # along the power limit, whatever the price of power
    log_m_break: FloatArray  # for a slope of 1
    log_m_break_star: FloatArray  # the same on the stretch

    def rows(self, keep: np.ndarray) -> Corners:
        """The problems selected by `keep`, a mask or indices over ``(N,)``."""
        return Corners(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Response:
    """What every device does at a price; shape ``(N, K)``."""

    regime: np.ndarray  # Regime values
    y: FloatArray
    s: FloatArray
    p: FloatArray
    b: FloatArray
    flow: FloatArray  # -db / d ln price; 0 where the device sits at a corner
    held: np.ndarray  # the table's break that it sits at, else -1


def corners(form: Reduced, ratio: FloatArray) -> Corners:
    """Corners of the response of each device at a price ratio of shape ``(N,)``; 0 where total power is free.

    The floor must be feasible (``floor_load < 1``).
    """
    ratio = ratio[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s_kink = np.where(form.power1 != 0.0, (1.0 - form.power0) / form.power1, np.nan)
        y_star = efficiency_at_power_price(form.snr / (ratio * form.power_share))
    # A rising limit reaches the peak from below, a falling one leaves it. Where the kink lies decides the branch too:
    # next to the floor, rounding must not answer the two questions differently.
    ahead = s_kink > form.s_min
    energy_first = np.select([form.power1 > 0.0, form.power1 < 0.0], [ahead, ~ahead], form.power0 < 1.0)
    kinked = ahead & (s_kink < form.s_max)
    finite_max = np.isfinite(form.s_max)
    s_max = np.where(finite_max, form.s_max, form.s_min)
    s_kink = np.where(kinked, s_kink, s_max)

    # Along the power limit ...
    p_floor, p_sat = form.power_limit(form.s_min), form.power_limit(s_max)
    y_floor = np.minimum(efficiency_for(load(form, form.s_min, p_floor)), EFFICIENCY_MAX)
    # At its own limit a device's bandwidth is known, and tells the efficiency where the load, near 1, no longer does.
    y_own = np.where(form.s_max < form.s_full, least_efficiency(form, s_max), efficiency_for(load(form, s_max, p_sat)))
    y_sat = np.where(finite_max, np.minimum(y_own, y_floor), 0.0)
    y_kink = np.where(kinked, efficiency_for(load(form, s_kink, np.ones_like(s_kink))), y_sat)
    y_kink = np.clip(y_kink, y_sat, y_floor)
    # ... but no further than y*: what lies beyond is replaced by a stretch at y*.
    # y*, or more where the device itself can use no more bandwidth
    y_first, y_last = (np.maximum(y_star, least_efficiency(form, s)) for s in (form.s_min, s_max))
    trades = y_first < y_floor  # even a device that cannot move on trades power for bandwidth
    is_open = trades & (form.s_max > form.s_min)
    passed = kinked & is_open & (y_kink >= y_star)
    energy_first, kinked = energy_first ^ passed, kinked & ~passed
    whole = trades & (y_star <= y_sat)  # the stretch reaches saturation
    y_star = np.where(trades, y_star, y_floor)
    cut = marginal(form, ratio, energy_first, np.maximum(y_star, 1e-300))
    s_star = np.where(whole, s_max, np.where(is_open, np.clip(cut.s, form.s_min, form.s_max), form.s_min))
    p_floor = np.where(trades, np.minimum(power_at(form, form.s_min, y_first), p_floor), p_floor)
    p_sat = np.where(whole, np.minimum(power_at(form, s_max, y_last), p_sat), p_sat)
    y_floor, y_kink = np.minimum(y_floor, y_first), np.minimum(y_kink, y_last)
    y_sat = np.minimum(y_sat, y_last)

    # The zero-rate floor is b = 0 exactly, not the tiny bandwidth at the largest representable SNR.
    idle = form.rate0 + form.rate1 * form.s_min == 0.0
    energy_second = energy_first ^ kinked
    m_start = marginal(form, ratio, energy_first, y_floor, form.s_min).log_value
    m_end = marginal(form, ratio, energy_second, y_sat, s_max).log_value
    m_before = marginal(form, ratio, energy_first, y_kink, s_kink).log_value
    m_after = marginal(form, ratio, energy_second, y_kink, s_kink).log_value
    cost = ratio * form.power_share
    m_star = np.where(is_open, stretch_marginal(form, y_star, cost, s_star), m_start)
    s_break = breaks(form)
    y_break, log_m_break, log_m_break_star = (np.empty_like(s_break) for _ in range(3))
    plain = replace(form, error=Linear())
    for j in range(s_break.shape[-1]):
        s = s_break[..., j]
        s = np.where(np.isfinite(s), s, s_max)
        energy = energy_first ^ (kinked & (s >= s_kink))
        y = np.clip(efficiency_for(load(form, s, form.power_limit(s))), 1e-300, EFFICIENCY_MAX)
        y_break[..., j], log_m_break[..., j] = y, marginal(plain, ratio, energy, y, s).log_value
        log_m_break_star[..., j] = stretch_marginal(plain, y_star, cost, s)
    return Corners(
        np.broadcast_to(ratio, m_start.shape), energy_first, kinked, is_open, s_kink, s_star, y_floor, y_star, cost,
        y_kink, y_sat, np.where(idle, 0.0, p_floor), p_sat,
        b_floor=np.where(idle, 0.0, bandwidth_at(form, p_floor, y_floor)),
        b_kink=bandwidth_at(form, np.where(kinked, 1.0, p_sat), y_kink),
        b_sat=np.where(form.s_max < form.s_full, form.b_max, bandwidth_at(form, p_sat, y_sat)),
        log_m_floor=np.where(is_open, stretch_marginal(form, y_star, cost, form.s_min), m_start),
        log_m_star=m_star,
        log_m_before=np.where(whole, m_star, m_before),
        log_m_after=np.where(whole, m_star, m_after),
        log_m_sat=np.where(whole, m_star, m_end),
        s_break=s_break,
        y_break=y_break,
        log_m_break=log_m_break,
        log_m_break_star=log_m_break_star,
    )  # fmt: skip


def breaks(form: Reduced) -> FloatArray:
    """s at the breaks of a table, shape ``(N, K, breaks)``; no breaks for other curves."""
    q = 1.0 - form.error.breaks if is_piecewise(form.error) else np.empty(0)
    room = 1.0 - form.compute[..., None] * q
    with np.errstate(divide="ignore"):
        return np.where(room > 0.0, q / room, np.inf)


@dataclass(frozen=True, eq=False)
class Marginal:
    """``ln m(y)`` on a branch, with what follows from the same terms."""

    log_value: FloatArray
    slope: FloatArray  # d ln m / d ln y > 0
    s: FloatArray
    p: FloatArray
    b: FloatArray
    flow: FloatArray  # -db / d ln m


def marginal(
    form: Reduced, ratio: FloatArray, energy: np.ndarray, y: FloatArray, s: FloatArray | None = None
) -> Marginal:
    """Marginal value of bandwidth on the energy or the peak branch at efficiency y.

    Energy branch: ``s = (kap F0 - rate0)/(rate1 - kap F1)``, ``kap = gamma y/(e^y - 1)``, and
    ``ds/db = phi / (rate1 - gamma F1 e^-y)``; the peak branch is the same with F0 = 1, F1 = 0. A corner passes its s,
    which is known there without rounding.
    """
    F0, F1 = np.where(energy, form.power0, 1.0), np.where(energy, form.power1, 0.0)
    power_cost = ratio * form.power_share
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        e, decay, f = np.expm1(y), np.exp(-y), phi(y)
        shape = np.where(y > 0.0, y / e, 1.0)
        rest = form.rate1 - form.snr * shape * F1
        if s is None:
            s = np.maximum((form.snr * shape * F0 - form.rate0) / rest, 0.0)
        p = (form.rate1 * F0 - form.rate0 * F1) / rest  # F0 + F1 s without its cancellation where F1 < 0
        fall = form.snr * p * shape * (1.0 + 1.0 / e) * f / rest  # -ds/d ln y
        spread = form.rate1 - form.snr * F1 * decay + power_cost * F1 * f
        room = 1.0 + form.compute * s
        rho = np.clip(1.0 - s / room, 0.0, 1.0)
        gain = form.weight * form.error.slope(rho)
        log_value = np.log(gain * f / spread) - 2.0 * np.log(room)
        bend = 2.0 * form.compute / room + form.error.curvature(rho) / form.error.slope(rho) / room**2
        slope = (
            np.where(y > 0.0, -y * np.expm1(-y) / f, 2.0)
            - y * F1 * (form.snr * decay - power_cost * np.expm1(-y)) / spread
            + bend * fall
        )
        b = bandwidth_at(form, p, y)
        # -db/d ln y = b (1 + 1/e) y (rate1 - gamma F1 e^-y) / rest
        flow = b * (1.0 + 1.0 / e) * y * (form.rate1 - form.snr * F1 * decay) / rest
        flow = np.where(slope > 0.0, flow / slope, 0.0)  # undefined where e' is 0 on both sides
    return Marginal(log_value, slope, s, p, b, flow)


def stretch_marginal(form: Reduced, y_star: FloatArray, power_cost: FloatArray, s: FloatArray) -> FloatArray:
    """``ln m`` below the power limit: ``m = alpha e' q_s phi(y*) / rate1`` at y*.

    Where the device itself can use no more bandwidth it goes on at a rising y > y*, and pays in power alone:
    ``m = alpha e' q_s gamma e^-y / (power_cost rate1)``, which is the same at y*.
    """
    room = 1.0 + form.compute * s
    y = least_efficiency(form, s)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rho = np.clip(1.0 - s / room, 0.0, 1.0)
        worth = np.where(y > y_star, form.snr * np.exp(-y) / power_cost, phi(y_star))
        return np.log(form.weight * form.error.slope(rho) * worth / form.rate1) - 2.0 * np.log(room)


def respond(form: Reduced, at: Corners, log_price: FloatArray, start: FloatArray) -> Response:
    """Best answer of every device to the log bandwidth price of its cell.

    Parameters
    ----------
    log_price
        Shape ``(N,)``.
    start
        Guess of the efficiency y, shape ``(N, K)``.
    """
    enter("numpy", log_price.size)
    price = log_price[:, None]
    # Free bandwidth (-inf) leaves nobody at the floor but those who cannot leave it.
    floor = ((price >= at.log_m_floor) & (price > -np.inf)) | (form.s_max <= form.s_min)
    sat = (price <= at.log_m_sat) & ~floor
    stretch = at.open & (price > at.log_m_star) & ~floor & ~sat
    second = price < at.log_m_after
    kink = at.kinked & ~second & (price <= at.log_m_before) & ~floor & ~sat
    corner = floor | sat | kink | stretch
    energy = at.energy_first ^ (at.kinked & second)
    low = np.where(second, at.y_sat, at.y_kink)
    high = np.where(second, at.y_kink, at.y_star)
    held, piece = np.full(corner.shape, -1), form
    if is_piecewise(form.error):
        held, number, low, high = _between_breaks(form.error, at, price, low, high)
        held = np.where(corner, -1, held)
        piece = replace(form, weight=form.weight * slope_of(form.error, number), error=Linear())
    rest = held >= 0
    y = _efficiency_at(piece, at.ratio, energy, price, start, low, high, ~(corner | rest))
    on = marginal(piece, at.ratio, energy, y)

    regime = np.select(
        [floor, sat, kink, stretch, energy],
        [Regime.FLOOR, Regime.SATURATED, Regime.KINK, Regime.TOTAL_POWER, Regime.ENERGY],
        Regime.PEAK,
    )
    fixed = [floor, sat, kink]
    y = np.select([*fixed, stretch], [at.y_floor, at.y_sat, at.y_kink, at.y_star], y)
    s = np.select(fixed, [form.s_min, form.s_max, at.s_kink], on.s)
    p = np.select(fixed, [at.p_floor, at.p_sat, 1.0], on.p)
    b = np.select(fixed, [at.b_floor, at.b_sat, at.b_kink], on.b)
    flow = np.where(corner | rest, 0.0, on.flow)
    if rest.any():
        s_here, y_here = (at_break(values, held) for values in (at.s_break, at.y_break))
        p_here = form.power_limit(s_here)
        here = (s_here, y_here, p_here, bandwidth_at(form, p_here, y_here))
        s, y, p, b = (np.where(rest, n, o) for n, o in zip(here, (s, y, p, b), strict=True))
    if stretch.any():
        s_here = _stretch(form, at, price)
        for j in range(at.s_break.shape[-1]):
            held = np.where(stretch & (s_here == at.s_break[..., j]), j, held)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            room = 1.0 + form.compute * s_here
            own = least_efficiency(form, s_here)
            y_here = np.maximum(at.y_star, own)
            rho = np.clip(1.0 - s_here / room, 0.0, 1.0)
            bend = 2.0 * form.compute / room + form.error.curvature(rho) / form.error.slope(rho) / room**2
            b_here, p_here = (form.rate0 + form.rate1 * s_here) / y_here, power_at(form, s_here, y_here)
            flow_here = np.where(own > at.y_star, 0.0, form.rate1 / at.y_star / bend)
        moving = stretch & (held < 0) & (s_here > form.s_min) & (s_here < at.s_star) & np.isfinite(flow_here)
        s, p, b = (np.where(stretch, n, o) for n, o in ((s_here, s), (p_here, p), (b_here, b)))
        flow = np.where(moving, flow_here, flow)
    p = np.clip(p, 0.0, 1.0)
    return Response(regime, y, s, p, b, flow, held)


def _between_breaks(
    error: PiecewiseLinear, at: Corners, log_price: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[np.ndarray, np.ndarray, FloatArray, FloatArray]:
    """The break between `low` and `high` that the price holds each device at, else -1; its piece, and the ends of that.

    A floor or a kink may lie at a break, which then is `high`: their own prices leave the drop of the slope out.
    """
    held, number, bottom, top = np.full(low.shape, -1), np.zeros(low.shape, dtype=int), low, high
    with np.errstate(divide="ignore"):
        log_slopes = np.log(error.slopes)
    lower, upper = at.log_m_break + log_slopes[..., :-1], at.log_m_break + log_slopes[..., 1:]
    for j in range(error.breaks.shape[-1]):
        y = at.y_break[..., j]
        reached = np.isfinite(at.s_break[..., j])
        inside = (y > low) & (y <= high) & reached
        above, below = inside & (log_price > upper[..., j]), inside & (log_price < lower[..., j])
        held = np.where(inside & ~above & ~below, j, held)
        number += above | (y <= low) | ~reached
        bottom, top = np.where(above, np.maximum(bottom, y), bottom), np.where(below, np.minimum(top, y), top)
    return held, number, bottom, top


def leaving(error: PiecewiseLinear, held: np.ndarray, log_m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log prices below and above which a device leaves the break that it is held at, from ln m there for a slope of 1.

    Where it is held at none, which is -1, they mean nothing.
    """
    held = np.maximum(held, 0)
    with np.errstate(divide="ignore"):
        return log_m + np.log(slope_of(error, held)), log_m + np.log(slope_of(error, held + 1))


def at_break(values: FloatArray, held: np.ndarray) -> FloatArray:
    """Of ``(N, K, breaks)`` the one that each device is held at; the first where it is at none."""
    return np.asarray(np.take_along_axis(values, np.maximum(held, 0)[..., None], axis=-1)[..., 0])


def _stretch(form: Reduced, at: Corners, log_price: FloatArray) -> FloatArray:
    """s on the stretch at y*, where ``alpha e'(rho) / (1 + A s)^2 = price rate1 / phi(y*)``."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if is_piecewise(form.error):
            # Of the pieces from the last to the first the one whose answer lies on it; between two their break.
            slopes = form.error.slopes
            s = np.zeros_like(at.s_star)
            for j in range(slopes.shape[-1]):
                room = np.exp(0.5 * (np.log(form.weight * slopes[..., j] * phi(at.y_star) / form.rate1) - log_price))
                free = np.where(form.compute > 0.0, (room - 1.0) / form.compute, np.where(room > 1.0, np.inf, 0.0))
                free = _at_own_limit(form, at, log_price, slopes[..., j], free)
                s = np.maximum(s, np.minimum(free, at.s_break[..., j - 1]) if j else free)
            return np.clip(s, form.s_min, at.s_star)
        low, high = form.s_min, at.s_star
        for _ in range(100):
            middle = 0.5 * (low + high)
            more = stretch_marginal(form, at.y_star, at.power_cost, middle) > log_price
            low, high = np.where(more, middle, low), np.where(more, high, middle)
        return high


def _at_own_limit(form: Reduced, at: Corners, log_price: FloatArray, slope: FloatArray, free: FloatArray) -> FloatArray:
    """`free`, the s on the stretch at y* for a linear error of that slope, or where it takes more bandwidth than the
    device can use the s with ``alpha slope gamma e^-y / (power_cost rate1 (1 + A s)^2) = price``, y = rate / b_max.

    The logarithm falls and is convex in s: Newton's method from the left of the root climbs to it.
    """
    start = (at.y_star * form.b_max - form.rate0) / form.rate1
    beyond = at.open & (free > start)
    if not beyond.any():
        return free
    s = np.where(beyond, np.maximum(start, 0.0), 0.0)
    worth = np.log(form.weight * slope * form.snr / (at.power_cost * form.rate1)) - log_price
    for _ in range(OWN_LIMIT_ITERATIONS):
        room = 1.0 + form.compute * s
        excess = worth - least_efficiency(form, s) - 2.0 * np.log(room)
        step = excess / (form.rate1 / form.b_max + 2.0 * form.compute / room)
        s = np.where(beyond, np.maximum(s + step, 0.0), 0.0)
        if not (beyond & (excess > NEWTON_LAST)).any():
            break
    return np.where(beyond, s, free)


def _efficiency_at(
    form: Reduced,
    ratio: FloatArray,
    energy: np.ndarray,
    log_price: FloatArray,
    start: FloatArray,
    low: FloatArray,
    high: FloatArray,
    inside: np.ndarray,
) -> FloatArray:
    """Solve ``ln m(y) = log_price`` on ``[low, high]`` by Newton in ln y, safeguarded by the bracket.

    A step that did not halve the error is followed by a bisection: plain Newton can cycle across the knee of the
    curve where ``1 + A s`` takes over.
    """
    middle = np.where(low > 0.0, np.sqrt(low * high), 0.5 * high)
    y = np.where(inside & (start > low) & (start < high), start, middle)
    if not inside.any():
        return y
    before = np.full(y.shape, np.inf)
    for _ in range(EFFICIENCY_ITERATIONS):
        at = marginal(form, ratio, energy, y)
        with np.errstate(invalid="ignore", over="ignore"):
            error = at.log_value - log_price
            newton = y * np.exp(-error / at.slope)
        size = np.abs(error)
        low, high = np.where(error <= 0.0, y, low), np.where(error >= 0.0, y, high)
        middle = np.where(low > 0.0, np.sqrt(low * high), 0.5 * high)
        trust = (newton >= low) & (newton <= high) & (size <= 0.5 * before)
        # The last step of a converged Newton is good whatever rounding did to its bracket. A steep curve must be
        # close in value too: where e'(rho) vanishes, ln m falls without bound next to saturation.
        last = size < NEWTON_LAST * np.minimum(at.slope, 1.0)
        proposed = np.where(trust | (last & np.isfinite(newton)), newton, middle)
        before = size
        # Beyond doubles the value may be no number, in the middle of the bracket as well: no step will tell more.
        lost = np.isnan(error) & (proposed == y)
        moving = inside & ~last & ~lost & (high - low > 2e-16 * high)
        y = np.where(inside, proposed, y)
        if not moving.any():
            break
    return y
