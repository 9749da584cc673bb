"""Rate, power and bandwidth of a device at a spectral efficiency: the three sides of ``rate = b ln(1 + snr p / b)``."""

from __future__ import annotations

import numpy as np

from kktalloc._device.efficiency import efficiency_for
from kktalloc._device.form import Reduced
from kktalloc._problem.arrays import FloatArray
from kktalloc._problem.tolerances import FEASIBLE


def load(form: Reduced, s: FloatArray, power: FloatArray) -> FloatArray:
    """``theta``: the rate needed at s over the wideband limit of the given power; 0 where nothing is sent."""
    rate = form.rate0 + form.rate1 * s
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(rate > 0.0, rate / (form.snr * power), 0.0)


def bandwidth_at(form: Reduced, power: FloatArray, y: FloatArray) -> FloatArray:
    """Bandwidth that puts a power at efficiency y: ``b = gamma p / (e^y - 1)``, infinite at y = 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(y > 0.0, form.snr * power / np.expm1(y), np.inf)


def power_at(form: Reduced, s: FloatArray, y: FloatArray) -> FloatArray:
    """Power that sends the rate of s at efficiency y: ``p = b (e^y - 1) / gamma`` with ``b = rate / y``."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rate = form.rate0 + form.rate1 * s
        return np.where(rate > 0.0, rate * np.expm1(y) / (form.snr * y), 0.0)


def floor_load(form: Reduced) -> FloatArray:
    """``theta`` at the floor; >= 1 means that no bandwidth lets the device send its least payload."""
    return load(form, form.s_min, form.power_limit(form.s_min))


def floor_bandwidth(form: Reduced) -> FloatArray:
    """Least bandwidth of each device at its floor, in cells; ``inf`` where none suffices."""
    theta = floor_load(form)
    power = form.power_limit(form.s_min)
    b = np.where(theta > 0.0, bandwidth_at(form, power, efficiency_for(theta)), 0.0)
    beyond = b > form.b_max * (1.0 + FEASIBLE)
    return np.where(form.late | form.drained | ~(theta < 1.0) | beyond, np.inf, np.minimum(b, form.b_max))


def least_efficiency(form: Reduced, s: FloatArray) -> FloatArray:
    """The efficiency that sends the rate of s in the most bandwidth that the device can use; 0 without a limit."""
    return (form.rate0 + form.rate1 * s) / form.b_max
