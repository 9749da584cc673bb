"""Exact solution of the reduced problem by its KKT conditions.

Each device answers a bandwidth price in closed form but for one scalar equation, monotone in the spectral
efficiency y; the price at which the answers fill the bandwidth is the only coupled unknown. Equations refer to the
theory section "KKT solution".

A device's best s grows with its bandwidth b, concavely, along at most two branches of the power limit
``p = F0 + F1 s`` (energy-limited, and peak-limited with F0 = 1, F1 = 0). The marginal value ``m = d(objective)/db``
falls along each branch and drops where they meet, so in terms of y, which falls as b grows:

    floor (y_floor)  --first branch-->  kink (y_kink)  --second branch-->  saturated (y_sat)
    price:  m_floor        >=        m_before >= m_after        >=         m_sat

Between m_before and m_after a whole interval of prices holds the device at the kink.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from kktalloc._efficiency import EFFICIENCY_MAX, efficiency_for, phi
from kktalloc._problem import FloatArray
from kktalloc._reduced import Reduced

PRICE_ITERATIONS = 200
EFFICIENCY_ITERATIONS = 100


class Regime(IntEnum):
    """What stops a device from keeping more of the model."""

    FLOOR = 0  # it prunes the most it may; its bandwidth is better used elsewhere
    ENERGY = 1  # its power is limited by the energy budget
    KINK = 2  # energy and peak power bind at once
    PEAK = 3  # it sends at peak power
    SATURATED = 4  # it prunes nothing


@dataclass(frozen=True, eq=False)
class Branches:
    """The corners of each device's response, arrays of shape ``(N, K)``."""

    energy_first: np.ndarray  # bool: the branch next to the floor is the energy-limited one
    kinked: np.ndarray  # bool: both branches occur between floor and saturation
    s_kink: FloatArray
    y_floor: FloatArray
    y_kink: FloatArray  # equals y_sat where there is no kink
    y_sat: FloatArray  # 0 where no bandwidth suffices
    b_floor: FloatArray
    b_kink: FloatArray
    b_sat: FloatArray
    log_m_floor: FloatArray
    log_m_before: FloatArray
    log_m_after: FloatArray
    log_m_sat: FloatArray

    def rows(self, keep: np.ndarray) -> Branches:
        """The problems selected by the boolean mask `keep` of shape ``(N,)``."""
        return Branches(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Response:
    """What every device does at a price; shape ``(N, K)``."""

    regime: np.ndarray  # Regime values
    y: FloatArray
    s: FloatArray
    p: FloatArray
    b: FloatArray
    elasticity: FloatArray  # -d ln b / d ln price; 0 where the device sits at a corner


def load(form: Reduced, s: FloatArray, power: FloatArray) -> FloatArray:
    """``theta``: the rate needed at s over the wideband limit of the given power; 0 where nothing is sent."""
    rate = form.rate0 + form.rate1 * s
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(rate > 0.0, rate / (form.snr * power), 0.0)


def bandwidth_at(form: Reduced, power: FloatArray, y: FloatArray) -> FloatArray:
    """Bandwidth that puts a power at efficiency y: ``b = gamma p / (e^y - 1)``, infinite at y = 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(y > 0.0, form.snr * power / np.expm1(y), np.inf)


def floor_load(form: Reduced) -> FloatArray:
    """``theta`` at the floor; >= 1 means that no bandwidth lets the device send its least payload."""
    return load(form, form.s_min, form.power_limit(form.s_min))


def branches(form: Reduced) -> Branches:
    """Corners of the response of each device; the floor must be feasible (``floor_load < 1``)."""
    raw_min = form.power0 + form.power1 * form.s_min
    # A falling limit that starts at the peak is below it from there on.
    energy_first = np.where(form.power1 < 0.0, raw_min <= 1.0, raw_min < 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        s_kink = np.where(form.power1 != 0.0, (1.0 - form.power0) / form.power1, np.nan)
    kinked = (s_kink > form.s_min) & (s_kink < form.s_max)

    finite_max = np.isfinite(form.s_max)
    s_max = np.where(finite_max, form.s_max, form.s_min)
    s_kink = np.where(kinked, s_kink, s_max)
    p_floor, p_sat = form.power_limit(form.s_min), form.power_limit(s_max)
    y_floor = np.minimum(efficiency_for(load(form, form.s_min, p_floor)), EFFICIENCY_MAX)
    y_sat = np.where(finite_max, np.minimum(efficiency_for(load(form, s_max, p_sat)), y_floor), 0.0)
    y_kink = np.where(kinked, efficiency_for(load(form, s_kink, np.ones_like(s_kink))), y_sat)
    y_kink = np.clip(y_kink, y_sat, y_floor)

    # The zero-rate floor is b = 0 exactly, not the tiny bandwidth at the largest representable SNR.
    idle = form.rate0 + form.rate1 * form.s_min == 0.0
    energy_second = energy_first ^ kinked
    return Branches(
        energy_first, kinked, s_kink, y_floor, y_kink, y_sat,
        b_floor=np.where(idle, 0.0, bandwidth_at(form, p_floor, y_floor)),
        b_kink=bandwidth_at(form, np.where(kinked, 1.0, p_sat), y_kink),
        b_sat=bandwidth_at(form, p_sat, y_sat),
        log_m_floor=_marginal(form, energy_first, y_floor, form.s_min).log_value,
        log_m_before=_marginal(form, energy_first, y_kink, s_kink).log_value,
        log_m_after=_marginal(form, energy_second, y_kink, s_kink).log_value,
        log_m_sat=_marginal(form, energy_second, y_sat, s_max).log_value,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Marginal:
    """``ln m(y)`` on a branch, with what follows from the same terms."""

    log_value: FloatArray
    slope: FloatArray  # d ln m / d ln y > 0
    s: FloatArray
    p: FloatArray
    b: FloatArray
    elasticity: FloatArray  # -d ln b / d ln m


def _marginal(form: Reduced, energy: np.ndarray, y: FloatArray, s: FloatArray | None = None) -> _Marginal:
    """Marginal value of bandwidth on the energy or the peak branch at efficiency y.

    Energy branch: ``s = (kap F0 - rate0)/(rate1 - kap F1)``, ``kap = gamma y/(e^y - 1)``, and
    ``ds/db = phi / (rate1 - gamma F1 e^-y)``; the peak branch is the same with F0 = 1, F1 = 0. A corner passes its s,
    which is known there without rounding.
    """
    F0, F1 = np.where(energy, form.power0, 1.0), np.where(energy, form.power1, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        e = np.expm1(y)
        kap = form.snr * np.where(y > 0.0, y / e, 1.0)
        rest = form.rate1 - kap * F1
        if s is None:
            s = np.maximum((kap * F0 - form.rate0) / rest, 0.0)
        p = (form.rate1 * F0 - form.rate0 * F1) / rest  # F0 + F1 s without its cancellation where F1 < 0
        spread = form.rate1 - form.snr * F1 * np.exp(-y)
        f = phi(y)
        room = 1.0 + form.compute * s
        log_value = np.log(form.weight * f / spread) - 2.0 * np.log(room)
        # -ds/dln y = gamma p phi (y/e) (1 + 1/e) / rest
        curl = form.snr * p * np.where(y > 0.0, y / e, 1.0) * (1.0 + 1.0 / e) / rest
        slope = (
            np.where(y > 0.0, -y * np.expm1(-y) / f, 2.0)
            - y * form.snr * F1 * np.exp(-y) / spread
            + 2.0 * form.compute / room * curl * f
        )
        b = bandwidth_at(form, p, y)
        # -d ln b / d ln y = (1 + 1/e) y spread / rest
        elasticity = (1.0 + 1.0 / e) * y * spread / rest / slope
    return _Marginal(log_value, slope, s, p, b, elasticity)


def respond(form: Reduced, corners: Branches, log_price: FloatArray, start: FloatArray) -> Response:
    """Best answer of every device to the log bandwidth price of its cell.

    Parameters
    ----------
    log_price
        Shape ``(N,)``.
    start
        Guess of the efficiency y, shape ``(N, K)``.
    """
    price = log_price[:, None]
    # Free bandwidth (-inf) leaves nobody at the floor but those who cannot leave it.
    floor = ((price >= corners.log_m_floor) & (price > -np.inf)) | (form.s_max <= form.s_min)
    sat = (price <= corners.log_m_sat) & ~floor
    second = price < corners.log_m_after
    kink = corners.kinked & ~second & (price <= corners.log_m_before) & ~floor & ~sat
    inside = ~(floor | sat | kink)
    energy = corners.energy_first ^ (corners.kinked & second)
    low = np.where(second, corners.y_sat, corners.y_kink)
    high = np.where(second, corners.y_kink, corners.y_floor)
    y = _efficiency_at(form, energy, price, start, low, high, inside)
    at = _marginal(form, energy, y)

    regime = np.select(
        [floor, sat, kink, energy], [Regime.FLOOR, Regime.SATURATED, Regime.KINK, Regime.ENERGY], Regime.PEAK
    )
    y = np.select([floor, sat, kink], [corners.y_floor, corners.y_sat, corners.y_kink], y)
    s = np.select([floor, sat, kink], [form.s_min, form.s_max, corners.s_kink], at.s)
    b = np.select([floor, sat, kink], [corners.b_floor, corners.b_sat, corners.b_kink], at.b)
    with np.errstate(invalid="ignore"):
        p = np.where(inside, at.p, form.power_limit(s))
    return Response(regime, y, s, np.clip(p, 0.0, 1.0), b, np.where(inside, at.elasticity, 0.0))


def _efficiency_at(
    form: Reduced,
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
    before = np.full(y.shape, np.inf)
    for _ in range(EFFICIENCY_ITERATIONS):
        at = _marginal(form, energy, y)
        error = at.log_value - log_price
        size = np.abs(error)
        low, high = np.where(error <= 0.0, y, low), np.where(error >= 0.0, y, high)
        with np.errstate(invalid="ignore", over="ignore"):
            newton = y * np.exp(-error / at.slope)
        middle = np.where(low > 0.0, np.sqrt(low * high), 0.5 * high)
        trust = (newton >= low) & (newton <= high) & (size <= 0.5 * before)
        # The last step of a converged Newton is good whatever rounding did to its bracket.
        last = size < 1e-7 * at.slope
        proposed = np.where(trust | (last & np.isfinite(newton)), newton, middle)
        before = size
        moving = inside & ~last & (high > low)
        y = np.where(inside, proposed, y)
        if not moving.any():
            break
    return y


def clear(form: Reduced, corners: Branches) -> tuple[FloatArray, Response]:
    """Log price, shape ``(N,)``, at which the devices together use the bandwidth, and their response to it.

    The price is ``-inf`` (free bandwidth) where every device saturates with bandwidth to spare. Newton on
    ``ln sum b`` against the log price, safeguarded by a bracket; a price at which no device moves jumps to the
    nearest price at which one does.
    """
    N = form.weight.shape[0]
    spare = corners.b_sat.sum(axis=1) <= 1.0
    y, log_price = _first_guess(form, corners)
    log_price = np.where(spare, -np.inf, log_price)
    low = np.full(N, -np.inf)
    high = corners.log_m_floor.max(axis=1, initial=-np.inf)
    log_price = np.minimum(log_price, high)
    todo = np.flatnonzero(~spare)
    some, some_corners = form.rows(todo), corners.rows(todo)
    for _ in range(PRICE_ITERATIONS):
        if not todo.size:
            break
        at = respond(some, some_corners, log_price[todo], y[todo])
        y[todo] = at.y
        total = at.b.sum(axis=1)
        with np.errstate(divide="ignore"):
            error = np.log(total)
        price = log_price[todo]
        low[todo] = np.where(error > 0.0, price, low[todo])
        high[todo] = np.where(error < 0.0, price, high[todo])
        lo, hi = low[todo], high[todo]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (at.b * at.elasticity).sum(axis=1) / total
            proposed = price + np.clip(error / slope, -50.0, 50.0)
        stuck = ~(slope > 0.0)
        if stuck.any():
            proposed = np.where(stuck, _next_corner(some_corners, at.regime, price, error > 0.0), proposed)
        with np.errstate(invalid="ignore"):
            middle = np.where(np.isfinite(lo), 0.5 * (lo + hi), hi - 50.0)
        proposed = np.where((proposed > lo) & (proposed < hi), proposed, middle)
        done = (np.abs(error) <= 2e-15) | (np.abs(proposed - price) <= 1e-15 * np.abs(price)) | ~(hi > lo)
        log_price[todo] = np.where(done, price, proposed)
        if done.any():
            todo = todo[~done]
            some, some_corners = some.rows(~done), some_corners.rows(~done)
    return log_price, respond(form, corners, log_price, y)


def _first_guess(form: Reduced, corners: Branches) -> tuple[FloatArray, FloatArray]:
    """Efficiencies at equal shares of the bandwidth, and the price that their marginal values centre on."""
    share = np.log1p(form.snr * form.weight.shape[1])
    y = np.clip(share, np.maximum(corners.y_sat, 1e-300), corners.y_floor)
    value = _marginal(form, corners.energy_first, y).log_value
    usable = np.isfinite(value)
    return y, np.where(usable, value, 0.0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)


def _next_corner(corners: Branches, regime: np.ndarray, price: FloatArray, up: np.ndarray) -> FloatArray:
    """The nearest price, above (`up`) or below, beyond which some device leaves the corner that it sits in."""
    raise_to = np.select(
        [regime == Regime.SATURATED, regime == Regime.KINK], [corners.log_m_sat, corners.log_m_before], np.inf
    ).min(axis=1)
    lower_to = np.select(
        [regime == Regime.FLOOR, regime == Regime.KINK], [corners.log_m_floor, corners.log_m_after], -np.inf
    ).max(axis=1)
    # A hair beyond the corner, where its device has begun to move.
    return np.where(up, raise_to + 1e-3, lower_to - 1e-3)
