"""What a device can keep at a given bandwidth, and the bandwidth that a given keep ratio takes: q(b) and b(q).

At bandwidth b and efficiency y a device sends ``b y`` nat per second with the power ``b (e^y - 1) / snr``. At peak
power y is explicit, and s with it; where energy limits the power, s is the largest root of

    h(s) = b (e^y - 1) / snr  -  F0  -  F1 s,        y = (rate0 + rate1 s) / b,        p = F0 + F1 s,

which is convex: Newton's method from the right of it falls onto it monotonically (but for rounding), and needs no
bracket. In y the same root loses its digits where the overhead takes most of the rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kktalloc._device.efficiency import EFFICIENCY_MAX, efficiency_for, phi
from kktalloc._device.form import Reduced
from kktalloc._device.link import floor_bandwidth, floor_load
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.stats import enter

NEWTON_ITERATIONS = 100
EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class AtBandwidth:
    """The best that each device does with its bandwidth, shape ``(N, K)``."""

    s: FloatArray
    p: FloatArray  # the least power that sends s, in peaks
    slope: FloatArray  # dq/db to the right of b; 0 where saturated, inf where b = 0


def best_at(form: Reduced, b: FloatArray) -> AtBandwidth:
    """Largest s, and with it the largest keep ratio, of every device at the bandwidths b (in cells).

    A device whose bandwidth is below what its floor needs is put at its floor all the same.
    """
    enter("numpy", len(b))
    used = b > 0.0
    b = np.where(used, b, 1.0)
    with np.errstate(all="ignore"):
        limited = np.isfinite(form.power0) & used
        F0, F1 = np.where(limited, form.power0, 1.0), np.where(limited, form.power1, 0.0)

        def s_at(y: FloatArray) -> FloatArray:
            return (b * y - form.rate0) / form.rate1

        top = _log1p_ratio(form.snr, b)
        s_peak = s_at(top)
        energy = limited & (F0 + F1 * s_peak < 1.0)
        # No root lies beyond what the most power between floor and peak would carry.
        most = form.power_limit(np.where(F1 > 0.0, np.maximum(s_peak, form.s_min), form.s_min))
        s = np.where(energy, s_at(np.minimum(top, _log1p_ratio(form.snr * most, b))), s_peak)
        moving = energy
        for _ in range(NEWTON_ITERATIONS):
            y = (form.rate0 + form.rate1 * s) / b
            need = b * np.expm1(y) / form.snr
            slope = form.rate1 * np.exp(y) / form.snr - F1
            excess = need - F0 - F1 * s
            # A first step of many magnitudes leaves its own rounding, of either sign.
            moving = moving & (slope > 0.0) & (np.abs(excess) > EPS * (need * (2.0 + y) + F0 + np.abs(F1 * s)))
            if not moving.any():
                break
            s = np.where(moving, np.maximum(s - excess / slope, -form.rate0 / form.rate1), s)
        s = np.where(used, np.minimum(s, s_peak), form.s_min)
        s = np.clip(np.where(np.isnan(s), form.s_min, s), form.s_min, form.s_max)
        rate = form.rate0 + form.rate1 * s
        p = np.where(rate > 0.0, np.where(used, b * np.expm1(rate / b) / form.snr, np.inf), 0.0)
        slope = np.where(s >= form.s_max, 0.0, np.where(used, _slope(form, energy, rate / b, s), np.inf))
        # Where the floor's own rate is beyond b, rounding must not exceed the limit. A falling limit may be rounding
        # itself: beside what cancels in it the power that the rate takes is as good.
        blur = np.where(limited, 1e-15 * (F0 + np.abs(F1) * s), 0.0)
    # A mute device may hold 0/0.
    return AtBandwidth(s, np.clip(np.nan_to_num(p, nan=0.0), 0.0, np.minimum(form.power_limit(s) + blur, 1.0)), slope)


def bandwidth_for(form: Reduced, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least bandwidth (in cells) that keeps q, ``inf`` where none does, and ``dq/db`` there; shape ``(N, K)``."""
    room = 1.0 - form.compute * q
    late = form.late | (room <= 0.0)
    s = q / np.where(late, 1.0, room)
    at = replace(form, s_min=s, q_min=q, late=late)
    b = floor_bandwidth(at)
    y = np.minimum(efficiency_for(floor_load(at)), EFFICIENCY_MAX)
    with np.errstate(all="ignore"):
        slope = _slope(form, form.power0 + form.power1 * s < 1.0, y, s)
    return b, np.where(np.isfinite(b), slope, 0.0)


def _slope(form: Reduced, energy: np.ndarray, y: FloatArray, s: FloatArray) -> FloatArray:
    """``dq/db = phi(y) / (rate1 - snr F1 e^-y) / (1 + A s)^2``, F1 = 0 at peak power (theory: "KKT solution")."""
    spread = form.rate1 - np.where(energy, form.snr * form.power1 * np.exp(-y), 0.0)
    return phi(y) / spread / (1.0 + form.compute * s) ** 2


def pruning_ratio_at(form: Reduced, s: FloatArray) -> FloatArray:
    """``rho = 1 - q`` rounded so that the q it leaves is never more than s carries."""
    q = form.keep_ratio(np.where(np.isfinite(s), s, 0.0))
    rho = np.where(1.0 - (1.0 - q) > q, np.nextafter(1.0 - q, 2.0), 1.0 - q)
    floor, saturated = s <= form.s_min, s >= form.s_max
    return np.select([floor, saturated], [1.0 - form.q_min, 0.0], np.clip(rho, 0.0, 1.0 - form.q_min))


def _log1p_ratio(snr: FloatArray, b: FloatArray) -> FloatArray:
    """``ln(1 + snr / b)``, also where the quotient overflows."""
    x = snr / b
    return np.where(np.isfinite(x), np.log1p(x), np.log(snr) - np.log(b))
